"""Every word of the language, and what it stands for."""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from enum import StrEnum
from typing import NamedTuple

from jobmaster.schedules.natural.rules import LAST, MonthEdge, NthWeekday, SpecialDay, Unit, WeekdayEdge


class Class(StrEnum):
    """What kind of word it is; also the name of its terminal in the grammar."""

    EVERY = "EVERY"
    SHORTCUT = "SHORTCUT"
    POINT = "POINT"
    BETWEEN = "BETWEEN"
    BOUND = "BOUND"
    TZ = "TZ"
    ANCHOR = "ANCHOR"
    UNIT = "UNIT"
    ORDINAL = "ORDINAL"
    WEEKDAY = "WEEKDAY"
    MONTH = "MONTH"
    SPECIAL = "SPECIAL"
    CLOSEST = "CLOSEST"
    EDGE = "EDGE"
    AND = "AND"
    AMPM = "AMPM"


RULE_CLASSES = frozenset({Class.EVERY, Class.SHORTCUT, Class.POINT, Class.BETWEEN, Class.BOUND, Class.TZ})
"""Words that begin a clause, and may carry an `@`."""


class Word(NamedTuple):
    """A word of the language.

    Attributes:
        type: its class.
        value: unit of UNIT and SHORTCUT, number of WEEKDAY and MONTH, day of SPECIAL and EDGE; else None.
        spelling: as it is shown to people.
    """

    type: Class
    value: int | SpecialDay | None
    spelling: str


WEEKDAYS = ("Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday")
MONTHS = (
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
)
UNITS = {
    Unit.SECOND: "second seconds sec secs",
    Unit.MINUTE: "minute minutes min mins",
    Unit.HOUR: "hour hours hr hrs",
    Unit.DAY: "day days dy dys",
    Unit.WEEK: "week weeks wk wks",
    Unit.MONTH: "month months mth mths",
    Unit.YEAR: "year years yr yrs",
}
SHORTCUTS = {
    "secondly": Unit.SECOND,
    "minutely": Unit.MINUTE,
    "hourly": Unit.HOUR,
    "daily": Unit.DAY,
    "weekly": Unit.WEEK,
    "monthly": Unit.MONTH,
    "yearly": Unit.YEAR,
}
_NTH = {
    "First": 1,
    "1st": 1,
    "Second": 2,
    "2nd": 2,
    "Third": 3,
    "3rd": 3,
    "Fourth": 4,
    "4th": 4,
    "Fifth": 5,
    "5th": 5,
    "Last": LAST,
}


def _words() -> Iterator[Word]:
    yield Word(Class.EVERY, None, "every")
    for spelling, unit in SHORTCUTS.items():
        yield Word(Class.SHORTCUT, unit, spelling)
    for type_, spellings in {
        Class.POINT: "at on in",
        Class.BETWEEN: "between",
        Class.BOUND: "from upto",
        Class.TZ: "tz timezone",
        Class.ANCHOR: "AnchoredOn AnchoredAt AnchoredIn BasedOn BasedAt BasedIn",
        Class.ORDINAL: "st nd rd th",
        Class.CLOSEST: "ClosestWeekdayTo",
        Class.AND: "and",
        Class.AMPM: "am pm",
    }.items():
        for spelling in spellings.split():
            yield Word(type_, None, spelling)
    for unit, spellings in UNITS.items():
        for spelling in spellings.split():
            yield Word(Class.UNIT, unit, spelling)
    for type_, names in ((Class.WEEKDAY, WEEKDAYS), (Class.MONTH, MONTHS)):
        for number, name in enumerate(names, start=1):
            yield Word(type_, number, name)
            yield Word(type_, number, name[:3])
    yield from _days()


def _days() -> Iterator[Word]:
    for spelling in ("LastDayOfTheMonth", "LastDayOfMonth", "LastDay"):
        yield Word(Class.SPECIAL, MonthEdge(last=True), spelling)
    for spelling in ("FirstOfTheMonth", "FirstDayOfMonth", "FirstDay"):
        yield Word(Class.SPECIAL, MonthEdge(last=False), spelling)
    yield Word(Class.SPECIAL, WeekdayEdge(last=False), "FirstWeekday")
    yield Word(Class.SPECIAL, WeekdayEdge(last=True), "LastWeekday")
    yield Word(Class.EDGE, MonthEdge(last=False), "first")
    yield Word(Class.EDGE, MonthEdge(last=True), "last")
    for prefix, nth in _NTH.items():
        for number, name in enumerate(WEEKDAYS, start=1):
            yield Word(Class.SPECIAL, NthWeekday(nth, number), prefix + name)
            yield Word(Class.SPECIAL, NthWeekday(nth, number), prefix + name[:3])


WORDS = {word.spelling.lower(): word for word in _words()}
"""All words, by their small letters."""

# What people write who know other languages or plain English.
_INSTEAD = {
    "each": "every",
    "until": "upto",
    "till": "upto",
    "before": "upto",
    "since": "from",
    "after": "from",
    "starting": "from",
    "to": "and",
    "through": "and",
    "thru": "and",
    "noon": "12:00",
    "midday": "12:00",
    "midnight": "0:00",
    "tues": "Tue",
    "weds": "Wed",
    "thur": "Thu",
    "thurs": "Thu",
    "sept": "Sep",
    "annually": "yearly",
    "quarterly": "every 3 months",
    "quarter": "3 months",
    "quarters": "months",
    "fortnight": "2 weeks",
    "fortnightly": "every 2 weeks",
    "biweekly": "every 2 weeks",
    "weekday": "day between Monday and Friday",
    "weekdays": "day between Monday and Friday",
    "workday": "day between Monday and Friday",
    "workdays": "day between Monday and Friday",
    "weekend": "week on [Saturday, Sunday]",
    "weekends": "week on [Saturday, Sunday]",
    "s": "seconds",
    "m": "minutes",
    "h": "hours",
    "d": "days",
    "w": "weeks",
    "zone": "tz",
    "other": "2",
    "one": "1",
    "two": "2",
    "three": "3",
    "four": "4",
    "five": "5",
    "six": "6",
    "ten": "10",
    "fifteen": "15",
    "thirty": "30",
}
_SHORTEST_TYPO = 3
FILLERS = frozenset({"the", "of", "a", "an", "o", "clock", "oclock", "please", "run"})
"""Words of English that are simply left out here."""


def suggestion(unknown: str) -> str:
    """What to write instead of a word that nobody knows, or an empty text."""
    small = unknown.lower()
    if small in _INSTEAD:
        return _INSTEAD[small]
    if len(small) < _SHORTEST_TYPO:
        return ""
    swapped = [word for word in WORDS if sorted(word) == sorted(small)]
    close = swapped or difflib.get_close_matches(small, [*WORDS, *_INSTEAD], n=1, cutoff=0.7)
    if not close:
        return ""
    return WORDS[close[0]].spelling if close[0] in WORDS else _INSTEAD[close[0]]
