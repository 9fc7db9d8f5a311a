"""When a worker calls itself alive, and when ready: over engines that are only told of."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from jobmaster.cli import worker_health
from jobmaster.cli.worker_health import BLOCKED_EXTRA, WorkerHealth
from jobmaster.supervising import EngineState

NOW_US = 1_000_000_000


class Crew:
    """Engines as the supervisor sees them."""

    def __init__(self, *engines: EngineState, runs_jobs: bool = True) -> None:
        self.told = list(engines)
        self.runs_jobs = runs_jobs
        self.asked = 0

    def engines(self) -> list[EngineState]:
        return self.told

    async def now_us(self) -> int:
        self.asked += 1
        return NOW_US


def state(*, beats: int = 1, granted: float | None = 0.0, buckets: int = 5, pid: int = 1) -> EngineState:
    """An engine whose last grant is `granted` seconds old."""
    granted_us = 0 if granted is None else NOW_US - round(granted * 1e6)
    return EngineState(pid=pid, beats=beats, granted_us=granted_us, buckets=buckets)


def watching(crew: Any, *, engines: int = 1) -> WorkerHealth:
    health = WorkerHealth()
    found: Any = SimpleNamespace(settings=SimpleNamespace(max_block=60.0, lease=10.0), plans=[None] * engines)
    health.watch(crew, found)
    return health


def test_between_two_sets_of_engines_it_is_alive_and_not_ready() -> None:
    health = WorkerHealth()

    assert health.alive().ok is True
    assert asyncio.run(health._ready()).ok is False


def test_alive_asks_no_store() -> None:
    crew = Crew(state())

    assert watching(crew).alive().ok is True
    assert crew.asked == 0


@pytest.mark.parametrize(("moves", "alive"), [(True, True), (False, False)])
def test_a_loop_that_stands_still_for_too_long_is_not_alive(
    moves: bool, alive: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 100.0
    monkeypatch.setattr(worker_health, "time", SimpleNamespace(monotonic=lambda: now))
    crew = Crew(state(beats=7))
    health = watching(crew)
    first = health.alive()

    now += 60.0 + BLOCKED_EXTRA + 1
    crew.told = [state(beats=8 if moves else 7)]

    assert first.ok is True
    assert health.alive().ok is alive


def test_a_new_process_in_the_place_of_one_that_stood_still_is_alive(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr(worker_health, "time", SimpleNamespace(monotonic=lambda: now))
    crew = Crew(state(beats=7, pid=1))
    health = watching(crew)
    health.alive()

    now += 1000
    crew.told = [state(beats=7, pid=2)]

    assert health.alive().ok is True


@pytest.mark.parametrize(
    ("engines", "runs_jobs", "ready", "why"),
    [
        ([state()], True, True, None),
        ([state(granted=None)], True, False, "no lease"),
        ([state(granted=10.5)], True, False, "no lease"),
        ([state(granted=9.5)], True, True, None),
        ([state(), state(pid=2, granted=None)], True, False, "no lease"),
        ([state(buckets=0)], True, False, "no bucket"),
        ([state(buckets=0)], False, True, None),
        ([], True, False, "no lease"),
    ],
    ids=["well", "new", "lapsed", "late", "one-of-two", "no-bucket", "coordinator", "none"],
)
def test_ready_needs_leases_and_buckets(
    engines: list[EngineState], runs_jobs: bool, ready: bool, why: str | None
) -> None:
    health = watching(Crew(*engines, runs_jobs=runs_jobs), engines=max(1, len(engines)))

    told = asyncio.run(health._ready())

    assert told.ok is ready
    assert why is None or why in told.facts["why"]
