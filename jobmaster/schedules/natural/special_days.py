"""Kinds of months and years: there are 28 and 14, so whatever is found out about one holds for all of its kind.

A set of days (months, hours ...) is an integer whose bit n says that n is in it.
"""

from __future__ import annotations

from jobmaster.schedules.natural.rules import SpecialDay, day_in_month

LENGTHS = (0, 31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)


def is_leap(year: int) -> bool:
    """Whether `year` has a 29 February."""
    return year % 4 == 0 and (year % 100 != 0 or year % 400 == 0)


def month_length(year: int, month: int) -> int:
    """Days of a month."""
    return 29 if month == 2 and is_leap(year) else LENGTHS[month]  # noqa: PLR2004 - February


def year_kind(year: int) -> int:
    """One of 14: leap or not (0, 1), and twice the weekday of 1 January (0 Sunday to 6 Saturday)."""
    before = year - 1
    starts_on = (before * 365 + before // 4 - before // 100 + before // 400 + 1) % 7
    return 2 * starts_on + is_leap(year)


def _months_of(kind: int) -> tuple[int, ...]:
    starts_on, leap = divmod(kind, 2)
    kinds = [0]
    for month in range(1, 13):
        length = LENGTHS[month] + (1 if leap and month == 2 else 0)  # noqa: PLR2004 - February
        kinds.append(length * 8 + starts_on + 1)
        starts_on = (starts_on + length) % 7
    return tuple(kinds)


MONTH_KINDS = tuple(_months_of(kind) for kind in range(14))
"""By year kind and month: length of the month * 8 + weekday of its 1st (1 Sunday to 7 Saturday)."""


def weekday_of(day: int, kind: int) -> int:
    """Weekday (1 Sunday to 7 Saturday) of a day of a month of this kind."""
    return (kind % 8 + day - 2) % 7 + 1


def exact_day(value: int | SpecialDay, kind: int) -> int | None:
    """The day that a point names in a month of this kind; None: the month has no such day."""
    return day_in_month(value, length=kind // 8, starts_on=kind % 8)


def bound_day(value: int | SpecialDay, kind: int) -> int | None:
    """The day that the end of a range names: as `exact_day`, but a number past the month's end is its last day."""
    length = kind // 8
    return min(value, length) if isinstance(value, int) else day_in_month(value, length=length, starts_on=kind % 8)
