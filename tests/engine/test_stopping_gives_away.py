"""An engine that stops finishes what runs, and gives away what waits behind that, and its buckets."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

from jobmaster.model.bucket import Fence
from jobmaster.model.states import BucketStatus, JobStatus
from jobmaster.ports.store import Store
from tests.engine.one_engine import final, new_job, push, running_engine, until
from tests.engine.pool_workload import FunctionWorkload
from tests.engine.wrapped_store import Wrapped


@pytest.fixture
def gate():
    event = threading.Event()
    yield event
    event.set()


async def test_what_waits_behind_the_last_run_of_a_stopping_engine_is_run_by_another(store, gate):
    def hold(_):
        gate.wait(30)
        return "whole"

    def quick(n):
        return n

    workload = FunctionWorkload(hold, quick)
    held = new_job("hold")
    async with running_engine(store, workload, name="w1", slots=1, grace=20.0) as first:
        await push(store, held)
        await until(lambda: first.engine.runner.running)
        (entry,) = first.engine.runner.running.values()
        waiting = [new_job("quick", n) for n in range(20)] if store.standalone else []
        if waiting:
            await store.push(entry.life.bucket.id, waiting)
            await until(lambda: first.engine.lease.lives[entry.life.bucket.id].waiting == 20)
        async with running_engine(store, workload, name="w2", grace=20.0):
            first.engine.stop(20)
            late = [new_job("quick", n) for n in range(30)]
            await store.push(entry.life.bucket.id, late)
            states = await final(store, *[job.key for job in [*waiting, *late]], timeout=15)
            assert {state.status for state in states} == {JobStatus.SUCCEEDED}
            assert held.key in first.engine.runner.running, "it may go on, and nobody had to wait for it"
            gate.set()
            await first.task
            (state,) = await final(store, held.key)
            assert (state.status, state.attempts) == (JobStatus.SUCCEEDED, 1)


class SlowToFence:
    """Takes in the first bucket at once, and each other one when it is let."""

    def __init__(self, store: Any) -> None:
        self.let, self.asked = asyncio.Event(), 0
        self.store = Wrapped(store, fence=self._fence)
        self._fence_at_once = store.fence

    async def _fence(self, fence: Fence) -> Any:
        self.asked += 1
        if self.asked > 1:
            await self.let.wait()
        return await self._fence_at_once(fence)


async def left_by(store: Store) -> list[tuple[BucketStatus, int | None, bool]]:
    return [(bucket.status, bucket.owner, bucket.clean) for bucket in await store.list_buckets()]


async def test_a_bucket_that_was_just_granted_is_taken_in_and_left_as_clean_as_the_others(store: Store) -> None:
    slow = SlowToFence(store)
    async with running_engine(slow.store, FunctionWorkload(), buckets={3: 2}) as running:
        await until(lambda: slow.asked == 2)
        running.engine.stop(5.0)
        await until(lambda: len(running.engine.lease.lives) == 1)
        slow.let.set()
        await running.task
    assert await left_by(store) == [(BucketStatus.ACTIVE, None, True)] * 2


async def test_one_that_is_not_taken_in_for_long_is_returned_as_lost(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jobmaster.engine.stopping._TAKING_IN", 0.05)
    slow = SlowToFence(store)
    async with running_engine(slow.store, FunctionWorkload(), buckets={3: 2}, grace=600.0) as running:
        await until(lambda: slow.asked == 2)
        running.engine.stop(600.0)
        async with asyncio.timeout(30):
            await running.task
    assert sorted(str(status) for status, _, _ in await left_by(store)) == ["Active", "Lost"]
