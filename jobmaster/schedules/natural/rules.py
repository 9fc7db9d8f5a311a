"""What a NaturalCron expression means, without its text: the parsed form that everything else works on.

All values are normalized: units are `Unit`, names and 12-hour clocks are numbers, `first` and `last` are numbers
wherever they do not depend on the month, `from` and `upto` have both ends. Equality is equality of meaning: the places
in the text (`span`), which errors point at, do not count.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum, IntEnum
from typing import NamedTuple, TypeAlias


class Unit(IntEnum):
    """A unit of time; a greater one is coarser. WEEK as the unit of a value is the day of the week."""

    SECOND = 1
    MINUTE = 2
    HOUR = 3
    DAY = 4
    WEEK = 5
    MONTH = 6
    YEAR = 7

    @property
    def lowest(self) -> int:
        """The smallest value of this unit: 0 up to hours, 1 above; 1 is Sunday for WEEK."""
        return _LIMITS[self][0]

    @property
    def highest(self) -> int:
        """The greatest value of this unit; 31 for DAY, 7 (Saturday) for WEEK, 9999 for YEAR."""
        return _LIMITS[self][1]


_LIMITS = {
    Unit.SECOND: (0, 59),
    Unit.MINUTE: (0, 59),
    Unit.HOUR: (0, 23),
    Unit.DAY: (1, 31),
    Unit.WEEK: (1, 7),
    Unit.MONTH: (1, 12),
    Unit.YEAR: (1, 9999),
}


class Span(NamedTuple):
    """A place in the text: columns from 0, the end exclusive."""

    start: int
    end: int


NOWHERE = Span(0, 0)
LAST = -1


# ------------------------------------------------------------------------------------------------------ days of a month


@dataclass(frozen=True, slots=True)
class MonthEdge:
    """The first or the last day of the month, `shift` days later (or earlier); cut to the days of the month."""

    last: bool
    shift: int = 0


@dataclass(frozen=True, slots=True)
class WeekdayEdge:
    """The first or the last Monday-to-Friday day of the month, moved by `shift` days; cut to the days of the month."""

    last: bool
    shift: int = 0


@dataclass(frozen=True, slots=True)
class NthWeekday:
    """The `nth` (1 to 5, or LAST) `weekday` (1 Sunday to 7 Saturday) of the month, moved by `shift` days.

    A month without a fifth one has no such day. The moved day is cut to the days of the month.
    """

    nth: int
    weekday: int
    shift: int = 0


@dataclass(frozen=True, slots=True)
class ClosestWeekday:
    """The Monday-to-Friday day closest to day `day` (cut to the month length); it never leaves the month."""

    day: int


SpecialDay: TypeAlias = MonthEdge | WeekdayEdge | NthWeekday | ClosestWeekday


def day_in_month(day: int | SpecialDay, *, length: int, starts_on: int) -> int | None:
    """The day of the month that `day` is, or None where the month has no such day.

    Args:
        day: a plain number, which is returned if the month has it, or a special day.
        length: number of days of the month.
        starts_on: weekday of the 1st, 1 Sunday to 7 Saturday.
    """
    match day:
        case int():
            return day if day <= length else None
        case MonthEdge(last=last, shift=shift):
            return _cut((length if last else 1) + shift, length)
        case WeekdayEdge(last=True, shift=shift):
            back = {7: 1, 1: 2}.get(_weekday(length, starts_on), 0)
            return _cut(length - back + shift, length)
        case WeekdayEdge(shift=shift):
            return _cut(1 + {7: 2, 1: 1}.get(starts_on, 0) + shift, length)
        case NthWeekday(nth=nth, weekday=weekday, shift=shift):
            found = 1 + (weekday - starts_on) % 7 + 7 * (4 if nth == LAST else nth - 1)
            if found > length and nth == LAST:
                found -= 7
            return _cut(found + shift, length) if found <= length else None
        case ClosestWeekday(day=number):
            return _closest(min(number, length), length, starts_on)


def _cut(day: int, length: int) -> int:
    return max(1, min(day, length))


def _weekday(day: int, starts_on: int) -> int:
    return (starts_on - 1 + day - 1) % 7 + 1


def _closest(day: int, length: int, starts_on: int) -> int:
    match _weekday(day, starts_on):
        case 7:
            return day - 1 if day > 1 else day + 2
        case 1:
            return day + 1 if day < length else day - 2
    return day


# -------------------------------------------------------------------------------------------------------------- clauses


@dataclass(frozen=True, slots=True)
class Part:
    """One named unit and its value. Only DAY knows special days; every number is within `unit.lowest..highest`."""

    unit: Unit
    value: int | SpecialDay
    span: Span = field(default=NOWHERE, compare=False)


Item: TypeAlias = tuple[Part, ...]
"""Parts that hold together, each unit at most once, from the coarsest to the finest."""


@dataclass(frozen=True, slots=True)
class Every:
    """The distance between two matches. `every monday` is `count=1, unit=WEEK, anchor=2`.

    Attributes:
        count: 1 or more.
        unit: of `count`; WEEK is seven days here.
        anchor: value of `unit` that occurrences are aligned to (a weekday for WEEK), or None.
    """

    count: int
    unit: Unit
    anchor: int | None = None
    span: Span = field(default=NOWHERE, compare=False)


@dataclass(frozen=True, slots=True)
class Point:
    """An on/in/at clause: one of `items` matches as a whole. One item: written without brackets, or a list of one.

    All items name the same units: `units`, from the coarsest to the finest.
    """

    items: tuple[Item, ...]
    span: Span = field(default=NOWHERE, compare=False)

    @property
    def units(self) -> tuple[Unit, ...]:
        """The units that every item names, from the coarsest to the finest."""
        return tuple(part.unit for part in self.items[0])


@dataclass(frozen=True, slots=True)
class Window:
    """One range, ends included. Both ends name the same units; a weekday is compared apart from the other units."""

    start: Item
    end: Item


class RangeWord(Enum):
    """How a range was written."""

    BETWEEN = "between"
    FROM = "from"
    UPTO = "upto"


@dataclass(frozen=True, slots=True)
class Range:
    """A between/from/upto clause: one of `windows` matches. All name the same units.

    `from X` is a window to the highest value of each unit of X (the month's last day for days), `upto X` one from the
    lowest; `word` only says how to put it in words.
    """

    word: RangeWord
    windows: tuple[Window, ...]
    span: Span = field(default=NOWHERE, compare=False)

    @property
    def units(self) -> tuple[Unit, ...]:
        """The units that every end of every window names, from the coarsest to the finest."""
        return tuple(part.unit for part in self.windows[0].start)


@dataclass(frozen=True, slots=True)
class Rules:
    """A whole valid expression: a moment matches if it matches every point and every range.

    Attributes:
        every: the every-clause, or None.
        points: on/in/at clauses in the order written; no two name the same unit.
        ranges: between/from/upto clauses in the order written; none without `every`.
        zone: canonical IANA id, or None where the text names none.
    """

    every: Every | None
    points: tuple[Point, ...]
    ranges: tuple[Range, ...]
    zone: str | None = None
