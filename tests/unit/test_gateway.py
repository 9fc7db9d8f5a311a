"""Batches on their way: each caller of a batch has a deadline, a fault and an answer of their own."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest

from jobmaster.errors import OutcomeUnknown, StoreUnavailable
from jobmaster.gateway import MOST_FLIGHTS, MOST_JOBS, Gateway, Line, Route
from jobmaster.model.ids import key_text, new_job_key
from jobmaster.model.job import Envelope, NewJob, encode_envelope
from jobmaster.ports.answers import Refused
from jobmaster.tickets import Promise
from tests.unit.faulty_store import CALL_LOST, DOWN, REPLY_LOST, SILENT, FaultyStore, connections

pytestmark = pytest.mark.backend("memory")

ROUTE = Route("", 3, hold=False)
SHORT = 0.8
"""Seconds in which a call is under way on a busy machine, too, and which a test can wait for."""


def new_job(**fields: Any) -> NewJob:
    envelope = Envelope(task="t", call=b"[[],{}]", created_us=1, scheduled_us=1, **fields)
    return NewJob(key=new_job_key(), envelope=envelope, payload=encode_envelope(envelope))


def promise(*jobs: NewJob, within: float = 5.0, route: Route = ROUTE) -> Promise:
    return Promise(list(jobs) or [new_job()], route, time.monotonic() + within)


def gateway(store: FaultyStore) -> Gateway:
    return Gateway(connections(store), token="test", only_master=False)


async def sent(gate: Gateway, *promises: Promise) -> list[Exception | None]:
    for each in promises:
        gate.put(each, here=True)
    return [await each.answer for each in promises]


def run(scenario: Any) -> None:
    asyncio.run(asyncio.wait_for(scenario(), 30))


async def warmed(store: FaultyStore) -> Gateway:
    gate = gateway(store)
    assert await sent(gate, promise()) == [None]
    store.calls.clear()
    return gate


@pytest.mark.parametrize("fault", [SILENT, DOWN])
def test_a_caller_who_came_earlier_does_not_take_the_time_of_the_others(fault: str) -> None:
    async def scenario() -> None:
        store = FaultyStore()
        gate = await warmed(store)
        early, late = promise(within=SHORT), promise(within=20)
        store.plan["push"] = [SILENT] if fault == SILENT else [DOWN] * 3
        store.plan["open_buckets"] = [] if fault == SILENT else [DOWN] * 3
        first, second = await sent(gate, early, late)

        if fault == SILENT:
            assert isinstance(first, OutcomeUnknown)
        assert second is None, "there was time left"
        assert (await store.look_up([late.jobs[0].key]))[0] is not None

    run(scenario)


def test_what_is_unknown_of_a_batch_stays_marked_for_those_who_have_time_left() -> None:
    async def scenario() -> None:
        store = FaultyStore()
        gate = await warmed(store)
        early, late = promise(within=SHORT), promise(within=20)
        store.plan["push"] = [SILENT]
        first, second = await sent(gate, early, late)

        assert (type(first), second) == (OutcomeUnknown, None)
        (bucket, both), (again, rest) = store.calls_of("push")
        assert [job.key for job in both] == [early.jobs[0].key, late.jobs[0].key]
        assert [(job.key, job.verify) for job in rest] == [(late.jobs[0].key, True)]
        assert bucket == again, "another store is never asked after an unknown outcome"

    run(scenario)


@pytest.mark.parametrize("fault", [CALL_LOST, REPLY_LOST])
def test_one_callers_fault_after_an_unknown_outcome_leaves_the_others_marked(fault: str) -> None:
    async def scenario() -> None:
        store = FaultyStore()
        gate = await warmed(store)
        original = store.push

        async def picky(bucket: int, jobs: Any) -> None:
            await original(bucket, jobs)
            if len(store.calls_of("push")) > 1 and any(job.envelope.reply_to == "bad" for job in jobs):
                raise ValueError("this store cannot take that")

        store.push = picky  # type: ignore[method-assign]
        store.plan["push"] = [fault]
        good, bad = promise(), promise(new_job(reply_to="bad"))
        first, second = await sent(gate, good, bad)

        assert first is None
        assert isinstance(second, ValueError)
        alone = [jobs for _, jobs in store.calls_of("push") if len(jobs) == 1]
        assert [job.verify for jobs in alone for job in jobs] == [True, True]

    run(scenario)


def test_a_hold_of_unknown_outcome_is_not_followed_by_a_push() -> None:
    async def scenario() -> None:
        store = FaultyStore()
        gate = await warmed(store)
        bucket = (await store.open_buckets())[0]
        original = store.push

        async def closed(bucket: int, jobs: Any) -> None:
            store.calls.append(("push", (bucket, jobs)))
            raise Refused("closed")

        store.push = closed  # type: ignore[method-assign]
        store.plan["hold"] = [SILENT]
        early, late = promise(within=SHORT), promise(within=20)
        pushes = len(store.calls_of("push"))
        first, second = await sent(gate, early, late)
        store.push = original  # type: ignore[method-assign]

        assert (type(first), second) == (OutcomeUnknown, None)
        assert bucket is not None
        names = [name for name, _ in store.calls[pushes:] if name in {"push", "hold"}]
        assert names[-2:] == ["hold", "hold"]

    run(scenario)


@pytest.mark.parametrize(("fault", "expected"), [(SILENT, OutcomeUnknown), (DOWN, StoreUnavailable)])
def test_every_caller_of_a_lost_batch_has_an_error_and_an_id_of_their_own(fault: str, expected: type) -> None:
    async def scenario() -> None:
        store = FaultyStore()
        gate = await warmed(store)
        store.plan["push"] = store.plan["open_buckets"] = [fault] * 50
        promises = [promise(within=SHORT) for _ in range(5)]
        errors = await sent(gate, *promises)

        assert [type(error) for error in errors] == [expected] * 5
        assert len({id(error) for error in errors}) == 5
        if expected is OutcomeUnknown:
            ids = [error.job_id for error in errors if isinstance(error, OutcomeUnknown)]
            assert ids == [key_text(each.jobs[0].key) for each in promises]

    run(scenario)


def test_what_waits_while_two_batches_are_under_way_travels_together() -> None:
    async def scenario() -> None:
        store = FaultyStore()
        gate = await warmed(store)
        original, free = store.push, asyncio.Event()
        flying = []

        async def slow(bucket: int, jobs: Any) -> None:
            flying.append(len(jobs))
            await free.wait()
            await original(bucket, jobs)

        store.push = slow  # type: ignore[method-assign]
        promises = []
        for _ in range(30):
            promises.append(promise())
            gate.put(promises[-1], here=True)
            await asyncio.sleep(0)
            await asyncio.sleep(0)
        assert flying == [1] * MOST_FLIGHTS
        other = promise(route=Route("", 5, hold=False))
        gate.put(other, here=True)
        free.set()
        assert [await each.answer for each in [*promises, other]] == [None] * 31
        assert sorted(flying) == [1, 1, 1, 30 - MOST_FLIGHTS]

    run(scenario)


def test_a_gateway_that_closes_tells_those_who_wait() -> None:
    async def scenario() -> None:
        store = FaultyStore()
        gate = await warmed(store)
        store.plan["push"] = [SILENT] * 9
        promises = [promise(within=SHORT) for _ in range(4)]
        for each in promises:
            gate.put(each, here=True)
            await asyncio.sleep(0.01)
        await gate.close()
        errors = [await each.answer for each in promises]

        assert [type(error) for error in errors] == [OutcomeUnknown, OutcomeUnknown, StoreUnavailable, StoreUnavailable]
        after = promise()
        gate.put(after, here=True)
        assert type(await after.answer) is StoreUnavailable

    run(scenario)


def test_a_batch_holds_no_job_twice_and_not_too_many() -> None:
    line = Line()
    twice = new_job()

    async def scenario() -> None:
        parcels = [promise(twice), promise(), promise(twice), promise(*(new_job() for _ in range(MOST_JOBS)))]
        line.parcels.extend(parcels)
        assert line.load() == parcels[:2]
        assert line.load() == parcels[2:3]
        assert line.load() == parcels[3:]
        assert all(parcel.sent for parcel in parcels)

    run(scenario)


def test_an_answer_that_took_its_time_does_not_decide_how_far_the_clock_is_ahead() -> None:
    async def scenario() -> None:
        store = FaultyStore()
        usual, waits = store.now_us, [0.0, 0.5, 0.5, 0.0, 0.5, 0.5]

        async def now_us() -> int:
            found = await usual() + 60_000_000
            await asyncio.sleep(waits.pop())
            return found

        store.now_us = now_us  # type: ignore[method-assign]
        first, second = [await gateway(store).clock_ahead_us() for _ in range(2)]

        assert all(abs(ahead - 60_000_000) < 200_000 for ahead in (first, second)), (first, second)

    run(scenario)
