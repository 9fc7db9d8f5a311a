"""The schedules of the app's own code: this worker tells the master that they exist, at its start and every minute."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from jobmaster.errors import ConfigurationError, SerializationError
from jobmaster.ports.answers import Refused

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from jobmaster.engine.persistence import Backoff
    from jobmaster.engine.tuning import Tuning
    from jobmaster.model.schedule import Schedule
    from jobmaster.ports.store import Store

logger = logging.getLogger("jobmaster.engine")

_AT_ONCE = 200
_FRESH = 0.7
"""What another worker kept in so much of a period is not written once more; a worker alone always writes."""


class StaticSchedules:
    """Keeps them alive: one that no worker keeps is not planned any more, and later Inactive."""

    def __init__(
        self,
        *,
        tuning: Tuning,
        store: Store,
        schedules: Callable[[], Sequence[Schedule]],
        random: Callable[[], float],
        pause: Backoff,
    ) -> None:
        self._tuning = tuning
        self._store = store
        self._schedules = schedules
        self._random = random
        self._pause = pause

    async def run(self) -> None:
        """Until cancelled. Where the master has lost some (an older backup was restored) all are told anew."""
        ensured = False
        while True:
            try:
                ensured = await (self._keep() if ensured else self._ensure())
            except Refused as answer:
                logger.debug("chore_refused duty=static_schedules answer=%s", answer)
            except Exception as error:  # noqa: BLE001 - no error of a store ends a worker (I8)
                await self._pause.wait_after(error)
                continue
            else:
                self._pause.succeeded()
            if ensured:
                await asyncio.sleep(self._tuning.static_kept_every * (0.75 + self._random() / 4))

    async def _ensure(self) -> bool:
        schedules = list(self._schedules())
        for at in range(0, len(schedules), _AT_ONCE):
            batch = schedules[at : at + _AT_ONCE]
            try:
                await self._store.ensure_schedules(batch)
            except (ConfigurationError, SerializationError):
                await self._ensure_each(batch)
        if schedules:
            logger.info("schedules_ensured count=%d", len(schedules))
        return True

    async def _ensure_each(self, schedules: Sequence[Schedule]) -> None:
        """One that no store can keep, or whose name is taken, holds up no other."""
        for schedule in schedules:
            try:
                await self._store.ensure_schedules([schedule])
            except (ConfigurationError, SerializationError) as error:
                logger.error("schedule_refused name=%s source=%s error=%s", schedule.name, schedule.source, error)  # noqa: TRY400 - no bug

    async def _keep(self) -> bool:
        keys = [schedule.key for schedule in self._schedules()]
        kept = 0
        fresh_us = round(_FRESH * self._tuning.static_kept_every * 1e6)
        for at in range(0, len(keys), _AT_ONCE):
            kept += await self._store.keep_schedules(keys[at : at + _AT_ONCE], fresh_us=fresh_us)
        return kept >= len(keys)
