"""Single values that JSON cannot say, as text and back.

A value of such a type is written as an object with one key that begins with `$`: `{"$uuid": "..."}`. A user's own
dict of that look is escaped as `{"$": {...}}`. The tables here hold the types without parts; containers and classes are
the business of `writing` and `reading`.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from typing import Any, Final
from uuid import UUID
from zoneinfo import ZoneInfo

MARK: Final = "$"
"""First character of every tag; alone, it is the tag that protects a user's dict from being taken for one."""

TUPLE: Final = "$tuple"
SET: Final = "$set"
FROZENSET: Final = "$frozenset"
MAP: Final = "$map"
OBJECT: Final = "$object"
PICKLE: Final = "$pickle"

_ZONE_KEY = re.compile(r"[A-Za-z0-9][A-Za-z0-9_+\-/]*")
# 2026-10-25T02:30:00+01:00[Europe/Berlin][fold=1]: RFC 9557 with the fold of PEP 495 as a suffix of our own.
_MOMENT = re.compile(
    r"(?P<text>[^\[\]]+?)(?P<fine_offset>[+-]\d\d:\d\d:\d\d\.\d{6})?(?:\[(?P<zone>[^\[\]=]+)\])?(?P<fold>\[fold=1\])?"
)


def _suffixes(value: datetime | time) -> str:
    zone = value.tzinfo
    text = ""
    if isinstance(zone, ZoneInfo) and zone.key and _ZONE_KEY.fullmatch(zone.key):
        text = f"[{zone.key}]"
    return f"{text}[fold=1]" if value.fold else text


def _write_datetime(value: datetime) -> str:
    return datetime.isoformat(value) + _suffixes(value)


def _write_time(value: time) -> str:
    return time.isoformat(value) + _suffixes(value)


def _moment(text: str) -> tuple[str, dict[str, Any]]:
    found = _MOMENT.fullmatch(text)
    if found is None:
        message = "not a moment in ISO 8601"
        raise ValueError(message)
    fields: dict[str, Any] = {"fold": 1} if found["fold"] else {}
    if found["fine_offset"]:
        fields["tzinfo"] = timezone(_fine_offset(found["fine_offset"]))
    if found["zone"]:
        fields["tzinfo"] = ZoneInfo(found["zone"])
    return found["text"], fields


def _fine_offset(text: str) -> timedelta:
    # fromisoformat of Python 3.11 loses an offset of less than a second (+00:00:00.000001 becomes UTC).
    hours, minutes, seconds = text[1:].split(":")
    size = timedelta(hours=int(hours), minutes=int(minutes), microseconds=int(seconds.replace(".", "")))
    return -size if text[0] == "-" else size


def read_datetime(text: str) -> datetime:
    """A datetime from ISO 8601 text, with or without offset and `[IANA/Zone]`. Wall time wins over the offset.

    Raises:
        ValueError: the text is no datetime.
        KeyError: this machine does not know the zone.
    """
    plain, fields = _moment(text)
    return datetime.fromisoformat(plain).replace(**fields)


def read_time(text: str) -> time:
    """A time of day from ISO 8601 text; see `read_datetime`."""
    plain, fields = _moment(text)
    return time.fromisoformat(plain).replace(**fields)


def _write_timedelta(value: timedelta) -> list[int]:
    return [value.days, value.seconds, value.microseconds]


def _read_timedelta(parts: list[int]) -> timedelta:
    days, seconds, microseconds = parts
    return timedelta(days, seconds, microseconds)


def _write_bytes(value: bytes | bytearray) -> str:
    return binascii.b2a_base64(value, newline=False).decode("ascii")


def _read_bytes(text: str) -> bytes:
    return base64.b64decode(text, validate=True)


def _read_bytearray(text: str) -> bytearray:
    return bytearray(base64.b64decode(text, validate=True))


def _read_hex(text: str) -> int:
    return int(text, 16)


WRITERS: Final[dict[type, tuple[str, Callable[[Any], object]]]] = {
    # datetime stands before date: a subclass is looked for in this order.
    datetime: ("$datetime", _write_datetime),
    date: ("$date", date.isoformat),
    time: ("$time", _write_time),
    timedelta: ("$timedelta", _write_timedelta),
    Decimal: ("$decimal", str),
    UUID: ("$uuid", str),
    bytes: ("$bytes", _write_bytes),
    bytearray: ("$bytearray", _write_bytes),
}
"""Type → its tag and the function that writes what stands behind the tag."""

READERS: Final[dict[str, Callable[[Any], object]]] = {
    "$datetime": read_datetime,
    "$date": date.fromisoformat,
    "$time": read_time,
    "$timedelta": _read_timedelta,
    "$decimal": Decimal,
    "$uuid": UUID,
    "$bytes": _read_bytes,
    "$bytearray": _read_bytearray,
    "$int": _read_hex,
    "$float": float,
}
"""Tag → the function that reads what stands behind it."""

FROM_TEXT: Final[dict[type, Callable[[str], object]]] = {
    datetime: read_datetime,
    date: date.fromisoformat,
    time: read_time,
    Decimal: Decimal,
    UUID: UUID,
}
"""Types that an annotation restores from plain text, for callers that know only JSON (a shell, other languages)."""
