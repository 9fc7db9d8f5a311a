"""Time limits and early rows of running jobs: one look every quarter of a second, no timer per job.

Starts come in order of time, so what ran long enough for an early row stands at the front of one queue. Only runs that
reach that age (or whose limit is shorter) get a place in the heap of limits.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
from collections import deque
from typing import TYPE_CHECKING

from jobmaster.engine.life import Entry, Stage
from jobmaster.model.run import Halt

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from jobmaster.model.run import Run
    from jobmaster.ports.clock import Clock

LOOK_EVERY = 0.25
_FEW = 256
"""So many limits may wait in memory before those of ended runs are thrown out."""


class Limits:
    """Watches runs: soft limit, hard limit, early row.

    Args:
        clock: the process's clocks.
        early_after: seconds after which a run counts as long: it gets its Processing row, and its limits are watched.
        halt: stops a run.
        early: asks for a run's row.
    """

    def __init__(
        self, *, clock: Clock, early_after: float, halt: Callable[[Entry, Halt], None], early: Callable[[Entry], None]
    ) -> None:
        self._clock = clock
        self._early_after = early_after
        self._halt = halt
        self._early = early
        self._young: deque[Entry] = deque()
        self._limits: list[tuple[float, int, Run, Entry, Halt]] = []
        self._order = itertools.count()
        self._most = _FEW
        self._started = asyncio.Event()

    def watch(self, entries: Sequence[Entry]) -> None:
        """Note runs that start now."""
        soon = self._early_after + LOOK_EVERY
        for entry in entries:
            run = entry.run
            if run is not None and _is_short(run, soon):
                self._push(entry, run)
        self._young.extend(entries)
        self._started.set()

    async def wait_for_a_start(self) -> None:
        """Nothing runs: sleep until something does."""
        self._started.clear()
        await self._started.wait()

    def tidy(self) -> None:
        """Runs have ended. (What stands in the queues falls out when it is met.)"""
        young = self._young
        while young and young[0].stage is not Stage.RUNNING:
            young.popleft()

    def look(self) -> None:
        """Write early rows for what became old, and stop what is over its limit."""
        now = self._clock.monotonic()
        old = now - self._early_after
        soon = self._early_after + LOOK_EVERY
        while self._young and (self._young[0].stage is not Stage.RUNNING or self._young[0].started_at <= old):
            entry = self._young.popleft()
            run = entry.run
            if entry.stage is Stage.RUNNING and run is not None:
                if not _is_short(run, soon):
                    self._push(entry, run)
                if not entry.recorded:
                    self._early(entry)
        while self._limits and self._limits[0][0] <= now:
            _, _, run, entry, why = heapq.heappop(self._limits)
            if entry.stage is Stage.RUNNING and entry.run is run:
                self._halt(entry, why)
        if len(self._limits) > self._most:
            self._forget_the_ended()

    def _forget_the_ended(self) -> None:
        """A limit of hours must not keep the payloads of all jobs in memory that ended long before it."""
        self._limits = [item for item in self._limits if item[3].stage is Stage.RUNNING]
        heapq.heapify(self._limits)
        self._most = max(_FEW, 2 * len(self._limits))

    def next_limit(self) -> float | None:
        """When (monotonic seconds) the next limit is due, or None."""
        return self._limits[0][0] if self._limits else None

    def _push(self, entry: Entry, run: Run) -> None:
        for limit, why in ((run.soft_timeout, Halt.SOFT_LIMIT), (run.timeout, Halt.HARD_LIMIT)):
            if limit is not None:
                item = (entry.started_at + limit, next(self._order), run, entry, why)
                heapq.heappush(self._limits, item)


def _is_short(run: Run, soon: float) -> bool:
    """One of its limits may come before it is looked at for its early row."""
    return (run.timeout is not None and run.timeout <= soon) or (
        run.soft_timeout is not None and run.soft_timeout <= soon
    )
