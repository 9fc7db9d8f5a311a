"""I8: whatever a store, an archive or an outcome brings about, the worker goes on."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine, Sequence
from typing import Any

import pytest

from jobmaster.errors import ConfigurationError, SerializationError, StoreUnavailable
from jobmaster.model.job import Fence, Outcome
from jobmaster.model.run import End, Ended, Run
from jobmaster.model.states import JobStatus
from tests.engine.one_engine import final, new_job, push, running_engine, until
from tests.engine.pool_workload import FunctionWorkload
from tests.engine.wrapped_store import Wrapped


async def at_once(argument: object) -> object:
    return argument


class LateRetries(FunctionWorkload):
    """Task `later` asks for another attempt in three million years, which no database can store."""

    async def _awaited(self, run: Run) -> Ended:
        if run.envelope.task == "later":
            return Ended(End.RAISED, countdown=1e14)
        return await super()._awaited(run)


async def later(argument: object) -> object:
    return argument


async def test_an_outcome_that_cannot_be_stored_fails_its_job_alone(store: Any) -> None:
    async def settle(fence: Fence, outcomes: Sequence[Outcome]) -> Any:
        if any(outcome.delay_us >= 2**63 for outcome in outcomes):  # the memory store takes any number
            raise SerializationError("a number does not fit")
        return await store.settle(fence, outcomes)

    bad, good = new_job("later"), [new_job("at_once", n) for n in range(20)]
    await push(store, bad, *good)
    async with running_engine(Wrapped(store, settle=settle), LateRetries(at_once, later)) as running:
        states = await final(store, bad.key, *[job.key for job in good])
        assert not running.task.done()
        await until(running.engine.finisher.idle)
    found = {state.key: state for state in states}
    assert found[bad.key].status is JobStatus.FAILED
    assert "stored" in found[bad.key].reason
    assert all(found[job.key].status is JobStatus.SUCCEEDED for job in good)


@pytest.mark.parametrize(
    "verb",
    ["settle", "take_over", "read", "claim", "fence", "create_buckets", "depths", "mark_lost", "sweep", "route"],
)
async def test_an_unexpected_error_of_a_verb_does_not_end_the_worker(store: Any, verb: str) -> None:
    failures = 0

    async def fails_at_first(*arguments: Any, **options: Any) -> Any:
        nonlocal failures
        failures += 1
        if failures <= 2:
            raise RuntimeError("a bug, or a driver's own exception")
        return await getattr(store, verb)(*arguments, **options)

    wrapped = Wrapped(store, **{verb: fails_at_first})
    jobs = [new_job("at_once", n, at_most_once=n % 2 == 0) for n in range(10)]
    await push(store, *jobs)
    async with running_engine(wrapped, FunctionWorkload(at_once), sweep_every=0.05, lost_every=0.05) as running:
        states = await final(store, *[job.key for job in jobs])
        await until(lambda: failures >= 2)
        assert not running.task.done()
    assert {state.status for state in states} == {JobStatus.SUCCEEDED}


async def test_an_archive_that_cannot_be_opened_does_not_end_the_worker(store: Any) -> None:
    asked = 0

    class ClosedArchive:
        async def import_aged(self, _records: object) -> Coroutine[Any, Any, Any]:
            nonlocal asked
            asked += 1
            raise ConfigurationError("the archive's file is read-only")

    job = new_job("at_once")
    await push(store, job)
    async with running_engine(
        store, FunctionWorkload(at_once), janitor_every=0.02, retention=0.0, archive=ClosedArchive()
    ) as running:
        await final(store, job.key)
        await until(lambda: asked >= 2)
        assert not running.task.done()
        assert (await store.look_up([job.key]))[0] is not None, "what is not safe in the archive stays"


async def test_an_archive_that_takes_nothing_is_not_asked_without_end(store: Any) -> None:
    asked = 0

    class FullArchive:
        async def import_aged(self, _records: object) -> list[Any]:
            nonlocal asked
            asked += 1
            return []

    jobs = [new_job("at_once", n) for n in range(600)]
    await push(store, *jobs)
    async with running_engine(store, FunctionWorkload(at_once)):
        await final(store, *[job.key for job in jobs])
    async with running_engine(
        store, FunctionWorkload(at_once), name="w2", janitor_every=1.0, retention=0.0, archive=FullArchive()
    ):
        await until(lambda: asked >= 1)
        first = time.monotonic()
        await asyncio.sleep(0.3)
        assert asked <= 1 + (time.monotonic() - first) / 0.75, "once in each of its periods, which are 0.75 s at least"


async def test_a_stop_ends_in_time_while_the_master_is_away(store: Any) -> None:
    async def away(*_: Any, **__: Any) -> Any:
        raise StoreUnavailable("away")

    wrapped = Wrapped(store)
    async with running_engine(wrapped, FunctionWorkload(at_once)) as running:
        wrapped.give_up = wrapped.end_worker = away
        async with asyncio.timeout(20.0):
            await running.stop(0.5)


async def test_a_stop_ends_in_time_while_the_master_does_not_answer(store: Any) -> None:
    async def silent(*_: Any, **__: Any) -> Any:
        await asyncio.sleep(600)

    wrapped = Wrapped(store)
    async with running_engine(wrapped, FunctionWorkload(at_once)) as running:
        wrapped.give_up = silent
        async with asyncio.timeout(20.0):
            await running.stop(0.5)
