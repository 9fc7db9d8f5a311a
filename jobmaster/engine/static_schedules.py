"""The schedules of the app's own code: this worker tells the master that they exist, at its start and every minute."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING
from uuid import UUID

from jobmaster.errors import ConfigurationError, SerializationError
from jobmaster.ports.answers import Refused

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from jobmaster.engine.persistence import Backoff
    from jobmaster.engine.tuning import Tuning
    from jobmaster.model.schedule import Schedule, ScheduleKey
    from jobmaster.ports.store import Store

logger = logging.getLogger("jobmaster.engine")

_AT_ONCE = 200
_FRESH = 0.7
"""What another worker kept in so much of a period is not written once more; a worker alone always writes."""
_LOST = 2.5
"""Who had a definition that nobody kept for so many periods is gone."""


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
        """Until cancelled: tell the master what this code has, and then, again and again, that it still has it.

        What the master has lost, or has as a release left it of which no worker is left, is told anew.
        """
        lacking: Sequence[Schedule] | None = None  # all of them
        while True:
            at_once = False
            try:
                if lacking is None or lacking:
                    await self._ensure(self._schedules() if lacking is None else lacking)
                    lacking = ()
                else:
                    lacking = await self._keep()
                    at_once = bool(lacking)
            except Refused as answer:
                logger.debug("chore_refused duty=static_schedules answer=%s", answer)
            except Exception as error:  # noqa: BLE001 - no error of a store ends a worker (I8)
                await self._pause.wait_after(error)
                continue
            else:
                self._pause.succeeded()
            if not at_once:
                await asyncio.sleep(self._tuning.static_kept_every * (0.75 + self._random() / 4))

    async def _ensure(self, schedules: Sequence[Schedule]) -> None:
        for at in range(0, len(schedules), _AT_ONCE):
            batch = schedules[at : at + _AT_ONCE]
            try:
                _tell_nameless(batch, await self._store.ensure_schedules(batch))
            except (ConfigurationError, SerializationError):
                await self._ensure_each(batch)
        if schedules:
            logger.info("schedules_ensured count=%d", len(schedules))

    async def _ensure_each(self, schedules: Sequence[Schedule]) -> None:
        """One that no store can keep, or whose name is taken, holds up no other."""
        for schedule in schedules:
            try:
                _tell_nameless([schedule], await self._store.ensure_schedules([schedule]))
            except (ConfigurationError, SerializationError) as error:
                logger.error("schedule_refused name=%s source=%s error=%s", schedule.name, schedule.source, error)  # noqa: TRY400 - no bug

    async def _keep(self) -> Sequence[Schedule]:
        """Say that they are still there; which of them are to be ensured."""
        schedules = self._schedules()
        lacking: set[ScheduleKey] = set()
        period = self._tuning.static_kept_every
        for at in range(0, len(schedules), _AT_ONCE):
            lacking.update(
                await self._store.keep_schedules(
                    schedules[at : at + _AT_ONCE],
                    fresh_us=round(_FRESH * period * 1e6),
                    lost_us=round(_LOST * period * 1e6),
                )
            )
        return [schedule for schedule in schedules if schedule.key in lacking]


def _tell_nameless(wanted: Sequence[Schedule], stored: Sequence[Schedule]) -> None:
    for mine, there in zip(wanted, stored, strict=True):
        if mine.name and not there.name:
            logger.warning(
                "schedule_name_taken name=%s source=%s id=%s: one that was made by a call bears the name, so both run. "
                "Cancel that one, or give this one another name",
                mine.name, mine.source, UUID(bytes=mine.key),
            )  # fmt: skip
