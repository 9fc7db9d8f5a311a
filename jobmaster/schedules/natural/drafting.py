"""The text of an expression, clause by clause, as builders put it together."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import date, datetime, time
from typing import Literal, Self, TypeAlias, overload
from zoneinfo import ZoneInfo

from jobmaster.schedules.natural.calendar_names import DayPosition, Month, MonthDay, Nth, Weekday
from jobmaster.schedules.natural.expression import NaturalCron
from jobmaster.schedules.natural.values import ordinal_suffix

AmPm: TypeAlias = Literal["am", "pm"]
Value: TypeAlias = str | Weekday | Month | MonthDay | time | date
"""A text of the language, or what becomes one: a naive time (`14:30`), a date (`2026-01-31`), a naive datetime."""
Pair: TypeAlias = tuple[Value, Value]
Clock: TypeAlias = tuple[int, int] | tuple[int, int, int]
"""Hour and minute, and the second where it counts."""


@dataclass(frozen=True, slots=True)
class Spelling:
    """How words are written."""

    prefix: str = ""
    full_weekdays: bool = False
    full_months: bool = False


@dataclass(frozen=True, slots=True)
class Draft:
    """The clauses so far, and how they are written."""

    clauses: tuple[tuple[str, tuple[Value | Pair, ...]], ...] = ()
    spelling: Spelling = field(default_factory=Spelling)

    # How it is written.

    def use_ampersat(self) -> Self:
        """Write each rule word with an `@` before it."""
        return replace(self, spelling=replace(self.spelling, prefix="@"))

    def use_week_full_name(self) -> Self:
        """Write `Monday` instead of `Mon`."""
        return replace(self, spelling=replace(self.spelling, full_weekdays=True))

    def use_month_full_name(self) -> Self:
        """Write `January` instead of `Jan`."""
        return replace(self, spelling=replace(self.spelling, full_months=True))

    # Points: all of them hold together; several values in one call are alternatives.

    def at(self, *values: Value) -> Draft:
        """At a value, or at any of several: `at("9:00", "17:00")`."""
        return self._with("at", *values)

    def on(self, *values: Value) -> Draft:
        """On a value, or on any of several: `on(Weekday.MONDAY, Weekday.FRIDAY)`."""
        return self._with("on", *values)

    def in_(self, *values: Value) -> Draft:
        """In a value, or in any of several: `in_(Month.JANUARY)`."""
        return self._with("in", *values)

    def at_time(self, hour: int, minute: int = 0, second: int | None = None, *, ampm: AmPm | None = None) -> Draft:
        """At a time of day; without `ampm` hours go from 0 to 23. `second` None: not named."""
        return self._with("at", _clock(hour, minute, second, ampm))

    def at_day(self, *days: int) -> Draft:
        """On a day of the month, or on any of several."""
        return self._with("on", *(_ordinal(day) for day in days))

    def on_date(self, month: Month, day: int) -> Draft:
        """On a day of each year."""
        return self._with("on", MonthDay(month, day))

    def at_day_position(self, position: DayPosition, shift: int = 0) -> Draft:
        """On the first or last day of the month, or `shift` days later (negative: earlier) within the month."""
        return self._with("on", position.value + _shift(shift))

    def on_nth_weekday(self, nth: Nth, weekday: Weekday, shift: int = 0) -> Draft:
        """On the n-th such weekday of the month, or `shift` days later (negative: earlier) within the month."""
        return self._with("on", f"{nth.value}{self._weekday(weekday)}{_shift(shift)}")

    def on_closest_weekday_to(self, day: int) -> Draft:
        """On the Monday-to-Friday day that is closest to a day of the month."""
        return self._with("on", f"ClosestWeekdayTo {_ordinal(day)}")

    # Ranges: both ends count.

    @overload
    def between(self, start: Value, end: Value, /) -> Draft: ...

    @overload
    def between(self, first: Pair, /, *others: Pair) -> Draft: ...

    def between(self, *ends: Value | Pair) -> Draft:
        """Within a range, or within any of several: `between(("9:00", "12:00"), ("13:00", "18:00"))`."""
        singles = [end for end in ends if isinstance(end, MonthDay) or not isinstance(end, tuple)]
        if not singles and ends:
            return self._with("between", *ends)
        if len(singles) == len(ends) == 2:  # noqa: PLR2004 - start and end
            return self._with("between", (singles[0], singles[1]))
        raise TypeError("between() takes a start and an end, or pairs of them")

    def between_time(self, start: Clock, end: Clock, *, ampm: tuple[AmPm, AmPm] | None = None) -> Draft:
        """Between two times of day: `between_time((9, 0), (17, 30))`; `ampm`: of the start and of the end."""
        halves = ampm or (None, None)
        return self._with("between", (_clock_text(start, halves[0]), _clock_text(end, halves[1])))

    def from_(self, value: Value) -> Draft:
        """From a value to the end of what is one coarser: `from_("9:00")` to the end of the day."""
        return self._with("from", value)

    def from_time(self, hour: int, minute: int = 0, second: int | None = None, *, ampm: AmPm | None = None) -> Draft:
        """From a time to the end of the day."""
        return self._with("from", _clock(hour, minute, second, ampm))

    def from_day(self, day: int) -> Draft:
        """From a day of the month to the last one."""
        return self._with("from", _ordinal(day))

    def upto(self, value: Value) -> Draft:
        """From the beginning of what is one coarser to a value, which counts: `upto("18:00")` from midnight."""
        return self._with("upto", value)

    def upto_time(self, hour: int, minute: int = 0, second: int | None = None, *, ampm: AmPm | None = None) -> Draft:
        """From midnight to a time, which counts."""
        return self._with("upto", _clock(hour, minute, second, ampm))

    def upto_day(self, day: int) -> Draft:
        """From the 1st to a day of the month, which counts."""
        return self._with("upto", _ordinal(day))

    def with_time_zone(self, zone: str | ZoneInfo) -> Draft:
        """By the clocks of a zone."""
        return self._with("tz", zone.key if isinstance(zone, ZoneInfo) else zone)

    # Output.

    def text(self) -> str:
        """The expression, unchecked."""
        return " ".join(self._clause(word, values) for word, values in self.clauses)

    def build(self, tz: str | ZoneInfo | None = None) -> NaturalCron:
        """The expression.

        Args:
            tz: the zone whose clocks are meant if `with_time_zone` was not called.

        Raises:
            ScheduleSyntaxError: what was put together is no valid expression; its text is in the error.
        """
        return NaturalCron(self.text(), tz)

    def __str__(self) -> str:
        return self.text()

    # How it is put together.

    def _with(self, word: str, *values: Value | Pair) -> Draft:
        if not values:
            raise TypeError(f"`{word}` needs a value")
        return Draft((*self.clauses, (word, values)), self.spelling)

    def _clause(self, word: str, values: tuple[Value | Pair, ...]) -> str:
        prefix = "" if word.startswith("Anchored") else self.spelling.prefix
        if not values:
            return prefix + word
        texts = [self._value_or_pair(value) for value in values]
        return f"{prefix}{word} {texts[0] if len(texts) == 1 else '[' + ', '.join(texts) + ']'}"

    def _value_or_pair(self, value: Value | Pair) -> str:
        if isinstance(value, tuple) and not isinstance(value, MonthDay):
            return f"{self._value(value[0])} and {self._value(value[1])}"
        return self._value(value)

    def _value(self, value: Value) -> str:
        match value:
            case str():
                return value
            case Weekday():
                return self._weekday(value)
            case Month():
                return self._month(value)
            case MonthDay(month=month, day=day):
                return f"{_ordinal(day)} {self._month(month)}"
            case time():
                return _time(value)
            case datetime():
                return f"{value.date().isoformat()} {_time(value.timetz())}"
            case date():
                return value.isoformat()
        raise TypeError(f"{value!r} is no value of an expression")

    def _weekday(self, weekday: Weekday) -> str:
        name = Weekday(weekday).name.title()
        return name if self.spelling.full_weekdays else name[:3]

    def _month(self, month: Month) -> str:
        name = Month(month).name.title()
        return name if self.spelling.full_months else name[:3]


def _time(value: time) -> str:
    if value.tzinfo is not None:
        raise ValueError(f"{value!r}: a time in an expression has no zone of its own; name it by with_time_zone()")
    if value.microsecond:
        raise ValueError(f"{value!r}: times in an expression are whole seconds")
    return _clock(value.hour, value.minute, value.second or None)


def _clock_text(clock: Clock, ampm: AmPm | None) -> str:
    return _clock(clock[0], clock[1], clock[2] if len(clock) > 2 else None, ampm)  # noqa: PLR2004 - with a second


def _ordinal(day: int) -> str:
    return f"{day}{ordinal_suffix(day)}"


def _shift(days: int) -> str:
    return f" {'+' if days > 0 else '-'} {abs(days)}" if days else ""


def _clock(hour: int, minute: int, second: int | None = None, ampm: AmPm | None = None) -> str:
    return f"{hour:02}:{minute:02}" + ("" if second is None else f":{second:02}") + (ampm or "")
