"""From one match to the next on a wall clock: what `every`, anchors and lists mean.

The clauses say which moments match. `every N unit` is a distance *after a match*:

- A base that does not match is followed by the first match after it (aligned, if there is an anchor).
- After a match come the other items of its own period (the listed days of the week, the listed times of the day ...);
  only then N units are added, and the first match from there on is next.

Units finer than `unit` are *set* by points (`at 9:00`), *lowest* where they are finer than everything that points name,
and otherwise the *phase*: they stay as they are (`every 2 days` keeps the time of day). A range of the time of day
keeps the phase as long as it holds it. Leaving a range of dates starts anew at the beginning of the next one.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

from jobmaster.schedules.natural import wall_clock
from jobmaster.schedules.natural.clauses import Alive, Clause, box, parted, single
from jobmaster.schedules.natural.matching import Matching
from jobmaster.schedules.natural.rules import Every, Item, NthWeekday, Part, Point, Range, Rules, Unit
from jobmaster.schedules.natural.special_days import MONTH_KINDS, month_length, year_kind
from jobmaster.schedules.natural.wall_clock import Wall

LEVELS = (Unit.YEAR, Unit.MONTH, Unit.DAY, Unit.HOUR, Unit.MINUTE, Unit.SECOND)
CYCLES = {Unit.SECOND: 60, Unit.MINUTE: 60, Unit.HOUR: 24, Unit.DAY: 31, Unit.MONTH: 12}
"""How many values of a unit there are before they begin anew; an anchor aligns in each such cycle."""
_MOST_ITEMS = 1000
_ANY = (1, 1, 1, 0)


class Stepping:
    """The series of one expression on a wall clock; immutable but for what it remembers.

    Attributes:
        matching: the moments that match.
        is_phased: whether the next match depends on the one before.
        is_elapsed: whether it goes by elapsed time through a change of clocks: finer than a day, and no clause says at
            which hour.
        has_free_clock: whether a part of the time of day stays as it is from match to match.
        distance: seconds; the next match is the first one at least so long after a match. None: not so simple.
        stretch: seconds; so much of a day, from its beginning on, matches as a whole or not at all. None: all matches.
    """

    __slots__ = (
        "_dates",
        "_every",
        "_has_items",
        "_keeps",
        "_phase",
        "_points",
        "_reset",
        "_unit",
        "distance",
        "has_free_clock",
        "is_elapsed",
        "is_phased",
        "matching",
        "stretch",
    )

    def __init__(self, rules: Rules) -> None:
        points = effective_points(rules)
        self._every = rules.every
        self._unit = rules.every.unit if rules.every else None
        named = {_level(unit) for point in points for unit in point.units}
        lowest = lowest_units(rules)
        # What units finer than the interval do from match to match: set by points, or the phase.
        anchored_week = self._unit is Unit.WEEK and rules.every is not None and rules.every.anchor is not None
        is_set = named | lowest
        finer = [level for level in LEVELS if self._unit is not None and level < self._unit]
        self._phase = tuple(
            level for level in finer if level not in is_set and not (anchored_week and level is Unit.DAY)
        )
        self.has_free_clock = any(level < Unit.DAY for level in self._phase)
        self._reset = tuple(level for level in finer if level in is_set)
        # Points within a day or coarser: a match that is not in the next period keeps the phase where it can.
        self._keeps = bool(named and self._phase) and self._unit is not None and min(named) <= self._unit >= Unit.DAY
        self._has_items = any(level < (self._unit or 0) for level in named) and (
            any(len(point.items) > 1 for point in points)
            or (self._unit in {Unit.MONTH, Unit.YEAR} and any(Unit.WEEK in point.units for point in points))
        )
        self._points = _parted(_clauses(points, (), None)) if self._keeps else []
        ranges = [Clause(tuple(box(w.start, w.end, exact=False) for w in each.windows)) for each in rules.ranges]
        dated = [clause for clause in ranges if max(clause.units) >= Unit.DAY]
        self._dates = Matching(_parted(dated)) if dated else None
        self.matching = Matching(_parted([*ranges, *_clauses(points, lowest, rules.every)]), _year_cycle(rules.every))
        self.is_phased = self._every is not None and (
            bool(self._phase) or not (self._every.count == 1 or self._is_aligned or self._every_aligned_year)
        )
        interval = self._unit or min(named, default=Unit.DAY)
        self.is_elapsed = (
            interval < Unit.DAY and Unit.HOUR not in is_set and not (self._is_aligned and interval is Unit.HOUR)
        )
        finest = min([*is_set, *(_level(unit) for each in rules.ranges for unit in each.units)], default=None)
        self.stretch = None if finest is None else wall_clock.UNIT_SECONDS[min(finest, Unit.DAY)]
        self.distance = self._fixed_distance()

    def _fixed_distance(self) -> int | None:
        every = self._every
        if every is None or not self.is_phased or self._has_items or every.anchor is not None or every.unit > Unit.HOUR:
            return None
        # Without lists all matches have the same values where those are reset, so that any match tells.
        match = self.matching.first(_ANY)
        start = match and self.start(match, holds=True)
        return wall_clock.linear(start) - wall_clock.linear(match) if match and start else None

    @property
    def _is_aligned(self) -> bool:
        """Whether an anchor makes the interval begin anew in each minute, hour, day, month or year."""
        every = self._every
        return every is not None and every.anchor is not None and 1 < every.count <= CYCLES.get(every.unit, 0)

    @property
    def _every_aligned_year(self) -> bool:
        return self._every is not None and self._every.anchor is not None and self._unit is Unit.YEAR

    # ------------------------------------------------------------------------------------------------------- following

    def next_wall(self, base: Wall) -> Wall | None:
        """The first match strictly after `base`, or None."""
        if not self.is_phased:
            after = wall_clock.moved(base, 1, Unit.SECOND)
            return after and self.matching.first(after)
        holds = self.matching.holds(base)
        found = self.other_item(base) if holds else None
        if found is not None:
            return found
        start = self.start(base, holds=holds)
        found = start and self.matching.first(start)
        if start is None or found is None or not self._keeps:
            return found
        return self._with_phase(found, start, start if holds else base)

    def start(self, base: Wall, *, holds: bool) -> Wall | None:
        """Where to look for the match after `base` and its period's other items; later than `base`, or None."""
        every = self._every
        assert every is not None  # noqa: S101 - only phased rules come here
        after = wall_clock.moved(base, 1, Unit.SECOND)
        if not holds:
            begin = self._aligned(base)
            if begin == base:
                return after
        elif self._is_aligned:
            begin = self._next_aligned(base)
        else:
            begin = wall_clock.moved(base, every.count, every.unit)
            begin = begin and self._aligned(begin)  # by a distance that is longer than the anchor's cycle
        if begin is None or after is None:
            return None
        return max(self._with_lowest(begin), after)

    def other_item(self, base: Wall) -> Wall | None:
        """The match after the match `base` in the same period, with the same phase; None: the period is over."""
        if not self._has_items:
            return None
        end = self._period_end(base)
        at = wall_clock.moved(base, 1, Unit.SECOND)
        for _ in range(_MOST_ITEMS):
            found = at and self.matching.first(at)
            if found is None or found > end:
                return None
            at = self._next_in_phase(found, base)
            if at == found:
                return found
        return None

    # ----------------------------------------------------------------------------------------------------------- phase

    def _next_in_phase(self, found: Wall, base: Wall) -> Wall | None:
        """The first wall from `found` on that has the phase of `base`."""
        for level in self._phase:
            unit = Unit.WEEK if level is Unit.DAY and self._unit is Unit.WEEK else level
            wanted = wall_clock.value(base, unit)
            if level is Unit.DAY:
                wanted = min(wanted, month_length(*found[:2]))
            has = wall_clock.value(found, unit)
            if has == wanted:
                continue
            if has > wanted:
                if unit in {Unit.WEEK, Unit.MONTH}:
                    return None
                coarser = LEVELS[LEVELS.index(level) - 1]
                start = found if level is not Unit.DAY else wall_clock.with_value(found, Unit.DAY, 1)
                later = wall_clock.moved(start, 1, coarser)
                if later is None:
                    return None
                found = later
            return self._phased_from(found, base, level)
        return found

    def _phased_from(self, found: Wall, base: Wall, level: Unit) -> Wall:
        """`found` with the phase of `base` in `level` and below, and the lowest values of the other units there."""
        for each in LEVELS[LEVELS.index(level) :]:
            if each is Unit.DAY and self._unit is Unit.WEEK:
                days = wall_clock.weekday(base) - wall_clock.weekday(found)
                found = wall_clock.moved(found, days, Unit.DAY) or found
            else:
                value = wall_clock.value(base, each) if each in self._phase else each.lowest
                found = wall_clock.with_value(found, each, value)
        return found

    def _with_phase(self, found: Wall, start: Wall, source: Wall) -> Wall:
        """`found` with the phase of `source` where that matches, too, and no range of dates was entered anew.

        Only what is finer than the unit in which `source` is no match is kept: to come to the Friday moves the day and
        leaves the hour, to come to 9:00 may move the day.
        """
        moved = self._coarsest_unmatched(source)
        if moved is None or self._unit is None or moved > self._unit:
            return found
        kept = found
        for level in self._phase:
            if level < moved:
                kept = wall_clock.with_value(kept, level, wall_clock.value(source, level))
        entered = self._dates is not None and not self._dates.holds(start)
        if kept != found and kept >= start and not entered and self.matching.holds(kept):
            return kept
        return found

    def _coarsest_unmatched(self, wall: Wall) -> Unit | None:
        """The coarsest unit that a point names and that makes it fail at `wall`; None: all points hold."""
        kind = MONTH_KINDS[year_kind(wall[0])][wall[1]]
        failing = (clause for clause in self._points if not _holds(clause, wall, kind))
        return max((max(clause.units) for clause in failing), default=None)

    def _with_lowest(self, wall: Wall) -> Wall:
        """`wall` with the lowest value of each unit below the interval that the points set."""
        for level in self._reset:
            if level is Unit.DAY and self._unit is Unit.WEEK:
                wall = wall_clock.moved(wall, 1 - wall_clock.weekday(wall), Unit.DAY) or wall
            else:
                wall = wall_clock.with_value(wall, level, level.lowest)
        return wall

    def _period_end(self, wall: Wall) -> Wall:
        """The last second of the minute, hour, day, week, month or year of `wall`."""
        year, month, day, second = wall
        match self._unit:
            case Unit.YEAR:
                return year, 12, 31, wall_clock.DAY_SECONDS - 1
            case Unit.MONTH:
                return year, month, month_length(year, month), wall_clock.DAY_SECONDS - 1
            case Unit.WEEK:
                saturday = wall_clock.moved(wall, 7 - wall_clock.weekday(wall), Unit.DAY) or (9999, 12, 31, 0)
                return (*saturday[:3], wall_clock.DAY_SECONDS - 1)
        size = wall_clock.UNIT_SECONDS[self._unit or Unit.SECOND]
        return year, month, day, second // size * size + size - 1

    # --------------------------------------------------------------------------------------------------------- anchors

    def _aligned(self, base: Wall) -> Wall | None:
        """`base`, or the first wall after it whose value of the unit suits the anchor."""
        every = self._every
        assert every is not None  # noqa: S101 - only phased rules come here
        if every.anchor is None:
            return base
        if self._unit is Unit.WEEK:
            return wall_clock.moved(base, (every.anchor - wall_clock.weekday(base)) % 7, Unit.DAY)
        value = wall_clock.value(base, every.unit)
        if (value - every.anchor) % every.count == 0:
            return base
        if self._unit is Unit.YEAR:
            return wall_clock.moved(base, (every.anchor - value) % every.count, Unit.YEAR)
        return self._next_aligned(base)

    def _next_aligned(self, base: Wall) -> Wall | None:
        """The first wall after `base` whose value of the unit suits the anchor, in this or a following period."""
        every = self._every
        assert every is not None  # noqa: S101 - only anchored rules come here
        assert every.anchor is not None  # noqa: S101
        unit, count = every.unit, every.count
        value = wall_clock.value(base, unit)
        for later in range(value + 1, self._highest(base) + 1):
            if (later - every.anchor) % count == 0:
                return wall_clock.with_value(base, unit, later)
        first = unit.lowest + (every.anchor - unit.lowest) % count
        coarser = LEVELS[LEVELS.index(unit) - 1]
        at: Wall | None = wall_clock.with_value(base, unit, unit.lowest)
        while (at := at and wall_clock.moved(at, 1, coarser)) and first > self._highest(at):
            pass
        return at and wall_clock.with_value(at, unit, first)

    def _highest(self, wall: Wall) -> int:
        return month_length(*wall[:2]) if self._unit is Unit.DAY else (self._unit or Unit.SECOND).highest


# -------------------------------------------------------------------------------------------------------------- clauses


def _level(unit: Unit) -> Unit:
    return Unit.DAY if unit is Unit.WEEK else unit


def lowest_units(rules: Rules) -> set[Unit]:
    """Units finer than all that points name, where the interval is not finer than those: they are at their lowest."""
    named = min((_level(unit) for point in rules.points for unit in point.units), default=None)
    if named is None or (rules.every is not None and named > rules.every.unit):
        return set()
    if any(_level(unit) < named for each in rules.ranges for unit in each.units):
        return set()
    return {level for level in LEVELS if level < named}


def effective_points(rules: Rules) -> list[Point]:
    """Under every month or year, with no day of the month named, `on monday` is the month's first Monday."""
    unit = rules.every.unit if rules.every else None
    clauses: list[Point | Range] = [*rules.points, *rules.ranges]
    days_named = any(Unit.DAY in clause.units for clause in clauses)
    if days_named or unit not in {Unit.MONTH, Unit.YEAR}:
        return list(rules.points)
    return [replace(point, items=tuple(_first_weekday(item) for item in point.items)) for point in rules.points]


def _first_weekday(item: Item) -> Item:
    return tuple(
        Part(Unit.DAY, NthWeekday(1, part.value)) if part.unit is Unit.WEEK and isinstance(part.value, int) else part
        for part in item
    )


def _clauses(points: Iterable[Point], lowest: Iterable[Unit], every: Every | None) -> Iterator[Clause]:
    for point in points:
        yield Clause(tuple(box(item, item, exact=True) for item in point.items))
    for unit in lowest:
        yield single(unit, [unit.lowest])
    if every is None or every.anchor is None or every.unit is Unit.YEAR:
        return
    if every.unit is Unit.WEEK:
        yield single(Unit.WEEK, [every.anchor])
    elif every.count > 1:
        values = range(every.unit.lowest, every.unit.highest + 1)
        yield single(every.unit, [value for value in values if (value - every.anchor) % every.count == 0])


def _holds(clause: Clause, wall: Wall, kind: int) -> bool:
    """Whether a clause holds at `wall`, which lies in a month of `kind`."""
    alive: Alive | None = clause.begin()
    for unit in LEVELS:
        if alive is not None:
            alive = clause.step(alive, unit, wall_clock.value(wall, unit), kind)
    return alive is not None


def _parted(clauses: Iterable[Clause]) -> list[Clause]:
    return [part for clause in clauses for part in parted(clause)]


def _year_cycle(every: Every | None) -> tuple[int, int]:
    if every is None or every.anchor is None or every.unit is not Unit.YEAR:
        return 1, 0
    return every.count, every.anchor % every.count
