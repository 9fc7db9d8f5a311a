"""Durations: given by people as seconds or timedelta, kept as float seconds, shown with a unit."""

from __future__ import annotations

from datetime import timedelta

from jobmaster.errors import ConfigurationError

LONGEST = 36_500 * 86_400.0
"""A hundred years: what is longer cannot be added to a moment."""

_UNITS = (("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1))


def as_seconds(value: float | timedelta, name: str) -> float:
    """The duration `value` in seconds.

    Args:
        value: seconds or timedelta; negative ones are let through, the caller knows its limits.
        name: what the duration is called, for the error's text.

    A timedelta of more than a hundred years counts as a hundred years, because `timedelta.max` is a way to say "ever".

    Raises:
        ConfigurationError: `value` is no number, is NaN or infinite, or is longer than a hundred years.
    """
    if isinstance(value, timedelta):
        seconds = value.total_seconds()
    elif isinstance(value, bool) or not isinstance(value, (int, float)):
        raise ConfigurationError(
            f"{name} is {value!r}, but a duration is a number of seconds or a timedelta. "
            f"Write {name}=30 or {name}=timedelta(seconds=30)."
        )
    elif not -LONGEST <= value <= LONGEST:
        # Compared before it becomes a float, which a huge int cannot. NaN fails the comparison as well.
        raise ConfigurationError(
            f"{name} is no length of time, or one of more than a hundred years. "
            "Give a number of seconds or a timedelta below that."
        )
    else:
        seconds = float(value)
    return min(max(seconds, -LONGEST), LONGEST)


def duration_text(seconds: float) -> str:
    """The duration as it may be written in a file or a variable: `10s`, `5m`, `30d`, `500ms`, `1.0005s`."""
    millis = seconds * 1_000
    for unit, size in _UNITS:
        if millis and millis % size == 0:
            return f"{millis / size:.0f}{unit}"
    return f"{seconds:.6f}".rstrip("0").rstrip(".") + "s"
