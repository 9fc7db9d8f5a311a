"""An engine that stops finishes what runs; what waits behind that is not made to wait with it."""

from __future__ import annotations

import threading

import pytest

from jobmaster.model.states import JobStatus
from tests.engine.one_engine import final, new_job, push, running_engine, until
from tests.engine.pool_workload import FunctionWorkload


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
