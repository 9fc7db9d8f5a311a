"""Runs in threads that do not end when they are told to: the engine ends itself, and every job gets its due."""

from __future__ import annotations

import threading

import pytest

from jobmaster.model.job import Blame
from jobmaster.model.states import JobStatus
from jobmaster.ports.query import JobQuery
from tests.engine.one_engine import final, new_job, push, running_engine
from tests.engine.pool_workload import FunctionWorkload, until


@pytest.fixture
def gate():
    """Blocked threads go on when the test is over."""
    event = threading.Event()
    yield event
    event.set()


async def test_a_blocked_run_is_recorded_as_timed_out_when_its_engine_ends_itself(store, gate):
    def block(_):
        gate.wait(60)

    def other(n):
        return n

    stuck, fine = new_job("block", timeout=0.2, max_retries=0), new_job("other", 1)
    await push(store, stuck, fine)
    async with running_engine(store, FunctionWorkload(block, other)) as running:
        await running.task
        states = {state.key: state for state in await final(store, stuck.key, fine.key)}
        assert (states[stuck.key].status, states[stuck.key].reason) == (JobStatus.FAILED, "timed out")
        told = states[stuck.key].error
        assert told.type == "jobmaster.errors.TimeLimitExceeded"
        assert told.message.startswith("Task block ran longer than its hard time limit of 0.2 s and was stopped. ")
        assert "timeout=" in told.message
        assert states[fine.key].status is JobStatus.SUCCEEDED


async def test_neighbours_of_a_blocked_run_finish_first(store, gate):
    halfway = threading.Event()

    def block(_):
        gate.wait(60)

    def slow(_):
        halfway.wait(60)
        return "whole"

    stuck, neighbour = new_job("block", timeout=0.2, max_retries=0), new_job("slow")
    await push(store, stuck, neighbour)
    async with running_engine(store, FunctionWorkload(block, slow)) as running:
        await until(lambda: running.engine.runner.closed)
        assert not running.task.done()
        halfway.set()
        await running.task
        states = {state.key: state.status for state in await final(store, stuck.key, neighbour.key)}
        assert states == {stuck.key: JobStatus.FAILED, neighbour.key: JobStatus.SUCCEEDED}


async def test_a_blocked_run_is_handed_back_by_a_shutdown_and_blamed_for_nothing(store, gate):
    started = threading.Event()

    def block(_):
        started.set()
        gate.wait(60)

    job = new_job("block")
    await push(store, job)
    async with running_engine(store, FunctionWorkload(block)) as running:
        await until(started.is_set)
        running.engine.stop(0.5)
        await running.task
    record = await store.get_job(job.key)
    assert (record.status, record.recoveries, record.failures) == (JobStatus.HELD_ON_MASTER, 0, 0)


async def test_of_two_that_must_run_alone_only_one_stands_as_processing_in_the_master(store, gate):
    """Where there are no processes for them, one of them at a time runs among the others."""
    started = []

    def careful(n):
        started.append(n)
        gate.wait(60)

    jobs = [new_job("careful", n) for n in range(2)]
    await push(store, *jobs)
    for crash in (1, 2):
        async with running_engine(store, FunctionWorkload(careful), name=f"w{crash}") as first:
            await until(lambda crash=crash: len(started) == 2 * crash)
            await first.vanish()
            await store.end_worker(first.engine.lease.worker, blame=[Blame(job.key, "SIGSEGV") for job in jobs])
    async with running_engine(store, FunctionWorkload(careful), name="successor") as second:
        await until(lambda: len(started) == 5)
        await until(lambda: len(second.engine.waiting) == 1)
        await until(second.engine.finisher.idle)
        counts = await store.count_jobs(JobQuery())
        assert counts.get(JobStatus.PROCESSING) == 1, "the other one would be blamed for this one's crash"
        gate.set()
        await final(store, *[job.key for job in jobs])
