"""Turn what a person wrote into a setting's value: a Python object, a TOML value, or the text of a variable.

Every reader takes the value as it was given and returns the value to store. It raises ValueError with the end of the
sentence "... must be"; the caller names the setting and where the value came from.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable, Iterable
from enum import Enum
from typing import TypeVar

from jobmaster.errors import ConfigurationError
from jobmaster.model.durations import as_seconds
from jobmaster.settings.names import check_cluster_id

Choice = TypeVar("Choice", bound=Enum)

_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s|m|h|d)?")
_SECONDS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86_400}
LONGEST_COUNT = 63
"""Bits of a whole number, as databases have them."""
_TRUE = {"true", "yes", "on", "1"}
_FALSE = {"false", "no", "off", "0"}
_MODULE = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*")


def read_duration(value: object) -> float:
    """Seconds, from seconds, a timedelta, or text with a unit: `500ms`, `10s`, `5m`, `2h`, `30d`."""
    if isinstance(value, str):
        match = _DURATION.fullmatch(value.strip().lower())
        if not match:
            raise ValueError("a number of seconds, or a number with a unit: 500ms, 10s, 5m, 2h, 30d")
        value = float(match[1]) * _SECONDS[match[2] or "s"]
    try:
        return as_seconds(value, "it")  # type: ignore[arg-type] # it checks the type itself
    except ConfigurationError:
        raise ValueError("a finite number of seconds, a timedelta, or text such as '10s' or '5m'") from None


def read_count(value: object) -> int:
    """A whole number."""
    if isinstance(value, str):
        try:
            value = int(value)
        except ValueError:
            raise ValueError("a whole number") from None
    if isinstance(value, bool) or not isinstance(value, int) or value.bit_length() > LONGEST_COUNT:
        raise ValueError("a whole number")
    return value


def read_number(value: object) -> float:
    """A finite number."""
    try:
        number = math.nan if isinstance(value, bool) else float(value)  # type: ignore[arg-type] # that is the question
    except (TypeError, ValueError):
        number = math.nan
    if not math.isfinite(number):
        raise ValueError("a number")
    return number


def read_flag(value: object) -> bool:
    """True or False, or in text: true, yes, on, 1, false, no, off, 0."""
    if isinstance(value, bool):
        return value
    if isinstance(value, str) and value.strip().lower() in _TRUE | _FALSE:
        return value.strip().lower() in _TRUE
    raise ValueError("true or false")


def read_text(value: object) -> str:
    """Text that is not empty."""
    if not isinstance(value, str) or not value.strip():
        raise ValueError("text, and not empty")
    return value


def read_path(value: object) -> str:
    """A path as text."""
    if isinstance(value, os.PathLike):
        value = os.fspath(value)
    return read_text(value)


def read_cluster_id(value: object) -> str:
    """The id of a cluster."""
    try:
        return check_cluster_id(value)
    except ConfigurationError as error:
        raise ValueError(f"the id of a cluster: {error}") from None


def read_time_zone(value: object) -> str:
    """The name of a time zone that this machine knows."""
    name = str(getattr(value, "key", value))  # a ZoneInfo is welcome
    if name == "UTC":
        return "UTC"
    from zoneinfo import ZoneInfo

    try:
        return ZoneInfo(name).key
    except (KeyError, TypeError, ValueError, OSError):
        raise ValueError("the IANA name of a time zone that this machine knows, such as UTC or Europe/Berlin") from None


def read_modules(value: object) -> tuple[str, ...]:
    """Names of modules: a list, or text with commas."""
    names = value.split(",") if isinstance(value, str) else value
    if not isinstance(names, Iterable):
        raise ValueError("a list of module names")
    modules = tuple(name.strip() if isinstance(name, str) else "" for name in names)
    if not all(_MODULE.fullmatch(module) for module in modules):
        raise ValueError("a list of names that can be imported, such as shop.tasks")
    return modules


def choice_of(choices: type[Choice]) -> Callable[[object], Choice]:
    """A reader for one member of an enum, given as itself, by name (in any case) or as text by value."""

    def read_choice(value: object) -> Choice:
        if isinstance(value, choices):
            return value
        if isinstance(value, str):
            member = choices.__members__.get(value.strip().upper().replace("-", "_"))
            if member is not None:
                return member
        raise ValueError("one of " + ", ".join(name.lower() for name in choices.__members__))

    return read_choice
