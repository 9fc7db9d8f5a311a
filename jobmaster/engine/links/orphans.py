"""A child ends with its parent, also with one that was killed and could tell nobody.

Two ways at once. Linux sends a signal (PR_SET_PDEATHSIG), which reaches even a child whose C code holds the GIL.
Everywhere, the parent holds the writing end of a pipe that it never writes to: its end is the end of the pipe.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import threading

_PR_SET_PDEATHSIG = 1


def die_with_parent(*, parent: int, lifeline: int) -> None:
    """Have this process killed as soon as its parent is gone. To be called first of all.

    Args:
        parent: process id of the parent, by its own word: it may be gone already.
        lifeline: reading end of the pipe.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        _die()
    threading.Thread(target=_wait_for_the_end, args=(lifeline,), name="jobmaster-lifeline", daemon=True).start()


def _wait_for_the_end(lifeline: int) -> None:
    while os.read(lifeline, 1):
        pass
    _die()


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)
