"""What this engine owns, and whether it may act now (R7, I4).

The renewal's reply is the only grant. A bucket may start and finish jobs only if the last answered renewal named it at
its epoch and trust has not ended. A known bucket that it does not name is dropped; a named one that is not in memory is
a new life.
"""

from __future__ import annotations

import contextlib
import logging
from typing import TYPE_CHECKING, Final

from jobmaster.engine.life import Life

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from jobmaster.engine.store_clock import StoreClock
    from jobmaster.model.bucket import Bucket
    from jobmaster.model.ids import JobKey
    from jobmaster.model.worker import Demand, Grant
    from jobmaster.ports.clock import Clock
    from jobmaster.ports.link import EngineLink, Report

logger = logging.getLogger("jobmaster.engine")

LATE_S: Final = 2.0
"""After so many seconds without an answer a claim's rows are given back by the next renewals, whoever has them."""


class Lease:
    """The lives of the buckets that are granted, and the engine's side of the link."""

    def __init__(self, *, link: EngineLink, clock: Clock, store_clock: StoreClock) -> None:
        self._link = link
        self._clock = clock
        self._store_clock = store_clock
        self._until_ns = 0
        """Trust of the last answer that was taken in. What the shared memory says may already be that of the next one,
        which may not name a bucket any more that is still open here."""
        self.worker = 0
        self.lives: dict[int, Life] = {}
        self.counted = 0
        """How many grants were counted into a report: a claim sent before the last one is thrown away (R14'a)."""
        self.cut_us = 0
        """The master's time of the last grant."""
        self.highest_cut_us = 0
        """The latest cut that was ever reported: the store's clock may have been set back."""
        self._claiming: tuple[int, float] | None = None
        """While a claim is under way: the cut at its sending, and when that was (monotonic seconds)."""
        self.cancels_upto = 0
        self.gone = False
        self.workers = 1
        """How many workers of the cluster live, this one included."""
        self.granted: list[Callable[[Grant], None]] = []
        """Called after a grant was taken in, in order."""
        self.on_new: Callable[[Life], None] = lambda _life: None
        self.on_dropped: Callable[[Life], None] = lambda _life: None
        self.make_report: Callable[[], Report] | None = None
        link.on_grant(self._take)

    def trusted(self) -> bool:
        """True while this engine may start and finish jobs."""
        return not self.gone and self._clock.trust_ns() < self._until_ns

    def open_lives(self) -> list[Life]:
        """The lives whose jobs may start now; empty without trust."""
        if not self.trusted():
            return []
        return [life for life in self.lives.values() if life.open]

    def may_act(self, life: Life) -> bool:
        """True where this life's jobs may be started and finished now."""
        return not life.dropped and self.trusted()

    def drop(self, life: Life, why: str = "") -> None:
        """The bucket is not ours any more (Fenced, or not named): nothing of it counts from here on.

        `why`: told in the log; empty where we gave it away ourselves.
        """
        if life.dropped:
            return
        if why:
            # Without jobs in memory nothing is lost by it: so ends, for one, a bucket that was given up.
            logger.log(
                logging.WARNING if life.entries else logging.INFO,
                "bucket_dropped bucket=%d epoch=%d jobs=%d why=%r",
                life.bucket.id,
                life.bucket.epoch,
                len(life.entries),
                why,
            )
        life.dropped = True
        life.open = False
        if self.lives.get(life.bucket.id) is life:
            del self.lives[life.bucket.id]
        self.on_dropped(life)

    def report(self, *, soon: bool = False) -> None:
        """Tell the keeper what this engine holds now; `soon` asks for a renewal at once."""
        if self.make_report is None or not self.worker:
            return
        report = self.make_report()
        self._link.report(_soon(report) if soon else report)

    @contextlib.contextmanager
    def claiming(self) -> Iterator[None]:
        """Meanwhile a claim is sent, answered and taken in, whose rows are in no report yet (R14'a)."""
        self._claiming = self.cut_us, self._clock.monotonic()
        try:
            yield
        finally:
            self._claiming = None

    def reported_cut(self) -> int:
        """The cut of a report that is made now: the master may take back what was touched before it and is not named.

        Not later than the sending of a claim that is under way: what it brings is not forgotten, but on its way. A
        death makes for both at once, a claim of what it interrupted and a renewal that adopts. A claim that is not
        answered for long may have been answered to nobody.
        """
        cut_us = self.cut_us
        if self._claiming is not None:
            sent_us, sent_at = self._claiming
            if self._clock.monotonic() - sent_at <= LATE_S:
                cut_us = min(cut_us, sent_us)
        self.highest_cut_us = max(self.highest_cut_us, cut_us)
        return cut_us

    def held(self) -> list[tuple[JobKey, int]]:
        """The rows in memory, of all lives."""
        return [identity for life in self.lives.values() for identity in life.held()]

    def _take(self, grant: Grant) -> None:
        self._store_clock.learn(grant.now_us)
        self._until_ns = grant.trust_until_ns or self._link.trust_until_ns()
        if grant.gone:
            self.gone = True
        named = {} if grant.gone else {bucket.id: bucket for bucket in grant.buckets}
        for life in list(self.lives.values()):
            bucket = named.get(life.bucket.id)
            if bucket is None or bucket.epoch != life.bucket.epoch:
                self.drop(life, "its lease has ended" if grant.gone else "a renewal did not name it")
        for bucket in named.values():
            if bucket.id not in self.lives:
                self._adopt(bucket)
            else:
                self.lives[bucket.id].told(bucket)
        self.cut_us = grant.now_us
        self.workers = max(1, grant.workers)
        self.cancels_upto = max(self.cancels_upto, grant.cancels_upto)
        self.counted += 1
        for callback in self.granted:
            callback(grant)
        self.report()

    def _adopt(self, bucket: Bucket) -> None:
        life = Life(bucket)
        self.lives[bucket.id] = life
        self.on_new(life)


def _soon(report: Report) -> Report:
    from msgspec.structs import replace

    return replace(report, soon=True)


def matching(demand: Demand, lives: dict[int, Life]) -> list[Life]:
    """The open lives that could feed a hungry worker, the fullest first."""
    fits = [
        life
        for life in lives.values()
        if life.open
        and life.bucket.lane == demand.lane
        and life.bucket.priority == demand.priority
        and life.bucket.id != demand.bucket
    ]
    return sorted(fits, key=lambda life: -life.depth)
