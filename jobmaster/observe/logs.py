"""Logs of a worker through the standard library: text for people or JSON lines for programs, with the job's fields."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from typing import Final, Protocol, TextIO

from jobmaster.errors import ConfigurationError
from jobmaster.observe.events import Event, as_json, event_of, harmless
from jobmaster.observe.whole_lines import WholeLineHandler

TEXT: Final = "text"
JSON: Final = "json"
FORMATS: Final = (TEXT, JSON)
LEVELS: Final = ("debug", "info", "warning", "error", "critical")

_JOB_ID_SHOWN: Final = 8
"""Characters of a job's id in a text line: enough to tell jobs of one minute apart; JSON has all of it."""


class NamedJob(Protocol):
    """What a log line needs to know of the job that runs."""

    @property
    def id(self) -> str:
        """The job's id."""
        ...

    @property
    def task(self) -> str:
        """Its task's name."""
        ...

    @property
    def attempt(self) -> int:
        """The number of this execution."""
        ...


class JobFilter(logging.Filter):
    """Adds the worker, and `job_id`, `task` and `attempt` of the job that runs here, to each record that has none.

    Args:
        current: the running job, or None. It is asked in the thread and context that logs.

    Attributes:
        worker: the name of the worker that this process belongs to; None: not known yet, or none.
    """

    def __init__(self, current: Callable[[], NamedJob | None]) -> None:
        super().__init__()
        self._current = current
        self.worker: str | None = None

    def filter(self, record: logging.LogRecord) -> bool:
        """Add the fields; no record is left out."""
        if not hasattr(record, "worker"):
            record.worker = self.worker
        if not hasattr(record, "job_id"):
            job = self._current()
            record.job_id = None if job is None else job.id
            record.task = None if job is None else job.task
            record.attempt = None if job is None else job.attempt
        return True


class TextFormatter(logging.Formatter):
    """`22:41:07.123 INFO  jobmaster.engine  worker_registered worker=1 [job 0191f3a2 shop.mail #2]`."""

    def format(self, record: logging.LogRecord) -> str:
        """One line, and the traceback below it."""
        event = event_of(record, exception=_traceback(self, record))
        moment = f"{event.time:%H:%M:%S}.{event.time.microsecond // 1000:03d}"
        line = f"{moment} {event.level:<7} {event.logger}  {_line(event)}"
        return f"{line}\n{event.exception}" if event.exception else line


class JsonFormatter(logging.Formatter):
    """One JSON object a line; the fields are those of `Event`."""

    def format(self, record: logging.LogRecord) -> str:
        """One line of JSON."""
        return as_json(event_of(record, exception=_traceback(self, record))).decode()


def configure_logs(
    *,
    level: str,
    format: str,
    current: Callable[[], NamedJob | None] = lambda: None,
    stream: TextIO | None = None,
) -> logging.Handler:
    """Have the root logger write to a stream (stderr), in place of what wrote there before us.

    Args:
        level: one of `LEVELS`, in any case.
        format: "text" or "json".
        current: the job that runs in this context.
        stream: where to; None: stderr.

    Raises:
        ConfigurationError: there is no such level or format.
    """
    if level.lower() not in LEVELS:
        raise ConfigurationError(f"There is no log level {level!r}. Levels are {', '.join(LEVELS)}.")
    if format not in FORMATS:
        raise ConfigurationError(f"There is no log format {format!r}. Formats are {' and '.join(FORMATS)}.")
    handler = WholeLineHandler(stream or sys.stderr)
    handler.setFormatter(JsonFormatter() if format == JSON else TextFormatter())
    handler.addFilter(JobFilter(current))
    handler.name = "jobmaster"
    root = logging.getLogger()
    for known in [known for known in root.handlers if known.name == handler.name]:
        root.removeHandler(known)
        known.close()
    root.addHandler(handler)
    root.setLevel(level.upper())
    # asyncio's lines at DEBUG are about its selector, and at INFO there are none.
    logging.getLogger("asyncio").setLevel(max(logging.INFO, root.level))
    return handler


def name_worker(name: str) -> None:
    """Say in each further line which worker this process belongs to. Without a log of ours: does nothing."""
    for handler in logging.getLogger().handlers:
        for known in handler.filters:
            if isinstance(known, JobFilter):
                known.worker = name


def _line(event: Event) -> str:
    extra = "".join(
        f" {key}={harmless(value)}" for key, value in event.fields.items() if f"{key}=" not in event.message
    )
    job = ""
    if event.job_id:
        job = f" [job {event.job_id[-_JOB_ID_SHOWN:]} {event.task} #{event.attempt}]"
    return f"{event.message}{extra}{job}"


def _traceback(formatter: logging.Formatter, record: logging.LogRecord) -> str:
    if record.exc_info and not record.exc_text:
        record.exc_text = formatter.formatException(record.exc_info)
    parts = [record.exc_text or "", formatter.formatStack(record.stack_info) if record.stack_info else ""]
    return "\n".join(part for part in parts if part)
