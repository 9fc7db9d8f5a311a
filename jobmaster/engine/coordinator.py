"""The cluster's chores: lost buckets, drains, sweeps. Any number of coordinators may do them at once."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from jobmaster.engine.silences import Silences
from jobmaster.model.versions import names_to_route
from jobmaster.ports.answers import Refused

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from jobmaster.engine.lease import Lease
    from jobmaster.engine.persistence import Backoff
    from jobmaster.engine.store_clock import StoreClock
    from jobmaster.engine.tuning import Tuning
    from jobmaster.model.bucket import Bucket
    from jobmaster.model.worker import Grant
    from jobmaster.ports.clock import Clock
    from jobmaster.ports.store import Store

logger = logging.getLogger("jobmaster.engine")

_SWEEP_BATCH = 500
_DRAIN_BATCH = 500


class Coordinator:
    """Runs each chore in its own rhythm. A chore that fails waits and goes on; it never stops the worker (I8)."""

    def __init__(
        self,
        *,
        tuning: Tuning,
        store: Store,
        clock: Clock,
        store_clock: StoreClock,
        lease: Lease,
        tasks: Callable[[], Sequence[str]],
        random: Callable[[], float],
        pauses: Callable[[str], Backoff],
    ) -> None:
        self._tuning = tuning
        self._store = store
        self._clock = clock
        self._silences = Silences(clock=clock, store_clock=store_clock, lease=tuning.lease)
        self._lease = lease
        self._tasks = tasks
        self._random = random
        self._pauses = pauses

    def granted(self, grant: Grant) -> None:
        """The store has answered a renewal."""
        self._silences.answered(grant.now_us)

    async def mark_lost(self) -> None:
        """R15: buckets of ended leases become Lost, and this worker asks at once for what it may adopt."""
        await self._every(self._tuning.lost_every, "mark_lost", self._mark_lost)

    async def sweep(self) -> None:
        """R17' and I5: rows that point at no bucket, held jobs past their expiry, jobs that nobody knew."""
        await self._every(self._tuning.sweep_every, "sweep", self._sweep)

    async def drain(self) -> None:
        """R16: buckets that nobody adopted for long are emptied into the master."""
        await self._every(self._tuning.sweep_every, "drain", self._drain)

    async def _mark_lost(self) -> None:
        lost = await self._store.mark_lost(as_of_us=self._silences.as_of_us())
        for bucket in lost:
            logger.warning(
                "bucket_lost bucket=%d lane=%s priority=%d epoch=%d",
                bucket.id,
                bucket.lane or "default",
                bucket.priority,
                bucket.epoch,
            )
        if lost:
            self._lease.report(soon=True)

    async def _sweep(self) -> None:
        overdue_us = round(self._tuning.overdue_after * 1e6)
        repaired = _SWEEP_BATCH
        while repaired >= _SWEEP_BATCH:
            repaired = await self._store.sweep(overdue_us=overdue_us, limit=_SWEEP_BATCH)
        if self._tuning.mode.runs_jobs:
            await self._store.route(names_to_route(list(self._tasks())))

    async def _drain(self) -> None:
        while self._lease.worker:
            bucket = await self._store.claim_drain(
                self._lease.worker, agent=self._tuning.agent, older_us=round(self._tuning.drain_after * 1e6)
            )
            if bucket is None:
                return
            await self._empty(bucket)

    async def _empty(self, bucket: Bucket) -> None:
        since = self._clock.monotonic()
        pause = self._pauses("drain_bucket")
        logger.info("drain_begins bucket=%d epoch=%d", bucket.id, bucket.epoch)
        while True:
            try:
                if await self._store.drain(bucket.fence, limit=_DRAIN_BATCH):
                    await self._store.retire(bucket.fence)
                    logger.info("drain_ended bucket=%d", bucket.id)
                    return
                since = self._clock.monotonic()
            except Refused:
                raise
            except Exception as error:  # noqa: BLE001 - no error of a store ends a worker (I8)
                if self._clock.monotonic() - since > self._tuning.unreachable_after:
                    await self._store.return_bucket(bucket.fence)
                    return
                await pause.wait_after(error)

    async def _every(self, period: float, duty: str, step: Callable[[], Awaitable[None]]) -> None:
        pause = self._pauses(duty)
        while True:
            try:
                await step()
            except Refused as answer:
                logger.debug("chore_refused duty=%s answer=%s", duty, answer)
            except Exception as error:  # noqa: BLE001 - no error of a store ends a worker (I8)
                await pause.wait_after(error)
            else:
                pause.succeeded()
            await asyncio.sleep(period * (0.75 + self._random() / 2))
