"""A log line as an event: a name, and fields. Both log formats and the debug log write events."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

import msgspec

from jobmaster.wire.redaction import redact_mapping, redact_text

OWN: Final = "jobmaster"
"""Loggers of this name and below are ours; their lines are `event_name key=value ...`."""

_NAMED = re.compile(r"(?P<name>[a-z][a-z0-9_]*)(?=$|\s\w+=|: )")
_FIELD = re.compile(r"(?<!\S)(?P<key>[A-Za-z_]\w*)=(?P<value>\"[^\"]*\"|'[^']*'|[^\s]+)")
_PLACE_FIELDS: Final = ("worker", "job_id", "task", "attempt")


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """One line of a log.

    `time` is aware (UTC). `name` is the event's name, empty for lines of other people's code. `message` is the whole
    line as people read it. `job_id`, `task`, `attempt` belong to the job that ran where the line was written.
    """

    time: datetime
    level: str
    logger: str
    message: str
    name: str = ""
    process: int = 0
    thread: str = ""
    worker: str | None = None
    job_id: str | None = None
    task: str | None = None
    attempt: int | None = None
    fields: dict[str, Any] = {}
    exception: str = ""


def event_of(record: logging.LogRecord, *, exception: str = "") -> Event:
    """The event in a log record.

    Args:
        record: the record; `extra` may hold `event`, `fields`, `worker`, `job_id`, `task`, `attempt`.
        exception: its formatted traceback.

    Secrets in addresses and in fields with secret names are hidden in lines of JobMaster's own loggers.
    """
    own = record.name == OWN or record.name.startswith(f"{OWN}.")
    try:
        message = record.getMessage()
    except Exception:  # noqa: BLE001 - a wrong format string of a user must not lose the line
        message = f"{record.msg} {record.args}"
    if own:
        message, exception = redact_text(message), redact_text(exception)
    given = getattr(record, "fields", None)
    fields = redact_mapping(given) if isinstance(given, Mapping) else {}
    name = str(getattr(record, "event", "") or "")
    if own and not name:
        found = _NAMED.match(message)
        name = found["name"] if found else ""
        fields = {**_fields_in(message), **fields}
    place = {key: getattr(record, key, None) for key in _PLACE_FIELDS}
    if own and place["job_id"] is None and "job" in fields:
        place |= {"job_id": str(fields["job"]), "task": fields.get("task"), "attempt": fields.get("attempt")}
    return Event(
        time=datetime.fromtimestamp(record.created, UTC),
        level=record.levelname,
        logger=record.name,
        message=message,
        name=name,
        process=record.process or 0,
        thread=record.threadName or "",
        exception=exception,
        fields=fields,
        **place,
    )


def as_json(event: Event) -> bytes:
    """The event as one line of JSON, without what is empty. Values that JSON does not know are written as text."""
    told: dict[str, object] = {
        "time": event.time.isoformat(timespec="microseconds").replace("+00:00", "Z"),
        "level": event.level,
        "logger": event.logger,
        "event": event.name or None,
        "message": event.message,
        **{key: getattr(event, key) for key in _PLACE_FIELDS},
        "process": event.process,
        "thread": event.thread,
        "fields": event.fields or None,
        "exception": event.exception or None,
    }
    kept = {key: value for key, value in told.items() if value is not None}
    try:
        line = _encoder.encode(kept)
    except (UnicodeEncodeError, TypeError, ValueError, RecursionError):
        # Lone surrogates, keys that are no text, a value that contains itself.
        if event.fields:
            kept["fields"] = {str(harmless(key)): harmless(value) for key, value in event.fields.items()}
        line = _encoder.encode({key: value if key == "fields" else harmless(value) for key, value in kept.items()})
    for mark, escaped in _LINE_ENDS:
        if mark in line:
            line = line.replace(mark, escaped)
    return line


def _fields_in(message: str) -> dict[str, Any]:
    return {found["key"]: _number(found["value"].strip("\"'")) for found in _FIELD.finditer(message)}


def _number(text: str) -> object:
    if re.fullmatch(r"-?\d{1,18}", text):
        return int(text)
    return float(text) if re.fullmatch(r"-?\d{1,18}\.\d{1,18}", text) else text


def harmless(value: object) -> object:
    """A number as it is, anything else as text that every stream can write."""
    if isinstance(value, (int, float)):
        return value
    try:
        text = value if isinstance(value, str) else repr(value)
    except Exception:  # noqa: BLE001 - a user's __repr__
        text = f"<{type(value).__name__}>"
    return text.encode("utf-8", "backslashreplace").decode()


_LINE_ENDS: Final = ((b"\xe2\x80\xa8", b"\\u2028"), (b"\xe2\x80\xa9", b"\\u2029"), (b"\xc2\x85", b"\\u0085"))
"""What JSON need not escape, and what some programs take for the end of a line."""

_encoder = msgspec.json.Encoder(enc_hook=harmless)
