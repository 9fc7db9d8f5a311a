"""This computer: Python, SQLite, its time zone, and the app as it can be imported here."""

from __future__ import annotations

import contextlib
import os
import platform
import signal
import sqlite3
import sys
import threading
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Final

from jobmaster.cli.checks.finding import Finding, State, judge
from jobmaster.errors import JobMasterError

if TYPE_CHECKING:
    from jobmaster.app import JobMaster
    from jobmaster.cli.invocation import Invocation

OLDEST_SQLITE: Final = (3, 35, 0)
OLDEST_PYTHON: Final = (3, 11)
IMPORT_WITHIN: Final = 30.0
"""Seconds that the import of the app may take here; a worker is more patient."""
LINES_SHOWN: Final = 6
"""Of the traceback of an app that cannot be imported: its end, where the reason is."""


def python() -> list[Finding]:
    """Python's version."""
    found = platform.python_version()
    return [judge("python", found, good=sys.version_info >= OLDEST_PYTHON, advice="JobMaster needs 3.11 or newer.")]


def sqlite_library() -> list[Finding]:
    """The version of SQLite that Python brings."""
    good = sqlite3.sqlite_version_info >= OLDEST_SQLITE
    advice = "JobMaster needs SQLite 3.35 or newer: use a newer Python."
    return [judge("sqlite", sqlite3.sqlite_version, good=good, advice=advice)]


def host_zone() -> list[Finding]:
    """Whether the variable TZ names a zone: the system takes one that does not exist for UTC, without a word."""
    named = os.environ.get("TZ", "").lstrip(":")
    here = datetime.now().astimezone().tzname()
    if not named or named.startswith("/"):
        return [Finding("host zone", State.OK, f"{here}")]
    from zoneinfo import ZoneInfo

    try:
        ZoneInfo(named)
    except (ValueError, OSError, LookupError):
        if named == "UTC" or any(char.isdigit() for char in named):  # a rule such as CET-1CEST
            return [Finding("host zone", State.OK, f"{here} (TZ={named})")]
        advice = (
            "Correct TZ, or install the zones: pip install tzdata. Log lines and `at` moments may mean another hour."
        )
        return [Finding("host zone", State.WARNING, f"TZ={named} names no zone, so this host counts in UTC", advice)]
    return [Finding("host zone", State.OK, f"{here} (TZ={named})")]


def import_app(invocation: Invocation) -> tuple[JobMaster | None, list[Finding]]:
    """The app with its tasks, or why there is none. What its modules print goes to stderr.

    Raises:
        click.UsageError: nothing says where it is.
    """
    try:
        with contextlib.redirect_stdout(sys.stderr), _limited(IMPORT_WITHIN):
            app = invocation.app()
    except _TooLongError as error:
        advice = "A module must not run the program, or wait for something, when it is imported."
        return None, [Finding("app", State.FAULT, f"its import takes longer than {IMPORT_WITHIN:g} s {error}", advice)]
    except JobMasterError as error:
        details = "\n".join(str(getattr(error, "details", "")).rstrip().splitlines()[-LINES_SHOWN:])
        check = "settings" if _comes_from_settings(error) else "app"
        return None, [Finding(check, State.FAULT, str(error), details=details)]
    return app, [Finding("app", State.OK, f"cluster {app.cluster_id}")]


def _comes_from_settings(error: BaseException) -> bool:
    trace = error.__traceback__
    while trace is not None:
        if str(trace.tb_frame.f_globals.get("__name__", "")).startswith("jobmaster.settings"):
            return True
        trace = trace.tb_next
    return False


class _TooLongError(BaseException):
    """Not an Exception, which modules catch."""


@contextlib.contextmanager
def _limited(seconds: float) -> Iterator[None]:
    """Interrupt the block after so many seconds, where the system can do that (not on Windows)."""
    if not hasattr(signal, "setitimer") or threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(_number: int, frame: FrameType | None) -> None:
        at = "" if frame is None else f"(at {Path(frame.f_code.co_filename).name}, line {frame.f_lineno})"
        raise _TooLongError(at)

    before = signal.signal(signal.SIGALRM, interrupt)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
