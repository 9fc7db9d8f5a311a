"""Accepting jobs: messages of a bucket (R1), rows on the master (R2), repeats of both (R3), and buckets of nobody."""

from __future__ import annotations

import asyncio

import pytest

from jobmaster.model.bucket import NewBucket
from jobmaster.model.job import NewJob
from jobmaster.model.states import BucketStatus, JobStatus
from jobmaster.ports.answers import Refused
from tests.conformance.adapters import AGENT
from tests.conformance.cases import case
from tests.conformance.cluster import NOON, SECOND, Cluster, outcome_of, start_of


@case("success", "push")
async def test_a_pushed_job_is_a_message_of_its_bucket(cluster: Cluster) -> None:
    bucket = await cluster.owned()
    job = cluster.job(metadata={"tenant": "blue"})
    await cluster.store.push(bucket.id, [job])
    (message,) = await cluster.messages(bucket)
    assert (message.bucket, message.key, message.gen, message.payload) == (bucket.id, job.key, 0, job.payload)
    assert (message.due_us, message.verify) == (NOON, False)


@case("success", "push")
async def test_a_delay_is_added_to_the_stores_clock(cluster: Cluster) -> None:
    bucket = await cluster.owned()
    cluster.later(5)
    await cluster.store.push(bucket.id, [cluster.job(due_in=3), cluster.job(due_us=NOON)])
    due = {message.due_us for message in await cluster.messages(bucket)}
    assert due == {NOON + 8 * SECOND, NOON}


@case("conflict", "push")
async def test_an_unknown_bucket_refuses_everything(cluster: Cluster) -> None:
    await cluster.owned()
    job = cluster.job()
    with pytest.raises(Refused):
        await cluster.store.push(999, [job])
    assert await cluster.status(job.key) is None


@case("conflict", "push", "close")
async def test_a_closed_bucket_refuses_messages_and_stores_none(cluster: Cluster) -> None:
    bucket = await cluster.owned()
    await cluster.store.complete(bucket.fence)
    assert await cluster.store.close(bucket.fence)
    with pytest.raises(Refused):
        await cluster.store.push(bucket.id, [cluster.job()])
    assert await cluster.store.depths([bucket.id]) == {bucket.id: 0}


@case("repeat", "push")
async def test_a_repeated_push_stores_one_message(cluster: Cluster) -> None:
    bucket = await cluster.owned()
    jobs = [cluster.job(), cluster.job()]
    await cluster.store.push(bucket.id, jobs)
    await cluster.store.push(bucket.id, [*jobs, cluster.job()])
    assert await cluster.store.depths([bucket.id]) == {bucket.id: 3}


@case("repeat", "push")
async def test_the_mark_of_a_repeated_push_travels_with_the_message(cluster: Cluster) -> None:
    bucket = await cluster.owned()
    await cluster.store.push(bucket.id, [cluster.job(verify=True)])
    (message,) = await cluster.messages(bucket)
    assert message.verify


@case("repeat", "push")
async def test_a_push_that_arrives_after_its_job_has_ended_does_not_start_it_again(cluster: Cluster) -> None:
    bucket = await cluster.owned()
    message = await cluster.finished(bucket)
    late = cluster.job(key=message.key, verify=True)
    await cluster.store.push(bucket.id, [late])
    (again,) = await cluster.messages(bucket)
    (verdict,) = await cluster.store.take_over(bucket.fence, [start_of(again)])
    assert not verdict.yes
    assert await cluster.messages(bucket) == []
    assert await cluster.status(message.key) is JobStatus.SUCCEEDED


@case("race", "push")
async def test_the_same_push_twice_at_once_stores_one_message(cluster: Cluster) -> None:
    bucket = await cluster.owned()
    other = await cluster.other()
    jobs = [cluster.job() for _ in range(5)]
    await asyncio.gather(cluster.store.push(bucket.id, jobs), other.push(bucket.id, jobs))
    assert await cluster.store.depths([bucket.id]) == {bucket.id: 5}


@case("race", "push", "close")
@pytest.mark.fault("D11")
async def test_a_push_beside_a_close_is_stored_or_refused_never_lost(cluster: Cluster) -> None:
    other = await cluster.other()
    for _ in range(5):
        bucket = await cluster.owned("w")
        await cluster.store.complete(bucket.fence)
        pushed, closed = await asyncio.gather(
            other.push(bucket.id, [cluster.job()]), cluster.store.close(bucket.fence), return_exceptions=True
        )
        depth = (await cluster.store.depths([bucket.id]))[bucket.id]
        if pushed is None:
            assert (closed, depth) == (False, 1)
        else:
            assert isinstance(pushed, Refused)
            assert (closed, depth) == (True, 0)


@case("success", "hold", "look_up")
async def test_a_held_job_is_a_row_of_the_master(cluster: Cluster) -> None:
    soon, later = cluster.job(), cluster.job(due_in=3600, verify=True)
    assert await cluster.store.hold([soon, later], reason="passive") == [True, True]
    row = await cluster.row(later.key)
    assert (row.status, row.gen, row.bucket, row.due_us) == (JobStatus.HELD_ON_MASTER, 0, None, NOON + 3600 * SECOND)
    assert (row.reason, row.envelope, row.in_master) == ("passive", later.envelope, True)
    states = await cluster.store.look_up([soon.key, cluster.job().key, later.key])
    assert [state and state.status for state in states] == [JobStatus.HELD_ON_MASTER, None, JobStatus.HELD_ON_MASTER]


@case("conflict", "hold")
async def test_holding_a_job_that_is_there_leaves_it_as_it_is(cluster: Cluster) -> None:
    bucket = await cluster.owned()
    ended = await cluster.finished(bucket, result=b"42")
    new = cluster.job()
    assert await cluster.store.hold([cluster.job(key=ended.key), new]) == [False, True]
    assert (await cluster.row(ended.key)).result == b"42"
    assert await cluster.status(ended.key) is JobStatus.SUCCEEDED


@case("conflict", "hold")
async def test_a_cancelled_job_that_arrives_late_is_held_as_cancelled(cluster: Cluster) -> None:
    job = cluster.job()
    await cluster.store.cancel(job.key)
    assert await cluster.store.hold([job]) == [True]
    assert await cluster.status(job.key) is JobStatus.CANCELLED


@case("repeat", "hold")
async def test_holding_again_stores_one_row(cluster: Cluster) -> None:
    job = cluster.job()
    assert await cluster.store.hold([job]) == [True]
    bucket = await cluster.owned()
    await cluster.claim(bucket)
    assert await cluster.store.hold([job, job]) == [False, False]
    assert await cluster.status(job.key) is JobStatus.QUEUED


@case("race", "hold")
async def test_of_two_acceptances_of_one_id_one_is_stored(cluster: Cluster) -> None:
    other = await cluster.other()
    job = cluster.job()
    inserted = await asyncio.gather(cluster.store.hold([job]), other.hold([job]))
    assert sorted(inserted) == [[False], [True]]


@case("conflict", "look_up")
async def test_nobody_knows_an_id_that_was_never_accepted(cluster: Cluster) -> None:
    assert await cluster.store.look_up([cluster.job().key]) == [None]
    assert await cluster.store.look_up([]) == []


@case("repeat", "look_up")
async def test_looking_again_gives_the_same_final_state(cluster: Cluster) -> None:
    bucket = await cluster.owned()
    message = await cluster.finished(bucket, result=b"42")
    (state,) = await cluster.store.look_up([message.key])
    assert (state.status, state.result, state.attempts) == (JobStatus.SUCCEEDED, b"42", 1)
    assert await cluster.store.look_up([message.key]) == [state]


async def test_a_message_without_a_row_is_known_where_both_are_one_database(cluster: Cluster) -> None:
    bucket = await cluster.owned()
    message = await cluster.message(bucket)
    assert await cluster.status(message.key) is (JobStatus.SAVE_PENDING if cluster.standalone else None)


@case("race", "look_up")
async def test_a_finish_is_seen_whole_or_not_at_all(cluster: Cluster) -> None:
    bucket = await cluster.owned()
    messages = await cluster.pushed(bucket, 5)
    keys = [message.key for message in messages]
    outcomes = [outcome_of(message, result=b"1") for message in messages]
    before, _ = await asyncio.gather(cluster.store.look_up(keys), cluster.store.settle(bucket.fence, outcomes))
    assert len({state and state.result for state in before}) == 1
    assert {state.result for state in await cluster.store.look_up(keys)} == {b"1"}


@case("success", "offer_bucket", "open_buckets")
async def test_a_producer_without_a_bucket_makes_one_that_nobody_owns(cluster: Cluster) -> None:
    offered = await cluster.store.offer_bucket(cluster.new_bucket(lane="mail", priority=4))
    assert (offered.agent, offered.lane, offered.priority) == (AGENT, "mail", 4)
    assert (offered.owner, offered.status, offered.epoch, offered.clean) == (None, BucketStatus.ACTIVE, 1, True)
    assert await cluster.store.open_buckets() == [offered]
    await cluster.store.push(offered.id, [cluster.job(lane="mail", priority=4)])
    worker = await cluster.worker(lanes=("mail",))
    grant = await cluster.renew(worker, adopt=1)
    assert [(bucket.id, bucket.owner, bucket.epoch) for bucket in grant.buckets] == [(offered.id, worker, 2)]
    await cluster.store.fence(grant.buckets[0].fence)
    assert len(await cluster.messages(offered)) == 1


@case("conflict", "offer_bucket")
async def test_a_producer_is_given_an_open_bucket_where_there_is_one(cluster: Cluster) -> None:
    bucket = await cluster.owned()
    assert (await cluster.store.offer_bucket(cluster.new_bucket())).id == bucket.id
    assert (await cluster.store.offer_bucket(cluster.new_bucket(priority=5))).id != bucket.id
    await cluster.lose(bucket)
    assert (await cluster.store.offer_bucket(cluster.new_bucket())).id == bucket.id


@case("repeat", "offer_bucket")
async def test_offering_again_finds_the_first(cluster: Cluster) -> None:
    new = cluster.new_bucket(lane="mail")
    first = await cluster.store.offer_bucket(new)
    assert await cluster.store.offer_bucket(new) == first
    assert (await cluster.store.offer_bucket(cluster.new_bucket(lane="mail"))).id == first.id


@case("race", "offer_bucket")
async def test_two_producers_make_one_bucket(cluster: Cluster) -> None:
    other = await cluster.other()
    offered = await asyncio.gather(
        cluster.store.offer_bucket(NewBucket("one", AGENT, "mail", 3)),
        other.offer_bucket(NewBucket("two", AGENT, "mail", 3)),
    )
    assert offered[0].id == offered[1].id
    assert len(await cluster.store.open_buckets()) == 1


@case("conflict", "open_buckets")
async def test_producers_are_told_of_lost_buckets_and_not_of_closing_ones(cluster: Cluster) -> None:
    closing, lost = await cluster.owned("a"), await cluster.owned("b")
    await cluster.store.complete(closing.fence)
    await cluster.store.end_worker(lost.owner or 0)
    assert [bucket.id for bucket in await cluster.store.open_buckets()] == [lost.id]
    await cluster.store.push(lost.id, [cluster.job()])


@case("repeat", "open_buckets")
async def test_asking_for_buckets_again_gives_the_same_ones(cluster: Cluster) -> None:
    assert await cluster.store.open_buckets() == []
    await cluster.owned()
    assert await cluster.store.open_buckets() == await cluster.store.open_buckets()


@case("race", "open_buckets")
async def test_buckets_are_listed_while_others_are_made(cluster: Cluster) -> None:
    worker = await cluster.worker()
    news = [cluster.new_bucket() for _ in range(3)]
    listed, made = await asyncio.gather(cluster.store.open_buckets(), cluster.store.create_buckets(worker, news))
    assert len(listed) in {0, 3}
    assert {bucket.id for bucket in await cluster.store.open_buckets()} == {bucket.id for bucket in made}


async def test_a_store_computes_no_due_time_that_it_cannot_keep(cluster: Cluster) -> None:
    job: NewJob = cluster.job(due_us=cluster.now_us + 86_400 * SECOND * 365)
    assert await cluster.store.hold([job]) == [True]
    assert (await cluster.row(job.key)).due_us == job.due_us


@case("conflict", "push")
async def test_a_copy_in_another_bucket_does_not_swallow_a_repeated_push(cluster: Cluster) -> None:
    first, second = await cluster.owned("first"), await cluster.owned("second")
    job = cluster.job()
    await cluster.store.push(first.id, [job])
    await cluster.store.push(second.id, [cluster.job(key=job.key, verify=True)])
    assert await cluster.store.depths([first.id, second.id]) == {first.id: 1, second.id: 1}
