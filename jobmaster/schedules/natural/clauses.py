"""A clause as what it allows, unit by unit from the year down to the second.

Every clause is a list of *boxes*, one of which must hold: an item of a list is a box whose two ends are the same, a
range is one whose ends differ (compared as a whole: 10:30 to 12:15). While a search goes down from the year to the
second, a clause remembers which of its boxes are still alive, and whether the values chosen so far are still on a box's
lower or upper end. That is its state: a tuple of numbers `4 * box + 2 * on the lower end + on the upper end`. Many
clauses need no state, as each of their units is free of the others (`on monday`, `at 10:00`): those become plain sets
of values.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from jobmaster.schedules.natural.rules import Item, SpecialDay, Unit
from jobmaster.schedules.natural.special_days import bound_day, exact_day, weekday_of

Value = int | SpecialDay
Alive = tuple[int, ...]

SATISFIED: Alive = ()
_ON_BOTH_ENDS = 3


@dataclass(frozen=True, slots=True)
class Box:
    """One alternative of a clause.

    Attributes:
        low: lower end by unit, coarsest first; a weekday is not in it.
        high: upper end, the same units.
        weekdays: lowest and highest weekday, or None.
        exact: a point: a day that a month has not is no match. False: a range, whose ends are cut to the month.
        units: units that it names; a weekday counts as DAY.
    """

    low: Mapping[Unit, Value]
    high: Mapping[Unit, Value]
    weekdays: tuple[int, int] | None
    exact: bool
    units: frozenset[Unit] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "units", frozenset(self.low) | ({Unit.DAY} if self.weekdays else set()))

    def mask(self, unit: Unit, kind: int) -> int:
        """The set of values of `unit`, the only one that it names, in a month of `kind`."""
        if self.weekdays is not None:
            lowest, highest = self.weekdays
            return sum(1 << day for day in range(1, kind // 8 + 1) if lowest <= weekday_of(day, kind) <= highest)
        low, high = self._ends(unit, kind)
        return 0 if low is None or high is None or low > high else (2 << high) - (1 << low)

    def step(self, ends: int, unit: Unit, value: int, kind: int) -> int:
        """Which ends (2 lower, 1 upper) are still touched if `unit` is `value` in a month of `kind`; -1: no match."""
        if unit is Unit.DAY and self.weekdays is not None:
            lowest, highest = self.weekdays
            if not lowest <= weekday_of(value, kind) <= highest:
                return -1
        if unit not in self.low:
            return ends
        low, high = self._ends(unit, kind)
        if low is None or high is None or (ends & 2 and value < low) or (ends & 1 and value > high):
            return -1
        return (ends & 2 if value == low else 0) | (ends & 1 if value == high else 0)

    def _ends(self, unit: Unit, kind: int) -> tuple[int | None, int | None]:
        low, high = self.low[unit], self.high[unit]
        if unit is Unit.DAY:
            find = exact_day if self.exact else bound_day
            return find(low, kind), find(high, kind)
        assert isinstance(low, int)  # noqa: S101 - only days are special
        assert isinstance(high, int)  # noqa: S101
        return low, high


def box(start: Item, end: Item, *, exact: bool) -> Box:
    """The box between two items that name the same units."""
    low = {part.unit: part.value for part in start if part.unit is not Unit.WEEK}
    high = {part.unit: part.value for part in end if part.unit is not Unit.WEEK}
    days = [part.value for item in (start, end) for part in item if part.unit is Unit.WEEK]
    weekdays = (days[0], days[1]) if len(days) == 2 else None  # noqa: PLR2004 - both ends have one
    assert weekdays is None or (isinstance(weekdays[0], int) and isinstance(weekdays[1], int))  # noqa: S101
    return Box(low, high, weekdays, exact)  # type: ignore[arg-type]


@dataclass(frozen=True, slots=True)
class Clause:
    """A list of boxes that name the same units (`units`); a moment matches it if it matches one of them."""

    boxes: tuple[Box, ...]
    units: frozenset[Unit] = field(init=False)
    _finest: Unit = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "units", self.boxes[0].units)
        object.__setattr__(self, "_finest", min(self.units))

    @property
    def is_plain(self) -> bool:
        """Whether it names one unit, once: the set of its values (`mask`) says everything."""
        return len(self.units) == 1 and not (self.boxes[0].low and self.boxes[0].weekdays)

    def mask(self, unit: Unit, kind: int) -> int:
        """The set of values of `unit`, the only one that the clause names, in a month of `kind`."""
        found = 0
        for each in self.boxes:
            found |= each.mask(unit, kind)
        return found

    def begin(self) -> Alive:
        """The state before any unit is chosen."""
        return tuple(4 * index + _ON_BOTH_ENDS for index in range(len(self.boxes)))

    def step(self, alive: Alive, unit: Unit, value: int, kind: int) -> Alive | None:
        """The state after `unit` is `value` in a month of `kind`; None: the clause cannot hold any more."""
        if alive == SATISFIED or unit not in self.units:
            return alive
        following = []
        for code in alive:
            ends = self.boxes[code >> 2].step(code & 3, unit, value, kind)
            if ends >= 0:
                following.append(code & ~3 | ends)
        if not following:
            return None
        return SATISFIED if unit is self._finest else tuple(following)


def single(unit: Unit, values: Iterable[int]) -> Clause:
    """A clause of plain values of one unit (WEEK: weekdays)."""
    if unit is Unit.WEEK:
        return Clause(tuple(Box({}, {}, (value, value), exact=True) for value in values))
    return Clause(tuple(Box({unit: value}, {unit: value}, None, exact=True) for value in values))


def parted(clause: Clause) -> list[Clause]:
    """Clauses that together mean the same, each of one unit where that is possible."""
    if clause.is_plain:
        return [clause]
    if len(clause.boxes) == 1:
        return _parted_box(clause.boxes[0])
    return _factors(clause) or [clause]


def _parted_box(only: Box) -> list[Clause]:
    parts = []
    if only.weekdays is not None:
        parts.append(Clause((Box({}, {}, only.weekdays, only.exact),)))
    if only.exact:
        parts += [Clause((Box({unit: value}, {unit: value}, None, exact=True),)) for unit, value in only.low.items()]
    elif only.low:
        parts.append(Clause((Box(only.low, only.high, None, exact=False),)))
    return parts


def _factors(clause: Clause) -> list[Clause]:
    """`[9:00, 10:00]` as "hour 9 or 10" and "minute 0"; empty where items are not all combinations of their values."""
    if not all(each.exact and each.weekdays is None for each in clause.boxes):
        return []
    units = list(clause.boxes[0].low)
    chosen = {tuple(each.low[unit] for unit in units) for each in clause.boxes}
    values: Sequence[list[Value]] = [list(dict.fromkeys(each.low[unit] for each in clause.boxes)) for unit in units]
    combinations = 1
    for column in values:
        combinations *= len(column)
    if combinations != len(chosen) or set(itertools.product(*values)) != chosen:
        return []
    return [
        Clause(tuple(Box({unit: value}, {unit: value}, None, exact=True) for value in column))
        for unit, column in zip(units, values, strict=True)
    ]
