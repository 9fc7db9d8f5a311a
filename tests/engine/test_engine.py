"""The real engine on the memory store and on SQLite, one duty after the other."""

from __future__ import annotations

import asyncio
import threading
import time

import pytest

from jobmaster.model.job import NewJob
from jobmaster.model.run import Run
from jobmaster.model.states import CancelOutcome, JobStatus
from jobmaster.ports.store import Store
from tests.engine.one_engine import final, new_job, push, running_engine, until
from tests.engine.pool_workload import FunctionWorkload


def add(argument: list[int]) -> int:
    return sum(argument)


async def add_async(argument: list[int]) -> int:
    await asyncio.sleep(0)
    return sum(argument)


async def at_once(argument: object) -> object:
    return argument


async def fail(argument: object) -> None:
    raise ValueError(f"no {argument}")


async def sleep(argument: float) -> float:
    await asyncio.sleep(argument)
    return argument


def workload(*more: object) -> FunctionWorkload:
    return FunctionWorkload(add, add_async, at_once, fail, sleep, *more)  # type: ignore[arg-type]


class TestRunning:
    @pytest.mark.parametrize("task", ["add", "add_async"])
    async def test_a_pushed_job_runs_and_is_final(self, store: Store, task: str) -> None:
        async with running_engine(store, workload()):
            job = new_job(task, [1, 2, 3])
            await push(store, job)
            (state,) = await final(store, job.key)
        assert state.status is JobStatus.SUCCEEDED
        assert state.result == b"\x06"
        assert await store.depths([1, 2, 3, 4, 5, 6]) == dict.fromkeys(range(1, 7), 0)

    async def test_jobs_pushed_before_any_worker_are_an_ordinary_backlog(self, store: Store) -> None:
        jobs = [new_job("at_once", number) for number in range(300)]
        await push(store, *jobs)
        async with running_engine(store, workload()):
            states = await final(store, *[job.key for job in jobs])
        assert {state.status for state in states} == {JobStatus.SUCCEEDED}
        assert {state.attempts for state in states} == {1}

    async def test_a_held_job_is_claimed_when_it_falls_due(self, store: Store) -> None:
        """Out of a window of 0.2 s: nothing else would make it look within half a minute."""
        async with running_engine(store, workload(), onboarding_window=0.2, claim_every=30.0):
            job = new_job("at_once", 1, delay=0.5)
            begun = time.monotonic()
            await store.hold([job])
            await final(store, job.key)
        assert time.monotonic() - begun > 0.45

    async def test_a_failing_job_is_repeated_and_then_failed(self, store: Store) -> None:
        async with running_engine(store, workload()):
            job = new_job("fail", "luck", max_retries=0)
            await push(store, job)
            (state,) = await final(store, job.key)
        assert state.status is JobStatus.FAILED
        assert state.error is not None
        assert state.error.message == "no luck"

    async def test_an_at_most_once_job_runs_under_a_guarded_start(self, store: Store) -> None:
        async with running_engine(store, workload()):
            jobs = [new_job("at_once", number, at_most_once=True) for number in range(50)]
            await push(store, *jobs)
            states = await final(store, *[job.key for job in jobs])
        assert {(state.status, state.attempts) for state in states} == {(JobStatus.SUCCEEDED, 1)}

    async def test_an_unknown_task_is_held_as_unroutable_until_somebody_knows_it(self, store: Store) -> None:
        def new_task(argument: int) -> int:
            return argument

        job = new_job("new_task", 5)
        async with running_engine(store, workload()):
            await push(store, job)
            await until_state(store, job.key, JobStatus.HELD_ON_MASTER)
        assert await store.route(["new_task"]) == 1
        async with running_engine(store, workload(new_task), name="w2"):
            (state,) = await final(store, job.key)
        assert state.status is JobStatus.SUCCEEDED

    async def test_a_message_that_is_no_envelope_ends_as_failed_where_people_see_it(self, store: Store) -> None:
        whole = new_job("at_once", 1)
        broken = NewJob(whole.key, whole.envelope, b"\x00no envelope")
        async with running_engine(store, workload()):
            await push(store, broken)
            (state,) = await final(store, broken.key)
        assert (state.status, state.reason) == (JobStatus.FAILED, "unreadable")

    async def test_an_expired_job_never_starts(self, store: Store) -> None:
        job = new_job("at_once", 1, expires_us=1)
        async with running_engine(store, workload()):
            await push(store, job)
            (state,) = await final(store, job.key)
        assert (state.status, state.reason) == (JobStatus.FAILED, "expired")

    async def test_an_occurrence_that_comes_too_late_is_missed_and_no_failure(self, store: Store) -> None:
        job = new_job("at_once", 1, expires_us=1, trigger=2)
        async with running_engine(store, workload()):
            await push(store, job)
            (state,) = await final(store, job.key)
        assert (state.status, state.reason) == (JobStatus.CANCELLED, "missed")

    async def test_a_long_run_shows_as_processing_after_a_second(self, store: Store) -> None:
        job, seen = new_job("wait"), asyncio.Event()

        async def wait(argument: object) -> None:
            await seen.wait()

        async with running_engine(store, workload(wait)):
            await push(store, job)
            await until_state(store, job.key, JobStatus.PROCESSING)
            seen.set()
            (state,) = await final(store, job.key)
        assert state.status is JobStatus.SUCCEEDED

    async def test_a_claimed_long_run_shows_as_processing_too(self, store: Store) -> None:
        job, seen = new_job("wait"), asyncio.Event()

        async def wait(argument: object) -> None:
            await seen.wait()

        async with running_engine(store, workload(wait)):
            await store.hold([job])
            await until_state(store, job.key, JobStatus.PROCESSING)
            seen.set()
            (state,) = await final(store, job.key)
        assert (state.status, state.attempts) == (JobStatus.SUCCEEDED, 1)


class TestStopping:
    async def test_a_hard_limit_ends_a_coroutine(self, store: Store) -> None:
        job = new_job("sleep", 60.0, timeout=0.2, max_retries=0)
        async with running_engine(store, workload()):
            await push(store, job)
            (state,) = await final(store, job.key)
        assert (state.status, state.reason) == (JobStatus.FAILED, "timed out")

    async def test_a_running_job_is_cancelled(self, store: Store) -> None:
        job = new_job("sleep", 60.0)
        async with running_engine(store, workload()) as running:
            await push(store, job)
            await until(lambda: running.engine.runner.running)
            reply = await store.cancel(job.key)
            (state,) = await final(store, job.key)
        assert reply.outcome is CancelOutcome.REQUESTED
        assert state.status is JobStatus.CANCELLED

    async def test_a_graceful_stop_finishes_what_runs_and_leaves_what_waits(self, store: Store) -> None:
        async with running_engine(store, workload(), slots=5) as running:
            jobs = [new_job("sleep", 0.3) for _ in range(20)]
            await push(store, *jobs)
            await until(lambda: len(running.engine.runner.running) == 5)
            await running.stop()
        states = [state for state in await store.look_up([job.key for job in jobs]) if state]
        assert sorted(str(state.status) for state in states).count("Succeeded") == 5
        async with running_engine(store, workload(), name="w2", slots=20):
            states = await final(store, *[job.key for job in jobs])
        assert {(str(state.status), state.attempts) for state in states} == {("Succeeded", 1)}

    async def test_what_does_not_end_within_the_grace_is_handed_back_unspent(self, store: Store) -> None:
        job = new_job("sleep", 30.0)
        async with running_engine(store, workload()) as running:
            await push(store, job)
            await until(lambda: running.engine.runner.running)
            running.engine.abort()
            await running.task
        (state,) = await store.look_up([job.key])
        assert state is not None
        assert (state.status, state.attempts) == (JobStatus.HELD_ON_MASTER, 0)

    async def test_a_vanished_worker_s_jobs_start_again_elsewhere(self, store: Store) -> None:
        release = threading.Event()
        starts: list[str] = []

        async def once_blocked(argument: object, run: Run) -> object:
            starts.append(run.worker)
            while not release.is_set():
                await asyncio.sleep(0.01)
            return argument

        jobs = [new_job("once_blocked", number) for number in range(3)]
        async with running_engine(store, workload(once_blocked), name="w1") as first:
            await push(store, *jobs)
            await until(lambda: len(starts) == 3)
            await first.vanish()
            release.set()
            async with running_engine(store, workload(once_blocked), name="w2", lost_every=0.1):
                states = await final(store, *[job.key for job in jobs])
        assert {state.status for state in states} == {JobStatus.SUCCEEDED}
        assert starts == ["w1"] * 3 + ["w2"] * 3


async def until_state(store: Store, key: object, status: JobStatus, timeout: float = 10.0) -> None:
    async with asyncio.timeout(timeout):
        while True:
            (state,) = await store.look_up([key])  # type: ignore[list-item]
            if state is not None and state.status is status:
                return
            await asyncio.sleep(0.005)
