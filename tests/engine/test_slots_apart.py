"""What runs apart finds a slot soon: beside a full engine, and before others that wait (docs/decisions/0011)."""

from __future__ import annotations

import asyncio
from collections import deque
from types import SimpleNamespace
from typing import Any

import pytest

from jobmaster.engine import restraint
from jobmaster.engine.isolation import MOST_APART, PAROLE_S, PLACES_APART, Isolation
from jobmaster.engine.pools.loop import LoopPool
from jobmaster.model.job import Blame
from jobmaster.model.states import JobStatus
from jobmaster.ports.store import Store
from tests.engine.one_engine import final, new_job, running_engine, until
from tests.engine.pool_workload import FunctionWorkload


class Twice:
    """A job that died twice."""

    attempts = recoveries = 2

    def __init__(self, key: bytes) -> None:
        self.key = key


class Engine:
    """Where runs apart begin, and others, as its isolation allows it."""

    def __init__(self, *, slots: int, pool: Any = "processes") -> None:
        self.now, self.slots, self.others, self.waiting = 100.0, slots, 0, 0
        clock: Any = SimpleNamespace(monotonic=lambda: self.now)
        self.isolation = Isolation(pool=pool, max_recoveries=3, clock=clock)
        self.apart: deque[Any] = deque()

    @property
    def running(self) -> int:
        return self.others + len(self.apart)

    def fill(self) -> None:
        """All slots that the others may have are taken by long runs; then what waits to run apart begins."""
        while self.running < self.isolation.slots_for_others(self.slots, waiting=self.waiting):
            self.others += 1
        while self.waiting and self.isolation.has_room(self.slots - self.others):
            entry: Any = Twice(bytes([len(self.apart)]) * 16)
            self.isolation.asked(entry)
            assert self.isolation.answered(entry)
            self.isolation.ready.append(entry)
            assert self.isolation.has_slot(self.running), "what is asked about is not to wait for its slot"
            self.isolation.ready.remove(entry)
            self.isolation.began(entry, self.now)
            self.apart.append(entry)
            self.waiting -= 1


@pytest.mark.parametrize(("slots", "beside"), [(1, 0), (3, 0), (4, 1), (8, 2), (16, 4), (500, 4)])
def test_a_full_engine_has_places_for_runs_apart_beside_its_slots(slots: int, beside: int) -> None:
    engine = Engine(slots=slots)
    engine.fill()
    assert engine.others == slots
    engine.waiting = 10
    engine.fill()
    assert (engine.others, len(engine.apart)) == (slots, beside)
    engine.apart.clear()
    assert not Engine(slots=slots, pool=None).isolation.has_room(0), (
        "without processes they take a slot like all others"
    )


def test_places_that_are_free_go_to_those_that_wait_to_run_apart() -> None:
    engine = Engine(slots=20)
    engine.waiting = 40
    engine.fill()
    assert (engine.others, len(engine.apart)) == (16, PLACES_APART), "the next four are to find slots"
    for _ in range(10):
        engine.now += PAROLE_S + 0.01
        engine.others -= 4  # four of the others end
        engine.fill()
    assert len(engine.apart) == MOST_APART
    assert engine.others == 20 + PLACES_APART - MOST_APART, "nothing is kept for those that may not begin"
    assert engine.running == 24


async def test_a_suspect_starts_at_once_beside_long_jobs_that_have_all_slots(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(restraint, "LEAVE_S", 0.1)
    let_go, starts = asyncio.Event(), []

    async def waits(argument: object) -> None:
        starts.append(argument)
        await let_go.wait()

    work = FunctionWorkload(waits)
    suspect, beside = new_job("waits", "suspect"), new_job("waits", "beside")
    await store.hold([suspect, beside])
    async with running_engine(store, work, name="dies", lost_every=60.0) as dying:
        await until(lambda: len(starts) == 2)
        worker = dying.engine.lease.worker
        await dying.vanish()
    long = [new_job("waits", "long") for _ in range(6)]
    await store.hold(long)
    apart = LoopPool(work)
    async with running_engine(
        store, work, name="full", slots=4, lost_every=60.0, apart_pool=apart, suspects=[suspect.key]
    ) as full:
        runner = full.engine.runner
        await until(lambda: len(runner.running) == 4)
        await store.end_worker(worker, blame=[Blame(suspect.key, "SIGSEGV"), Blame(beside.key, "SIGSEGV")])
        await until(lambda: suspect.key in runner.running, timeout=10)
        assert len(runner.running) == 5
        assert beside.key not in runner.running, "the others wait for a slot, as ever"
        let_go.set()
        states = await final(store, suspect.key, beside.key, *(job.key for job in long))
    assert {state.status for state in states} == {JobStatus.SUCCEEDED}
