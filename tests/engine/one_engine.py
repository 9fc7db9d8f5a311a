"""One real engine on a store of the test's choice, with a real keeper on the same loop."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

from jobmaster.engine.lease_keeper import LeaseKeeper
from jobmaster.engine.links.threads import ThreadLink
from jobmaster.engine.pools.loop import LoopPool
from jobmaster.engine.pools.threads import ThreadPool
from jobmaster.engine.tuning import Tuning
from jobmaster.engine.worker import Engine
from jobmaster.model.bucket import NewBucket
from jobmaster.model.ids import JobKey, new_job_key
from jobmaster.model.job import Envelope, JobState, NewJob, encode_envelope
from jobmaster.model.schedule import Schedule
from jobmaster.model.states import WorkerMode
from jobmaster.model.worker import Registration
from jobmaster.ports.clock import Clock
from jobmaster.ports.workload import Pool, Workload
from jobmaster.rules.lease import LeaseTiming

LEASE = 2.0
"""Seconds, for stores and engines of these tests: a test that loses an engine waits so long for the lease's end."""


class RealClock:
    """The operating system's clocks."""

    def now_us(self) -> int:
        return time.time_ns() // 1000

    def trust_ns(self) -> int:
        return time.clock_gettime_ns(time.CLOCK_BOOTTIME)

    def monotonic(self) -> float:
        return asyncio.get_running_loop().time()


def new_job(task: str, argument: object = None, *, delay: float = 0.0, **fields: Any) -> NewJob:
    """A job that calls a task of `FunctionWorkload` with one argument."""
    import msgspec

    now = time.time_ns() // 1000
    envelope = Envelope(task=task, call=msgspec.msgpack.encode(argument), created_us=now, scheduled_us=now, **fields)
    return NewJob(new_job_key(), envelope, encode_envelope(envelope), delay_us=round(delay * 1e6))


async def push(store: Any, *jobs: NewJob, lane: str = "", priority: int = 3) -> None:
    """What a producer does."""
    bucket = await store.offer_bucket(NewBucket(new_job_key().hex(), "standalone", lane, priority))
    await store.push(bucket.id, list(jobs))


async def final(store: Any, *keys: JobKey, timeout: float = 20.0) -> list[JobState]:
    """The states of these jobs, once all are final."""
    async with asyncio.timeout(timeout):
        while True:
            states = [state for state in await store.look_up(list(keys)) if state is not None]
            if len(states) == len(keys) and all(state.status.is_final for state in states):
                return states
            await asyncio.sleep(0.005 + len(keys) * 2e-5)  # looking must not take the loop from the engine


async def until(condition: Callable[[], object], *, timeout: float = 20.0) -> None:
    """Wait for something that happens on this loop."""
    async with asyncio.timeout(timeout):
        while not condition():
            await asyncio.sleep(0.002)


class Running:
    """An engine that runs, with its keeper."""

    def __init__(self, engine: Engine, task: asyncio.Task[None], keeper: asyncio.Task[None]) -> None:
        self.engine = engine
        self.task = task
        self.keeper = keeper

    async def stop(self, grace: float = 5.0) -> None:
        self.engine.stop(grace)
        await self.task

    async def vanish(self) -> None:
        """What a kill leaves: nothing is written any more, the lease ends by itself."""
        self.keeper.cancel()
        self.task.cancel()
        await asyncio.gather(self.task, self.keeper, return_exceptions=True)


@contextlib.asynccontextmanager
async def running_engine(
    store: Any,
    workload: Workload,
    *,
    name: str = "w1",
    boot: int | None = None,
    lease: float = LEASE,
    renew_every: float = 0.3,
    archive: Any = None,
    apart_pool: Pool | None = None,
    suspects: Sequence[JobKey] = (),
    schedules: Callable[[], Sequence[Schedule]] = lambda: (),
    clock: Clock | None = None,
    **tuning: Any,
) -> AsyncIterator[Running]:
    """An engine that has its first grant; stopped at the end where the test did not do it.

    Renewals are frequent, so that what they carry comes soon; the lease is far longer, for a busy machine.
    """
    clock = clock or RealClock()
    link = ThreadLink(stop=lambda _now: None, on_condemned=lambda _reason: None)
    numbers = Tuning(**({"slots": 10, "grace": 5.0, "lease": lease} | tuning))
    engine = Engine(
        store=store,
        link=link,
        clock=clock,
        workload=workload,
        async_pool=LoopPool(workload),
        sync_pool=ThreadPool(workload, size=numbers.slots),
        apart_pool=apart_pool,
        tuning=numbers,
        registration=Registration(
            name=name,
            boot=boot or time.time_ns() // 1000,
            agent="standalone",
            lanes=numbers.lanes,
            mode=numbers.mode or WorkerMode.FULL,
        ),
        tasks=lambda: ["add"],
        schedules=schedules,
        archive=archive,
        seed=hash(name),
    )
    keeper = LeaseKeeper(
        store=store,
        clock=clock,
        timing=LeaseTiming(lease=lease, renew_every=renew_every, margin=lease * 0.1),
        random=lambda: 0.5,
    )
    keeper.suspects = list(suspects)
    keeper.add(link)
    link._hurry = keeper.hurry
    running = Running(engine, asyncio.create_task(engine.run()), asyncio.create_task(keeper.run()))
    try:
        async with asyncio.timeout(10):
            await engine.ready.wait()
        yield running
        if not running.task.done():
            await running.stop()
    finally:
        running.keeper.cancel()
        running.task.cancel()
        await asyncio.gather(running.task, running.keeper, return_exceptions=True)
