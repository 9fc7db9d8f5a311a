"""Lines of several processes into one pipe, each in one piece.

All processes of a worker write to the same standard error. What is longer than `PIPE_BUF` goes into a pipe in pieces
while its reader is behind, and lines of other processes come between them: no program could read either as JSON.
"""

from __future__ import annotations

import contextlib
import logging
import os
import stat
import sys
import time
from typing import Final, TextIO

_PATIENCE: Final = 2.0
"""Seconds for which a line waits for another process, which may stand still: then it is written all the same."""
_IMPATIENCE: Final = 30.0
"""Seconds for which no other line waits after that."""
_AGAIN: Final = 0.0003


class WholeLineHandler(logging.StreamHandler[TextIO]):
    """Writes a line while no other process of its kind does. On Linux, into a pipe; elsewhere a plain handler."""

    def __init__(self, stream: TextIO) -> None:
        super().__init__(stream)
        self._turn = _opened_anew(stream)
        self._waits_from = 0.0

    def emit(self, record: logging.LogRecord) -> None:
        """Write one line."""
        if self._turn is None:
            super().emit(record)
            return
        began = time.monotonic()
        held = _take(self._turn, until=began + _PATIENCE if began >= self._waits_from else began)
        if not held and began >= self._waits_from:
            self._waits_from = time.monotonic() + _IMPATIENCE
        try:
            super().emit(record)
        finally:
            if held:
                _give_back(self._turn)

    def close(self) -> None:
        """Write no more."""
        if self._turn is not None:
            with contextlib.suppress(OSError):
                os.close(self._turn)
            self._turn = None
        super().close()


def _opened_anew(stream: TextIO) -> int | None:
    """The pipe behind a stream, opened by this process itself: a lock belongs to who has opened, not to who writes."""
    if sys.platform != "linux":
        return None
    with contextlib.suppress(OSError, ValueError):
        number = stream.fileno()
        if stat.S_ISFIFO(os.fstat(number).st_mode):
            return os.open(f"/proc/self/fd/{number}", os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    return None


def _take(pipe: int, *, until: float) -> bool:
    import fcntl

    while True:
        try:
            fcntl.flock(pipe, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= until:
                return False
            time.sleep(_AGAIN)
        except OSError:  # a job has closed what it has not opened
            return False
        else:
            return True


def _give_back(pipe: int) -> None:
    import fcntl

    with contextlib.suppress(OSError):
        fcntl.flock(pipe, fcntl.LOCK_UN)
