"""Results of a megabyte: what waits for the store is bounded by bytes, too, and no write holds up the renewals."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from jobmaster.engine.finisher import MOST_BYTES
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
