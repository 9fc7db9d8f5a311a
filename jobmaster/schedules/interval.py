"""Periods of elapsed time."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, ClassVar
from zoneinfo import ZoneInfo

from jobmaster.errors import ConfigurationError, ScheduleSyntaxError
from jobmaster.schedules.english import length_of
from jobmaster.schedules.moments import as_utc, iso_text, read_moment, shown_in

_SHORTEST = timedelta(seconds=1)
_MICROSECOND = timedelta(microseconds=1)
_TEXT = re.compile(
    r"\s*(?:(?P<days>\d{1,9})\.)?(?P<hours>\d{1,2}):(?P<minutes>\d{1,2}):(?P<seconds>\d{1,2})(?:\.(?P<fraction>\d{1,7}))?"
    r"(?:\s+anchored\s+(?P<anchor>\S+))?\s*",
    re.ASCII | re.IGNORECASE,
)
_LIMITS = {"hours": 23, "minutes": 59, "seconds": 59}
_SINGULAR = re.compile(r"^1 (hour|minute|second)$")


@dataclass(frozen=True, slots=True, init=False)
class Interval:
    """Every so much elapsed time: `Interval(timedelta(minutes=5))`, `Interval(90)`.

    Changes of clocks do not matter to it: 24 hours after 9:00 it may be 10:00. Each occurrence is one period after the
    one before; with an `anchor` they are all moments that are whole periods away from it, before and after.

    Args:
        every: a timedelta or seconds, at least one second.
        anchor: an aware datetime; None: the series goes on from wherever it is asked.

    Raises:
        ConfigurationError: the period is too short, or the anchor has no zone.
    """

    type_id: ClassVar[str] = "TimeSpanInterval"

    every: timedelta
    anchor: datetime | None
    zone: ZoneInfo | None

    def __init__(self, every: timedelta | float, anchor: datetime | None = None) -> None:
        period = _period(every)
        if period < _SHORTEST:
            raise ConfigurationError(f"the period of an interval is at least one second, not {every!r}")
        object.__setattr__(self, "every", period)
        object.__setattr__(self, "anchor", None if anchor is None else as_utc(anchor))
        object.__setattr__(self, "zone", None)

    @classmethod
    def parse(cls, text: str) -> Interval:
        """The interval that `text` means.

        Args:
            text: `[d.]hh:mm:ss[.fraction]`, as .NET writes durations, and `anchored <ISO moment>` behind it if it has
                an anchor. Fractions below a microsecond are dropped.

        Raises:
            ScheduleSyntaxError: it is something else, or shorter than a second.
        """
        found = _TEXT.fullmatch(text)
        if found is None:
            raise ScheduleSyntaxError(
                "a duration is written [d.]hh:mm:ss[.fff], as in 00:05:00 or 1.12:00:00", text=text
            )
        for part, most in _LIMITS.items():
            if int(found[part]) > most:
                hint = ", days stand before a dot (1.00:00:00)" if part == "hours" else ""
                raise ScheduleSyntaxError(
                    f"{part} are 0 to {most}{hint}", found.start(part), length=len(found[part]), text=text
                )
        period = timedelta(
            days=int(found["days"] or 0),
            hours=int(found["hours"]),
            minutes=int(found["minutes"]),
            seconds=int(found["seconds"]),
            microseconds=int((found["fraction"] or "")[:6].ljust(6, "0")),
        )
        if period < _SHORTEST:
            raise ScheduleSyntaxError("an interval is at least one second, 00:00:01", text=text, length=len(text))
        return cls(period, read_moment(text, found["anchor"], found.start("anchor")) if found["anchor"] else None)

    @property
    def text(self) -> str:
        """The period as .NET writes it, and the anchor if there is one."""
        clock, fraction = divmod(self.every % timedelta(days=1), _SHORTEST)
        days = f"{self.every.days}." if self.every.days else ""
        written = f"{days}{clock // 3600:02}:{clock // 60 % 60:02}:{clock % 60:02}"
        if fraction:
            digits = f"{fraction // _MICROSECOND:06}"
            written += f".{digits[:3]}" if digits.endswith("000") else f".{digits}"
        return written if self.anchor is None else f"{written} anchored {iso_text(self.anchor)}"

    @property
    def is_phased(self) -> bool:
        """True, but for an anchored one."""
        return self.anchor is None

    def in_zone(self, zone: ZoneInfo) -> Interval:
        """The same interval; its moments are told in `zone`."""
        other = Interval(self.every, self.anchor)
        object.__setattr__(other, "zone", zone)
        return other

    def next_after(self, moment: datetime) -> datetime | None:
        """The first occurrence strictly after `moment`; see `Expression.next_after`."""
        start = as_utc(moment)
        base = start if self.anchor is None else start - (start - self.anchor) % self.every
        try:
            return shown_in(base + self.every, self.zone, moment)
        except OverflowError:
            return None

    def latest(self, after: datetime, until: datetime, count: int) -> list[datetime]:
        """The last `count` occurrences in (after, until], in order, of the series that goes on from `after`."""
        start, end = as_utc(after), as_utc(until)
        base = start if self.anchor is None else start - (start - self.anchor) % self.every
        last = (end - base) // self.every
        first = max(1, last - count + 1)
        return [shown_in(base + number * self.every, self.zone, after) for number in range(first, last + 1)]

    def has_ended(self, moment: datetime) -> bool:
        """False, but at the end of the calendar."""
        return self.next_after(moment) is None

    def explain(self) -> str:
        """The interval in plain English: "every 5 minutes"."""
        length = "24 hours" if self.every == timedelta(days=1) else length_of(self.every)
        single = _SINGULAR.match(length)
        spoken = f"every {single[1] if single else length}"
        return spoken if self.anchor is None else f"{spoken}, counted from {self.anchor:%Y-%m-%d %H:%M:%S} UTC"


def _period(every: Any) -> timedelta:
    if isinstance(every, timedelta):
        return every
    if isinstance(every, bool) or not isinstance(every, int | float) or not math.isfinite(every):
        raise ConfigurationError(f"the period of an interval is a timedelta or seconds, not {every!r}")
    try:
        return timedelta(seconds=every)
    except OverflowError:
        raise ConfigurationError(f"{every!r} seconds are longer than any timedelta") from None
