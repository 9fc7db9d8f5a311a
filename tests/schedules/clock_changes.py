"""Every change of clocks between 2020 and 2040, and what clocks show around it, counted minute by minute.

Nothing here knows `jobmaster.schedules.daylight`: zoneinfo turns moments into what clocks show, and that is all.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import NamedTuple
from zoneinfo import ZoneInfo, available_timezones

Holds = Callable[[datetime], bool]
"""Whether a rule holds at what clocks show."""

SECOND = timedelta(seconds=1)
MINUTE = timedelta(minutes=1)
DAY = timedelta(days=1)
FIRST, LAST = datetime(2020, 1, 1, tzinfo=UTC), datetime(2040, 12, 31, tzinfo=UTC)


class ClockChange(NamedTuple):
    """One change. All zones with the same one behave alike around it; `zone` stands for them."""

    moment: datetime
    before: timedelta
    after: timedelta
    zone: ZoneInfo

    @property
    def size(self) -> timedelta:
        return self.after - self.before


class Shown(NamedTuple):
    """A minute and what clocks show in it."""

    moment: datetime
    wall: datetime


@functools.cache
def changes_of(name: str) -> tuple[tuple[datetime, timedelta, timedelta], ...]:
    """The changes of one zone: (moment, offset before, offset after)."""
    zone = ZoneInfo(name)
    found, moment, offset = [], FIRST, FIRST.astimezone(zone).utcoffset()
    while moment < LAST:
        later = (moment + DAY).astimezone(zone).utcoffset()
        if later != offset:
            low, high = moment, moment + DAY
            while high - low > SECOND:
                middle = low + (high - low) / 2
                low, high = (middle, high) if middle.astimezone(zone).utcoffset() == offset else (low, middle)
            found.append((high.replace(microsecond=0), offset, later))
        moment, offset = moment + DAY, later
    return tuple(found)


@functools.cache
def all_changes() -> tuple[ClockChange, ...]:
    """The different changes of all zones, in order."""
    zones: dict[tuple[datetime, timedelta, timedelta], ZoneInfo] = {}
    for name in sorted(available_timezones()):
        for change in changes_of(name):
            zones.setdefault(change, ZoneInfo(name))
    return tuple(ClockChange(*change, zone) for change, zone in sorted(zones.items()))


def minutes_around(change: ClockChange, reach: timedelta) -> list[Shown]:
    """The minutes from `reach` before the change to `reach` after it."""
    count = 2 * (reach // MINUTE)
    moments = [change.moment - reach + number * MINUTE for number in range(count)]
    return [Shown(moment, moment.astimezone(change.zone).replace(tzinfo=None, fold=0)) for moment in moments]


def each_wall_once(minutes: list[Shown], holds: Holds) -> list[datetime]:
    """When a rule of fixed times has to run: each wall between the first and the last one exactly once.

    In the first minute that shows it; one that is never shown, in the first minute that shows a later one.
    """
    found = set()
    for wall in _walls(minutes):
        if holds(wall):
            found.add(next(shown.moment for shown in minutes if shown.wall >= wall))
    return sorted(found)


def each_time_shown(minutes: list[Shown], holds: Holds) -> list[datetime]:
    """When a rule that goes on by elapsed time has to run: in every minute that shows a wall of it."""
    return [shown.moment for shown in minutes if holds(shown.wall)]


def _walls(minutes: list[Shown]) -> Iterator[datetime]:
    wall = minutes[0].wall
    while wall <= minutes[-1].wall:
        yield wall
        wall += MINUTE
