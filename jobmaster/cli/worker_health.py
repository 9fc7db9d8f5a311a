"""What a worker answers to probes: alive by its own beats, ready by its stores and leases."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any, Final

from jobmaster.observe.health import Health, HealthServer

if TYPE_CHECKING:
    from jobmaster.findings import Found
    from jobmaster.supervising import Crew, EngineState

BLOCKED_EXTRA: Final = 15.0
"""Seconds beyond `max_block`: the supervisor replaces a blocked engine itself, before anybody restarts the worker."""
FRESH: Final = 1.0
"""Seconds for which the master's answer holds: however many probes come, it is asked once in this time."""


class WorkerHealth:
    """The health server of `jobmaster worker`, over whichever engines run now."""

    def __init__(self) -> None:
        self._server = HealthServer(alive=self.alive, ready=self._ready)
        self._crew: Crew | None = None
        self._found: Found | None = None
        self._beats: dict[int, tuple[int, float]] = {}
        self._stopping = False
        self._asking: asyncio.Task[int] | None = None
        self._answered: tuple[int, float] | None = None

    async def start(self, port: int) -> int:
        """See `HealthServer.start`."""
        return await self._server.start(port)

    async def close(self) -> None:
        """Answer no more."""
        self._forget()
        await self._server.close()

    def watch(self, crew: Crew | None, found: Found | None) -> None:
        """Answer for these engines from now on; None: between two."""
        self._forget()
        self._crew, self._found = crew, found
        self._beats = {}

    def stop(self) -> None:
        """The worker was told to end: it is ready no more from this moment on, and alive until it has ended."""
        self._stopping = True

    # ---------------------------------------------------------------- /healthz

    def alive(self) -> Health:
        """This loop turns, and so do those of the engines. No store is asked."""
        state = {"state": "stopping"} if self._stopping else {}
        if self._crew is None or self._found is None:
            return Health(ok=True, facts=state or {"state": "starting"})
        still = self._stillness()
        limit = self._found.settings.max_block + BLOCKED_EXTRA
        longest = max(still, default=0.0)
        facts: dict[str, Any] = {**state, "engines": len(still), "longest_still_seconds": round(longest, 1)}
        if longest >= limit:
            facts["why"] = "the event loop of an engine stands still, and the supervisor could not replace it"
        return Health(ok=longest < limit, facts=facts)

    def _stillness(self) -> list[float]:
        """For each engine, how many seconds at most its counter has not moved, as far as probes have seen."""
        now = time.monotonic()
        seen = {}
        for engine in self._crew.engines() if self._crew else []:
            beats, since = self._beats.get(engine.pid, (-1, now))
            seen[engine.pid] = (beats, since) if beats == engine.beats else (engine.beats, now)
        self._beats = seen
        return [now - since for _, since in seen.values()]

    # ---------------------------------------------------------------- /readyz

    async def _ready(self) -> Health:
        """The store answers, every engine has a lease that it may trust, and those that run jobs own buckets."""
        crew, found = self._crew, self._found
        if self._stopping or crew is None or found is None:
            return self._absent()
        now_us = await self._now_us(crew)
        if self._crew is not crew or self._has_stopped():  # while the store was asked
            return self._absent()
        engines = crew.engines()
        lease_us = found.settings.lease * 1e6
        trusted = [engine for engine in engines if engine.granted_us and now_us - engine.granted_us < lease_us]
        buckets = sum(engine.buckets for engine in trusted)
        facts = {"engines": len(engines), "trusted": len(trusted), "buckets": buckets}
        wanted = len(found.plans)
        if len(trusted) < wanted:
            return _not(f"{wanted - len(trusted)} of {wanted} engines has no lease that it may trust", **facts)
        if crew.runs_jobs and not buckets:
            return _not("no bucket is owned yet", **facts)
        if _paused(trusted):
            return _not("paused by an order: jobmaster workers resume", **facts)
        return Health(ok=True, facts=facts)

    def _absent(self) -> Health:
        if self._stopping:
            return _not("stopping: nothing new is started")
        return _not("starting: the app is being imported, or its engines begin")

    def _has_stopped(self) -> bool:
        return self._stopping

    async def _now_us(self, crew: Crew) -> int:
        """The store's time, asked for once a second at most, and once for all who ask meanwhile."""
        if self._answered is not None and time.monotonic() - self._answered[1] < FRESH:
            now_us, at = self._answered
            return now_us + round((time.monotonic() - at) * 1e6)
        if self._asking is None or self._asking.done():
            self._asking = asyncio.create_task(self._ask(crew), name="jobmaster-readiness")
        return await asyncio.shield(self._asking)

    async def _ask(self, crew: Crew) -> int:
        now_us = await crew.now_us()
        self._answered = (now_us, time.monotonic())
        return now_us

    def _forget(self) -> None:
        """What the store of other engines has said means nothing."""
        if self._asking is not None:
            self._asking.cancel()
        self._asking = self._answered = None


def _paused(engines: list[EngineState]) -> bool:
    return bool(engines) and all(engine.paused for engine in engines)


def _not(why: str, **facts: Any) -> Health:
    return Health(ok=False, facts={"why": why, **facts})
