"""Ranges in plain English: "between Monday and Friday", "from 9:00 to 18:00"."""

from __future__ import annotations

from collections.abc import Sequence

from jobmaster.schedules.natural import english
from jobmaster.schedules.natural.clauses import Value
from jobmaster.schedules.natural.rules import Item, MonthEdge, Range, RangeWord, Unit, Window

_CLOCK = (Unit.HOUR, Unit.MINUTE, Unit.SECOND)


class Windows:
    """The ranges of an expression in words.

    Args:
        ranges: all of the expression.
        is_fine: the rule happens several times a day.

    Attributes:
        dates: ranges of days, months, years; empty if there are none.
        clock: ranges of the time of day; empty if there are none.
    """

    def __init__(self, ranges: Sequence[Range], *, is_fine: bool) -> None:
        self._is_fine = is_fine
        merged = _merged(ranges)
        self.dates = " and also ".join(self._words(each) for each in merged if max(each.units) >= Unit.DAY)
        self.clock = " and also ".join(self._words(each) for each in merged if max(each.units) < Unit.DAY)

    def _words(self, each: Range) -> str:
        return english.listed([self._window(window, each) for window in each.windows])

    def _window(self, window: Window, each: Range) -> str:
        units = each.units
        if max(units) < Unit.HOUR:
            return _parts_of_hour(window, units)
        start, end = _end(window.start, is_end=False), _end(window.end, is_end=True)
        if each.word is RangeWord.UPTO and max(units) is Unit.YEAR:
            return f"up to {end}"
        if each.word is RangeWord.FROM and max(units) is Unit.YEAR:
            return f"from {start} on,"
        of_month = " of the month" if max(units) is Unit.DAY else ""
        if max(units) < Unit.DAY and self._is_fine:
            return f"from {start} to {end}"
        return f"between {start} and {end}{of_month}"


def _merged(ranges: Sequence[Range]) -> list[Range]:
    """`from 22:00 upto 23:00` as one range."""
    found = list(dict.fromkeys(ranges))
    for first in [each for each in found if each.word is RangeWord.FROM]:
        for last in [each for each in found if each.word is RangeWord.UPTO and each.units == first.units]:
            both = Range(RangeWord.BETWEEN, (Window(first.windows[0].start, last.windows[0].end),))
            return _merged([both if each == first else each for each in found if each != last])
    return found


def _parts_of_hour(window: Window, units: Sequence[Unit]) -> str:
    """Minutes without an hour: they come again every hour."""
    first, last = ({part.unit: part.value for part in item} for item in (window.start, window.end))
    whole = "hour" if Unit.MINUTE in units else "minute"
    if len(units) == 1:
        name = units[0].name.lower()
        return f"between {name}s {first[units[0]]} and {last[units[0]]} of the {whole}"
    low, high = (f"{item[Unit.MINUTE]}:{item[Unit.SECOND]:02}" for item in (first, last))
    return f"between minutes {low} and {high} of the hour"


def _end(item: Item, *, is_end: bool) -> str:
    values: dict[Unit, Value] = {part.unit: part.value for part in item}
    words = []
    weekday, month, year = (values.get(unit) for unit in (Unit.WEEK, Unit.MONTH, Unit.YEAR))
    if isinstance(weekday, int):
        words.append(english.weekday(weekday))
    date = _date(values.get(Unit.DAY), month if isinstance(month, int) else None)
    if date:
        words.append(f"{date}, {year}" if year else date)
    elif year:
        words.append(str(year))
    if Unit.HOUR in values:
        words.append(_clock(values, is_end=is_end))
    return " ".join(words)


def _date(day: Value | None, month: int | None) -> str:
    if day is None:
        return english.month(month) if month else ""
    if month is None:
        return "the end" if day == MonthEdge(last=True) else english.day(day)
    if isinstance(day, int):
        return f"{english.month(month)} {english.ordinal(day)}"
    return f"{'the end' if day == MonthEdge(last=True) else english.day(day)} of {english.month(month)}"


def _clock(values: dict[Unit, Value], *, is_end: bool) -> str:
    """An hour alone lasts up to its last minute; the last minute of the day is midnight."""
    hour = values[Unit.HOUR]
    minute = values.get(Unit.MINUTE, 59 if is_end else 0)
    second = values.get(Unit.SECOND, 0)
    assert isinstance(hour, int)  # noqa: S101 - only days are special
    assert isinstance(minute, int)  # noqa: S101
    assert isinstance(second, int)  # noqa: S101
    if is_end and (hour, minute) == (23, 59) and second in {0, 59}:
        return "midnight"
    if not is_end and (hour, minute, second) == (0, 0, 0):
        return "midnight"
    return english.clock(hour, minute, second)
