"""R1 to R3 of the protocol: where a job goes, and what is done after a refusal, a failure and an unknown outcome."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from jobmaster.accept import Acceptor, Delivery
from jobmaster.errors import OutcomeUnknown, StoreUnavailable
from jobmaster.model.bucket import NewBucket
from jobmaster.model.ids import new_job_key
from jobmaster.model.job import Envelope, NewJob, encode_envelope
from jobmaster.model.states import JobStatus
from tests.unit.faulty_store import CALL_LOST, DOWN, REFUSED, REPLY_LOST, SILENT, FaultyStore


def new_job() -> NewJob:
    envelope = Envelope(task="t", call=b"[[],{}]", created_us=1, scheduled_us=1)
    return NewJob(key=new_job_key(), envelope=envelope, payload=encode_envelope(envelope))


def acceptor(store: FaultyStore, *, home: str | None = "standalone", passive: bool = False) -> Acceptor:
    return Acceptor(store, {"standalone": store}, home=home, jobs_first_on_master=passive)


def delivery(*jobs: NewJob, within: float = 1.0) -> Delivery:
    return Delivery(list(jobs), lane="", priority=3, deadline=asyncio.get_running_loop().time() + within)


def pushed(store: FaultyStore) -> list[Any]:
    return store.calls_of("push")


def run(scenario: Any) -> None:
    asyncio.run(scenario())


def test_without_a_bucket_the_first_job_makes_an_ownerless_one_and_the_second_finds_it() -> None:
    async def scenario() -> None:
        store = FaultyStore()
        accept = acceptor(store)
        await accept.accept(delivery(new_job()))
        await accept.accept(delivery(new_job()))

        buckets = await store.open_buckets()
        assert [(bucket.owner, bucket.agent) for bucket in buckets] == [(None, "standalone")]
        assert [bucket for bucket, _ in pushed(store)] == [buckets[0].id] * 2

    run(scenario)


def test_without_a_bucket_a_separate_agent_leaves_the_job_to_the_master() -> None:
    async def scenario() -> None:
        store = FaultyStore()
        job = new_job()
        await acceptor(store, home=None).accept(delivery(job))

        state = (await store.look_up([job.key]))[0]
        assert state is not None
        assert state.status is JobStatus.HELD_ON_MASTER

    run(scenario)


def test_a_refused_push_goes_to_another_bucket() -> None:
    async def scenario() -> None:
        store = FaultyStore()
        bucket = await store.offer_bucket(NewBucket(token="a", agent="standalone", lane="", priority=3))
        store.plan["push"] = [REFUSED]
        await acceptor(store).accept(delivery(new_job()))

        assert [target for target, _ in pushed(store)] == [bucket.id, bucket.id]
        assert store.calls_of("hold") == []
        assert len(store.calls_of("open_buckets")) == 2, "a refusal makes the list of buckets worthless"

    run(scenario)


def test_when_every_bucket_refuses_the_master_holds_the_job() -> None:
    async def scenario() -> None:
        store = FaultyStore()
        store.plan["push"] = [REFUSED] * 20
        job = new_job()
        await acceptor(store).accept(delivery(job))

        assert [held.key for held in store.calls_of("hold")[0]] == [job.key]

    run(scenario)


def test_an_unreachable_separate_agent_is_a_certain_refusal_so_the_master_is_asked() -> None:
    async def scenario() -> None:
        store = FaultyStore()
        await store.offer_bucket(NewBucket(token="a", agent="standalone", lane="", priority=3))
        store.plan["push"] = [DOWN]
        await acceptor(store, home=None).accept(delivery(new_job()))

        assert len(pushed(store)) == 1
        assert len(store.calls_of("hold")) == 1

    run(scenario)


@pytest.mark.parametrize("fault", [REPLY_LOST, CALL_LOST])
@pytest.mark.parametrize("home", ["standalone", None])
def test_after_an_unknown_outcome_the_same_message_goes_to_the_same_bucket_marked(fault: str, home: str | None) -> None:
    async def scenario() -> None:
        store = FaultyStore()
        bucket = await store.offer_bucket(NewBucket(token="a", agent="standalone", lane="", priority=3))
        store.plan["push"] = [fault]
        job = new_job()
        await acceptor(store, home=home).accept(delivery(job))

        (first, sent), (second, repeated) = pushed(store)
        assert first == second == bucket.id
        assert sent[0].key == repeated[0].key == job.key
        assert (sent[0].verify, repeated[0].verify) == (False, True)
        assert store.calls_of("hold") == [], "another store is never asked after an unknown outcome"

    run(scenario)


def test_an_outcome_that_stays_unknown_is_told_as_such_and_no_other_store_is_asked() -> None:
    async def scenario() -> None:
        store = FaultyStore()
        await store.offer_bucket(NewBucket(token="a", agent="standalone", lane="", priority=3))
        store.plan["push"] = [CALL_LOST, DOWN, *[CALL_LOST] * 50]
        with pytest.raises(OutcomeUnknown):
            await acceptor(store, home=None).accept(delivery(new_job(), within=0.3))

        assert store.calls_of("hold") == []

    run(scenario)


def test_after_an_unknown_outcome_only_a_refusal_allows_another_store_and_the_copy_is_marked() -> None:
    async def scenario() -> None:
        store = FaultyStore()
        await store.offer_bucket(NewBucket(token="a", agent="standalone", lane="", priority=3))
        store.plan["push"] = [CALL_LOST, *[REFUSED] * 20]
        await acceptor(store, home=None).accept(delivery(new_job()))

        assert [job.verify for job in store.calls_of("hold")[0]] == [True]

    run(scenario)


def test_a_store_that_never_answers_is_an_unknown_outcome_at_the_deadline() -> None:
    async def scenario() -> None:
        store = FaultyStore()
        store.plan["push"] = [SILENT] * 5
        with pytest.raises(OutcomeUnknown):
            await acceptor(store).accept(delivery(new_job(), within=0.2))

    run(scenario)


def test_stores_that_are_down_until_the_deadline_are_unavailable_and_nothing_is_stored() -> None:
    async def scenario() -> None:
        store = FaultyStore()
        for verb in ("push", "hold", "open_buckets"):
            store.plan[verb] = [DOWN] * 100
        job = new_job()
        with pytest.raises(StoreUnavailable) as told:
            await acceptor(store).accept(delivery(job, within=0.3))

        assert not isinstance(told.value, OutcomeUnknown)
        assert "nothing was stored" in str(told.value)
        assert await FaultyStore.look_up(store, [job.key]) == [None]

    run(scenario)


def test_a_store_that_comes_back_before_the_deadline_takes_the_job() -> None:
    async def scenario() -> None:
        store = FaultyStore()
        store.plan["push"] = [DOWN, DOWN]
        await acceptor(store).accept(delivery(new_job()))

        assert len(pushed(store)) == 3

    run(scenario)


def test_a_passive_cluster_holds_on_the_master() -> None:
    async def scenario() -> None:
        store = FaultyStore()
        await store.offer_bucket(NewBucket(token="a", agent="standalone", lane="", priority=3))
        await acceptor(store, passive=True).accept(delivery(new_job()))

        assert pushed(store) == []
        assert len(store.calls_of("hold")) == 1

    run(scenario)


def test_a_hold_whose_reply_was_lost_is_repeated_and_stays_one_row() -> None:
    async def scenario() -> None:
        store = FaultyStore()
        store.plan["hold"] = [REPLY_LOST]
        job = new_job()
        held = delivery(job)
        held.to_master = True
        await acceptor(store).accept(held)

        assert [[held.verify for held in jobs] for jobs in store.calls_of("hold")] == [[False], [True]]
        state = (await store.look_up([job.key]))[0]
        assert state is not None
        assert state.status is JobStatus.HELD_ON_MASTER

    run(scenario)
