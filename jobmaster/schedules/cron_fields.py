"""The fields of a cron expression as sets, and stepping along wall clocks with them."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import MAXYEAR, date, datetime, timedelta

SUNDAY, SATURDAY = 0, 6
LAST_OF_MONTH = -1
"""As the number of a weekday in `Days.nth`: the last one of the month."""

_SECOND = timedelta(seconds=1)
_LENGTHS = (31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)
_LONGEST_WAIT = 40  # years: from one 29 February on a given weekday to the next, over a century without a leap day


@dataclass(frozen=True, slots=True)
class Days:
    """On which days of a month a cron expression holds.

    Attributes:
        numbers: days of the month; empty where `last` or `nearest` stand alone, or `any_number`.
        last: the last day of the month (`L`).
        nearest: the weekday (Monday to Friday) of the month that is nearest to this day (`15W`); 0: not given.
        any_number: the day field allows every day.
        weekdays: 0 Sunday to 6 Saturday.
        nth: (weekday, n-th of the month or `LAST_OF_MONTH`) (`MON#2`, `L5`); not among `weekdays`.
        any_weekday: the weekday field allows every day.
        either: one of the two fields is enough (cron: where neither of them begins with `*`).
    """

    numbers: frozenset[int]
    last: bool
    nearest: int
    any_number: bool
    weekdays: frozenset[int]
    nth: frozenset[tuple[int, int]]
    any_weekday: bool
    either: bool
    _known: dict[tuple[int, int], tuple[int, ...]] = field(default_factory=dict, compare=False, repr=False)

    @property
    def every_day(self) -> bool:
        """Whether there is no day without."""
        if self.either:
            return self.any_number or self.any_weekday
        return self.any_number and self.any_weekday

    def within(self, first_weekday: int, length: int) -> tuple[int, ...]:
        """The days of a month of `length` days whose first is `first_weekday` (0: Sunday), in order."""
        known = self._known.get((first_weekday, length))
        if known is None:
            known = tuple(
                day for day in range(1, length + 1) if self._holds(day, (first_weekday + day - 1) % 7, length)
            )
            self._known[first_weekday, length] = known
        return known

    def _holds(self, day: int, weekday: int, length: int) -> bool:
        by_number = self.any_number or self._numbered(day, weekday, length)
        by_weekday = self.any_weekday or self._weekdayed(day, weekday, length)
        return (by_number or by_weekday) if self.either else (by_number and by_weekday)

    def _numbered(self, day: int, weekday: int, length: int) -> bool:
        if day in self.numbers or (self.last and day == length):
            return True
        return 0 < self.nearest <= length and day == _nearest_weekday(self.nearest, weekday - day, length)

    def _weekdayed(self, day: int, weekday: int, length: int) -> bool:
        if weekday in self.weekdays or (weekday, (day - 1) // 7 + 1) in self.nth:
            return True
        return day + 7 > length and (weekday, LAST_OF_MONTH) in self.nth


def _nearest_weekday(day: int, shift: int, length: int) -> int:
    """The day from Monday to Friday nearest to `day` in its month; `shift`: weekday minus day of any day of it."""
    weekday = (day + shift) % 7
    if weekday == SATURDAY:
        return day - 1 if day > 1 else day + 2
    if weekday == SUNDAY:
        return day + 1 if day < length else day - 2
    return day


@dataclass(frozen=True, slots=True)
class Fields:
    """A cron expression: moments whose every part is allowed.

    Attributes:
        seconds: allowed ones, in order; so are `minutes`, `hours` and `months`.
        minutes: as `seconds`.
        hours: as `seconds`.
        days: the two fields for days.
        months: as `seconds`, from 1.
        years: as `seconds`; None: all.
        runs_on: minutes or seconds are written with `*` or a step: a rule of "every n minutes", not of fixed times.
    """

    seconds: tuple[int, ...]
    minutes: tuple[int, ...]
    hours: tuple[int, ...]
    days: Days
    months: tuple[int, ...]
    years: tuple[int, ...] | None
    runs_on: bool

    @property
    def every_hour(self) -> bool:
        """Whether no hour is left out."""
        return len(self.hours) == 24  # noqa: PLR2004 - hours of a day

    @property
    def first_clock(self) -> tuple[int, int, int]:
        """The first time of a day: hour, minute, second."""
        return self.hours[0], self.minutes[0], self.seconds[0]

    def next_wall(self, wall: datetime) -> datetime | None:
        """The first wall (naive, of whole seconds) strictly after `wall` at which the expression holds.

        Bounded: at most 40 years of months are looked at.

        Raises:
            OverflowError: `wall` is the last second that a datetime can tell.
        """
        start = wall.replace(microsecond=0) + _SECOND
        if self._allows(start):
            clock = self._clock_from(start.hour, start.minute, start.second)
            if clock is not None:
                return datetime(start.year, start.month, start.day, *clock)  # noqa: DTZ001 - a wall
        for year, month, day in self._days_after(start):
            return datetime(year, month, day, *self.first_clock)  # noqa: DTZ001 - a wall
        return None

    def _allows(self, wall: datetime) -> bool:
        if wall.month not in self.months or (self.years is not None and wall.year not in self.years):
            return False
        if self.days.every_day:
            return True
        first_weekday = (wall.isoweekday() - wall.day + 1) % 7
        return wall.day in self.days.within(first_weekday, _length(wall.year, wall.month))

    def _clock_from(self, hour: int, minute: int, second: int) -> tuple[int, int, int] | None:
        """The first allowed time of a day that is not before the given one."""
        hours, minutes, seconds = self.hours, self.minutes, self.seconds
        if hour in hours:
            if minute in minutes and second <= seconds[-1]:
                return hour, minute, seconds[bisect_left(seconds, second)]
            if minute < minutes[-1]:
                return hour, minutes[bisect_right(minutes, minute)], seconds[0]
        if hour < hours[-1]:
            return hours[bisect_right(hours, hour)], minutes[0], seconds[0]
        return None

    def _days_after(self, wall: datetime) -> Iterator[tuple[int, int, int]]:
        """The allowed days after that of `wall`, as (year, month, day)."""
        for year in self._years_from(wall.year):
            for month in self.months:
                if year == wall.year and month < wall.month:
                    continue
                passed = wall.day if (year, month) == (wall.year, wall.month) else 0
                days = self.days.within(date(year, month, 1).isoweekday() % 7, _length(year, month))
                if days and days[-1] > passed:
                    for day in days[bisect_right(days, passed) :]:
                        yield year, month, day

    def _years_from(self, year: int) -> Iterator[int]:
        if self.years is not None:
            return iter(self.years[bisect_left(self.years, year) :])
        return iter(range(year, min(year + _LONGEST_WAIT, MAXYEAR) + 1))


def _length(year: int, month: int) -> int:
    """The days of a month."""
    if month == 2 and year % 4 == 0 and (year % 100 != 0 or year % 400 == 0):  # noqa: PLR2004 - the Gregorian rule
        return 29
    return _LENGTHS[month - 1]
