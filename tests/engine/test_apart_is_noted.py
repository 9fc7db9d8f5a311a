"""What runs in a process of its own is counted, too, when its engine dies: it may be what its engine dies of."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

from jobmaster.model.ids import JobKey
from jobmaster.model.job import Blame
from jobmaster.model.run import Finished, Halt, Run
from jobmaster.model.states import JobStatus
from tests.engine.one_engine import final, new_job, push, running_engine, until
from tests.engine.pool_workload import FunctionWorkload


class PatientPool:
    """Its runs never end."""

    def __init__(self) -> None:
        self.finished: Callable[[list[Finished]], None] = lambda _finished: None
        self.runs = 0

    def submit(self, runs: Sequence[Run]) -> None:
        self.runs += len(runs)

    def halt(self, _key: JobKey, _why: Halt) -> bool:
        return False

    def stuck(self) -> list[JobKey]:
        return []

    async def close(self) -> None:
        pass


async def waits(_argument: object) -> None:
    await asyncio.Event().wait()


async def test_a_job_that_ends_its_engine_from_a_process_of_its_own_is_given_up_in_the_end(store: Any) -> None:
    job = new_job("waits")
    await push(store, job)
    for boot in range(1, 10):
        apart = PatientPool()
        async with running_engine(
            store, FunctionWorkload(waits), boot=boot, lost_every=0.1, apart_pool=apart
        ) as running:
            runner = running.engine.runner
            await until(lambda runner=runner: job.key in runner.running)
            assert apart.runs == (boot > 2), "from its second count on"
            evidence = running.engine.lease._link.evidence()
            assert evidence == [job.key]
            worker = running.engine.lease.worker
            await running.vanish()
        await store.end_worker(worker, blame=[Blame(key, "SIGKILL") for key in evidence])
    async with running_engine(store, FunctionWorkload(waits), boot=10, lost_every=0.1, apart_pool=PatientPool()):
        (state,) = await final(store, job.key)
    assert (state.status, state.reason) == (JobStatus.FAILED, "quarantined")
