"""Large results and arguments: what waits in memory is bounded by bytes, too, and no write holds up the renewals."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from jobmaster.engine.finisher import MOST_BYTES
from jobmaster.engine.room import BUFFER_BYTES
from jobmaster.model.job import Fence, Outcome
from jobmaster.model.states import JobStatus
from tests.engine.one_engine import final, new_job, push, running_engine, until
from tests.engine.pool_workload import FunctionWorkload
from tests.engine.wrapped_store import Wrapped

MEGABYTE = 1 << 20
JOBS = 60


async def large(size: int) -> str:
    return "x" * size


async def test_they_are_written_in_small_batches_and_what_starts_waits_for_them(store: Any) -> None:
    is_open = asyncio.Event()
    batches: list[tuple[int, int]] = []

    async def settle(fence: Fence, outcomes: Sequence[Outcome]) -> Any:
        batches.append((len(outcomes), sum(len(outcome.result or b"") for outcome in outcomes)))
        await is_open.wait()
        return await store.settle(fence, outcomes)

    jobs = [new_job("large", MEGABYTE) for _ in range(JOBS)]
    await push(store, *jobs)
    async with running_engine(
        Wrapped(store, settle=settle), FunctionWorkload(large), slots=10, backlog_of_results=8 * MEGABYTE
    ) as running:
        engine = running.engine
        await until(lambda: engine.finisher.is_behind(most=1000, most_bytes=8 * MEGABYTE))
        await until(lambda: not engine.runner.running)
        begun = engine.runner.counts["started"]
        assert begun <= 8 + 10 + 2 * 4 + 1, "8 MiB wait, 10 slots, two batches of 4 MiB on their way"
        is_open.set()
        states = await final(store, *[job.key for job in jobs])
        assert {state.status for state in states} == {JobStatus.SUCCEEDED}
        await until(engine.finisher.idle)
        assert not engine.finisher.is_behind(most=1, most_bytes=1), "nothing is counted any more"
    assert sum(count for count, _ in batches) == JOBS
    assert all(count == 1 or size <= MOST_BYTES for count, size in batches)


async def waits(_argument: object) -> None:
    await asyncio.Event().wait()


async def test_large_arguments_leave_most_of_a_backlog_in_the_store(store: Any) -> None:
    read: list[int] = []

    async def reading(*args: Any, limit: int, **more: Any) -> Any:
        answer = await store.read(*args, limit=limit, **more)
        read.append(len(answer.messages))
        return answer

    size = 100_000
    for _ in range(20):
        await push(store, *(new_job("waits", "x" * size) for _ in range(25)))
    async with running_engine(
        Wrapped(store, read=reading), FunctionWorkload(waits), slots=4, read_limit=100, buffer_per_bucket=2000
    ) as running:
        await until(lambda: sum(read) >= BUFFER_BYTES // size - 100)
        (life,) = [one for one in running.engine.lease.open_lives() if one.waiting]
        await until(lambda: not running.engine.fetcher._has_room(life))
        assert life.waiting <= BUFFER_BYTES // size + 4
        assert life.more
        await running.stop(grace=0.1)


async def test_small_ones_fill_the_buffer(store: Any) -> None:
    await push(store, *(new_job("waits", number) for number in range(300)))
    async with running_engine(
        store, FunctionWorkload(waits), slots=4, read_limit=100, buffer_per_bucket=250
    ) as running:
        await until(lambda: any(life.waiting > 150 for life in running.engine.lease.open_lives()))
        assert all(life.room_for is None for life in running.engine.lease.open_lives())
        await running.stop(grace=0.1)


async def test_large_held_jobs_leave_most_of_them_in_the_store(store: Any) -> None:
    claimed: list[int] = []

    async def claim(*args: Any, **more: Any) -> Any:
        answer = await store.claim(*args, **more)
        claimed.append(len(answer.jobs))
        return answer

    size = 200_000
    for _ in range(16):
        await store.hold([new_job("waits", "x" * size) for _ in range(25)])
    async with running_engine(
        Wrapped(store, claim=claim), FunctionWorkload(waits), slots=4, claim_limit=50, buffer_per_bucket=2000
    ) as running:
        engine = running.engine
        most = BUFFER_BYTES // size
        await until(lambda: any(engine.claimer._is_full(life) for life in engine.lease.open_lives()))
        looked = len(claimed)
        engine.claimer.wake()
        await until(lambda: len(claimed) > looked or not engine.claimer._wake.is_set())
        assert most - 50 <= sum(claimed) <= most + 50 + 4, "and a claim's worth in reserve"
        await running.stop(grace=0.1)


async def test_small_held_jobs_fill_the_buffer(store: Any) -> None:
    await store.hold([new_job("waits", number) for number in range(300)])
    async with running_engine(
        store, FunctionWorkload(waits), slots=4, claim_limit=100, buffer_per_bucket=250
    ) as running:
        await until(lambda: any(life.waiting > 150 for life in running.engine.lease.open_lives()))
        assert running.engine.claimer._room_for is None
        await running.stop(grace=0.1)
