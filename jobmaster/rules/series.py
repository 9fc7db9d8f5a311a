"""A rule's occurrences in microseconds, and the last ones before a moment without following all of them.

Searching costs questions to the rule, so that it is a generator: it yields after each of them.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Generator
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final, NamedTuple, TypeVar

from jobmaster.rules.storable import LATEST_US

if TYPE_CHECKING:
    from collections.abc import Callable

    from jobmaster.schedules.expression import Expression

_T = TypeVar("_T")
Steps = Generator[None, None, _T]
"""Work in small pieces: between two of them an event loop may do something else."""

SECOND: Final = 1_000_000
MOST_STEPS: Final = 50_000
"""So many occurrences of a series that can only be followed are followed at a time to reach the present."""
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)


class RuleError(ValueError):
    """A rule broke its promise, so that nobody can plan by it."""


class Missed(NamedTuple):
    """The last occurrences up to a moment, in order, and what the series goes on from."""

    moments: list[int]
    goes_on_from: int


class Series:
    """The occurrences of a rule up to `end_us` (inclusive)."""

    def __init__(self, rule: Expression, *, end_us: int | None = None) -> None:
        self._rule = rule
        self._end_us = end_us
        self.phased = rule.is_phased
        """What comes next depends on the occurrence before."""
        self._leap: Callable[[datetime, datetime, int], list[datetime] | None] | None = getattr(rule, "latest", None)

    def after(self, at_us: int) -> int | None:
        """The first occurrence after that moment; None: there is none any more.

        Raises:
            RuleError: the rule answered with no later moment, or with one that has no zone.
        """
        moment = self._rule.next_after(moment_of(at_us))
        if moment is None:
            return None
        following = _microseconds(moment)
        if following > LATEST_US:
            return None
        if following <= at_us:
            raise RuleError(
                f"its next occurrence after {moment_of(at_us).isoformat()} is {moment.isoformat()}, which is not later"
            )
        return following if self._end_us is None or following <= self._end_us else None

    def leapt(self, after_us: int, until_us: int, count: int) -> list[int] | None:
        """What `latest` of a rule that leaps says, checked; None: it does not leap.

        Raises:
            RuleError: the moments are not in order, or not in (after, until].
        """
        if self._leap is None:
            return None
        until_us = until_us if self._end_us is None else min(until_us, self._end_us)
        found = self._leap(moment_of(after_us), moment_of(until_us), count)
        if found is None:
            return None
        moments = [_microseconds(moment) for moment in found]
        borders = [after_us, *moments]
        if any(later <= earlier for earlier, later in zip(borders, moments, strict=False)) or borders[-1] > max(
            after_us, until_us
        ):
            raise RuleError(
                f"its latest occurrences up to {moment_of(until_us).isoformat()} are out of order or out of range"
            )
        return moments


def moment_of(at_us: int) -> datetime:
    """An aware datetime (UTC)."""
    return _EPOCH + timedelta(microseconds=at_us)


def finish(steps: Steps[_T]) -> _T:
    """Take all the steps at once."""
    while True:
        try:
            next(steps)
        except StopIteration as end:
            result: _T = end.value
            return result


def latest(series: Series, after_us: int, until_us: int, count: int) -> Steps[Missed]:
    """The last `count` occurrences in (after, until], of a series of which there is at least one.

    Of one that can only be followed, with more than MOST_STEPS in between, the phase is kept if its steps are even.
    """
    moments = series.leapt(after_us, until_us, count)
    yield
    if moments is None and series.phased:
        return (yield from _followed(series, after_us, until_us, count))
    if moments is None:
        moments = yield from _looked_back(series, after_us, until_us, count)
    return Missed(moments, moments[-1] if moments else after_us)


def _followed(series: Series, after_us: int, until_us: int, count: int) -> Steps[Missed]:
    """Step by step; where that is too long only the end, found from closer and closer by: what is old is no answer."""
    begun = yield from _follow(series, after_us, until_us, count)
    if begun.ended:
        return Missed([*begun.moments], begun.at)
    period = (begun.at - after_us) // MOST_STEPS
    back, found = period * (count + 1), Missed([], until_us)
    while True:
        start = max(begun.at, until_us - back)
        start -= (start - begun.at) % period  # an even series keeps its phase
        walk = yield from _follow(series, start, until_us, count)
        if not walk.ended:
            return found
        found = Missed([*walk.moments], walk.at)
        if len(walk.moments) >= count or start <= begun.at:
            return found
        back += back // 4


class _Walk(NamedTuple):
    """The last occurrences of a walk, where it stands, and whether it came to its end."""

    moments: deque[int]
    at: int
    ended: bool


def _follow(series: Series, at: int, until_us: int, count: int) -> Steps[_Walk]:
    """At most MOST_STEPS occurrences on."""
    moments: deque[int] = deque(maxlen=count)
    for _ in range(MOST_STEPS):
        following = series.after(at)
        yield
        if following is None or following > until_us:
            return _Walk(moments, at, ended=True)
        moments.append(following)
        at = following
    return _Walk(moments, at, ended=False)


def _looked_back(series: Series, after_us: int, until_us: int, count: int) -> Steps[list[int]]:
    found: list[int] = []
    step = SECOND
    while len(found) < count:
        at = yield from _last(series, after_us, until_us, step)
        if at is None:
            break
        if found:
            step = found[-1] - at
        found.append(at)
        until_us = at - 1
    return found[::-1]


def _last(series: Series, after_us: int, until_us: int, step: int) -> Steps[int | None]:
    """The last occurrence in (after, until]: back in growing steps from `until` to one, then forward by halves."""
    nothing_from = until_us
    low = until_us
    while True:
        low = max(after_us, low - step)
        at = series.after(low)
        yield
        if at is not None and at <= until_us:
            break
        if low == after_us:
            return None
        nothing_from, step = low, step * 4
    found = at
    while True:
        at = series.after(found)
        yield
        if at is None or at > until_us:
            return found
        found = at
        middle = (found + nothing_from) // 2
        if middle <= found:
            continue
        at = series.after(middle)
        yield
        if at is not None and at <= until_us:
            found = at
        else:
            nothing_from = middle


def _microseconds(moment: datetime) -> int:
    if moment.tzinfo is None:
        raise RuleError(f"its next occurrence is {moment.isoformat()}, which has no time zone")
    return (moment - _EPOCH) // _MICROSECOND
