"""Messages that appear below an owner's cursor: drawn a number before it passed, committed after.

Every answer of a read carries its snapshot: `xmin`, the lowest transaction that had not ended, and `horizon`, the next
transaction to begin. An insert takes its transaction's number before its message's, so whatever can still appear at or
below the cursor belongs to a transaction from `xmin` up to `horizon`; where the two are equal, nothing can. (The
snapshot's own upper end is no horizon: it is the highest transaction that has *ended*, and younger ones may run.)

Per bucket and epoch a `Floor` is remembered: no message appears at or below it any more. Marks (cursor, horizon, when)
turn into the floor once a look below them begins after all their transactions have ended.
"""

from __future__ import annotations

import time
from collections import deque
from typing import Final, NamedTuple

from jobmaster.stores.sql.postgresql.numbering import first_of

SETTLED_AFTER: Final = 30.0
"""Seconds after which a mark counts as settled although an older transaction runs: inserts end long before, by the
timeout of their statement; what runs is somebody's long transaction, and it must not make every look dear."""
DEEP_EVERY: Final = 1.0
"""Seconds between looks that begin at the floor, while one is held up: those in between look at the last second."""
MARKS_APART: Final = 0.01


class Seen(NamedTuple):
    """The snapshot of an answer."""

    xmin: int
    horizon: int

    @property
    def settled(self) -> bool:
        """No transaction with changes was under way."""
        return self.xmin == self.horizon


class _Mark:
    __slots__ = ("cursor", "horizon", "made", "moved")

    def __init__(self, cursor: int, horizon: int, now: float) -> None:
        self.cursor = cursor
        self.horizon = horizon
        self.made = self.moved = now


class Floor:
    """What is known about one bucket at one epoch."""

    __slots__ = ("_deep_at", "_marks", "epoch", "number")

    def __init__(self, bucket: int, epoch: int) -> None:
        self.epoch = epoch
        self.number = first_of(bucket)
        self._marks: deque[_Mark] = deque()
        self._deep_at = float("-inf")

    def read(self, start: int, reached: int, seen: Seen) -> bool:
        """Note a read from `start` that got to `reached`; whether a message may still appear at or below it."""
        if seen.settled and not self._marks and self.number >= start:
            self.number = max(self.number, reached)
            return False
        if reached > self.number:
            self._mark(reached, seen.horizon)
        return not seen.settled

    def begin(self, cursor: int, *, full: bool) -> int:
        """Above which number a look at what lies at or below `cursor` begins."""
        now = time.monotonic()
        if full:
            return -1
        if now - self._deep_at >= DEEP_EVERY:
            self._deep_at = now
            return min(self.number, cursor)
        lately = self.number
        for mark in self._marks:
            if now - mark.made < DEEP_EVERY:
                break
            lately = mark.cursor
        return min(lately, cursor)

    def looked(self, begin: int, cursor: int, seen: Seen, *, found: bool) -> bool:
        """Note a whole look from `begin` up to `cursor`; whether a message may still appear there.

        `found`: it has found some that the owner did not know. The floor does not pass them before a look finds that
        the owner knows them: an answer can be lost, or come to an owner that may not act just then.
        """
        if found:
            self._mark(cursor, seen.horizon)
            return begin > self.number or not seen.settled
        now = time.monotonic()
        if begin <= self.number:
            while self._marks and self._over(self._marks[0], seen, now) and self._marks[0].cursor <= cursor:
                self.number = max(self.number, self._marks.popleft().cursor)
            if seen.settled:
                self.number = max(self.number, cursor)
                while self._marks and self._marks[0].cursor <= cursor:
                    self._marks.popleft()
        if self.number >= cursor:
            return False
        if not self._marks or self._marks[-1].cursor < cursor:
            self._mark(cursor, seen.horizon)
        return True

    def _mark(self, cursor: int, horizon: int) -> None:
        now = time.monotonic()
        last = self._marks[-1] if self._marks else None
        if last is not None and now - last.made < MARKS_APART:
            # Later in every respect is still true of what the mark stood for; so there are never many.
            last.cursor, last.horizon, last.moved = max(last.cursor, cursor), max(last.horizon, horizon), now
        else:
            self._marks.append(_Mark(cursor, horizon, now))

    @staticmethod
    def _over(mark: _Mark, seen: Seen, now: float) -> bool:
        return seen.xmin >= mark.horizon or now - mark.moved >= SETTLED_AFTER


class Floors:
    """The floors of a store."""

    def __init__(self) -> None:
        self._floors: dict[int, Floor] = {}

    def of(self, bucket: int, epoch: int, *, anew: bool = False) -> Floor:
        """The bucket's at this epoch. `anew`: reading begins from the start."""
        floor = self._floors.get(bucket)
        if floor is None or anew or floor.epoch != epoch:
            floor = self._floors[bucket] = Floor(bucket, epoch)
        return floor

    def forget(self, bucket: int) -> None:
        """The bucket is somebody else's, or gone."""
        self._floors.pop(bucket, None)
