"""The engine and the policies of runs that would overlap: longer ones than the 0.2 s between them."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from jobmaster.model.schedule import Overlap
from jobmaster.model.states import JobStatus
from jobmaster.ports.store import Store
from tests.engine.one_engine import running_engine, until
from tests.engine.planning.quick_schedules import Runs, StayingRuns, every, rows_of
from tests.engine.pool_workload import FunctionWorkload


@pytest.mark.fault("S5")
async def test_skip_leaves_out_what_falls_due_meanwhile(store: Store) -> None:
    runs, made = StayingRuns(stays=1), every(overlap=Overlap.SKIP)
    left_out: list[Any] = []
    async with running_engine(store, runs.workload):
        await store.add_schedule(made)
        async with asyncio.timeout(20):
            while not left_out:
                await asyncio.sleep(0.01)
                left_out = [state for state in await rows_of(store, made) if state.status is JobStatus.CANCELLED]
        await until(lambda: len(runs.moments) >= 1)  # it has the turn before it begins
        assert len(runs.moments) == 1
        runs.go_on.set()
        await until(lambda: len(runs.moments) >= 2)
    assert {state.reason for state in left_out} == {"overlap"}
    first, second = runs.moments[:2]
    assert second - first > 0.3, "one at least was left out"


@pytest.mark.fault("S5")
async def test_queue_lets_the_next_one_go_as_soon_as_the_run_has_ended(store: Store) -> None:
    runs, made = Runs(lasts=0.32), every(overlap=Overlap.QUEUE)
    async with running_engine(store, runs.workload):
        await store.add_schedule(made)
        await until(lambda: len(runs.started) >= 3)
    starts = [at for at, _ in runs.started]
    assert runs.moments[1] - runs.moments[0] == pytest.approx(0.2)
    assert runs.moments[2] - runs.moments[1] == pytest.approx(0.2)
    # What is not let go by the end of the run itself would be after half a minute.
    assert 0.32 <= starts[1] - starts[0] < 10
    assert 0.32 <= starts[2] - starts[1] < 10


@pytest.mark.fault("S5")
async def test_cancel_previous_ends_the_run_and_starts_the_newer_one(store: Store) -> None:
    runs, made = Runs(lasts=30.0), every(overlap=Overlap.CANCEL_PREVIOUS)
    async with running_engine(store, runs.workload):
        await store.add_schedule(made)
        await until(lambda: len(runs.started) >= 2, timeout=20)
        states = await rows_of(store, made)
    assert runs.ended == 0
    assert JobStatus.CANCELLED in {state.status for state in states}


async def test_allow_runs_them_beside_each_other(store: Store) -> None:
    begun, over = [], asyncio.Event()

    async def tick(argument: object, run: Any) -> None:
        begun.append(run.key)
        await over.wait()

    async with running_engine(store, FunctionWorkload(tick)):
        await store.add_schedule(every())
        await until(lambda: len(begun) >= 3)
        over.set()
