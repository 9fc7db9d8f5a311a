"""Which buckets this engine owns: opens what is missing (R5), closes what is too much (R24)."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from jobmaster.model.bucket import NewBucket
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
        self.closed = False

    def granted(self, _grant: Grant) -> None:
        """A renewal was answered: look at what is owned."""
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
        """Of each lane and priority the oldest buckets stay; the others are run empty, and closed.

        Each death leaves its buckets to those that live. Were all of them filled on and on, none would ever be empty,
        and an owner's jobs were spread over more buckets with each death.
        """
        places: dict[tuple[str, int], list[Life]] = {}
        for life in sorted(self._lease.open_lives(), key=lambda life: life.bucket.id):
            places.setdefault((life.bucket.lane, life.bucket.priority), []).append(life)
        for (_, priority), lives in places.items():
            most = max(self._tuning.max_buckets_per_priority, self._tuning.buckets.get(priority, 0))
            for life in lives[:most]:
                if life.completing:
                    await self._reopen(life)
            for life in lives[most:]:
                if not life.completing:
                    await self._complete(life)
                elif not (life.entries or life.more or life.depth):
                    await self._close(life)

    async def _complete(self, life: Life) -> None:
        """Producers go elsewhere from now on, as soon as they hear of it, and claims bring nothing for it."""
        life.completing = True
        await self._store.complete(life.fence)
        logger.info("bucket_completing bucket=%d", life.bucket.id)

    async def _close(self, life: Life) -> None:
        """Meanwhile nothing of it starts, and what a claim still brings is left to the master."""
        async with life.reading:
            if life.dropped or life.entries:  # the read that was waited for has brought jobs
                return
            life.open = False
            try:
                if await self._store.close(life.fence):
                    await self._store.retire(life.fence)
                    logger.info("bucket_closed bucket=%d", life.bucket.id)
                    self._lease.drop(life)
            finally:
                life.open = not life.dropped

    async def _reopen(self, life: Life) -> None:
        """It is needed again; or a closing was not carried through, or applied late: then it takes nothing now."""
        await self._store.fence(life.fence)  # the agent's row may be gone already
        await self._store.reopen(life.fence)
        life.completing = False
