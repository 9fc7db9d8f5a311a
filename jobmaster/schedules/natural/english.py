"""Words for numbers, days, clocks and lists, as a person says them."""

from __future__ import annotations

from collections.abc import Sequence

from jobmaster.schedules.natural.rules import (
    LAST,
    ClosestWeekday,
    MonthEdge,
    NthWeekday,
    SpecialDay,
    Unit,
    WeekdayEdge,
)
from jobmaster.schedules.natural.vocabulary import MONTHS, WEEKDAYS

_NTH = {1: "first", 2: "second", 3: "third", 4: "fourth", 5: "fifth", LAST: "last"}
_TEENS = (11, 12, 13)


def ordinal(number: int) -> str:
    """1st, 2nd, 3rd, 4th, 11th ..."""
    suffix = {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number}{'th' if number % 100 in _TEENS else suffix}"


def listed(words: Sequence[str], last: str = "and") -> str:
    """`a, b and c`."""
    return f"{', '.join(words[:-1])} {last} {words[-1]}" if len(words) > 1 else words[0]


def counted(count: int, unit: Unit) -> str:
    """`day`, or `2 days`."""
    return unit.name.lower() if count == 1 else f"{count} {unit.name.lower()}s"


def from_monday(numbers: Sequence[int]) -> list[int]:
    """Weekdays (1 Sunday to 7 Saturday) in the order in which people name them: Saturday before Sunday."""
    return sorted(numbers, key=lambda number: (number - 2) % 7)


def weekday(number: int) -> str:
    """`Sunday` for 1."""
    return WEEKDAYS[number - 1]


def month(number: int) -> str:
    """`January` for 1."""
    return MONTHS[number - 1]


def clock(hour: int, minute: int = 0, second: int = 0) -> str:
    """`9:00`; seconds only where there are any."""
    return f"{hour}:{minute:02}" + (f":{second:02}" if second else "")


def day(value: int | SpecialDay) -> str:
    """`the 15th`, `the last Friday`, `2 days before the last weekday`; of a month."""
    match value:
        case int():
            return f"the {ordinal(value)}"
        case MonthEdge(last=last, shift=shift):
            return _shifted("the last day" if last else "the first day", shift)
        case WeekdayEdge(last=last, shift=shift):
            return _shifted("the last weekday" if last else "the first weekday", shift)
        case NthWeekday(nth=nth, weekday=number, shift=shift):
            return _shifted(f"the {_NTH[nth]} {weekday(number)}", shift)
        case ClosestWeekday(day=number):
            return f"the weekday closest to the {ordinal(number)}"


def _shifted(words: str, shift: int) -> str:
    if shift == 0:
        return words
    distance = "the day" if abs(shift) == 1 else f"{abs(shift)} days"
    return f"{distance} {'after' if shift > 0 else 'before'} {words}"
