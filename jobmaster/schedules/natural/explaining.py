"""An expression in plain English: "every 30 minutes from 9:00 to 18:00 on Monday, in Europe/Berlin time".

A sentence says, in this order: how often, on which days, in which months and years, at which time, in which zone. What
the text leaves out but the rule implies is said, too ("every Monday at 0:00").
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence

from jobmaster.schedules.natural import english
from jobmaster.schedules.natural.clauses import Value
from jobmaster.schedules.natural.ranges_in_english import Windows
from jobmaster.schedules.natural.rules import Every, Item, Rules, Unit
from jobmaster.schedules.natural.stepping import CYCLES, effective_points, lowest_units

_MOST_TIMES = 24


def explain(rules: Rules) -> str:
    """What `rules` mean, in English and without a full stop."""
    sentence = _Sentence(rules)
    words = " ".join(part for part in sentence.parts() if part).replace(" ,", ",").replace(",,", ",").rstrip(",")
    return f"{words}, in {rules.zone} time" if rules.zone else words


class _Sentence:
    """The parts of one sentence.

    Points that name each unit by itself are sets of values; a list whose items are no combinations of such sets ("the
    1st at 9:00 and the 15th at 10:00") is told item by item.
    """

    def __init__(self, rules: Rules) -> None:
        self._every = rules.every
        self._unit = rules.every.unit if rules.every else None
        self._lowest = lowest_units(rules)
        self._sets: dict[Unit, list[Value]] = {}
        self._items: tuple[Item, ...] = ()
        self._times: list[str] = []
        self._filters: list[str] = []
        for point in effective_points(rules):
            self._take(point.items, point.units)
        self._windows = Windows(rules.ranges, is_fine=self._is_fine)

    def _take(self, items: tuple[Item, ...], units: Sequence[Unit]) -> None:
        sets = _as_sets(items)
        if sets is not None:
            self._sets.update(sets)
        elif max(units) <= Unit.HOUR:
            values = [{part.unit: part.value for part in item} for item in items]
            self._times = list(dict.fromkeys(_time_of(each) for each in sorted(values, key=_in_order)))
        elif not self._items:
            self._items = tuple(sorted(items, key=_item_in_order))
        else:
            self._filters.append("only on " + english.listed([_item_words(item) for item in items], "or"))

    @property
    def _is_fine(self) -> bool:
        """Whether it happens several times a day: then a range of the clock says from when to when."""
        if self._unit is not None:
            return self._unit < Unit.DAY
        if self._items or self._times:
            return False
        # In December at second 30: each hour and minute between them counts.
        parts = [unit in self._sets for unit in _CLOCK]
        return True in parts and parts != sorted(parts, reverse=True)

    def parts(self) -> Iterable[str]:
        if self._items:
            return [
                self._often(),
                self._all_items(),
                self._when_of_sets(),
                self._windows.dates,
                self._clock(),
                self._windows.clock,
                *self._filters,
            ]
        if self._is_fine:
            return [self._fine(), self._windows.clock, self._days_as_filter(), self._windows.dates, *self._filters]
        return [
            self._often_with_days(),
            self._windows.dates,
            self._clock(),
            self._windows.clock,
            *self._filters,
        ]

    # -------------------------------------------------------------------------------------------------------- how often

    def _often(self) -> str:
        named = {part.unit for part in self._items[0]}
        if self._every is not None:
            by_weekday = self._every.count == 1 and self._every.unit is Unit.DAY and Unit.WEEK in named
            return "every week" if by_weekday else self._how_often()
        named = {part.unit for item in self._items for part in item} | set(self._sets)
        if Unit.YEAR in named:
            return ""
        if Unit.MONTH in named:
            return "every year"
        return "every month" if Unit.DAY in named else "every week"

    def _how_often(self) -> str:
        if self._every is None:
            return ""
        return f"every {english.counted(self._every.count, self._every.unit)}{self._anchor()}"

    def _fine(self) -> str:
        every = self._every or Every(1, Unit.HOUR if Unit.MINUTE in self._sets else Unit.MINUTE)
        words = [f"every {english.counted(every.count, every.unit)}{self._anchor()}"]
        if Unit.MINUTE in self._sets:
            words.append(_at_units(self._numbers(Unit.MINUTE), "minute"))
        if Unit.SECOND in self._sets:
            words.append(
                ("and " if Unit.MINUTE in self._sets else "at ") + _units(self._numbers(Unit.SECOND), "second")
            )
        if Unit.HOUR in self._sets:
            words.append(_hours(self._sets[Unit.HOUR]))
        if self._times:
            words.append(f"at {english.listed(self._times)}")
        return " ".join(word for word in words if word)

    def _anchor(self) -> str:
        every = self._every
        if every is None or every.anchor is None or every.count == 1 or every.unit is Unit.WEEK:
            return ""
        cycle = CYCLES.get(every.unit, 0)
        if every.count > cycle or (every.unit is not Unit.DAY and cycle % every.count == 0):
            return f", counted from {_anchor_words(every.unit, every.anchor)},"
        first = every.unit.lowest + (every.anchor - every.unit.lowest) % every.count
        words = _anchor_words(every.unit, first)
        for_each = f"{words} each {'day' if every.unit is Unit.HOUR else 'year'}"
        return f", counted anew from {words.replace('of the', 'of each') if ' of ' in words else for_each},"

    # ------------------------------------------------------------------------------------------------------------- days

    def _often_with_days(self) -> str:
        every = self._every
        weekdays = english.from_monday(self._numbers(Unit.WEEK))
        if every is not None and every.unit is Unit.WEEK and every.anchor is not None:
            weekdays = [every.anchor]
        single = every is None or every.count == 1
        if Unit.DAY in self._sets:
            return self._on_days_of_month(single=single) + self._if_weekday(weekdays)
        if weekdays and single and (every is None or every.unit in {Unit.DAY, Unit.WEEK}):
            return self._joined(f"every {english.listed([english.weekday(n) for n in weekdays])}", self._in_months())
        if every is not None:
            words = self._how_often()
            if weekdays:
                words += f" on {english.listed([english.weekday(n) for n in weekdays])}"
            return self._joined(words, self._months_of_every())
        if self._lowest >= {Unit.DAY}:
            return self._first_of_months()
        return self._joined("every day", self._in_months())

    def _on_days_of_month(self, *, single: bool) -> str:
        days = self._days()
        years = self._numbers(Unit.YEAR)
        dated = self._unit in {None, Unit.MONTH} and single
        if Unit.MONTH not in self._sets:
            if dated:
                return f"{_on(days)} of every month" + (f" in {_years(years)}" if years else "")
            return self._joined(self._how_often(), f"{_on(days)} of the month", f"in {_years(years)}" if years else "")
        date = self._date()
        if years:
            exact = self._every is None and len(years) == 1
            return (
                f"{_on(date)}{'' if ' of ' in date else ','} {years[0]}" if exact else f"{_on(date)} in {_years(years)}"
            )
        return f"{self._how_often() or 'every year'} {_on(date)}"

    def _first_of_months(self) -> str:
        self._sets[Unit.DAY] = [1]
        if Unit.MONTH not in self._sets:
            self._sets[Unit.MONTH] = [1]
        return self._on_days_of_month(single=True)

    def _months_of_every(self) -> str:
        if self._lowest >= {Unit.DAY} and Unit.MONTH in self._sets:
            self._sets[Unit.DAY] = [1]
            return f"on {self._date()}"
        return self._in_months()

    def _days_as_filter(self) -> str:
        weekdays = english.from_monday(self._numbers(Unit.WEEK))
        if Unit.DAY not in self._sets:
            on = f"on {english.listed([english.weekday(n) for n in weekdays])}" if weekdays else ""
            return self._joined(on, self._in_months())
        years = self._numbers(Unit.YEAR)
        where = self._date() if Unit.MONTH in self._sets else f"{self._days()} of the month"
        if len(years) == 1 and " of " not in where:
            return f"{_on(where)}, {years[0]}" + self._if_weekday(weekdays)
        return self._joined(_on(where), f"in {_years(years)}" if years else "") + self._if_weekday(weekdays)

    def _date(self) -> str:
        """`January 1st`, or `the last Friday of January and June`."""
        days, months = self._sets[Unit.DAY], self._numbers(Unit.MONTH)
        names = english.listed([english.month(number) for number in months])
        if len(months) == 1 and all(isinstance(day, int) for day in days):
            return f"{names} {english.listed([english.ordinal(day) for day in days if isinstance(day, int)])}"
        return f"{self._days()} of {names}"

    def _days(self) -> str:
        days = self._sets[Unit.DAY]
        numbers = [day for day in days if isinstance(day, int)]
        if len(numbers) == len(days):
            return f"the {english.listed([english.ordinal(day) for day in sorted(numbers)])}"
        return english.listed([english.day(day) for day in days])

    def _in_months(self) -> str:
        months, years = self._numbers(Unit.MONTH), self._numbers(Unit.YEAR)
        words = f"in {english.listed([english.month(number) for number in months])}" if months else ""
        of = "" if len(months) == len(years) == 1 else "of "
        return self._joined(words, (f"{of}{_years(years)}" if months else f"in {_years(years)}") if years else "")

    def _if_weekday(self, weekdays: Sequence[int]) -> str:
        if not weekdays:
            return ""
        return f", if it is a {english.listed([english.weekday(number) for number in weekdays], 'or a')},"

    # ------------------------------------------------------------------------------------------------------------ clock

    def _clock(self) -> str:
        if self._times:
            rest = f", {_at_units(self._numbers(Unit.SECOND), 'second')}," if Unit.SECOND in self._sets else ""
            return f"at {english.listed(self._times)}{rest}"
        if not any(unit in self._sets for unit in (Unit.HOUR, Unit.MINUTE, Unit.SECOND)):
            timed = any(part.unit <= Unit.HOUR for item in self._items for part in item)
            return "at 0:00" if Unit.HOUR in self._lowest and not timed else ""
        columns = [self._numbers(unit) or ([0] if unit in self._lowest else []) for unit in _CLOCK]
        combinations = len(columns[0]) * len(columns[1]) * max(1, len(columns[2]))
        if 0 < combinations <= _MOST_TIMES:
            times = sorted(itertools.product(columns[0], columns[1], columns[2] or [0]))
            return f"at {english.listed([english.clock(*time) for time in times])}"
        words = []
        if columns[0]:
            words.append(f"in {_units(columns[0], 'hour')}")
        if columns[1] and Unit.MINUTE in self._sets:
            words.append(_at_units(columns[1], "minute") + ("" if columns[0] else " of the hour"))
        if columns[2] and Unit.SECOND in self._sets:
            words.append(_at_units(columns[2], "second") + ("" if columns[1] else " of the minute"))
        return " ".join(words)

    def _all_items(self) -> str:
        return english.listed([f"on {words}" for words in dict.fromkeys(_item_words(item) for item in self._items)])

    def _when_of_sets(self) -> str:
        if Unit.DAY in self._sets:
            return f"only {self._days_as_filter()}"
        return self._in_months() if not self._numbers(Unit.WEEK) else self._days_as_filter()

    # ------------------------------------------------------------------------------------------------------------ tools

    def _numbers(self, unit: Unit) -> list[int]:
        return sorted(value for value in self._sets.get(unit, []) if isinstance(value, int))

    @staticmethod
    def _joined(*words: str) -> str:
        return " ".join(word for word in words if word)


_CLOCK = (Unit.HOUR, Unit.MINUTE, Unit.SECOND)


def _anchor_words(unit: Unit, number: int) -> str:
    match unit:
        case Unit.SECOND:
            return f"second {number} of the minute"
        case Unit.MINUTE:
            return f"minute {number} of the hour"
        case Unit.HOUR:
            return english.clock(number)
        case Unit.DAY:
            return f"the {english.ordinal(number)} of the month"
        case Unit.MONTH:
            return english.month(number)
    return str(number)


def _as_sets(items: tuple[Item, ...]) -> dict[Unit, list[Value]] | None:
    """The values of each unit if `items` are all combinations of them."""
    sets: dict[Unit, list[Value]] = {}
    for part in itertools.chain.from_iterable(items):
        column = sets.setdefault(part.unit, [])
        if part.value not in column:
            column.append(part.value)
    size = 1
    for column in sets.values():
        size *= len(column)
    distinct = {tuple(part.value for part in item) for item in items}
    return sets if size == len(distinct) else None


def _in_order(values: Mapping[Unit, Value]) -> list[int]:
    return [value for value in values.values() if isinstance(value, int)]


def _item_in_order(item: Item) -> list[int]:
    """Dates in their order; items with special days stay as they were written."""
    numbers = [part.value for part in item if isinstance(part.value, int)]
    return numbers if len(numbers) == len(item) else []


def _time_of(values: Mapping[Unit, Value]) -> str:
    hour, minute, second = (values.get(unit, 0) for unit in _CLOCK)
    assert isinstance(hour, int)  # noqa: S101 - only days are special
    assert isinstance(minute, int)  # noqa: S101
    assert isinstance(second, int)  # noqa: S101
    return english.clock(hour, minute, second) if Unit.HOUR in values else f"minute {minute}:{second:02}"


def _item_words(item: Item) -> str:
    """`January 1st, 2025 at 9:00`, `the first Monday at 3:00`, `Monday at 9:00`."""
    values: dict[Unit, Value] = {part.unit: part.value for part in item}
    day = values.get(Unit.DAY, 1 if Unit.MONTH in values else None)
    weekday, month, year = (_number(values.get(unit)) for unit in (Unit.WEEK, Unit.MONTH, Unit.YEAR))
    words = english.weekday(weekday) if weekday else ""
    if day is not None:
        date = english.day(day)
        if month:
            name = english.month(month)
            date = f"{name} {english.ordinal(day)}" if isinstance(day, int) else f"{date} of {name}"
        words = f"{words}, {date}" if words else date
    if year:
        words = f"{words}, {year}" if words else str(year)
    if not {*values}.isdisjoint(_CLOCK):
        words = f"{words} at {_time_of(values)}" if words else _time_of(values)
    return words


def _number(value: Value | None) -> int | None:
    return value if isinstance(value, int) else None


def _on(days: str) -> str:
    """`on the 1st`, but `2 days before the last day`."""
    return days if days[0].isdigit() and " and " not in days else f"on {days}"


def _years(years: Sequence[int]) -> str:
    return english.listed([str(year) for year in years])


def _units(values: Sequence[Value], name: str) -> str:
    return f"{name if len(values) == 1 else name + 's'} {english.listed([str(value) for value in values])}"


def _at_units(values: Sequence[Value], name: str) -> str:
    return f"at {_units(values, name)}"


def _hours(values: Sequence[Value]) -> str:
    """`from 9:00 to 10:59`: hours in which something happens several times."""
    numbers = sorted(value for value in values if isinstance(value, int))
    words = []
    for _, group in itertools.groupby(enumerate(numbers), key=lambda pair: pair[1] - pair[0]):
        run = [hour for _, hour in group]
        words.append(f"from {english.clock(run[0])} to {english.clock(run[-1], 59)}")
    return english.listed(words)
