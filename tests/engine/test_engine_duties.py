"""What an engine does beside running jobs: shares, hand-over, commands, recovery of poison, shrinking, drains."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Sequence

import msgspec
import pytest

from jobmaster.model.bucket import NewBucket
from jobmaster.model.ids import JobKey, new_job_key
from jobmaster.model.job import Blame
from jobmaster.model.run import End, Ended, Finished, Halt, Run
from jobmaster.model.states import BucketStatus, CancelOutcome, JobStatus, WorkerMode
from jobmaster.ports.store import Store
from tests.engine.one_engine import final, new_job, push, running_engine, until
from tests.engine.pool_workload import FunctionWorkload


async def at_once(argument: object) -> object:
    return argument


async def sleep(argument: float) -> float:
    await asyncio.sleep(argument)
    return argument


class TestShares:
    async def test_saturated_priorities_share_the_slots_by_weight(self, store: Store) -> None:
        counted: Counter[int] = Counter()

        all_waiting = asyncio.Event()

        async def count(argument: int, run: Run) -> None:
            await all_waiting.wait()
            if sum(counted.values()) < 2000:
                counted[run.envelope.priority] += 1

        for priority in range(1, 6):
            await push(store, *[new_job("count", n, priority=priority) for n in range(900)], priority=priority)
        async with running_engine(store, FunctionWorkload(count), slots=4) as running:
            await until(lambda: len(running.engine.waiting) >= 4400)
            all_waiting.set()
            await until(lambda: sum(counted.values()) >= 2000)
            running.engine.runner.paused = True
        shares = {priority: number / sum(counted.values()) for priority, number in counted.items()}
        for priority, share in {1: 0.10, 2: 0.15, 3: 0.20, 4: 0.25, 5: 0.30}.items():
            assert shares[priority] == pytest.approx(share, abs=0.03)


class TestHandOver:
    @pytest.mark.alone  # where the two starve, leases run out and jobs run twice
    async def test_a_backlog_does_not_stay_behind_one_bucket_while_another_worker_is_idle(self, store: Store) -> None:
        ran: Counter[str] = Counter()

        async def work(argument: int, run: Run) -> None:
            ran[run.worker] += 1
            await asyncio.sleep(0.002)

        jobs = [new_job("work", n) for n in range(4000)]
        await push(store, *jobs)
        settings = {"slots": 2, "buffer_per_bucket": 100, "read_limit": 50}
        async with (
            running_engine(store, FunctionWorkload(work), name="full", **settings) as first,
            running_engine(store, FunctionWorkload(work), name="hungry", **settings),
        ):
            await final(store, *[job.key for job in jobs], timeout=50)
            assert first.engine.lease.trusted()
        assert ran["full"] + ran["hungry"] == 4000
        assert ran["hungry"] > 800

    async def test_jobs_that_were_read_ahead_are_shared_with_an_idle_worker_too(self, store: Store) -> None:
        """With a separate agent the master may know what waits, so that it stays where it is."""
        ran: Counter[str] = Counter()
        idle = asyncio.Event()

        async def work(argument: int, run: Run) -> None:
            await idle.wait()
            ran[run.worker] += 1
            await asyncio.sleep(0.05)

        jobs = [new_job("work", n) for n in range(200)]
        await push(store, *jobs)
        async with running_engine(store, FunctionWorkload(work), name="full", slots=2) as full:
            await until(lambda: len(full.engine.waiting) >= 198)
            async with running_engine(store, FunctionWorkload(work), name="idle", slots=2) as other:
                if store.standalone:
                    await until(lambda: len(other.engine.waiting))
                idle.set()
                await final(store, *[job.key for job in jobs], timeout=25)
        assert sum(ran.values()) == 200
        if store.standalone:
            assert ran["idle"] >= 60
            assert ran["full"] >= 60


class TestCommands:
    async def test_ping_pause_resume_and_concurrency_are_obeyed_and_answered(self, store: Store) -> None:
        async with running_engine(store, FunctionWorkload(at_once)) as running:
            worker = running.engine.lease.worker

            async def order(verb: str, args: bytes = b"{}") -> dict[str, object]:
                (command,) = await store.send_command([worker], verb, args)
                async with asyncio.timeout(20):
                    while True:
                        (reply,) = await store.command_replies([command])
                        if reply.answered_us is not None:
                            return msgspec.json.decode(reply.reply)
                        await asyncio.sleep(0.01)

            assert (await order("ping"))["ok"] is True
            assert (await order("concurrency", b'{"slots": 3}')) == {"ok": True, "slots": 3}
            assert running.engine.runner.slots == 3
            assert (await order("concurrency", b'{"slots": 0}'))["ok"] is False
            assert (await order("nonsense"))["ok"] is False
            await order("pause")
            job = new_job("at_once", 1)
            await push(store, job)
            await until(lambda: len(running.engine.waiting) == 1)
            await order("resume")
            await final(store, job.key)
            await order("stop")
            await asyncio.wait_for(running.task, 20)


class TestCancel:
    async def test_a_waiting_job_is_cancelled_before_it_starts(self, store: Store) -> None:
        started: list[object] = []
        over = asyncio.Event()

        async def note(argument: object) -> None:
            started.append(argument)
            await over.wait()

        async with running_engine(store, FunctionWorkload(note), slots=1) as running:
            first, second = new_job("note", 1), new_job("note", 2)
            await push(store, first, second)
            await until(lambda: running.engine.runner.running and len(running.engine.waiting) == 1)
            assert (await store.cancel(second.key)).outcome is CancelOutcome.REQUESTED
            await final(store, second.key)
            over.set()
            states = await final(store, first.key, second.key)
        assert [str(state.status) for state in states] == ["Succeeded", "Cancelled"]
        assert started == [1]

    async def test_a_claimed_job_that_is_cancelled_is_no_outcome_that_was_refused(
        self, store: Store, caplog: pytest.LogCaptureFixture
    ) -> None:
        job = new_job("at_once", delay=5.0)
        await store.hold([job])
        async with running_engine(store, FunctionWorkload(at_once)) as running:
            await until(lambda: len(running.engine.waiting) == 1)
            assert (await store.cancel(job.key)).outcome is CancelOutcome.REQUESTED
            await until(lambda: not running.engine.waiting)
            await until(running.engine.finisher.idle)
        assert "outcomes_refused" not in caplog.text

    async def test_a_held_job_is_cancelled_for_certain(self, store: Store) -> None:
        job = new_job("at_once", 1, delay=3600)
        await store.hold([job])
        assert (await store.cancel(job.key)).outcome is CancelOutcome.CANCELLED
        assert (await store.cancel(job.key)).outcome is CancelOutcome.CANCELLED


class CrashingPool:
    """A pool in which every process dies at once, with the one run in it."""

    def __init__(self) -> None:
        self.finished: Callable[[list[Finished]], None] = lambda _finished: None
        self.ran: list[JobKey] = []

    def submit(self, runs: Sequence[Run]) -> None:
        self.ran += [run.key for run in runs]
        ends = [(run, Ended(End.CRASHED, reason="SIGSEGV"), time.monotonic()) for run in runs]
        asyncio.get_running_loop().call_soon(self.finished, ends)

    def halt(self, _key: JobKey, _why: Halt) -> bool:
        return False

    def stuck(self) -> list[JobKey]:
        return []

    async def close(self) -> None:
        pass


class TestRecovery:
    async def test_a_blamed_job_is_quarantined_after_three_crashes(self, store: Store) -> None:
        async def poison(argument: object) -> None:
            await asyncio.Event().wait()

        work = FunctionWorkload(poison, at_once)
        killer, neighbour = new_job("poison", 1), new_job("at_once", 2)
        await push(store, killer, neighbour)
        for crash in range(2):
            async with running_engine(store, work, name="w", boot=crash + 1, lost_every=0.1) as running:
                await until(
                    lambda: killer.key in {entry.key for entry in running.engine.runner.running.values()}, timeout=20
                )
                worker = running.engine.lease.worker
                await running.vanish()
            await store.end_worker(worker, blame=[Blame(killer.key, "SIGSEGV")])
        apart = CrashingPool()
        async with running_engine(store, work, name="w", boot=9, lost_every=0.1, apart_pool=apart):
            states = await final(store, killer.key, neighbour.key)
        assert apart.ran == [killer.key], "the third one is alone in a process of its own"
        assert (states[0].status, states[0].reason) == (JobStatus.FAILED, "quarantined")
        assert states[0].error is not None
        assert "SIGSEGV" in states[0].error.message
        assert states[1].status is JobStatus.SUCCEEDED

    async def test_a_first_suspect_runs_apart_at_once_and_who_ran_beside_it_among_others(self, store: Store) -> None:
        async def waits(argument: object) -> None:
            starts.append(argument)
            if len(starts) < 3:
                await asyncio.Event().wait()

        starts: list[object] = []
        poison, beside = new_job("waits", "poison"), new_job("waits", "beside")
        work = FunctionWorkload(waits)
        await push(store, poison, beside)
        async with running_engine(store, work, name="w", boot=1, lost_every=0.1) as running:
            await until(lambda: len(starts) == 2, timeout=20)
            worker = running.engine.lease.worker
            await running.vanish()
        await store.end_worker(worker, blame=[Blame(poison.key, "SIGSEGV"), Blame(beside.key, "SIGSEGV")])
        apart = CrashingPool()
        async with running_engine(
            store, work, name="w", boot=2, lost_every=0.1, apart_pool=apart, suspects=[poison.key]
        ):
            states = await final(store, poison.key, beside.key)
        assert apart.ran == [poison.key] * 2, "after one crash beside others it crashes alone"
        assert sorted(map(str, starts)) == ["beside", "beside", "poison"]
        assert (states[0].status, states[0].reason, states[0].attempts) == (JobStatus.FAILED, "quarantined", 3)
        assert (states[1].status, states[1].attempts) == (JobStatus.SUCCEEDED, 2)

    async def test_at_most_once_jobs_of_a_vanished_worker_are_failed_not_repeated(self, store: Store) -> None:
        starts: list[object] = []

        async def once(argument: object) -> None:
            starts.append(argument)
            await asyncio.Event().wait()

        job = new_job("once", 1, at_most_once=True)
        async with running_engine(store, FunctionWorkload(once), name="a") as first:
            await push(store, job)
            await until(lambda: starts)
            await first.vanish()
        async with running_engine(store, FunctionWorkload(once), name="b", lost_every=0.1):
            (state,) = await final(store, job.key)
        assert (state.status, state.reason, starts) == (JobStatus.FAILED, "worker lost", [1])


class TestBuckets:
    async def test_an_owner_of_too_many_buckets_closes_empty_ones(self, store: Store) -> None:
        for _ in range(6):
            worker = (await store.register(_registration())).worker
            await store.create_buckets(worker, [NewBucket(new_job_key().hex(), "standalone", "", 3)])
            await store.end_worker(worker)
        async with running_engine(store, FunctionWorkload(at_once), renew_every=0.2):
            async with asyncio.timeout(20):
                while len([bucket for bucket in await store.list_buckets() if bucket.priority == 3]) > 3:
                    await asyncio.sleep(0.05)
            job = new_job("at_once", 1)
            await push(store, job)
            await final(store, job.key)

    async def test_buckets_beyond_the_most_are_run_empty_although_producers_fill_all_that_they_see(
        self, store: Store
    ) -> None:
        gate = asyncio.Event()

        async def work(argument: object) -> None:
            await gate.wait()

        jobs = []
        for _ in range(5):
            worker = (await store.register(_registration())).worker
            (bucket,) = await store.create_buckets(worker, [NewBucket(new_job_key().hex(), "standalone", "", 3)])
            await store.fence(bucket.fence)
            jobs += [new_job("work", 1), new_job("work", 2)]
            await store.push(bucket.id, jobs[-2:])
            await store.end_worker(worker)
        settings = {"renew_every": 0.2, "buckets": {3: 1}, "max_buckets_per_priority": 2, "slots": 3}
        async with running_engine(store, FunctionWorkload(work), **settings) as running:
            async with asyncio.timeout(20):
                while len(seen := [bucket.id for bucket in await store.open_buckets()]) > 2:
                    await asyncio.sleep(0.02)
            owned = sorted(running.engine.lease.lives)
            assert seen == owned[:2], "the oldest stay, and nothing was moved"
            held = new_job("work", 3)
            await store.hold([held])
            await store.signal(["held"])
            async with asyncio.timeout(20):
                while (await store.get_job(held.key)).status is JobStatus.HELD_ON_MASTER:
                    await asyncio.sleep(0.02)
            assert (await store.get_job(held.key)).bucket in seen, "what is run empty claims nothing"
            gate.set()
            await final(store, held.key, *(job.key for job in jobs))
            async with asyncio.timeout(20):
                while len(await store.list_buckets()) > 2:
                    await asyncio.sleep(0.02)
            late = new_job("work", 4)
            await store.push(seen[0], [late])
            await final(store, late.key)

    async def test_a_lane_that_nobody_serves_is_drained_to_the_master(self, store: Store) -> None:
        job = new_job("at_once", 1, lane="nobody")
        await push(store, job, lane="nobody")
        async with running_engine(store, FunctionWorkload(at_once), drain_after=0.2, sweep_every=0.1):
            async with asyncio.timeout(20):
                while any(bucket.lane == "nobody" for bucket in await store.list_buckets()):
                    await asyncio.sleep(0.02)
        (state,) = await store.look_up([job.key])
        assert state is not None
        assert state.status is JobStatus.HELD_ON_MASTER

    async def test_a_coordinator_runs_no_jobs_and_marks_lost_buckets(self, store: Store) -> None:
        worker = (await store.register(_registration())).worker
        await store.create_buckets(worker, [NewBucket("t", "standalone", "", 3)])
        async with running_engine(store, FunctionWorkload(at_once), mode=WorkerMode.COORDINATOR, lost_every=0.05):
            async with asyncio.timeout(20):
                while (await store.list_buckets())[0].status is not BucketStatus.LOST:
                    await asyncio.sleep(0.02)

    async def test_a_second_worker_with_the_same_name_ends_the_first(self, store: Store) -> None:
        async with (
            running_engine(store, FunctionWorkload(at_once), name="twin", boot=1) as first,
            running_engine(store, FunctionWorkload(at_once), name="twin", boot=2),
        ):
            await asyncio.wait_for(first.task, 20)
            job = new_job("at_once", 1)
            await push(store, job)
            await final(store, job.key)


class TestOnce:
    async def test_an_engine_asked_to_drain_ends_by_itself_when_nothing_is_left(self, store: Store) -> None:
        jobs = [new_job("at_once", n) for n in range(50)]
        await push(store, *jobs)
        async with running_engine(store, FunctionWorkload(at_once), drain_once=True) as running:
            await asyncio.wait_for(running.task, 20)
        assert {str(state.status) for state in await store.look_up([job.key for job in jobs]) if state} == {"Succeeded"}


def _registration():
    from jobmaster.model.worker import Registration

    return Registration(name=new_job_key().hex(), boot=1, agent="standalone", lanes=("",), mode=WorkerMode.FULL)
