"""How a child process ends, and how it says why it could not begin."""

from __future__ import annotations

import atexit
import contextlib
import os
import sys
import traceback
from typing import Any, NoReturn

from jobmaster.errors import JobMasterError

_MOST_WORDS = 16_384
"""Characters of a traceback that the parent is told; the end matters most."""


def leave(code: int) -> NoReturn:
    """End the process without waiting for threads and processes of the user's; exit functions are called."""
    of_processes = getattr(sys.modules.get("multiprocessing.util"), "_exit_function", None)
    with contextlib.suppress(BaseException):
        if of_processes is not None:
            atexit.unregister(of_processes)
        atexit._run_exitfuncs()  # noqa: SLF001 - the only way to call them without joining threads first
    with contextlib.suppress(BaseException):
        if of_processes is not None:
            _end_left_processes()
            of_processes()
    with contextlib.suppress(Exception):
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(code)


def _end_left_processes() -> None:
    """SIGTERM for those that jobs have begun with `multiprocessing` and left behind, as a pool of a module does.

    Its exit function would wait for them without end, and such a pool's workers would live on without their parent.
    """
    children: set[Any] = getattr(sys.modules["multiprocessing.process"], "_children", set())
    for process in list(children):
        with contextlib.suppress(Exception):
            process.terminate()
    children.clear()


def words_for(error: BaseException) -> str:
    """What a person is told: our own errors say what to do; others are shown with the place where they happened."""
    if isinstance(error, JobMasterError):
        return str(error)
    return "".join(traceback.format_exception(error))[-_MOST_WORDS:].strip()
