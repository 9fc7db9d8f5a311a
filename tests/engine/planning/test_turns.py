"""The real engine and runs that may not overlap: what waits, and what a person runs again."""

from __future__ import annotations

import asyncio

import pytest

from jobmaster.model.schedule import Misfire, Overlap
from jobmaster.model.states import JobStatus
from jobmaster.ports.store import Store
from tests.engine.one_engine import running_engine, until
from tests.engine.planning.quick_schedules import SECOND, StayingRuns, every

pytestmark = pytest.mark.fault("S5")


async def test_a_run_that_a_person_repeats_asks_for_its_turn(store: Store) -> None:
    runs, made = StayingRuns(stays=2), every(overlap=Overlap.SKIP)
    async with running_engine(store, runs.workload):
        await store.add_schedule(made)
        await until(lambda: len(runs.moments) == 2)
        (first,) = await store.schedule_occurrences(made.key, limit=1, after_us=0)
        assert await store.requeue(first.key)
        async with asyncio.timeout(20):
            while ((await store.look_up([first.key]))[0] or made).status is not JobStatus.CANCELLED:
                await asyncio.sleep(0.01)
        (row,) = await store.look_up([first.key])
        assert row is not None
        assert row.reason == "overlap"
        assert len(runs.moments) == 2, "no run beside the one that stays"
        runs.go_on.set()


async def test_those_that_wait_do_so_for_as_long_as_it_takes(store: Store) -> None:
    runs = StayingRuns(stays=1)
    made = every(overlap=Overlap.QUEUE, misfire=Misfire.SKIP, misfire_grace_us=2 * SECOND)
    async with running_engine(store, runs.workload):
        await store.add_schedule(made)
        await until(lambda: len(runs.moments) == 1)
        await asyncio.sleep(2.5)  # longer than what waits would have by its misfire policy
        runs.go_on.set()
        await until(lambda: len(runs.moments) >= 4)
    first = runs.moments[0]
    assert runs.moments[:4] == pytest.approx([first + 0.2 * number for number in range(4)])
