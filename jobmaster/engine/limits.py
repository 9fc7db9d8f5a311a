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
    from collections.abc import Callable

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
        self._young: deque[tuple[float, Entry, float | None, float | None]] = deque()
        self._limits: list[tuple[float, int, float, Entry, Halt]] = []
        self._order = itertools.count()
        self._most = _FEW
        self._started = asyncio.Event()

    def watch(self, entry: Entry, *, timeout: float | None, soft_timeout: float | None) -> None:
        """Note a run that starts now; limits in seconds."""
        shortest = min((limit for limit in (timeout, soft_timeout) if limit is not None), default=None)
        if shortest is not None and shortest <= self._early_after + LOOK_EVERY:
            self._push(entry, timeout, soft_timeout)
            timeout = soft_timeout = None
        self._young.append((entry.started_at, entry, timeout, soft_timeout))
        self._started.set()

    async def wait_for_a_start(self) -> None:
        """Nothing runs: sleep until something does."""
        self._started.clear()
        await self._started.wait()

    def forget(self, entry: Entry) -> None:
        """The run ended. (What stands in the queues falls out when it is met.)"""
        while self._young and self._young[0][1].stage is not Stage.RUNNING:
            self._young.popleft()

    def look(self) -> None:
        """Write early rows for what became old, and stop what is over its limit."""
        now = self._clock.monotonic()
        old = now - self._early_after
        while self._young and (self._young[0][1].stage is not Stage.RUNNING or self._young[0][0] <= old):
            _, entry, timeout, soft_timeout = self._young.popleft()
            if entry.stage is Stage.RUNNING:
                self._push(entry, timeout, soft_timeout)
                if not entry.recorded:
                    self._early(entry)
        while self._limits and self._limits[0][0] <= now:
            _, _, started_at, entry, why = heapq.heappop(self._limits)
            if entry.stage is Stage.RUNNING and entry.started_at == started_at:
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

    def _push(self, entry: Entry, timeout: float | None, soft_timeout: float | None) -> None:
        for limit, why in ((soft_timeout, Halt.SOFT_LIMIT), (timeout, Halt.HARD_LIMIT)):
            if limit is not None:
                item = (entry.started_at + limit, next(self._order), entry.started_at, entry, why)
                heapq.heappush(self._limits, item)
