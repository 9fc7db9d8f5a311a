"""What a worker answers to probes: alive by its own beats, ready by its stores and leases."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from jobmaster.observe.health import Health, HealthServer

if TYPE_CHECKING:
    from jobmaster.findings import Found
    from jobmaster.supervising import Crew

BLOCKED_EXTRA = 15.0
"""Seconds beyond `max_block`: the supervisor replaces a blocked engine itself, before anybody restarts the worker."""


class WorkerHealth:
    """The health server of `jobmaster worker`, over whichever engines run now."""

    def __init__(self) -> None:
        self._server = HealthServer(alive=self._alive, ready=self._ready)
        self._crew: Crew | None = None
        self._found: Found | None = None
        self._beats: dict[int, tuple[int, float]] = {}

    async def start(self, port: int) -> int:
        """See `HealthServer.start`."""
        return await self._server.start(port)

    async def close(self) -> None:
        """Answer no more."""
        await self._server.close()

    def watch(self, crew: Crew | None, found: Found | None) -> None:
        """Answer for these engines from now on; None: between two."""
        self._crew, self._found = crew, found
        self._beats = {}

    def _alive(self) -> Health:
        """This loop turns, and so do those of the engines. No store is asked."""
        if self._crew is None or self._found is None:
            return Health(ok=True, facts={"state": "starting"})
        still = self._stillness()
        limit = self._found.settings.max_block + BLOCKED_EXTRA
        facts: dict[str, Any] = {"engines": len(still), "longest_still_seconds": round(max(still, default=0.0), 1)}
        return Health(ok=all(seconds < limit for seconds in still), facts=facts)

    def _stillness(self) -> list[float]:
        """For each engine, how many seconds at most its counter has not moved, as far as probes have seen."""
        now = time.monotonic()
        seen = {}
        for engine in self._crew.engines() if self._crew else []:
            beats, since = self._beats.get(engine.pid, (-1, now))
            seen[engine.pid] = (beats, since) if beats == engine.beats else (engine.beats, now)
        self._beats = seen
        return [now - since for _, since in seen.values()]

    async def _ready(self) -> Health:
        """The store answers, every engine has a lease that it may trust, and those that run jobs own buckets."""
        crew, found = self._crew, self._found
        if crew is None or found is None:
            return Health(ok=False, facts={"why": "starting"})
        now_us = await crew.now_us()
        engines = crew.engines()
        lease_us = found.settings.lease * 1e6
        trusted = [engine for engine in engines if engine.granted_us and now_us - engine.granted_us < lease_us]
        buckets = sum(engine.buckets for engine in trusted)
        facts: dict[str, Any] = {"engines": len(engines), "trusted": len(trusted), "buckets": buckets}
        if len(trusted) < len(found.plans):
            return Health(ok=False, facts={"why": "an engine has no lease", **facts})
        if crew.runs_jobs and not buckets:
            return Health(ok=False, facts={"why": "no bucket is owned yet", **facts})
        return Health(ok=True, facts=facts)
