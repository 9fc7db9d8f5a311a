"""The steps that touch the master and the agent, in their order (R10, R12, R13, R16, R18, R21)."""

from __future__ import annotations

import asyncio

import pytest

from jobmaster.model.job import Fence
from jobmaster.model.states import JobStatus
from jobmaster.ports.answers import Fenced, Refused
from tests.conformance.cases import case
from tests.conformance.cluster import Cluster, outcome_of, start_of


async def test_a_store_says_whether_it_is_one_database(cluster: Cluster) -> None:
    assert cluster.store.standalone is cluster.standalone


@case("success", "settle")
async def test_a_settled_job_leaves_its_agent(cluster: Cluster) -> None:
    bucket = await cluster.owned()
    messages = await cluster.pushed(bucket, 3)
    settled = await cluster.store.settle(bucket.fence, [outcome_of(message) for message in messages[:2]])
    assert [one.done for one in settled] == [True, True]
    assert await cluster.messages(bucket) == [messages[2]]


@case("success", "settle")
async def test_a_claimed_job_is_settled_without_a_message(cluster: Cluster) -> None:
    bucket = await cluster.owned()
    job = await cluster.claimed(bucket)
    assert (await cluster.store.settle(bucket.fence, [outcome_of(job)]))[0].done
    assert await cluster.status(job.key) is JobStatus.SUCCEEDED


@case("conflict", "settle")
async def test_a_fenced_batch_removes_no_message(cluster: Cluster) -> None:
    bucket = await cluster.owned()
    messages = await cluster.pushed(bucket, 2)
    adopted = await cluster.adopted(bucket)
    with pytest.raises(Fenced):
        await cluster.store.settle(bucket.fence, [outcome_of(message) for message in messages])
    assert [message.key for message in await cluster.messages(adopted)] == [message.key for message in messages]


@case("conflict", "settle")
async def test_a_stale_outcome_removes_its_own_message_all_the_same(cluster: Cluster) -> None:
    bucket = await cluster.owned()
    message = await cluster.running(bucket)
    await cluster.store.finish(bucket.fence, [outcome_of(message, JobStatus.HELD_ON_MASTER)])
    (settled,) = await cluster.store.settle(bucket.fence, [outcome_of(message, attempt=2)])
    assert not settled.done
    assert await cluster.messages(bucket) == []
    assert await cluster.status(message.key) is JobStatus.HELD_ON_MASTER


@case("repeat", "settle")
async def test_a_batch_whose_removal_was_not_answered_is_repeated_safely(cluster: Cluster) -> None:
    bucket = await cluster.owned()
    outcomes = [outcome_of(message) for message in await cluster.pushed(bucket, 2)]
    await cluster.store.finish(bucket.fence, outcomes)
    for _ in range(2):
        assert [one.done for one in await cluster.store.settle(bucket.fence, outcomes)] == [True, True]
    assert await cluster.messages(bucket) == []


@case("race", "settle")
async def test_batches_at_once_settle_each_job_once(cluster: Cluster) -> None:
    bucket = await cluster.owned()
    other = await cluster.other()
    outcomes = [outcome_of(message) for message in await cluster.pushed(bucket, 30)]
    answers = await asyncio.gather(
        *(cluster.store.settle(bucket.fence, outcomes[n : n + 10]) for n in (0, 10)),
        other.settle(bucket.fence, outcomes[20:]),
    )
    assert all(one.done for answer in answers for one in answer)
    assert await cluster.store.depths([bucket.id]) == {bucket.id: 0}
    states = await cluster.store.look_up([outcome.key for outcome in outcomes])
    assert {state.status for state in states} == {JobStatus.SUCCEEDED}


@case("success", "take_over")
async def test_an_at_most_once_message_leaves_when_its_start_is_recorded(cluster: Cluster) -> None:
    bucket = await cluster.owned()
    once, verified = await cluster.message(bucket, at_most_once=True), await cluster.message(bucket)
    verdicts = await cluster.store.take_over(bucket.fence, [start_of(once, take_over=True), start_of(verified)])
    assert [verdict.yes for verdict in verdicts] == [True, True]
    assert [message.key for message in await cluster.messages(bucket)] == [verified.key]


@case("conflict", "take_over")
async def test_a_message_that_may_not_start_leaves_its_agent(cluster: Cluster) -> None:
    bucket = await cluster.owned()
    cancelled, open_ = await cluster.pushed(bucket, 2)
    await cluster.store.cancel(cancelled.key)
    verdicts = await cluster.store.take_over(bucket.fence, [start_of(cancelled), start_of(open_)])
    assert [verdict.yes for verdict in verdicts] == [False, True]
    assert [message.key for message in await cluster.messages(bucket)] == [open_.key]


@case("conflict", "take_over")
async def test_a_fenced_take_over_removes_nothing(cluster: Cluster) -> None:
    bucket = await cluster.owned()
    message = await cluster.message(bucket, at_most_once=True)
    adopted = await cluster.adopted(bucket)
    with pytest.raises(Fenced):
        await cluster.store.take_over(bucket.fence, [start_of(message, take_over=True)])
    assert len(await cluster.messages(adopted)) == 1


@case("repeat", "take_over")
async def test_a_repeated_take_over_is_told_from_a_second_life(cluster: Cluster) -> None:
    bucket = await cluster.owned()
    message = await cluster.message(bucket, at_most_once=True)
    start = start_of(message, nonce=5, take_over=True)
    assert (await cluster.store.take_over(bucket.fence, [start]))[0].yes
    assert (await cluster.store.take_over(bucket.fence, [start]))[0].yes
    second = start_of(message, nonce=6, take_over=True)
    assert not (await cluster.store.take_over(bucket.fence, [second]))[0].yes


@case("race", "take_over")
async def test_take_overs_at_once_start_a_job_once(cluster: Cluster) -> None:
    bucket = await cluster.owned()
    other = await cluster.other()
    message = await cluster.message(bucket, at_most_once=True)
    verdicts = await asyncio.gather(
        cluster.store.take_over(bucket.fence, [start_of(message, nonce=1, take_over=True)]),
        other.take_over(bucket.fence, [start_of(message, nonce=2, take_over=True)]),
    )
    assert sorted(verdict.yes for (verdict,) in verdicts) == [False, True]
    assert await cluster.messages(bucket) == []


@case("success", "set_free")
async def test_what_is_set_free_is_held_and_has_no_message(cluster: Cluster) -> None:
    bucket = await cluster.owned()
    waiting, ran = await cluster.message(bucket), await cluster.running(bucket)
    await cluster.store.set_free(bucket.fence, [outcome_of(waiting)], ended=False)
    await cluster.store.set_free(bucket.fence, [outcome_of(ran)], ended=True)
    assert await cluster.messages(bucket) == []
    assert await cluster.status(waiting.key) is JobStatus.HELD_ON_MASTER
    assert await cluster.status(ran.key) is JobStatus.HELD_ON_MASTER


@case("conflict", "set_free")
async def test_who_lost_the_bucket_sets_nothing_free(cluster: Cluster) -> None:
    bucket = await cluster.owned()
    message = await cluster.message(bucket)
    adopted = await cluster.adopted(bucket)
    for ended in (True, False):
        with pytest.raises(Fenced):
            await cluster.store.set_free(bucket.fence, [outcome_of(message)], ended=ended)
    assert len(await cluster.messages(adopted)) == 1


@case("repeat", "set_free")
async def test_setting_free_again_changes_nothing(cluster: Cluster) -> None:
    bucket = await cluster.owned()
    message = await cluster.message(bucket)
    for _ in range(2):
        await cluster.store.set_free(bucket.fence, [outcome_of(message)], ended=False)
    assert (await cluster.row(message.key)).gen == 1


@case("race", "set_free")
async def test_setting_free_beside_a_settlement_keeps_one_answer(cluster: Cluster) -> None:
    bucket = await cluster.owned()
    other = await cluster.other()
    message = await cluster.running(bucket)
    (settled,), _ = await asyncio.gather(
        cluster.store.settle(bucket.fence, [outcome_of(message)]),
        other.set_free(bucket.fence, [outcome_of(message)], ended=True),
    )
    expected = JobStatus.SUCCEEDED if settled.done else JobStatus.HELD_ON_MASTER
    assert await cluster.status(message.key) is expected
    assert await cluster.messages(bucket) == []


@case("success", "drain")
async def test_a_bucket_is_drained_step_by_step_and_retired(cluster: Cluster) -> None:
    bucket = await cluster.owned()
    messages = await cluster.pushed(bucket, 5)
    draining = await cluster.draining(bucket)
    steps = []
    while not steps or not steps[-1]:
        steps.append(await cluster.store.drain(draining.fence, limit=2))
    assert len(steps) >= 3
    assert await cluster.store.close(draining.fence)
    await cluster.store.retire(draining.fence)
    assert {await cluster.status(message.key) for message in messages} == {JobStatus.HELD_ON_MASTER}
    other = await cluster.owned("other")
    assert len((await cluster.claim(other)).jobs) == 5


@case("conflict", "drain")
async def test_who_lost_the_drain_moves_nothing(cluster: Cluster) -> None:
    bucket = await cluster.owned()
    message = await cluster.message(bucket)
    draining = await cluster.draining(bucket)
    await cluster.store.return_bucket(draining.fence)
    with pytest.raises(Fenced):
        await cluster.store.drain(draining.fence, limit=10)
    adopted = await cluster.adopted(bucket)
    with pytest.raises(Fenced):
        await cluster.store.drain(draining.fence, limit=10)
    assert [one.key for one in await cluster.messages(adopted)] == [message.key]


@case("repeat", "drain")
async def test_draining_an_empty_bucket_again_says_that_nothing_is_left(cluster: Cluster) -> None:
    draining = await cluster.draining(await cluster.owned())
    assert await cluster.store.drain(draining.fence, limit=10)
    assert await cluster.store.drain(draining.fence, limit=10)


@case("race", "drain")
async def test_steps_of_one_drain_at_once_lose_nothing(cluster: Cluster) -> None:
    bucket = await cluster.owned()
    other = await cluster.other()
    messages = await cluster.pushed(bucket, 6)
    draining = await cluster.draining(bucket)
    await asyncio.gather(cluster.store.drain(draining.fence, limit=4), other.drain(draining.fence, limit=4))
    while not await cluster.store.drain(draining.fence, limit=4):
        pass
    assert {(await cluster.row(message.key)).status for message in messages} == {JobStatus.HELD_ON_MASTER}
    assert {(await cluster.row(message.key)).recoveries for message in messages} == {0}


async def _orphan(cluster: Cluster) -> Fence:
    """A bucket in the agent that the master does not know: a late fence made its row."""
    bucket = await cluster.owned("gone")
    orphan = Fence(bucket.id + 100, 1, bucket.owner or 0)
    await cluster.store.fence(orphan)
    return orphan


@case("success", "drain_orphan")
async def test_messages_of_an_orphaned_bucket_come_to_the_master(cluster: Cluster) -> None:
    if cluster.standalone:
        assert await cluster.store.drain_orphan(500, limit=10)
        return
    orphan = await _orphan(cluster)
    jobs = [cluster.job() for _ in range(3)]
    await cluster.store.push(orphan.bucket, jobs)
    assert not await cluster.store.drain_orphan(orphan.bucket, limit=2)
    while not await cluster.store.drain_orphan(orphan.bucket, limit=2):
        pass
    assert orphan.bucket not in await cluster.store.orphans([])
    heir = await cluster.owned("heir")
    claimed = (await cluster.claim(heir)).jobs
    assert {job.key for job in claimed} == {job.key for job in jobs}
    assert {job.suspect for job in claimed} == {True}


@case("conflict", "drain_orphan")
async def test_a_bucket_that_the_master_knows_is_no_orphan(cluster: Cluster) -> None:
    bucket = await cluster.owned()
    await cluster.message(bucket)
    with pytest.raises(Refused):
        await cluster.store.drain_orphan(bucket.id, limit=10)
    await cluster.store.push(bucket.id, [cluster.job()])
    assert len(await cluster.messages(bucket)) == 2


@case("conflict", "drain_orphan")
async def test_an_orphaned_message_of_a_known_job_is_only_removed(cluster: Cluster) -> None:
    if cluster.standalone:
        return
    bucket = await cluster.owned()
    ended = await cluster.finished(bucket, result=b"1")
    orphan = await _orphan(cluster)
    await cluster.store.push(orphan.bucket, [cluster.job(key=ended.key)])
    assert await cluster.store.drain_orphan(orphan.bucket, limit=10)
    assert (await cluster.row(ended.key)).result == b"1"


@case("repeat", "drain_orphan")
async def test_draining_an_orphan_again_finds_nothing(cluster: Cluster) -> None:
    if not cluster.standalone:
        orphan = await _orphan(cluster)
        assert await cluster.store.drain_orphan(orphan.bucket, limit=10)
        assert await cluster.store.drain_orphan(orphan.bucket, limit=10)
    assert await cluster.store.drain_orphan(900, limit=10)


@case("race", "drain_orphan")
async def test_a_push_beside_the_drain_of_an_orphan_is_refused_or_saved(cluster: Cluster) -> None:
    if cluster.standalone:
        return
    orphan = await _orphan(cluster)
    other = await cluster.other()
    job = cluster.job()
    pushed, _ = await asyncio.gather(
        other.push(orphan.bucket, [job]), cluster.store.drain_orphan(orphan.bucket, limit=10), return_exceptions=True
    )
    while not await cluster.store.drain_orphan(orphan.bucket, limit=10):
        pass
    expected = JobStatus.HELD_ON_MASTER if pushed is None else None
    assert await cluster.status(job.key) is expected
