"""Messages of a newer program beside a worker of this one, on each kind of store: nothing is lost or garbled."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Annotated, Any

import msgspec
import pytest

from jobmaster.model import job as job_module
from jobmaster.model import versions
from jobmaster.model.backoff import Backoff
from jobmaster.model.job import Envelope, JobRecord, NewJob
from jobmaster.model.policy import TaskPolicy
from jobmaster.model.states import JobStatus
from jobmaster.ports.store import Store
from tests.engine.one_engine import final, new_job, push, running_engine
from tests.engine.pool_workload import FunctionWorkload


class NewerEnvelope(Envelope, frozen=True, array_like=True):
    """The envelope of the next release: a version more, and a field more."""

    version: Annotated[int, msgspec.Meta(le=2)] = 2
    more: str = ""


async def add(argument: list[int]) -> int:
    await asyncio.sleep(0)
    return sum(argument)


async def fail_once(argument: str, attempts: list[int] = []) -> str:  # noqa: B006 - counts the calls
    attempts.append(1)
    if len(attempts) % 2:
        raise ValueError(argument)
    return argument


class Quick(FunctionWorkload):
    """Repeats at once."""

    def policy(self, task: str) -> TaskPolicy | None:
        policy = super().policy(task)
        return policy and msgspec.structs.replace(policy, backoff=Backoff(base=0.01))


def newer(task: str, argument: object, *, version: int) -> NewJob:
    plain = new_job(task, argument)
    fields = [*msgspec.structs.astuple(plain.envelope), "something new"]
    fields[Envelope.__struct_fields__.index("version")] = version
    payload = msgspec.msgpack.encode(fields)
    return NewJob(plain.key, plain.envelope, payload)


async def awaited(store: Any, job: NewJob, condition: Callable[[JobRecord], bool]) -> JobRecord:
    async with asyncio.timeout(10):
        while (row := await store.get_job(job.key)) is None or not condition(row):
            await asyncio.sleep(0.005)
    return row


def is_parked(row: JobRecord) -> bool:
    return (row.status, row.reason) == (JobStatus.HELD_ON_MASTER, "unroutable")


async def payload_of(store: Any, job: NewJob) -> bytes:
    """What is stored of it, as whoever claims it next would get it."""
    kept: list[bytes] = []
    real = store.claim

    async def noting(*arguments: Any, **options: Any) -> Any:
        answer = await real(*arguments, **options)
        kept.extend(one.payload for one in answer.jobs if one.key == job.key)
        return answer

    store.claim = noting
    try:
        assert await store.route([versions.parked_as("add", 2)])
        async with running_engine(store, FunctionWorkload(add), name="looker"), asyncio.timeout(10):
            while not kept:
                await asyncio.sleep(0.005)
            await awaited(store, job, is_parked)
    finally:
        store.claim = real
    return kept[0]


@pytest.mark.fault("H6")
@pytest.mark.parametrize("held", [False, True])
async def test_a_newer_version_waits_untouched_for_a_worker_that_knows_it(
    store: Store, held: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = newer("add", [1, 2], version=2)
    async with running_engine(store, FunctionWorkload(add)):
        await (store.hold([job]) if held else push(store, job))
        row = await awaited(store, job, is_parked)
        assert row.task == "add (message version 2)"
        assert await store.route(versions.names_to_route(["add"])) == 0, "code that parked it does not take it again"
        await push(store, plain := new_job("add", [5]))
        assert (await final(store, plain.key))[0].status is JobStatus.SUCCEEDED, "it is in nobody's way"
    assert await payload_of(store, job) == job.payload

    monkeypatch.setattr(versions, "ENVELOPE_VERSION", 2)
    monkeypatch.setattr(job_module, "_decoder", msgspec.msgpack.Decoder(NewerEnvelope))
    async with running_engine(store, FunctionWorkload(add), name="newer", sweep_every=0.1):
        (state,) = await final(store, job.key)
    assert (state.status, state.result, state.attempts) == (JobStatus.SUCCEEDED, b"\x03", 1)
    assert (await awaited(store, job, lambda _: True)).task == "add"


async def test_a_new_field_of_the_same_version_survives_a_retry_by_older_code(store: Store) -> None:
    job = newer("fail_once", "luck", version=1)
    seen: list[bytes] = []
    real = store.claim

    async def noting(*arguments: Any, **options: Any) -> Any:
        answer = await real(*arguments, **options)
        seen.extend(one.payload for one in answer.jobs)
        return answer

    store.claim = noting  # type: ignore[method-assign]
    async with running_engine(store, Quick(fail_once)):
        await push(store, job)
        (state,) = await final(store, job.key)
    assert state.status is JobStatus.SUCCEEDED
    assert seen == [job.payload], "the second attempt has what the first had"
