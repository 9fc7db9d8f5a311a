"""The next runs of a rule, and what changes of clocks do to them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from zoneinfo import ZoneInfo

from jobmaster.schedules.daylight import Change, NextWall, change_at, wall_clock, wall_reached
from jobmaster.schedules.expression import Expression

_TICK = timedelta(microseconds=1)
_SECOND = timedelta(seconds=1)
_DAY = timedelta(days=1)
_MOST_SKIPPED = 3


@dataclass(frozen=True, slots=True)
class Run:
    """One coming occurrence.

    Attributes:
        moment: when, in the rule's zone.
        note: what a change of clocks does to it, in plain English; empty: nothing.
    """

    moment: datetime
    note: str = ""


def next_runs(expression: Expression, after: datetime, count: int) -> list[Run]:
    """The first `count` occurrences after a moment, each with a note where clocks are changed around it.

    Args:
        expression: the rule; where it has no zone, that of `after` is shown and nothing is noted.
        after: an aware datetime.
        count: at most so many.
    """
    found: list[Run] = []
    before = after
    while len(found) < count:
        moment = expression.next_after(before)
        if moment is None:
            break
        zone = expression.zone
        note = "" if zone is None or zone.key == "UTC" else _Effects(expression, zone).note(before, moment)
        found.append(Run(moment, note))
        before = moment
    return found


class _Effects:
    """What one rule does in its zone, compared with the same rule by clocks that are never changed."""

    def __init__(self, expression: Expression, zone: ZoneInfo) -> None:
        self._expression = expression
        self._zone = zone
        self._next_wall = _on_plain_clocks(expression)

    def note(self, before: datetime, moment: datetime) -> str:
        """What is to be said of `moment`, the occurrence that follows `before`."""
        shown = wall_clock(moment, self._zone)
        repeated = change_at(shown, self._zone)
        if repeated is not None and moment.astimezone(self._zone).fold:
            return self._said(shown, shown, "comes twice", repeated, "runs in the second pass, too")
        if repeated is not None:
            runs_twice = self._runs_in_second_pass(moment)
            return self._said(
                shown, shown, "comes twice", repeated, "runs both times" if runs_twice else "runs at the first"
            )
        return self._skipped(before, moment) or self._shifted(before, moment)

    def _runs_in_second_pass(self, moment: datetime) -> bool:
        shown = wall_clock(moment, self._zone)
        again = shown.replace(tzinfo=self._zone, fold=1).astimezone(UTC)
        following = self._expression.next_after(again - _TICK)
        if self._expression.is_phased:
            following = self._expression.next_after(moment)
            return following is not None and following.astimezone(UTC) <= again
        return following is not None and following.astimezone(UTC) == again

    def _skipped(self, before: datetime, moment: datetime) -> str:
        """The note if the rule asks for walls before `moment` that clocks skip."""
        if self._next_wall is None:
            return ""
        reached = wall_reached(before, self._zone)
        first = self._next_wall(reached)
        gap = None if first is None else change_at(first, self._zone)
        if first is None or gap is None or not gap.is_gap or gap.moment > moment.astimezone(UTC):
            return ""
        if self._expression.is_phased and first - reached == moment.astimezone(UTC) - before.astimezone(UTC) < _DAY:
            return ""  # a period of elapsed time
        last = self._last_skipped(first, gap)
        runs_then = moment.astimezone(UTC) == gap.moment
        return self._said(
            first,
            last,
            "does not exist" if first == last else "do not exist",
            gap,
            f"{'runs at' if runs_then else 'goes on at'} {_time(wall_clock(moment, self._zone))}",
        )

    def _last_skipped(self, first: datetime, gap: Change) -> datetime:
        """The last wall of the rule in the gap, or the end of the gap if there are many."""
        last = first
        for _ in range(_MOST_SKIPPED):
            wall = self._next_wall(last) if self._next_wall is not None else None
            if wall is None or wall >= gap.after:
                return last
            last = wall
        return gap.after

    def _shifted(self, before: datetime, moment: datetime) -> str:
        """The note if clocks were changed since the occurrence before and the rule did not follow them."""
        change = _change_between(self._zone, before.astimezone(UTC), moment.astimezone(UTC))
        if change is None:
            return ""
        if self._next_wall is not None:
            expected = self._next_wall(wall_reached(before, self._zone))
            if expected == wall_clock(moment, self._zone):
                return ""
        size = abs(change.after - change.before)
        way = "forward" if change.is_gap else "back"
        return (
            f"clocks go {way} by {_length(size)} on {change.before:%Y-%m-%d} in {self._zone.key}: "
            "goes on by elapsed time"
        )

    def _said(self, first: datetime, last: datetime, what: str, change: Change, then: str) -> str:
        times = _time(first) if first == last else f"{_time(first)} to {_time(last)}"
        return f"{times} {what} on {first:%Y-%m-%d} in {self._zone.key}: {then}"


def _on_plain_clocks(expression: Expression) -> NextWall | None:
    """Steps along the walls of a rule as if clocks were never changed; None: the rule cannot be asked that."""
    own: NextWall | None = getattr(expression, "next_wall", None)
    if own is not None:
        return own
    plain = expression.in_zone(ZoneInfo("UTC"))
    if plain.zone is None or plain.zone.key != "UTC":
        return None

    def next_wall(wall: datetime) -> datetime | None:
        found = plain.next_after(wall.replace(tzinfo=UTC))
        return None if found is None else found.replace(tzinfo=None)

    return next_wall


def _change_between(zone: tzinfo, low: datetime, high: datetime) -> Change | None:
    """A change of clocks in (low, high], both in UTC, if clocks show another offset after it; else None."""
    first, last = low.astimezone(zone).utcoffset(), high.astimezone(zone).utcoffset()
    if first == last or first is None or last is None:
        return None
    while high - low > _SECOND:
        middle = low + (high - low) / 2
        if middle.astimezone(zone).utcoffset() == first:
            low = middle
        else:
            high = middle
    moment = high.replace(microsecond=0)
    now = moment.astimezone(zone).utcoffset() or last
    plain = moment.replace(tzinfo=None)
    return Change(moment, plain + first, plain + now)


def _time(wall: datetime) -> str:
    return f"{wall.hour:02}:{wall:%M}" + (f":{wall:%S}" if wall.second else "")


def _length(size: timedelta) -> str:
    minutes = size // timedelta(minutes=1)
    return f"{minutes // 60} hour{'s' if minutes >= 120 else ''}" if minutes % 60 == 0 else f"{minutes} minutes"  # noqa: PLR2004
