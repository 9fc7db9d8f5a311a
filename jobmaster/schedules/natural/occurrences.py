"""The next occurrence of an expression: its series on the wall clock, brought to moments by our daylight-saving rule.

Rules with a fixed hour and rules of a day and more (`at 2:30`, `every 2 days`) happen exactly once on a day on which
clocks are changed. Finer ones (`every 30 minutes`, `every hour at minute 15`) go by elapsed time: through both passes
of an hour that is repeated, and over an hour that is skipped. See schedules/daylight.py.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone, tzinfo

from jobmaster.schedules import daylight
from jobmaster.schedules.natural import wall_clock
from jobmaster.schedules.natural.rules import Rules, Unit
from jobmaster.schedules.natural.stepping import Stepping

_TICK = timedelta(microseconds=1)
_UTC_NAMES = frozenset({"UTC", "Etc/UTC"})
_MOST_SKIPPED = 400  # a rule whose every wall falls into a gap for so many changes never happens
_MOST_IN_GAP = 200
_SHORT = 7 * wall_clock.DAY_SECONDS  # clocks are not changed twice within it


class Evaluator:
    """The occurrences of one expression. Costly to make, cheap to ask; keep it with the expression.

    Attributes:
        is_phased: see `Expression.is_phased`.
        distance: seconds; the next occurrence is the first match so long after the last one. None: not so simple.
        stretch: seconds; so much of a day, from its beginning on, matches as a whole or not at all. None: all matches.
    """

    __slots__ = ("_stepping", "distance", "is_phased", "stretch")

    def __init__(self, rules: Rules) -> None:
        self._stepping = Stepping(rules)
        self.is_phased = self._stepping.is_phased
        self.distance = self._stepping.distance
        self.stretch = self._stepping.stretch

    def next_after(self, moment: datetime) -> datetime | None:
        """The first occurrence strictly after `moment`.

        Args:
            moment: aware, in the zone of calculation; fractions of a second do not count.

        Returns:
            A moment in the same zone; None: there is none up to the end of year 9999.

        Raises:
            ValueError: `moment` has no zone.
        """
        zone = moment.tzinfo
        if zone is None:
            raise ValueError("NaturalCron: the moment to start from has no time zone; give an aware datetime")
        try:
            if isinstance(zone, timezone) or getattr(zone, "key", "") in _UTC_NAMES:
                found = self._stepping.next_wall(wall_clock.of(moment))
                return None if found is None else wall_clock.shown(found).replace(tzinfo=zone)
            if self._stepping.is_elapsed:
                return self._next_elapsed(moment, zone)
            if self._stepping.is_phased:
                return self._next_fixed(moment, zone)
            return daylight.next_once(moment, zone, self._following())
        except OverflowError:  # past the end of the calendar in UTC
            return None

    def match_after(self, moment: datetime) -> datetime | None:
        """The first match strictly after `moment`, whatever came before; parameters and errors of `next_after`."""
        zone = moment.tzinfo
        if zone is None:
            raise ValueError("NaturalCron: the moment to start from has no time zone; give an aware datetime")
        find = daylight.next_shown if self._stepping.is_elapsed else daylight.next_once
        return find(moment, zone, self._following())

    def matches(self, wall: wall_clock.Wall) -> bool:
        """Whether all clauses hold when clocks show `wall`."""
        return self._stepping.matching.holds(wall)

    def _following(self) -> Callable[[datetime], datetime | None]:
        """Steps along matching walls."""
        left = _MOST_SKIPPED

        def following(wall: datetime) -> datetime | None:
            nonlocal left
            left -= 1
            after = wall_clock.moved(wall_clock.of(wall), 1, Unit.SECOND)
            found = self._stepping.matching.first(after) if after and left > 0 else None
            return None if found is None else wall_clock.shown(found)

        return following

    # ---------------------------------------------------------------------------------------------------- fixed clock

    def _next_fixed(self, moment: datetime, zone: tzinfo) -> datetime | None:
        base = self._base_before_gap(moment, zone)
        for _ in range(_MOST_IN_GAP):
            found = self._stepping.next_wall(base)
            if found is None:
                return None
            wall = wall_clock.shown(found)
            occurrence = daylight.instant(wall, zone)
            if self._is_passed_over(wall, occurrence, zone):
                base = found
                continue
            if occurrence.astimezone(UTC) > moment.astimezone(UTC):
                return occurrence
            if moment.fold:
                break
            base = found
        # In the second pass of a repeated hour all its walls have happened.
        return daylight.next_once(moment, zone, self._following())

    def _is_passed_over(self, wall: datetime, occurrence: datetime, zone: tzinfo) -> bool:
        """A day that was none, of a rule whose time of day only its occurrences remember: it goes on a distance later.

        Put off to the next midnight, the series would stay at midnight, and on that weekday, for ever.
        """
        return self._stepping.has_free_clock and occurrence.day != wall.day and daylight.is_left_out(wall, zone)

    def _base_before_gap(self, moment: datetime, zone: tzinfo) -> wall_clock.Wall:
        """What clocks would have shown at the occurrence `moment`, if that was put off to the end of a gap."""
        base = wall_clock.of(moment)
        if self._stepping.has_free_clock or self._stepping.matching.holds(base):
            return base
        end = wall_clock.shown(base)
        change = daylight.change_at(end - _TICK, zone)
        if change is None or not change.is_gap or change.after != end:
            return base
        put_off = base
        following = self._following()
        wall = following(change.before - _TICK)
        while wall is not None and wall < end:
            put_off = wall_clock.of(wall)
            wall = following(wall)
        return put_off

    # ---------------------------------------------------------------------------------------------------- elapsed time

    def _next_elapsed(self, moment: datetime, zone: tzinfo) -> datetime | None:
        stepping = self._stepping
        base = wall_clock.of(moment)
        simple = self._without_change(moment, zone, base)
        if simple is not None:
            return simple
        moment = moment.replace(microsecond=0)
        if not stepping.is_phased:
            return daylight.next_shown(moment, zone, self._following())
        holds = stepping.matching.holds(base)
        start = (stepping.other_item(base) if holds else None) or stepping.start(base, holds=holds)
        if start is None:
            return None
        distance = timedelta(seconds=wall_clock.linear(start) - wall_clock.linear(base))
        begin = moment.astimezone(UTC) + distance - _TICK
        return daylight.next_shown(begin, zone, self._following())

    def _without_change(self, moment: datetime, zone: tzinfo, base: wall_clock.Wall) -> datetime | None:
        """The next occurrence if clocks are surely not changed up to it."""
        offset = moment.utcoffset()
        if moment.replace(fold=1 - moment.fold).utcoffset() != offset:
            return None
        found = self._stepping.next_wall(base)
        if found is None or wall_clock.linear(found) - wall_clock.linear(base) > _SHORT:
            return None
        occurrence = wall_clock.shown(found).replace(tzinfo=zone)
        unchanged = occurrence.utcoffset() == offset == occurrence.replace(fold=1).utcoffset()
        return occurrence if unchanged else None
