"""Orders to stop: what comes twice, and what an engine that replaces itself gives its other runs."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

from jobmaster.engine import stopping
from jobmaster.errors import StoreUnavailable
from jobmaster.model.states import JobStatus
from tests.engine.one_engine import final, new_job, push, running_engine, until
from tests.engine.pool_workload import FunctionWorkload
from tests.engine.wrapped_store import Wrapped


async def sleep(argument: float) -> float:
    await asyncio.sleep(argument)
    return argument


@pytest.fixture
def gate():
    """Blocked threads go on when the test is over."""
    event = threading.Event()
    yield event
    event.set()


async def test_a_stop_that_is_delivered_twice_hurries_nobody(store: Any) -> None:
    """Each renewal brings a command again until its answer is stored."""
    answering, obeyed = asyncio.Event(), asyncio.Event()
    answers = 0

    async def answer_command(command: int, reply: bytes) -> None:
        nonlocal answers
        await answering.wait()
        await store.answer_command(command, reply)
        answers += 1

    async def wait(_: object) -> None:
        await obeyed.wait()

    job = new_job("wait")
    await push(store, job)
    wrapped = Wrapped(store, answer_command=answer_command)
    async with running_engine(wrapped, FunctionWorkload(wait), grace=20.0) as running:
        engine = running.engine
        await until(lambda: engine.runner.running)
        await store.send_command([engine.lease.worker], "stop", b"{}")
        engine.lease.report(soon=True)
        await until(lambda: engine.commands._queue.qsize() >= 1)
        answering.set()
        await until(lambda: answers >= 2)
        await asyncio.sleep(0.05)  # time for the run to be stopped, if it may
        obeyed.set()
        await running.task
    assert [state.status for state in await final(store, job.key)] == [JobStatus.SUCCEEDED]


async def test_a_granted_job_that_found_no_slot_before_the_stop_is_handed_back_unspent(store: Any) -> None:
    ran = []

    def once(_: object) -> None:
        ran.append(1)

    granted, long = new_job("once", at_most_once=True), new_job("sleep", 30.0)
    await push(store, granted, long)
    async with running_engine(store, FunctionWorkload(once, sleep), slots=1) as running:
        await until(lambda: running.engine.runner.guarded.ready)  # while it was asked about the other one took the slot
        await running.stop(grace=0.5)
    (state,) = await store.look_up([granted.key])
    assert (state.status, state.attempts, ran) == (JobStatus.HELD_ON_MASTER, 0, [])
    async with running_engine(store, FunctionWorkload(once), name="w2"):
        assert [state.status for state in await final(store, granted.key)] == [JobStatus.SUCCEEDED]


async def test_an_owner_that_stops_a_condemned_engine_itself_hurries_nobody(store: Any, gate: threading.Event) -> None:
    """So does an engine inside the user's process: there is no supervisor that would replace it."""

    def block(_: object) -> None:
        gate.wait(60)

    stuck, neighbour = new_job("block", timeout=0.2, max_retries=0), new_job("sleep", 2.5)
    await push(store, stuck, neighbour)
    async with running_engine(store, FunctionWorkload(block, sleep)) as running:
        running.engine._link._on_condemned = lambda _reason: running.engine.stop(10.0)  # type: ignore[attr-defined]
        await running.task
    states = {state.key: state.status for state in await final(store, stuck.key, neighbour.key)}
    assert states == {stuck.key: JobStatus.FAILED, neighbour.key: JobStatus.SUCCEEDED}


async def test_what_a_stop_leaves_behind_is_recovered_and_counted_for_nobody(
    store: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The store answers nothing but the very end: that gives the row back, and nobody died of it."""
    monkeypatch.setattr(stopping, "_LAST_WORDS", 0.3)
    job = new_job("sleep", 30.0)
    await push(store, job)

    async def set_free(*_: Any, **__: Any) -> Any:
        raise StoreUnavailable("no answer")

    ends: list[asyncio.Task[None]] = []

    async def end_worker(*arguments: Any, **options: Any) -> None:
        ends.append(asyncio.create_task(store.end_worker(*arguments, **options)))
        await asyncio.shield(ends[0])

    wrapped = Wrapped(store, set_free=set_free, end_worker=end_worker)
    async with running_engine(wrapped, FunctionWorkload(sleep), early_row_after=0.0, lost_every=0.1) as running:
        await until(lambda: [entry.recorded for entry in running.engine.runner.running.values()] == [True])
        running.engine.abort()
        await running.task
    await ends[0]  # it may take longer than an engine waits for it that stops
    (left,) = await store.look_up([job.key])
    assert left.status is JobStatus.HELD_ON_MASTER

    async def quick(argument: float) -> float:
        return argument

    quick.__name__ = "sleep"
    async with running_engine(store, FunctionWorkload(quick), name="w2", lost_every=0.1):
        (state,) = await final(store, job.key)
        assert (state.status, state.attempts) == (JobStatus.SUCCEEDED, 2)
        assert (await store.get_job(job.key)).recoveries == 0
