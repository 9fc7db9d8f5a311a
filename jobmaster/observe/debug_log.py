"""The debug log: every event of a cluster as JSON lines, one file for four hours, shared by all its processes."""

from __future__ import annotations

import logging
import os
import re
import sys
import threading
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from jobmaster.errors import ConfigurationError
from jobmaster.observe.events import OWN, as_json, event_of

HOURS: Final = 4
FLUSH_AT: Final = 64
"""Lines that are kept back at most; a line of level WARNING or above is never kept back."""
FLUSH_AFTER: Final = 1.0
"""Seconds that a line is kept back at most, once another one comes; the end of the process writes all."""


class DebugLog(logging.Handler):
    """Writes the events of JobMaster's loggers to `FOLDER/CLUSTER-YYYYMMDD-HH.jsonl` (UTC), with mode 0600.

    Whole lines are appended in one write, so that several processes share a file.

    Args:
        folder: made if it is not there.
        cluster: the cluster's id, part of the file's name.

    Raises:
        ConfigurationError: the folder cannot be made or written to.
    """

    def __init__(self, folder: str | os.PathLike[str], cluster: str) -> None:
        super().__init__(logging.DEBUG)
        self._folder = Path(folder)
        self._cluster = re.sub(r"[^A-Za-z0-9._-]", "_", cluster)
        self._lines: list[bytes] = []
        self._since = 0.0
        self._period = ""
        self._file: int | None = None
        self._broken = False
        self._guard = threading.Lock()
        self.name = "jobmaster-debug"
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._open(period_of(datetime.now(UTC)))
        except OSError as error:
            raise ConfigurationError(
                f"debug_log cannot write to {folder}: {error.strerror}. Make the folder writable, or name another one."
            ) from error
        # A fork would write the parent's lines a second time.
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._lines.clear)

    def emit(self, record: logging.LogRecord) -> None:
        """Take one line; it is in the file at the latest when the process ends."""
        try:
            text = logging.Formatter().formatException(record.exc_info) if record.exc_info else ""
            event = event_of(record, exception=text)
            with self._guard:
                period = period_of(event.time)
                if period != self._period:
                    self._write()
                    self._open(period)
                if not self._lines:
                    self._since = record.created
                self._lines.append(as_json(event) + b"\n")
                overdue = record.created - self._since >= FLUSH_AFTER
                if overdue or len(self._lines) >= FLUSH_AT or record.levelno >= logging.WARNING:
                    self._write()
        except Exception:  # noqa: BLE001 - a full disk must not stop a worker: said once, then silence
            self._complain()

    def flush(self) -> None:
        """Write what is kept back. `logging.shutdown` calls it when the process ends."""
        try:
            with self._guard:
                self._write()
        except OSError:
            self._complain()

    def close(self) -> None:
        """Write what is kept back and close the file."""
        self.flush()
        with self._guard:
            if self._file is not None:
                os.close(self._file)
                self._file = None
                self._period = ""
        super().close()

    def _open(self, period: str) -> None:
        if self._file is not None:
            os.close(self._file)
            self._file = None
        path = self._folder / f"{self._cluster}-{period}.jsonl"
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | getattr(os, "O_CLOEXEC", 0), 0o600)
        self._period = period

    def _write(self) -> None:
        lines, self._lines[:] = b"".join(self._lines), []
        if lines and self._file is not None:
            os.write(self._file, lines)

    def _complain(self) -> None:
        if not self._broken:
            self._broken = True
            print(f"jobmaster: the debug log in {self._folder} cannot be written: {sys.exc_info()[1]}", file=sys.stderr)  # noqa: T201 - logging about a broken log would call itself


def period_of(moment: datetime) -> str:
    """The four hours of a moment, as they are part of a file's name: `20261121-20`."""
    utc = moment.astimezone(UTC)
    return f"{utc:%Y%m%d}-{utc.hour // HOURS * HOURS:02d}"


def start_debug_log(folder: str | os.PathLike[str], cluster: str) -> DebugLog:
    """Write all events of JobMaster's loggers, from DEBUG on, to the debug log from now on.

    Raises:
        ConfigurationError: as `DebugLog`.
    """
    handler = DebugLog(folder, cluster)
    logger = logging.getLogger(OWN)
    for known in [known for known in logger.handlers if known.name == handler.name]:
        logger.removeHandler(known)
        known.close()
    if not any(isinstance(known, _AsBefore) for known in logger.handlers):
        logger.addHandler(_AsBefore(logger.level))
        logger.propagate = False
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG)
    return handler


def stop_debug_log(handler: DebugLog) -> None:
    """End a debug log that `start_debug_log` began, and leave the program's logging as it was before."""
    logger = logging.getLogger(OWN)
    logger.removeHandler(handler)
    handler.close()
    if any(isinstance(known, DebugLog) for known in logger.handlers):
        return
    for known in [known for known in logger.handlers if isinstance(known, _AsBefore)]:
        logger.removeHandler(known)
        logger.setLevel(known.before)
        logger.propagate = True


class _AsBefore(logging.Handler):
    """Gives the program's own handlers what they had before the logger's level went down to DEBUG, and no more."""

    def __init__(self, level: int) -> None:
        super().__init__()
        self.before = level

    def emit(self, record: logging.LogRecord) -> None:
        """Pass the line on, if it is important enough."""
        root = logging.getLogger()
        if record.levelno >= (self.before or root.level):
            root.handle(record)
