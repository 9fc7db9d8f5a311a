"""The first moment at or after another at which a set of clauses holds.

The search goes down from the year to the second. At each level it jumps straight to the next value that no clause rules
out, so nothing is ever tried second by second or day by day. What it finds below a level depends on the clauses' states
(see clauses.py) and the kind of month or year alone; it is remembered, so a combination that never happens is
recognised after at most the fourteen kinds of years.
"""

from __future__ import annotations

import functools
import math
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence

from jobmaster.schedules.natural.clauses import Alive, Clause
from jobmaster.schedules.natural.rules import Unit
from jobmaster.schedules.natural.special_days import MONTH_KINDS, year_kind
from jobmaster.schedules.natural.wall_clock import Wall

State = tuple[Alive, ...]

LAST_YEAR = 9999
_CYCLE = 400  # after so many years weekdays and leap years come again
_NEVER = (0, 0, 0)
_ALL = {unit: (2 << unit.highest) - (1 << unit.lowest) for unit in (Unit.MONTH, Unit.HOUR, Unit.MINUTE, Unit.SECOND)}


class _Row:
    """The values that a unit may have in some state, and the state that each leads to."""

    __slots__ = ("groups", "mask")

    def __init__(self, groups: dict[State, int]) -> None:
        self.groups = tuple((mask, state) for state, mask in groups.items())
        self.mask = 0
        for mask, _ in self.groups:
            self.mask |= mask

    def values(self, lowest: int) -> Iterator[tuple[int, State]]:
        """From `lowest` on, ascending."""
        rest = self.mask >> lowest << lowest
        while rest:
            bit = rest & -rest
            rest ^= bit
            for mask, state in self.groups:
                if mask & bit:
                    yield bit.bit_length() - 1, state
                    break


def _masks(plain: Iterable[Clause]) -> dict[Unit, int]:
    """The values that clauses of one unit leave of months, hours, minutes and seconds."""
    masks = dict(_ALL)
    for clause in plain:
        (unit,) = clause.units
        if unit in masks:
            masks[unit] &= clause.mask(unit, 0)
    return masks if masks != _ALL else _ALL


@functools.lru_cache(maxsize=4096)
def _plain_row(mask: int, state: State) -> _Row:
    """A row whose values all lead to the same state: many expressions share it."""
    return _Row({state: mask})


class Matching:
    """Clauses that hold together.

    Args:
        clauses: all must hold.
        year_cycle: (n, r): only years that leave r when divided by n; (1, 0) for all.
    """

    __slots__ = (
        "_clauses_of_days",
        "_cycle",
        "_days",
        "_joint",
        "_masks",
        "_months",
        "_rows",
        "_segments",
        "_starts",
        "_years",
    )

    def __init__(self, clauses: Iterable[Clause], year_cycle: tuple[int, int] = (1, 0)) -> None:
        clauses = list(clauses)
        plain = [clause for clause in clauses if clause.is_plain]
        self._masks = _masks(plain)
        self._clauses_of_days = tuple(clause for clause in plain if Unit.DAY in clause.units)
        self._joint = tuple(clause for clause in clauses if not clause.is_plain)
        self._cycle = year_cycle
        self._rows: dict[tuple[Unit, State, int], _Row] = {}
        self._days: dict[State, int] = {}
        self._months: dict[tuple[State, int], tuple[int, int]] = {}
        self._years: dict[tuple[State, int], tuple[int, int, int]] = {}
        self._starts, self._segments = self._year_segments([clause for clause in plain if Unit.YEAR in clause.units])

    def holds(self, wall: Wall) -> bool:
        """Whether all clauses hold at `wall`."""
        return self.first(wall) == wall

    def first(self, wall: Wall) -> Wall | None:
        """The first match at or after `wall`; None: there is none up to the end of year 9999."""
        year, month, day, second = wall
        remainder = year % self._cycle[0]
        if remainder == self._cycle[1]:
            state = self._segments[bisect_right(self._starts, year) - 1]
            if state is not None:
                found = self._in_year(state, year_kind(year), month, day, second)
                if found is not None:
                    return year, *found
        return self._in_later_year(year + 1)

    # -------------------------------------------------------------------------------------------------------- years

    def _year_segments(self, plain: Sequence[Clause]) -> tuple[tuple[int, ...], tuple[State | None, ...]]:
        """Years from which another state holds, and the states."""
        cuts = {1}
        for clause in (*plain, *self._joint):
            for each in clause.boxes:
                for end in (each.low.get(Unit.YEAR), each.high.get(Unit.YEAR)):
                    if isinstance(end, int):
                        cuts |= {end, end + 1}
        starts = tuple(sorted(cuts))
        return starts, tuple(self._year_state(year, plain) for year in starts)

    def _year_state(self, year: int, plain: Sequence[Clause]) -> State | None:
        if any(clause.step(clause.begin(), Unit.YEAR, year, 0) is None for clause in plain):
            return None
        return self._after(tuple(clause.begin() for clause in self._joint), Unit.YEAR, year, 0)

    def _in_later_year(self, year: int) -> Wall | None:
        step, remainder = self._cycle
        index = bisect_right(self._starts, year) - 1
        for start, state in zip(self._starts[index:], self._segments[index:], strict=True):
            index += 1
            if state is None:
                continue
            last = self._starts[index] - 1 if index < len(self._starts) else LAST_YEAR
            begin = max(year, start)
            begin += (remainder - begin) % step
            for each in range(begin, min(last, begin + math.lcm(_CYCLE, step) - 1, LAST_YEAR) + 1, step):
                found = self._whole_year(state, year_kind(each))
                if found is not _NEVER:
                    return each, *found
        return None

    def _whole_year(self, state: State, kind: int) -> tuple[int, int, int]:
        found = self._years.get((state, kind))
        if found is None:
            found = self._years[state, kind] = self._in_year(state, kind, 1, 1, 0) or _NEVER
        return found

    # ------------------------------------------------------------------------------------------------- months and days

    def _in_year(self, state: State, kind: int, month: int, day: int, second: int) -> tuple[int, int, int] | None:
        kinds = MONTH_KINDS[kind]
        for value, below in self._row(Unit.MONTH, state, 0).values(month):
            if value == month and (day > 1 or second):
                found = self._in_month(below, kinds[value], day, second)
            else:
                found = self._whole_month(below, kinds[value])
            if found is not None:
                return value, *found
        return None

    def _whole_month(self, state: State, kind: int) -> tuple[int, int] | None:
        found = self._months.get((state, kind))
        if found is None:
            found = self._months[state, kind] = self._in_month(state, kind, 1, 0) or (0, 0)
        return found if found[0] else None

    def _in_month(self, state: State, kind: int, day: int, second: int) -> tuple[int, int] | None:
        for value, below in self._row(Unit.DAY, state, kind).values(day):
            found = self._in_day(below, second) if value == day and second else self._whole_day(below)
            if found >= 0:
                return value, found
        return None

    # ------------------------------------------------------------------------------------------------------------ clock

    def _whole_day(self, state: State) -> int:
        found = self._days.get(state)
        if found is None:
            found = self._days[state] = self._in_day(state, 0)
        return found

    def _in_day(self, state: State, second: int) -> int:
        """The first second of the day from `second` on, or -1."""
        hour, rest = divmod(second, 3600)
        for value, below in self._row(Unit.HOUR, state, 0).values(hour):
            found = self._in_hour(below, rest if value == hour else 0)
            if found >= 0:
                return value * 3600 + found
        return -1

    def _in_hour(self, state: State, second: int) -> int:
        minute, rest = divmod(second, 60)
        for value, below in self._row(Unit.MINUTE, state, 0).values(minute):
            for found, _ in self._row(Unit.SECOND, below, 0).values(rest if value == minute else 0):
                return value * 60 + found
        return -1

    # ------------------------------------------------------------------------------------------------------------- rows

    def _row(self, unit: Unit, state: State, kind: int) -> _Row:
        row = self._rows.get((unit, state, kind))
        if row is None:
            row = self._rows[unit, state, kind] = self._make_row(unit, state, kind)
        return row

    def _make_row(self, unit: Unit, state: State, kind: int) -> _Row:
        if unit is Unit.DAY:
            mask = (2 << kind // 8) - 2
            for clause in self._clauses_of_days:
                mask &= clause.mask(unit, kind)
        else:
            mask = self._masks[unit]
        if not any(unit in clause.units for clause in self._joint):
            return _plain_row(mask, state)
        groups: dict[State, int] = {}
        for value in range(unit.lowest, mask.bit_length()):
            after = self._after(state, unit, value, kind) if mask >> value & 1 else None
            if after is not None:
                groups[after] = groups.get(after, 0) | 1 << value
        return _Row(groups)

    def _after(self, state: State, unit: Unit, value: int, kind: int) -> State | None:
        following = []
        for clause, alive in zip(self._joint, state, strict=True):
            after = clause.step(alive, unit, value, kind)
            if after is None:
                return None
            following.append(after)
        return tuple(following)
