"""The last occurrences before a moment, of a series that is too long to be followed from where it goes on.

It knows rules finer than a day, of which the next occurrence is the first match a fixed distance after the last one:
`every 30 seconds`, `every 90 minutes between 9:00 and 18:00`. Without clauses the rest is a division. With them the
series has *restarts*: matches before which nothing matches for that distance. No series of the rule can step over one,
so each has it, whatever its phase was: it is enough to follow from the last restart. Within a stretch of the clock on
which no clause can change its mind (the Monday of `on monday`, each minute of `between 9:00 and 18:00`) following is a
division again.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

from jobmaster.schedules.natural import wall_clock
from jobmaster.schedules.natural.rules import Unit

if TYPE_CHECKING:
    from datetime import tzinfo

    from jobmaster.schedules.natural.occurrences import Evaluator

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_SECOND: Final = timedelta(seconds=1)
_FEW: Final = 500
"""So many steps are taken rather than saved."""
_MOST: Final = 5_000
"""Steps and questions of one search: about 50 ms. What needs more is followed by the caller, in pieces."""
_UNEVEN: Final = 8
"""So much faster than at its beginning a series may become by what its clauses leave out later."""
_LOOKED_BACK: Final = ((Unit.MINUTE, 3), (Unit.HOUR, 48), (Unit.DAY, 40), (Unit.MONTH, 15), (Unit.YEAR, 9))
"""Restarts are looked for after the beginnings of so many of these: `on 29th in feb` has one in eight years."""


def latest(evaluator: Evaluator, after: datetime, until: datetime, count: int) -> list[datetime] | None:
    """The last `count` occurrences in (after, until], in order, of the series that goes on from `after`.

    Args:
        evaluator: of the expression.
        after: aware, in the zone of calculation.
        until: aware.
        count: at least 1.

    Returns:
        Moments (UTC); None: only following the series tells, or is as quick.
    """
    distance = evaluator.distance
    begin, end = _seconds(after), _seconds(until)
    if distance is None:
        return None
    if evaluator.stretch is None:
        last = (end - begin) // distance
        return [_moment(begin + distance * number) for number in range(max(1, last - count + 1), last + 1)]
    try:
        return _Search(evaluator, distance, evaluator.stretch, after).latest(begin, end, count)
    except OverflowError:  # at an end of the calendar
        return None


class _Search:
    """One search; moments are whole seconds since 1970."""

    def __init__(self, evaluator: Evaluator, distance: int, stretch: int, after: datetime) -> None:
        assert after.tzinfo is not None  # noqa: S101 - the evaluator works on aware ones
        self._evaluator = evaluator
        self._distance = distance
        self._stretch = stretch
        self._zone: tzinfo = after.tzinfo
        self._left = _MOST

    def latest(self, begin: int, end: int, count: int) -> list[datetime] | None:
        """See `latest` above."""
        found: list[int] = []
        while len(found) < count and end > begin:
            restart = None if (end - begin) // self._distance <= _FEW else self._last_restart(begin, end)
            first = begin if restart is None else restart
            tail = self._followed(first, end, count - len(found))
            if tail is None:
                return None
            if restart is not None and len(tail) < count - len(found):
                tail.insert(0, restart)
            found = tail + found
            if restart is None:
                break
            end = restart - 1
        return [_moment(each) for each in found]

    def _last_restart(self, begin: int, end: int) -> int | None:
        """A restart in (begin, end], if possible one near the end."""
        tried = 0
        for start in self._beginnings(end):
            if start <= begin or self._left <= 0:
                break
            self._left -= 1
            match = self._match_from(start)
            if match is None or not begin < match <= end or match == tried:
                continue
            tried = match
            if self._is_restart(match):
                return match
        return None

    def _beginnings(self, end: int) -> Iterator[int]:
        """Of minutes, hours, days ... up to `end`, backwards."""
        wall = wall_clock.of(self._local(end))
        for unit, count in _LOOKED_BACK:
            year, month, day, second = wall
            if unit >= Unit.DAY:
                second = 0
                day = day if unit is Unit.DAY else 1
                month = 1 if unit is Unit.YEAR else month
            else:
                second -= second % wall_clock.UNIT_SECONDS[unit]
            for back in range(count):
                at = wall_clock.moved((year, month, day, second), -back, unit)
                if at is not None:
                    yield _seconds(wall_clock.shown(at).replace(tzinfo=self._zone))

    def _is_restart(self, match: int) -> bool:
        """Whether nothing matches for a distance before that match."""
        if not self._is_even(match - self._distance, match):
            return False
        return self._match_from(match - self._distance + 1) == match

    def _match_from(self, at: int) -> int | None:
        match = self._evaluator.match_after(self._local(at) - _SECOND)
        return None if match is None else _seconds(match)

    def _followed(self, at: int, end: int, count: int) -> list[int] | None:
        """The last `count` in (at, end]; None: there are too many."""
        found: deque[int] = deque(maxlen=count)
        begin, steps = at, 0
        while True:
            self._left -= 1
            steps += 1
            if self._left < 0 or (steps == _FEW and _UNEVEN * (at - begin) * _MOST < (end - begin) * steps):
                return None  # at this pace it would not get there
            following = self._evaluator.next_after(self._local(at))
            if following is None or (at := _seconds(following)) > end:
                return [*found]
            found.append(at)
            last = at + self._steps_in_stretch(at, end) * self._distance
            if last > at:
                found.extend(range(max(at, last - count * self._distance) + self._distance, last + 1, self._distance))
                at = last

    def _steps_in_stretch(self, at: int, end: int) -> int:
        """How many steps are surely nothing but the distance."""
        wall = wall_clock.of(self._local(at))
        last = min(end, at + self._stretch - wall[3] % self._stretch - 1)
        steps = (last - at) // self._distance
        if steps <= 0 or not self._is_even(at, last) or not self._evaluator.matches(wall):
            return 0  # what was put off to the end of a gap is no match
        return steps

    def _is_even(self, first: int, last: int) -> bool:
        """Whether clocks are not changed in between, and show both ends once."""
        start, end = self._local(first), self._local(last)
        offsets = {each.replace(fold=fold).utcoffset() for each in (start, end) for fold in (0, 1)}
        return len(offsets) == 1

    def _local(self, at: int) -> datetime:
        return _moment(at).astimezone(self._zone)


def _moment(at: int) -> datetime:
    return _EPOCH + timedelta(seconds=at)


def _seconds(moment: datetime) -> int:
    return (moment.astimezone(UTC) - _EPOCH) // _SECOND
