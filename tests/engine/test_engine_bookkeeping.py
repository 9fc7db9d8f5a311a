"""What an engine counts and remembers: nothing drifts, nothing grows, nobody waits for what nobody will do."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import Any

import msgspec

from jobmaster.engine import life as life_module
from jobmaster.engine import limits as limits_module
from jobmaster.model.bucket import NewBucket
from jobmaster.model.ids import new_job_key
from jobmaster.model.job import Blame, Fence, Start, Verdict
from jobmaster.model.states import CancelOutcome, JobStatus, WorkerMode
from jobmaster.model.worker import Registration
from jobmaster.ports.master import Claimed
from tests.engine.one_engine import final, new_job, push, running_engine, until
from tests.engine.pool_workload import FunctionWorkload
from tests.engine.wrapped_store import Wrapped


async def at_once(argument: object) -> object:
    return argument


async def sleep(argument: float) -> float:
    await asyncio.sleep(argument)
    return argument


async def test_numbers_of_removed_messages_are_forgotten_of_at_most_once_jobs_too(store: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr(life_module, "_REMEMBERED", 10)
    jobs = [new_job("at_once", n, at_most_once=True) for n in range(50)]
    await push(store, *jobs)
    async with running_engine(store, FunctionWorkload(at_once)) as running:
        await final(store, *[job.key for job in jobs])
        assert all(len(life.numbers) <= 10 for life in running.engine.lease.lives.values())


async def test_a_job_that_a_person_runs_again_after_a_cancel_runs(store: Any) -> None:
    job = new_job("at_once", 7, delay=3600)
    await store.hold([job])
    async with running_engine(store, FunctionWorkload(at_once)) as running:
        assert (await store.cancel(job.key)).outcome is CancelOutcome.CANCELLED
        running.engine.lease.report(soon=True)
        await until(lambda: job.key in running.engine.runner.cancelled)
        assert await store.requeue(job.key)
        assert [state.status for state in await final(store, job.key)] == [JobStatus.SUCCEEDED]


async def test_a_run_that_is_found_suspect_while_it_runs_blocks_no_later_suspect(store: Any) -> None:
    """The early row's answer may bring a blame that nobody knew of when the run began."""

    async def blames(fence: Fence, starts: Sequence[Start]) -> list[Verdict]:
        verdicts = await store.take_over(fence, starts)
        return [msgspec.structs.replace(verdict, recoveries=2) for verdict in verdicts]

    async def suspects(*arguments: Any, **options: Any) -> Claimed:
        claimed: Claimed = await store.claim(*arguments, **options)
        jobs = [msgspec.structs.replace(job, recoveries=2) for job in claimed.jobs]
        return msgspec.structs.replace(claimed, jobs=jobs)

    long, suspect = new_job("sleep", 1.6), new_job("at_once")
    await push(store, long)
    async with running_engine(
        Wrapped(store, take_over=blames, claim=suspects), FunctionWorkload(at_once, sleep), claim_every=0.1
    ):
        await final(store, long.key)
        await store.hold([suspect])
        await final(store, suspect.key)


async def test_a_full_bucket_is_not_asked_again_and_again_about_jobs_that_fall_due(store: Any) -> None:
    reads = 0

    async def read(*arguments: Any, **options: Any) -> Any:
        nonlocal reads
        reads += 1
        return await store.read(*arguments, **options)

    await push(store, *[new_job("at_once", n, delay=30) for n in range(60)])
    # The window moves on: what was out of it when the buffer was filled comes into it while there is no room.
    await push(store, *[new_job("at_once", n, delay=12.2) for n in range(30)])
    counted = Wrapped(store, read=read)
    async with running_engine(
        counted, FunctionWorkload(at_once), buffer_per_bucket=20, onboarding_window=12.0, read_every=5.0
    ) as running:
        await until(lambda: len(running.engine.waiting) == 20)
        before, begun = reads, time.monotonic()
        await asyncio.sleep(1.0)
        assert len(running.engine.waiting) == 20
        assert reads - before <= 40 * (time.monotonic() - begun)


async def test_held_jobs_are_claimed_as_fast_as_they_run(store: Any) -> None:
    jobs = [new_job("at_once", n) for n in range(600)]
    await store.hold(jobs)
    seldom = {"lease": 10.0, "renew_every": 3.0}  # a renewal throws away what is claimed meanwhile
    async with running_engine(store, FunctionWorkload(at_once), buffer_per_bucket=50, claim_every=5.0, **seldom):
        # Twelve claims, of which none waits for the next look at what is due.
        await final(store, *[job.key for job in jobs], timeout=25.0)


async def test_entries_of_two_lives_of_one_bucket_are_asked_about_both(store: Any) -> None:
    """The bucket was lost and regained while the starter was busy: the old entry must be answered all the same."""
    gate = asyncio.Event()

    async def waits(fence: Fence, starts: Sequence[Start]) -> list[Verdict]:
        await gate.wait()
        return await store.take_over(fence, starts)

    wrapped, seldom = Wrapped(store, take_over=waits), {"lease": 30.0, "renew_every": 9.0}
    async with running_engine(wrapped, FunctionWorkload(at_once), **seldom) as running:
        engine = running.engine
        blocker, job = new_job("at_once", at_most_once=True), new_job("at_once", at_most_once=True)
        await push(store, blocker)
        await until(lambda: engine.starter.under_way)
        await push(store, job)
        await until(lambda: engine.runner.guarded.asking == 2)
        (old,) = [life for life in engine.lease.lives.values() if life.entries]
        engine.lease.drop(old)
        engine.lease.report(soon=True)
        await until(lambda: engine.runner.guarded.asking >= 3)
        gate.set()
        await final(store, job.key, blocker.key)
        await until(lambda: engine.runner.guarded.asking == 0)


async def test_a_run_gets_its_row_as_early_as_the_setting_says(store: Any) -> None:
    """With the default of a second a job of 0.8 s would have ended before; a busy machine gets several of them."""
    async with running_engine(store, FunctionWorkload(sleep), early_row_after=0.0):
        for _ in range(5):
            job = new_job("sleep", 0.8)
            await push(store, job)
            seen: set[JobStatus | None] = set()
            while not seen & {JobStatus.PROCESSING, JobStatus.SUCCEEDED}:
                (state,) = await store.look_up([job.key])
                seen.add(state and state.status)  # beside a separate agent there is no row until something writes it
                await asyncio.sleep(0.02)
            if JobStatus.PROCESSING in seen:
                break
        assert JobStatus.PROCESSING in seen


async def test_limits_of_ended_runs_leave_memory_before_their_time(store: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr(limits_module, "_FEW", 8)
    async with running_engine(store, FunctionWorkload(sleep), slots=4, early_row_after=0.0) as running:
        limits = running.engine.runner.limits
        limits._most = 8
        jobs = [new_job("sleep", 0.3, timeout=3600.0) for _ in range(40)]
        await push(store, *jobs)
        await final(store, *[job.key for job in jobs])
        assert len(limits._limits) <= 16


async def test_a_job_that_is_claimed_while_its_bucket_is_being_closed_is_not_lost(store: Any) -> None:
    """The claim was sent before, and answered after, the owner decided to close the bucket (R24)."""
    async with running_engine(store, FunctionWorkload(at_once), name="before", buckets={3: 2}):
        pass
    claims, closing = asyncio.Event(), asyncio.Event()
    job = new_job("at_once", at_most_once=True)

    async def claim(*arguments: Any, **options: Any) -> Any:
        claimed = await store.claim(*arguments, **options)
        if any(one.key == job.key for one in claimed.jobs) and not closing.is_set():
            claims.set()
            await closing.wait()
        return claimed

    async def complete(fence: Fence) -> None:
        await store.complete(fence)
        closing.set()
        await asyncio.sleep(0.05)  # time for the job to start, if it may

    async def depths(*arguments: Any) -> Any:
        await claims.wait()
        return await store.depths(*arguments)

    wrapped = Wrapped(store, claim=claim, complete=complete, depths=depths)
    await push(store, new_job("at_once", delay=3))  # the other bucket is fuller, so that the claim is for this one
    seldom = {"lease": 10.0, "renew_every": 3.0}
    async with running_engine(
        wrapped, FunctionWorkload(at_once), buckets={3: 1}, max_buckets_per_priority=1, **seldom
    ) as running:
        await until(lambda: len(running.engine.waiting) == 1)
        lease = running.engine.lease
        counted = lease.counted
        lease.report(soon=True)
        await until(lambda: lease.counted > counted)  # the next renewal is far: it would throw the claim away
        await store.hold([job])
        await until(closing.is_set)
        (state,) = await final(store, job.key)
        assert state.status is JobStatus.SUCCEEDED, state


async def test_no_more_guarded_jobs_are_granted_than_slots_are_free(store: Any) -> None:
    """Who was granted and waits stands as running: a crash would count it, and who was interrupted waits behind it."""
    answers = asyncio.Event()
    running_jobs = asyncio.Event()

    async def slowly(fence: Fence, starts: Sequence[Start]) -> list[Verdict]:
        await answers.wait()
        verdicts: list[Verdict] = await store.take_over(fence, starts)
        return verdicts

    async def block(argument: object) -> None:
        await running_jobs.wait()

    jobs = [new_job("block", n, at_most_once=True) for n in range(20)]
    wrapped = Wrapped(store, take_over=slowly)
    async with running_engine(wrapped, FunctionWorkload(block), slots=2) as running:
        for count, job in enumerate(jobs, 1):
            await push(store, job)  # each of them has the engine look at its slots while answers are awaited
            await until(lambda count=count: running.engine.runner.guarded.asking + len(running.engine.waiting) == count)
        answers.set()
        await until(lambda: len(running.engine.runner.running) == 2)
        await until(lambda: running.engine.starter.pending() == 0)
        states = await store.look_up([job.key for job in jobs])
        granted = [state for state in states if state is not None and state.status is JobStatus.PROCESSING]
        assert len(granted) == 2
        running_jobs.set()
        await final(store, *(job.key for job in jobs))


async def test_what_was_interrupted_starts_before_what_waits_in_the_adopted_bucket(store: Any) -> None:
    """However slowly the claim is answered: a bucket of a dead owner is read after it."""
    order: list[object] = []

    async def note(argument: object) -> None:
        order.append(argument)

    async def claim(*arguments: Any, **options: Any) -> Any:
        await asyncio.sleep(0.1)
        return await store.claim(*arguments, **options)

    dying = Registration(name="dead", boot=1, agent="standalone", lanes=("",), mode=WorkerMode.FULL)
    dead = (await store.register(dying)).worker
    (bucket,) = await store.create_buckets(dead, [NewBucket(new_job_key().hex(), "standalone", "", 3)])
    await store.fence(bucket.fence)
    waiting, ran = [new_job("note", n) for n in range(3)], new_job("note", "ran")
    await store.push(bucket.id, [*waiting, ran])
    await store.start(bucket.fence, [Start(ran.key, 0, 1, ran.envelope, ran.payload, due_us=1)])
    await store.end_worker(dead, blame=[Blame(ran.key, "SIGKILL")])
    async with running_engine(Wrapped(store, claim=claim), FunctionWorkload(note), slots=1):
        await final(store, ran.key, *(job.key for job in waiting))
    assert order == ["ran", 0, 1, 2]
