"""Occurrences that wait for the one before: when a run that held its schedule has ended, the next one is let go."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from typing import TYPE_CHECKING

from jobmaster.model.schedule import Overlap, ScheduleKey
from jobmaster.ports.answers import Refused

if TYPE_CHECKING:
    from jobmaster.engine.life import Entry
    from jobmaster.engine.persistence import Backoff
    from jobmaster.ports.store import Store

logger = logging.getLogger("jobmaster.engine")

_TRIES = 5
"""The master lets the next one go by itself after a while, so that nobody tries for ever."""
_WAITED_FOR = (Overlap.QUEUE, Overlap.CANCEL_PREVIOUS)


class Releaser:
    """Knows the runs of this engine that others may wait for; jobs of other schedules never come here."""

    def __init__(self, *, store: Store, pause: Backoff) -> None:
        self._store = store
        self._pause = pause
        self._runs: set[Entry] = set()
        self._ended: deque[Entry] = deque()
        self._wake = asyncio.Event()

    def begun(self, entry: Entry) -> None:
        """The master said yes to the start of an occurrence with an overlap policy."""
        if entry.envelope.overlap in _WAITED_FOR and entry.envelope.schedule is not None:
            self._runs.add(entry)

    def look(self) -> None:
        """Something was settled. A run whose bucket went to another owner is that one's."""
        if not self._runs:
            return
        over = [entry for entry in self._runs if not entry.alive]
        self._runs.difference_update(over)
        self._ended.extend(entry for entry in over if entry.gone)
        if self._ended:
            self._wake.set()

    async def run(self) -> None:
        """Let the next ones go until cancelled."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._ended:
                await self._release(self._ended.popleft())

    async def _release(self, entry: Entry) -> None:
        schedule = ScheduleKey(entry.envelope.schedule or b"")
        for _ in range(_TRIES):
            try:
                await self._store.release_occurrence(schedule, entry.key)
            except Refused as answer:
                logger.debug("chore_refused duty=release_occurrence answer=%s", answer)
            except Exception as error:  # noqa: BLE001 - no error of a store ends a worker (I8)
                await self._pause.wait_after(error)
                continue
            else:
                self._pause.succeeded()
            return
