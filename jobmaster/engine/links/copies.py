"""Processes that a job forks, as `multiprocessing` does: they end at SIGTERM, and this process hears nothing of it.

Handlers of signals are copied, and so is the line on which they wake the event loop: without more, a job that ends such
a process (`Process.terminate()`) would leave it alive, and stop the engine in its place.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading


class _Forking(threading.local):
    mask: set[signal.Signals] | set[int] | None = None
    """What the thread that forks had blocked before."""


_forking = _Forking()


def let_copies_end() -> None:
    """From now on copies of this process have the usual SIGTERM. To be called once."""
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(before=_hold_back, after_in_parent=_let_come, after_in_child=_have_the_usual_one)


def _hold_back() -> None:
    """A signal to the copy may come before its first instruction."""
    _forking.mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})


def _let_come() -> None:
    if _forking.mask is not None:
        signal.pthread_sigmask(signal.SIG_SETMASK, _forking.mask)


def _have_the_usual_one() -> None:
    with contextlib.suppress(ValueError):  # not in the first interpreter
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
    _let_come()
