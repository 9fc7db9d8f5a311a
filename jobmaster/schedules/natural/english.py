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
_SHORTEST_MONTH, _LONGEST_MONTH = 28, 31


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
            if abs(shift) >= _LONGEST_MONTH - 1 or (shift > 0) == last:  # cut to the month
                return "the last day" if shift > 0 or (last and shift == 0) else "the first day"
            first, words = (_LONGEST_MONTH, "the last day") if last else (1, "the first day")
            return _shifted(words, shift, min(first, _SHORTEST_MONTH), first)
        case WeekdayEdge(last=True, shift=shift):
            return _shifted("the last weekday", shift, _SHORTEST_MONTH - 2, _LONGEST_MONTH)
        case WeekdayEdge(shift=shift):
            return _shifted("the first weekday", shift, 1, 3)
        case NthWeekday(nth=nth, weekday=number, shift=shift):
            lowest = 7 * nth - 6 if nth != LAST else _SHORTEST_MONTH - 6
            return _shifted(
                f"the {_NTH[nth]} {weekday(number)}", shift, lowest, lowest + 6 if nth > 0 else _LONGEST_MONTH
            )
        case ClosestWeekday(day=number):
            return f"the weekday closest to the {ordinal(number)}"


def _shifted(words: str, shift: int, lowest: int, highest: int) -> str:
    """`2 days before words`, a day of the month from `lowest` to `highest`; and that it never leaves the month."""
    if shift == 0:
        return words
    distance = "the day" if abs(shift) == 1 else f"{abs(shift)} days"
    if lowest + shift < 1:
        limit = " (at least the 1st)"
    else:
        limit = " (at most the last day)" if highest + shift > _SHORTEST_MONTH and shift > 0 else ""
    return f"{distance} {'after' if shift > 0 else 'before'} {words}{limit}"
