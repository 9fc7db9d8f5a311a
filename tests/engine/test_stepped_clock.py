"""The store's clock is set by ten minutes while engines work on it: nobody is taken for lost, and who dies is found."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from typing import Any

import pytest

from jobmaster.model.states import JobStatus
from jobmaster.stores.memory import MemoryStore
from jobmaster.stores.sql.postgresql.store import PostgresStore
from jobmaster.stores.sql.sqlite.store import SqliteStore
from tests.engine.conftest import RULES, StoreToOpen
from tests.engine.one_engine import LEASE, final, new_job, running_engine, until
from tests.engine.pool_workload import FunctionWorkload

TEN_MINUTES = 600.0


class Clock:
    """Of the store; the test sets it."""

    seconds = 0.0

    def __call__(self) -> int:
        return time.time_ns() // 1000 + round(self.seconds * 1e6)


class Stepped(StoreToOpen):
    """Its clock is `store.its_clock`."""

    async def open(self) -> Any:
        clock = Clock()
        opened: Any
        if self.kind == "memory":
            opened = MemoryStore(rules=RULES, clock=clock)
        elif self.kind == "postgresql":
            opened = await PostgresStore.open(self.databases[0], rules=RULES, clock_us=clock)
        else:
            opened = await SqliteStore.open(str(self.folder / "jobmaster.db"), rules=RULES, clock_us=clock)
        opened.its_clock = clock
        return opened


@pytest.fixture(params=["memory", "sqlite", "postgresql"])
def store(request: pytest.FixtureRequest, tmp_path: Any) -> StoreToOpen:
    on_a_server = request.param == "postgresql"
    return Stepped(request.param, tmp_path, [request.getfixturevalue("postgres_database")] if on_a_server else [])


@pytest.mark.alone  # renewals that come late are what is looked for
@pytest.mark.fault("C14")
@pytest.mark.parametrize("step", [TEN_MINUTES, -TEN_MINUTES], ids=["forward", "back"])
async def test_nobody_is_taken_for_lost_when_the_stores_clock_is_set(store: Any, step: float) -> None:
    starts: Counter[object] = Counter()
    let_go = asyncio.Event()

    async def waits(argument: object) -> object:
        starts[argument] += 1
        await let_go.wait()
        return argument

    work = FunctionWorkload(waits)
    jobs = [new_job("waits", number, lane=lane) for number, lane in enumerate(("one", "one", "two", "two"))]
    await store.hold(jobs)
    quick = {"lost_every": 0.05, "renew_every": LEASE / 3, "claim_every": 0.1}
    async with (
        running_engine(store, work, name="w1", lanes=("one",), **quick),
        running_engine(store, work, name="w2", lanes=("two",), **quick),
    ):
        await until(lambda: len(starts) == 4)
        await asyncio.sleep(LEASE / 2)  # engines that have just begun judge nobody
        before = {bucket.id: (bucket.owner, bucket.epoch) for bucket in await store.list_buckets()}
        store.its_clock.seconds += step
        await asyncio.sleep(1.5 * LEASE)
        after = {bucket.id: (bucket.owner, bucket.epoch) for bucket in await store.list_buckets()}
        assert after == before
        late = new_job("waits", "late", lane="one")
        await store.hold([late])
        let_go.set()
        states = await final(store, *(job.key for job in jobs), late.key)
    assert {(state.status, state.attempts) for state in states} == {(JobStatus.SUCCEEDED, 1)}
    assert set(starts.values()) == {1}


@pytest.mark.fault("C14")
async def test_who_dies_after_the_clock_was_set_forward_is_found_within_two_leases(store: Any) -> None:
    starts: list[str] = []

    async def waits(argument: object, run: Any) -> None:
        starts.append(run.worker)
        if run.worker == "dies":
            await asyncio.Event().wait()

    work = FunctionWorkload(waits)
    job = new_job("waits", 1)
    await store.hold([job])
    quick = {"lost_every": 0.05, "renew_every": LEASE / 3}
    async with running_engine(store, work, name="dies", **quick) as dies:
        await until(lambda: starts)
        async with running_engine(store, work, name="heir", **quick):
            store.its_clock.seconds += TEN_MINUTES
            await dies.vanish()
            (state,) = await final(store, job.key, timeout=20 * LEASE)
    assert (state.status, starts) == (JobStatus.SUCCEEDED, ["dies", "heir"])
