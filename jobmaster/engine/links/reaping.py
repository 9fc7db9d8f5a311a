"""Fetches the ends of orphans, where they become this process's children: in process 1 of a container.

When a process that a task started has outlived its parent, it becomes a child of process 1 of its container (or of the
nearest "child subreaper"). Nobody waits for it there, so that it would stay in the table of processes for ever. Our own
children are left alone: who started them wants to know how they ended.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import logging
import os
import signal
import sys

from jobmaster.engine.links.starting import own_children

logger = logging.getLogger("jobmaster.supervisor")

_PR_GET_CHILD_SUBREAPER = 37
_AGAIN = 0.05
"""Seconds until the next look, where an end of our own stands before those of strangers."""


def gets_orphans() -> bool:
    """Whether orphans become children of this process."""
    if os.getpid() == 1:
        return True
    if sys.platform != "linux":
        return False
    answer = ctypes.c_int(0)
    ctypes.CDLL(None, use_errno=True).prctl(_PR_GET_CHILD_SUBREAPER, ctypes.byref(answer), 0, 0, 0)
    return bool(answer.value)


class OrphanReaper:
    """Reaps from now on, on the running loop of the main thread, until `close`."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._again: asyncio.TimerHandle | None = None
        self._loop.add_signal_handler(signal.SIGCHLD, self._reap)
        self._reap()

    def close(self) -> None:
        """Reap no more."""
        self._loop.remove_signal_handler(signal.SIGCHLD)
        if self._again is not None:
            self._again.cancel()

    def _reap(self) -> None:
        """Fetch the ends of strangers that stand before the first end of our own."""
        if self._again is not None:
            self._again.cancel()
            self._again = None
        with contextlib.suppress(ChildProcessError):
            while True:
                # Only looked at: a stranger's end is fetched by its number, one of our own by who waits for it.
                ended = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
                if ended is None:
                    return
                if ended.si_pid in own_children:
                    self._again = self._loop.call_later(_AGAIN, self._reap)
                    return
                os.waitpid(ended.si_pid, os.WNOHANG)
                logger.debug("orphan_reaped pid=%d status=%d", ended.si_pid, ended.si_status)
