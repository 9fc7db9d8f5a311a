"""Durations: given by people as seconds or timedelta, kept in settings as float seconds, counted in microseconds."""

from __future__ import annotations

from datetime import timedelta

from jobmaster.errors import ConfigurationError

MICROSECOND = timedelta(microseconds=1)

_UNITS = (("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1))


def as_timedelta(value: float | timedelta, name: str) -> timedelta:
    """The duration `value`, given as seconds or as a timedelta.

    Args:
        value: seconds or timedelta; negative ones are let through, the caller knows its limits.
        name: what the duration is called, for the error's text.

    Raises:
        ConfigurationError: `value` is no number, is NaN or infinite, or is too long for a timedelta.
    """
    if isinstance(value, timedelta):
        return value
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise ConfigurationError(
            f"{name} is {value!r}, but a duration is a number of seconds or a timedelta. "
            f"Write {name}=30 or {name}=timedelta(seconds=30)."
        )
    try:
        return timedelta(seconds=value)
    except (OverflowError, ValueError):
        # The value itself is not shown: it may be a number of thousands of digits.
        raise ConfigurationError(
            f"{name} is not finite, or more seconds than any calendar has. Give a finite number of seconds."
        ) from None


def as_seconds(value: float | timedelta, name: str) -> float:
    """The duration `value` in seconds; see `as_timedelta`.

    Raises:
        ConfigurationError: it is no duration.
    """
    return as_timedelta(value, name).total_seconds()


def as_us(duration: timedelta) -> int:
    """The duration in whole microseconds."""
    return duration // MICROSECOND


def duration_text(seconds: float) -> str:
    """The duration as it may be written in a file or a variable: `10s`, `5m`, `30d`, `500ms`, `1.0005s`."""
    millis = seconds * 1_000
    for unit, size in _UNITS:
        if millis and millis % size == 0:
            return f"{millis / size:.0f}{unit}"
    return f"{seconds:.6f}".rstrip("0").rstrip(".") + "s"
