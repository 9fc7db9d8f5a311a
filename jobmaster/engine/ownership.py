"""Which buckets this engine owns: opens what is missing (R5), closes what is too much (R24)."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from jobmaster.model.bucket import NewBucket
from jobmaster.model.states import BucketStatus
from jobmaster.ports.answers import Refused

if TYPE_CHECKING:
    from collections.abc import Callable

    from jobmaster.engine.lease import Lease
    from jobmaster.engine.life import Life
    from jobmaster.engine.persistence import Backoff
    from jobmaster.engine.tuning import Tuning
    from jobmaster.model.worker import Grant
    from jobmaster.ports.store import Store

logger = logging.getLogger("jobmaster.engine")


class Ownership:
    """Acts on each grant, one step after the other."""

    def __init__(
        self,
        *,
        tuning: Tuning,
        store: Store,
        lease: Lease,
        pause: Backoff,
        draw_token: Callable[[], str],
    ) -> None:
        self._tuning = tuning
        self._store = store
        self._lease = lease
        self._pause = pause
        self._draw_token = draw_token
        self._tokens: dict[tuple[str, int, int], str] = {}
        self._wake = asyncio.Event()
        self._completing: set[int] = set()
        self.closed = False

    def granted(self, grant: Grant) -> None:
        """A renewal was answered: look at what is owned."""
        self._completing = {bucket.id for bucket in grant.buckets if bucket.status is BucketStatus.COMPLETING}
        self._wake.set()

    async def run(self) -> None:
        """Work after each grant until cancelled."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            if self.closed:
                continue
            try:
                await self._open_missing()
                await self._shrink()
                await self._reopen()
            except Refused as answer:
                logger.debug("ownership_refused answer=%s", answer)
            except Exception as error:  # noqa: BLE001 - no error of a store ends a worker (I8)
                await self._pause.wait_after(error)
                self._wake.set()
            else:
                self._pause.succeeded()

    # ---------------------------------------------------------------- R5

    async def _open_missing(self) -> None:
        """Adoption comes first: what is missing after the first grant is made, and granted by the next renewal."""
        owned: dict[tuple[str, int], int] = {}
        for life in self._lease.lives.values():
            place = (life.bucket.lane, life.bucket.priority)
            owned[place] = owned.get(place, 0) + 1
        wanted = [
            (lane, priority, number)
            for lane in self._tuning.lanes
            for priority, count in self._tuning.buckets.items()
            for number in range(owned.get((lane, priority), 0), count)
        ]
        if not wanted:
            self._tokens.clear()
            return
        for slot in wanted:
            self._tokens.setdefault(slot, self._draw_token())
        new = [NewBucket(self._tokens[slot], self._tuning.agent, slot[0], slot[1]) for slot in wanted]
        try:
            await self._store.create_buckets(self._lease.worker, new)
        except Refused:
            self._tokens.clear()  # a bucket of an earlier try was lost in between: make new ones next time
            raise
        self._lease.report(soon=True)

    # ---------------------------------------------------------------- R24

    async def _shrink(self) -> None:
        surplus: dict[tuple[str, int], list[Life]] = {}
        for life in self._lease.open_lives():
            surplus.setdefault((life.bucket.lane, life.bucket.priority), []).append(life)
        for (_, priority), lives in surplus.items():
            most = max(self._tuning.max_buckets_per_priority, self._tuning.buckets.get(priority, 0))
            for life in lives[most:]:
                if life.entries or life.more or life.depth:
                    continue
                await self._close(life)
                return  # one a grant: producers must find their ways

    async def _close(self, life: Life) -> None:
        """Meanwhile nothing of it starts, and what a claim still brings is left to the master."""
        async with life.reading:
            if life.dropped or life.entries:  # the read that was waited for has brought jobs
                return
            life.open = False
            try:
                await self._store.complete(life.fence)
                if await self._store.close(life.fence):
                    await self._store.retire(life.fence)
                    logger.info("bucket_closed bucket=%d", life.bucket.id)
                    self._lease.drop(life)
                else:
                    await self._store.reopen(life.fence)
            finally:
                life.open = not life.dropped

    async def _reopen(self) -> None:
        """A closing that was not carried through, or that applied late, must not leave a bucket that takes nothing."""
        for life in self._lease.open_lives():
            if life.bucket.id in self._completing:
                await self._store.fence(life.fence)  # the agent's row may be gone already
                await self._store.reopen(life.fence)
