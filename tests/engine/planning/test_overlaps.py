"""The engine and the policies of runs that would overlap: runs of 0.32 s, every 0.2 s."""

from __future__ import annotations

import pytest

from jobmaster.model.schedule import Overlap
from jobmaster.model.states import JobStatus
from jobmaster.ports.store import Store
from tests.engine.one_engine import running_engine, until
from tests.engine.planning.quick_schedules import Runs, every, rows_of


@pytest.mark.fault("S5")
async def test_skip_leaves_out_what_falls_due_meanwhile(store: Store) -> None:
    runs, made = Runs(lasts=0.32), every(overlap=Overlap.SKIP)
    async with running_engine(store, runs.workload):
        await store.add_schedule(made)
        await until(lambda: len(runs.started) >= 2)
        states = await rows_of(store, made)
    left_out = [state for state in states if state.status is JobStatus.CANCELLED]
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
    assert 0.32 <= starts[1] - starts[0] < 1.3
    assert 0.32 <= starts[2] - starts[1] < 1.3


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
    runs, made = Runs(lasts=0.32), every()
    async with running_engine(store, runs.workload):
        await store.add_schedule(made)
        await until(lambda: len(runs.started) >= 3)
    starts = [at for at, _ in runs.started]
    assert starts[2] - starts[0] < 0.6
