"""Our rule for daylight saving: which moment a wall clock means on the days on which clocks are changed.

A *wall* here is a naive datetime: what clocks in a zone show. A zone's clocks skip some walls (a gap: 02:30 on the day
on which clocks go forward) and show some twice (an overlap). The rule:

    fixed wall clock   ("at 02:30")      gap: the first moment after it; overlap: the first pass. So exactly once.
    shown wall clock   ("every 15 min")  gap: walls in it do not happen; overlap: both passes. So by elapsed time.

`next_once` and `next_shown` are these two lines for anything that can step along walls. Everything here is pure; the
rules of zones are asked of `zoneinfo` at each call, so nothing goes stale when they change.

Beware of Python: aware datetimes of *one* zone compare by their walls (the two passes of 02:30 are "equal"), and one in
an overlap equals none of another zone. Compare in UTC.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo

NextWall = Callable[[datetime], datetime | None]
"""Gives the first wall strictly after a wall at which a rule holds, or None: there is none any more."""

_TICK = timedelta(microseconds=1)
_SECOND = timedelta(seconds=1)
_DAY = timedelta(days=1)
_LAST_YEAR = 9999


@dataclass(frozen=True, slots=True)
class Change:
    """A moment at which a zone's clocks are put forward or back.

    Attributes:
        moment: when (UTC).
        before: what clocks would show at the moment without the change (a wall).
        after: what they show (a wall).
    """

    moment: datetime
    before: datetime
    after: datetime

    @property
    def is_gap(self) -> bool:
        """True: walls in [before, after) are skipped. False: those in [after, before) are shown twice."""
        return self.before < self.after


def change_at(wall: datetime, zone: tzinfo) -> Change | None:
    """The change because of which clocks never show `wall`, or show it twice; None: they show it once."""
    first = wall.replace(tzinfo=zone, fold=0).utcoffset()
    second = wall.replace(tzinfo=zone, fold=1).utcoffset()
    if first == second or first is None or second is None:
        return None
    low = wall.replace(microsecond=0, tzinfo=UTC, fold=0) - max(first, second)
    high = wall.replace(microsecond=0, tzinfo=UTC, fold=0) - min(first, second) + _SECOND
    while high - low > _SECOND:  # the offset is `first` at low and is no more at high
        middle = low + (high - low) // _SECOND // 2 * _SECOND
        if middle.astimezone(zone).utcoffset() == first:
            low = middle
        else:
            high = middle
    plain = high.replace(tzinfo=None)
    return Change(high, plain + first, plain + second)


def instant(wall: datetime, zone: tzinfo) -> datetime:
    """The moment that a fixed wall clock means: its first pass, or the first moment after the gap that it falls into.

    Never decreases as `wall` grows. The result is aware, in `zone`.
    """
    moment = wall.replace(tzinfo=zone, fold=0)
    if moment.utcoffset() == moment.replace(fold=1).utcoffset():
        return moment
    change = change_at(wall, zone)
    if change is None or not change.is_gap:
        return moment
    return change.moment.astimezone(zone)


def is_left_out(wall: datetime, zone: tzinfo) -> bool:
    """Whether the whole day of `wall` was no day in the zone (30 December 2011 in Samoa, which changed sides)."""
    change = change_at(wall, zone)
    if change is None or not change.is_gap:
        return False
    midnight = wall.replace(hour=0, minute=0, second=0, microsecond=0)
    return change.before <= midnight and midnight + _DAY <= change.after


def wall_clock(moment: datetime, zone: tzinfo) -> datetime:
    """What clocks in `zone` show at `moment` (aware, any zone)."""
    return moment.astimezone(zone).replace(tzinfo=None, fold=0)


def wall_reached(moment: datetime, zone: tzinfo) -> datetime:
    """The latest wall whose `instant` is not after `moment`: a series of fixed walls goes on strictly after it.

    It is what clocks show, but in the second pass of an overlap, whose walls have all been reached in the first.
    """
    local = moment.astimezone(zone)
    shown = local.replace(tzinfo=None, fold=0)
    if not local.fold:
        return shown
    change = change_at(shown, zone)
    return shown if change is None or change.is_gap else change.before - _TICK


def next_once(moment: datetime, zone: tzinfo, next_wall: NextWall) -> datetime | None:
    """The first moment strictly after `moment` of a rule of fixed walls, each of which happens exactly once.

    Args:
        moment: aware, in any zone.
        zone: whose clocks are meant.
        next_wall: steps along the rule's walls.

    Returns:
        An aware datetime in `zone`; None: the rule has ended, or is past the last year that a datetime can tell.
    """
    return _within_time(moment, lambda: _next_once(moment, zone, next_wall))


def next_shown(moment: datetime, zone: tzinfo, next_wall: NextWall, *, catch_up: bool = False) -> datetime | None:
    """The first moment strictly after `moment` at which clocks show a wall of the rule, in whichever pass.

    Args:
        moment: aware, in any zone.
        zone: whose clocks are meant.
        next_wall: steps along the rule's walls.
        catch_up: walls that fall into a gap happen once, at the first moment after it, instead of not at all.

    Returns:
        As `next_once`.
    """
    return _within_time(moment, lambda: _next_shown(moment, zone, next_wall, catch_up=catch_up))


def _next_once(moment: datetime, zone: tzinfo, next_wall: NextWall) -> datetime | None:
    wall = next_wall(wall_reached(moment, zone))
    return None if wall is None else instant(wall, zone)


def _next_shown(moment: datetime, zone: tzinfo, next_wall: NextWall, *, catch_up: bool) -> datetime | None:
    local = moment.astimezone(zone)
    shown = local.replace(tzinfo=None, fold=0)
    wall = next_wall(shown)
    repeating = None
    if local.utcoffset() != local.replace(fold=1 - local.fold).utcoffset():
        repeating = change_at(shown, zone)
    if repeating is not None and not repeating.is_gap:
        if not local.fold:
            if wall is not None and wall < repeating.before:
                return wall.replace(tzinfo=zone)
            wall = next_wall(repeating.after - _TICK)  # clocks go back to `after`: its walls come again
        if wall is not None and wall < repeating.before:
            return wall.replace(tzinfo=zone, fold=1)
    while wall is not None and not catch_up:
        change = change_at(wall, zone)
        if change is None or not change.is_gap:
            break
        wall = next_wall(change.after - _TICK)
    return None if wall is None else instant(wall, zone)


def _within_time(moment: datetime, find: Callable[[], datetime | None]) -> datetime | None:
    """What `find` gives; None where it is past the end of year 9999 in UTC or in its zone."""
    try:
        found = find()
        if found is not None and found.year == _LAST_YEAR:
            found.astimezone(UTC)
    except OverflowError:
        if moment.year == 1:
            raise
        return None
    return found
