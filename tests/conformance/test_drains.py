"""Buckets that nobody adopts are drained, and none is retired with something in it (R15, R16)."""

from __future__ import annotations

import asyncio

import pytest

from jobmaster.model.states import BucketStatus, JobStatus
from jobmaster.ports.answers import Fenced
from tests.conformance.adapters import AGENT
from tests.conformance.cases import case
from tests.conformance.cluster import SECOND, Cluster, outcome_of, start_of


@case("success", "claim_drain")
async def test_a_bucket_that_nobody_adopts_for_a_while_is_drained_by_one_worker(cluster: Cluster) -> None:
    lost = await cluster.owned("dead")
    offered = await cluster.store.offer_bucket(cluster.new_bucket(lane="nobody"))
    await cluster.lose(lost)
    drainer = await cluster.worker("drainer")
    assert await cluster.store.claim_drain(drainer, agent="elsewhere", older_us=0) is None
    first = await cluster.store.claim_drain(drainer, agent=AGENT, older_us=5 * SECOND)
    assert (first.id, first.status, first.owner) == (offered.id, BucketStatus.DRAINING, drainer)
    assert first.epoch == offered.epoch + 1
    await cluster.store.retire(first.fence)
    assert await cluster.store.claim_drain(drainer, agent=AGENT, older_us=5 * SECOND) is None
    cluster.later(5)
    second = await cluster.store.claim_drain(drainer, agent=AGENT, older_us=5 * SECOND)
    assert (second.id, second.epoch) == (lost.id, 3)


@case("conflict", "claim_drain")
async def test_an_owned_bucket_is_not_drained_and_an_ended_worker_drains_nothing(cluster: Cluster) -> None:
    await cluster.owned()
    drainer = await cluster.worker("drainer")
    assert await cluster.store.claim_drain(drainer, agent=AGENT, older_us=0) is None
    await cluster.store.end_worker(drainer)
    with pytest.raises(Fenced):
        await cluster.store.claim_drain(drainer, agent=AGENT, older_us=0)


@case("repeat", "claim_drain")
async def test_asked_again_a_drainer_gets_the_same_bucket(cluster: Cluster) -> None:
    dead = await cluster.worker("dead")
    await cluster.bucket(dead)
    await cluster.bucket(dead)
    await cluster.store.end_worker(dead)
    drainer = await cluster.worker("drainer")
    first = await cluster.store.claim_drain(drainer, agent=AGENT, older_us=0)
    assert await cluster.store.claim_drain(drainer, agent=AGENT, older_us=0) == first


@case("race", "claim_drain")
async def test_two_drainers_get_two_buckets_or_one_gets_none(cluster: Cluster) -> None:
    bucket = await cluster.owned("dead")
    await cluster.lose(bucket)
    one, two = await cluster.worker("one"), await cluster.worker("two")
    other = await cluster.other()
    found = await asyncio.gather(
        cluster.store.claim_drain(one, agent=AGENT, older_us=0), other.claim_drain(two, agent=AGENT, older_us=0)
    )
    assert sorted(drained is None for drained in found) == [False, True]


@case("success", "return_bucket")
async def test_a_drainer_or_adopter_gives_a_bucket_back(cluster: Cluster) -> None:
    draining = await cluster.draining(await cluster.owned())
    await cluster.store.return_bucket(draining.fence)
    lost = await cluster.bucket_now(draining)
    assert (lost.owner, lost.status, lost.epoch, lost.clean) == (None, BucketStatus.LOST, draining.epoch + 1, False)
    adopted = await cluster.adopted(lost)
    await cluster.store.return_bucket(adopted.fence)
    assert (await cluster.bucket_now(lost)).status is BucketStatus.LOST


@case("conflict", "return_bucket")
async def test_a_bucket_is_given_back_by_its_holder_only(cluster: Cluster) -> None:
    bucket = await cluster.owned()
    draining = await cluster.draining(bucket)
    with pytest.raises(Fenced):
        await cluster.store.return_bucket(bucket.fence)
    assert await cluster.bucket_now(bucket) == draining


@case("repeat", "return_bucket")
async def test_giving_back_again_is_fenced(cluster: Cluster) -> None:
    draining = await cluster.draining(await cluster.owned())
    await cluster.store.return_bucket(draining.fence)
    with pytest.raises(Fenced):
        await cluster.store.return_bucket(draining.fence)


@case("race", "return_bucket")
async def test_giving_back_beside_a_loss_raises_the_epoch_once(cluster: Cluster) -> None:
    draining = await cluster.draining(await cluster.owned())
    other = await cluster.other()
    await asyncio.gather(
        cluster.store.return_bucket(draining.fence), other.end_worker(draining.owner or 0), return_exceptions=True
    )
    assert (await cluster.bucket_now(draining)).epoch == draining.epoch + 1


@case("success", "drain_in")
async def test_drained_messages_become_held_suspect_jobs(cluster: Cluster) -> None:
    bucket = await cluster.owned()
    message = await cluster.message(bucket)
    started = await cluster.running(bucket)
    await cluster.store.push(bucket.id, [later := cluster.job(due_in=600)])
    draining = await cluster.draining(bucket)
    messages = await cluster.store.drain_read(bucket.id, draining.epoch, limit=10)
    await cluster.store.drain_in(draining.fence, messages)
    assert {await cluster.status(one.key) for one in messages} == {JobStatus.HELD_ON_MASTER}
    assert (await cluster.row(started.key)).recoveries == 1
    assert (await cluster.row(later.key)).due_us == later.delay_us + cluster.now_us - 11 * SECOND
    other = await cluster.owned("other")
    claimed = {job.key: job for job in (await cluster.claim(other)).jobs}
    assert set(claimed) == {message.key, started.key}
    assert {job.suspect for job in claimed.values()} == {True}


@case("conflict", "drain_in")
async def test_a_drain_takes_no_job_from_its_present_owner(cluster: Cluster) -> None:
    bucket, other = await cluster.owned("dead"), await cluster.owned("other")
    retried, ended = await cluster.pushed(bucket, 2)
    again = outcome_of(retried, JobStatus.HELD_ON_MASTER)
    await cluster.store.finish(bucket.fence, [again, outcome_of(ended)])
    (job,) = (await cluster.claim(other)).jobs
    await cluster.store.start(other.fence, [start_of(job)])
    cluster.later(5)
    await cluster.renew(other.owner or 0)
    cluster.later(6)
    await cluster.store.mark_lost()
    drainer = await cluster.worker("drainer")
    draining = await cluster.store.claim_drain(drainer, agent=AGENT, older_us=0)
    assert draining.id == bucket.id
    await cluster.store.drain_in(draining.fence, [retried, ended])
    assert await cluster.status(retried.key) is JobStatus.PROCESSING
    assert await cluster.status(ended.key) is JobStatus.SUCCEEDED


@case("conflict", "drain_in")
async def test_only_the_drainer_drains(cluster: Cluster) -> None:
    bucket = await cluster.owned()
    message = await cluster.message(bucket)
    with pytest.raises(Fenced):
        await cluster.store.drain_in(bucket.fence, [message])
    draining = await cluster.draining(bucket)
    await cluster.store.return_bucket(draining.fence)
    with pytest.raises(Fenced):
        await cluster.store.drain_in(draining.fence, [message])
    row = await cluster.store.get_job(message.key)
    assert row is None or not row.in_master


@case("repeat", "drain_in")
async def test_draining_the_same_messages_again_takes_nothing_back(cluster: Cluster) -> None:
    bucket = await cluster.owned()
    message = await cluster.message(bucket)
    draining = await cluster.draining(bucket)
    await cluster.store.drain_in(draining.fence, [message])
    other = await cluster.owned("other")
    assert len((await cluster.claim(other)).jobs) == 1
    await cluster.store.drain_in(draining.fence, [message])
    assert await cluster.status(message.key) is JobStatus.QUEUED


@case("race", "drain_in")
async def test_two_batches_of_one_drain_at_once_store_each_job_once(cluster: Cluster) -> None:
    bucket = await cluster.owned()
    messages = await cluster.pushed(bucket, 4)
    draining = await cluster.draining(bucket)
    other = await cluster.other()
    await asyncio.gather(
        cluster.store.drain_in(draining.fence, messages[:3]), other.drain_in(draining.fence, messages[1:])
    )
    assert {(await cluster.row(message.key)).status for message in messages} == {JobStatus.HELD_ON_MASTER}
    assert {(await cluster.row(message.key)).recoveries for message in messages} == {0}


async def test_a_tombstone_ends_a_job_that_is_drained(cluster: Cluster) -> None:
    bucket = await cluster.owned()
    message = await cluster.message(bucket)
    await cluster.store.cancel(message.key)
    draining = await cluster.draining(bucket)
    await cluster.store.drain_in(draining.fence, [message])
    assert await cluster.status(message.key) is JobStatus.CANCELLED


async def test_a_retirement_loses_no_message_that_was_left(cluster: Cluster) -> None:
    bucket = await cluster.owned()
    message = await cluster.message(bucket)
    await cluster.store.complete(bucket.fence)
    await cluster.store.retire(bucket.fence)
    for orphan in await cluster.store.unknown_buckets(await cluster.store.orphans([])):
        while not await cluster.store.drain_orphan(orphan, limit=10):
            pass
    assert await cluster.status(message.key) is JobStatus.HELD_ON_MASTER


@case("conflict", "drain_in")
async def test_an_earlier_drainer_moves_nothing_of_the_present_one(cluster: Cluster) -> None:
    bucket = await cluster.owned()
    message = await cluster.message(bucket)
    early = await cluster.draining(bucket, "early")
    await cluster.store.return_bucket(early.fence)
    present = await cluster.store.claim_drain(await cluster.worker("present"), agent=AGENT, older_us=0)
    assert (present.id, present.epoch > early.epoch) == (bucket.id, True)
    with pytest.raises(Fenced):
        await cluster.store.drain_in(early.fence, [message])
    await cluster.store.drain_in(present.fence, [message])
    assert await cluster.status(message.key) is JobStatus.HELD_ON_MASTER
