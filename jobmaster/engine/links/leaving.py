"""How a child process ends, and how it says why it could not begin."""

from __future__ import annotations

import atexit
import contextlib
import os
import sys
import traceback
from typing import NoReturn

from jobmaster.errors import JobMasterError

_MOST_WORDS = 16_384
"""Characters of a traceback that the parent is told; the end matters most."""


def leave(code: int) -> NoReturn:
    """End the process without waiting for threads of the user's that nobody ends; exit functions are called."""
    with contextlib.suppress(BaseException):
        atexit._run_exitfuncs()  # noqa: SLF001 - the only way to call them without joining threads first
    with contextlib.suppress(Exception):
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(code)


def words_for(error: BaseException) -> str:
    """What a person is told: our own errors say what to do; others are shown with the place where they happened."""
    if isinstance(error, JobMasterError):
        return str(error)
    return "".join(traceback.format_exception(error))[-_MOST_WORDS:].strip()
