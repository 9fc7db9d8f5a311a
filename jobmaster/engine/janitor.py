"""Retention and orphans, in bounded batches."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from jobmaster.ports.answers import Refused

if TYPE_CHECKING:
    from collections.abc import Callable

    from jobmaster.engine.persistence import Backoff
    from jobmaster.engine.store_clock import StoreClock
    from jobmaster.engine.tuning import Tuning
    from jobmaster.ports.master import MasterStore
    from jobmaster.ports.store import Store

logger = logging.getLogger("jobmaster.engine")

_BATCH = 500
_PAUSE = 0.05
"""Seconds between two batches: retention never competes with the jobs."""


class Janitor:
    """Deletes or archives what is older than the retention; drains buckets that the master does not know."""

    def __init__(
        self,
        *,
        tuning: Tuning,
        store: Store,
        store_clock: StoreClock,
        archive: MasterStore | None,
        random: Callable[[], float],
        pause: Backoff,
    ) -> None:
        self._tuning = tuning
        self._store = store
        self._store_clock = store_clock
        self._archive = archive
        self._random = random
        self._pause = pause

    async def run(self) -> None:
        """Clean up now and then, until cancelled."""
        while True:
            await asyncio.sleep(self._tuning.janitor_every * (0.75 + self._random() / 2))
            try:
                await self.forget_results()
                await self.clean()
                await self._drain_orphans()
            except Refused as answer:
                logger.debug("chore_refused duty=janitor answer=%s", answer)
            except Exception as error:  # noqa: BLE001 - no error of a store ends a worker (I8)
                await self._pause.wait_after(error)
            else:
                self._pause.succeeded()

    async def forget_results(self) -> int:
        """Clear the results whose time has passed (keep_result); how many there were."""
        gone = 0
        while True:
            count = await self._store.forget_results(limit=_BATCH)
            gone += count
            if count < _BATCH:
                break
            await asyncio.sleep(_PAUSE)
        if gone:
            logger.info("results_forgotten jobs=%d", gone)
        return gone

    async def clean(self) -> int:
        """Apply the retention once; how many jobs left."""
        if self._tuning.retention is None:
            await self._store.purge(before_us=0, limit=_BATCH)
            return 0
        before_us = self._store_clock.now_us() - round(self._tuning.retention * 1e6)
        gone = 0
        while True:
            moved = await self._move(before_us) if self._archive else None
            count = await self._store.purge(before_us=before_us, limit=_BATCH) if moved is None else moved
            gone += count
            if count < _BATCH:
                break
            await asyncio.sleep(_PAUSE)
        if self._archive is not None:
            # Only jobs move to the archive: what else is old goes here, and no job is as old as this.
            await self._store.purge(before_us=0, limit=_BATCH)
        await self._forget_occurrences(before_us)
        if gone:
            logger.info("retention_applied jobs=%d archived=%s", gone, self._archive is not None)
        return gone

    async def _forget_occurrences(self, before_us: int) -> None:
        while True:
            if await self._store.purge_schedules(before_us=before_us, limit=_BATCH) < _BATCH:
                return
            await asyncio.sleep(_PAUSE)

    async def _move(self, before_us: int) -> int:
        """To the archive first; only what is safe there is deleted here."""
        if self._archive is None:
            return 0
        records = await self._store.aged(before_us=before_us, limit=_BATCH)
        if not records:
            return 0
        safe = await self._archive.import_aged(records)
        await self._store.delete_final(safe)
        return len(safe)

    async def _drain_orphans(self) -> None:
        """R18: messages in buckets that the master does not know go to the master as held jobs."""
        present = await self._store.orphans([])
        for bucket in await self._store.unknown_buckets(present) if present else []:
            logger.warning("orphan_bucket bucket=%d", bucket)
            empty = False
            while not empty:
                empty = await self._store.drain_orphan(bucket, limit=_BATCH)
