"""An evaluator that anybody can check by reading: it looks at every moment, one after the other.

It shares nothing with the real one but the parsed rules. It knows two kinds of rules: those in which points say
everything below the interval (`every 2 weeks on monday at 9:00`), and intervals of less than a day within coarser
limits (`every 25 minutes between hour 10 and 12 on monday`). Walls are naive datetimes.
"""

from __future__ import annotations

import calendar
from bisect import bisect_right
from collections.abc import Iterator
from datetime import datetime, timedelta

from jobmaster.schedules.natural.rules import (
    LAST,
    ClosestWeekday,
    Item,
    MonthEdge,
    NthWeekday,
    Rules,
    Unit,
    WeekdayEdge,
)

CLOCK = (Unit.HOUR, Unit.MINUTE, Unit.SECOND)
STEPS = {Unit.SECOND: timedelta(seconds=1), Unit.MINUTE: timedelta(minutes=1), Unit.HOUR: timedelta(hours=1)}
CYCLES = {Unit.SECOND: 60, Unit.MINUTE: 60, Unit.HOUR: 24, Unit.DAY: 31, Unit.MONTH: 12}


def day_level(unit: Unit) -> Unit:
    return Unit.DAY if unit is Unit.WEEK else unit


def value_of(wall: datetime, unit: Unit) -> int:
    if unit is Unit.WEEK:
        return wall.isoweekday() % 7 + 1
    return getattr(wall, unit.name.lower())


def special(day, wall: datetime) -> int | None:
    """Which day of its month a special day is, found by listing the month."""
    length = calendar.monthrange(wall.year, wall.month)[1]
    days = [wall.replace(day=number) for number in range(1, length + 1)]
    working = [each.day for each in days if each.isoweekday() <= 5]
    match day:
        case MonthEdge(last=last, shift=shift):
            found = length if last else 1
        case WeekdayEdge(last=last, shift=shift):
            found = working[-1] if last else working[0]
        case NthWeekday(nth=nth, weekday=weekday, shift=shift):
            same = [each.day for each in days if value_of(each, Unit.WEEK) == weekday]
            if nth != LAST and nth > len(same):
                return None
            found = same[-1] if nth == LAST else same[nth - 1]
        case ClosestWeekday(day=wanted):
            wanted = min(wanted, length)
            # The nearest; a Saturday's is the Friday before, a Sunday's the Monday after.
            return min(working, key=lambda each: (abs(each - wanted), each))
        case _:
            return day
    return max(1, min(length, found + shift))


def item_matches(item: Item, wall: datetime) -> bool:
    return all(
        (special(part.value, wall) if part.unit is Unit.DAY else part.value) == value_of(wall, part.unit)
        for part in item
    )


def window_matches(start: Item, end: Item, wall: datetime) -> bool:
    length = calendar.monthrange(wall.year, wall.month)[1]
    low, high, has = [], [], []
    for first, last in zip(start, end, strict=True):
        ends = [first.value, last.value]
        if first.unit is Unit.DAY:
            ends = [min(end, length) if isinstance(end, int) else special(end, wall) for end in ends]
        if None in ends:
            return False
        if first.unit is Unit.WEEK:
            if not ends[0] <= value_of(wall, Unit.WEEK) <= ends[1]:
                return False
            continue
        low.append(ends[0])
        high.append(ends[1])
        has.append(value_of(wall, first.unit))
    return low <= has <= high


class SlowSearch:
    """Occurrences of `rules` up to `until`, by looking at everything.

    Raises:
        NotImplementedError: a kind of rule that it does not know.
    """

    def __init__(self, rules: Rules, base: datetime) -> None:
        self.rules = rules
        self.unit = rules.every.unit if rules.every else None
        self.count = rules.every.count if rules.every else 1
        named = {day_level(unit) for point in rules.points for unit in point.units}
        in_ranges = {day_level(unit) for each in rules.ranges for unit in each.units}
        self.anchored_week = self.unit is Unit.WEEK and rules.every.anchor is not None
        named_or_anchored = named | {Unit.DAY} if self.anchored_week else named
        self.lowest: set[Unit] = set()
        if named and (self.unit is None or min(named) <= self.unit) and not any(u < min(named) for u in in_ranges):
            self.lowest = {unit for unit in (*CLOCK, Unit.DAY, Unit.MONTH) if unit < min(named)}
        below = [u for u in (*CLOCK, Unit.DAY, Unit.MONTH) if self.unit is not None and u < self.unit]
        self.is_set = all(unit in named_or_anchored | self.lowest for unit in below)
        coarse = self.unit is not None and self.unit < Unit.DAY and all(u >= self.unit for u in named | in_ranges)
        anchored = rules.every is not None and rules.every.anchor is not None
        if not self.is_set and (not coarse or anchored):
            raise NotImplementedError
        finest = min([*named, *in_ranges, *([self.unit] if self.unit else [])], key=day_level)
        finest = day_level(finest)
        self.step = STEPS.get(finest, timedelta(days=1))
        self.until = base + {Unit.SECOND: timedelta(hours=2), Unit.MINUTE: timedelta(days=2)}.get(
            finest, timedelta(days=50 if finest is Unit.HOUR else 1200)
        )
        self.base = base
        self.walls = [wall for wall in self.candidates() if self.matches(wall)]

    def matches(self, wall: datetime) -> bool:
        rules = self.rules
        days_named = any(Unit.DAY in clause.units for clause in (*rules.points, *rules.ranges))
        if any(value_of(wall, unit) != unit.lowest for unit in self.lowest):
            return False
        for point in rules.points:
            items = point.items
            first_of_month = Unit.WEEK in point.units and self.unit in {Unit.MONTH, Unit.YEAR} and not days_named
            if first_of_month and wall.day > 7:  # the first such weekday is one of the first seven days
                return False
            if not any(item_matches(item, wall) for item in items):
                return False
        if not all(any(window_matches(w.start, w.end, wall) for w in each.windows) for each in rules.ranges):
            return False
        every = rules.every
        if every is None or every.anchor is None:
            return True
        if every.unit is Unit.WEEK:
            return value_of(wall, Unit.WEEK) == every.anchor
        return (value_of(wall, every.unit) - every.anchor) % every.count == 0

    def candidates(self) -> Iterator[datetime]:
        """All walls from the base's period on."""
        wall = self.base.replace(second=0) if self.step >= STEPS[Unit.MINUTE] else self.base
        if self.step >= STEPS[Unit.HOUR]:
            wall = wall.replace(minute=0)
        if self.step >= timedelta(days=1):
            wall = wall.replace(hour=0)
        while wall <= self.until:
            yield wall
            wall += self.step

    def series(self, count: int) -> Iterator[datetime]:
        """The next `count` occurrences, as far as they are not after `until`."""
        at = self.base
        for _ in range(count):
            found = self.after(at)
            if found is None:
                return
            yield found
            at = found

    def after(self, at: datetime) -> datetime | None:
        following = self.walls[bisect_right(self.walls, at) :]
        if self.is_aligned_or_single() or not self.matches(at):
            return next(iter(following), None)
        if self.is_set:
            period = self.period(at)
            if following and self.period(following[0]) == period:
                return following[0]
            return next((wall for wall in following if self.period(wall) >= period + self.count), None)
        start = at + self.count * STEPS[self.unit]
        if start > self.until or self.matches(start):
            return start if start <= self.until else None
        return next((wall for wall in following if wall > start), None)

    def is_aligned_or_single(self) -> bool:
        every = self.rules.every
        if every is None:
            return True
        aligned = every.anchor is not None and (every.count <= CYCLES.get(every.unit, 0) or every.unit is Unit.YEAR)
        return self.is_set and (every.count == 1 or aligned)

    def period(self, wall: datetime) -> int:
        """The number of the second, minute ... year in which `wall` lies."""
        days = wall.toordinal()
        match self.unit:
            case Unit.YEAR:
                return wall.year
            case Unit.MONTH:
                return wall.year * 12 + wall.month
            case Unit.WEEK:
                return days // 7  # day 0 was a Sunday
            case Unit.DAY:
                return days
        seconds = (wall - datetime(1, 1, 1)) // timedelta(seconds=1)  # noqa: DTZ001 - a wall
        return seconds // {Unit.HOUR: 3600, Unit.MINUTE: 60, Unit.SECOND: 1}[self.unit]
