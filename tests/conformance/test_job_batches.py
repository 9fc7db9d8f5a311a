"""One batch holds jobs of many kinds and states; each gets its own answer, and what belongs to it alone."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Any

import pytest

from jobmaster.model.job import Blame, ErrorInfo
from jobmaster.model.states import CancelOutcome, JobStatus
from jobmaster.ports.answers import Fenced
from tests.conformance.cluster import SECOND, Cluster, outcome_of, start_of
from tests.conformance.test_signals import Bell


async def _rings(cluster: Cluster, topic: str, verb: Awaitable[Any]) -> bool:
    """Whether the verb rings for the topic. Hints of one connection keep their order, so that a later one tells."""
    bell, last = Bell(), Bell()
    subscriptions = [cluster.store.subscribe(topic, bell), cluster.store.subscribe("client:last", last)]

    async def all_heard() -> None:
        for _ in range(3):  # a first ring may only say that listening has begun
            last.rung.clear()
            await cluster.store.signal(["client:last"])
            await last.heard()

    await cluster.store.signal([topic])
    await bell.heard()
    await all_heard()
    before = bell.count
    await verb
    await all_heard()
    for subscription in subscriptions:
        subscription.close()
    return bell.count > before


async def test_a_batch_of_all_kinds_keeps_each_job_s_own(cluster: Cluster) -> None:
    bucket = await cluster.owned()
    kinds = [
        {"lane": "", "priority": 3},
        {"lane": "mail", "priority": 5},
        {"lane": "", "priority": 1},
    ]
    messages = [await cluster.message(bucket, **kind) for kind in kinds]
    settled = await cluster.store.settle(
        bucket.fence, [outcome_of(message, attempt=number) for number, message in enumerate(messages, 1)]
    )
    assert all(one.done for one in settled)
    for number, (message, kind) in enumerate(zip(messages, kinds, strict=True), 1):
        row = await cluster.row(message.key)
        assert {name: getattr(row, name) for name in kind} == kind
        assert row.attempts == number


async def test_a_batch_is_answered_in_its_order_whatever_becomes_of_each(cluster: Cluster) -> None:
    bucket = await cluster.owned()
    messages = await cluster.pushed(bucket, 6)
    await cluster.store.finish(bucket.fence, [outcome_of(messages[1], JobStatus.HELD_ON_MASTER)])
    await cluster.store.finish(bucket.fence, [outcome_of(messages[4])])
    outcomes = [
        outcome_of(messages[5]),
        outcome_of(messages[1], attempt=2),
        outcome_of(messages[3], JobStatus.HELD_ON_MASTER),
        outcome_of(messages[4]),
        outcome_of(messages[0], JobStatus.FAILED, error=ErrorInfo("E")),
        outcome_of(messages[2], JobStatus.CANCELLED),
    ]
    settled = await cluster.store.settle(bucket.fence, outcomes)
    assert [one.done for one in settled] == [True, False, True, True, True, True]
    states = await cluster.store.look_up([message.key for message in messages])
    assert [state.status.name for state in states] == [
        "FAILED", "HELD_ON_MASTER", "CANCELLED", "HELD_ON_MASTER", "SUCCEEDED", "SUCCEEDED",
    ]  # fmt: skip
    assert await cluster.messages(bucket) == []


async def test_a_reason_of_any_length_ends_its_job(cluster: Cluster) -> None:
    bucket = await cluster.owned()
    reason = "\U0001f984" + "because the address is wrong, " * 20
    statuses = [JobStatus.FAILED, JobStatus.HELD_ON_MASTER, JobStatus.CANCELLED]
    messages = await cluster.pushed(bucket, 4)
    outcomes = [outcome_of(one, status, reason=reason) for one, status in zip(messages, statuses, strict=False)]
    assert all(one.done for one in await cluster.store.settle(bucket.fence, outcomes))
    await cluster.store.set_free(bucket.fence, [outcome_of(messages[3], reason=reason)], ended=True)
    for message in messages:
        assert (await cluster.row(message.key)).reason[:40] == reason[:40]


async def test_an_empty_batch_is_answered_and_fenced_like_any_other(cluster: Cluster) -> None:
    bucket = await cluster.owned()
    assert await cluster.store.settle(bucket.fence, []) == []
    assert await cluster.store.take_over(bucket.fence, []) == []
    await cluster.lose(bucket)
    for verb in (cluster.store.settle, cluster.store.take_over):
        with pytest.raises(Fenced):
            await verb(bucket.fence, [])


async def test_a_batch_in_which_one_job_has_a_row_of_another_s_making_is_settled(cluster: Cluster) -> None:
    bucket = await cluster.owned()
    messages = await cluster.pushed(bucket, 3)
    other = await cluster.other()
    await other.start(bucket.fence, [start_of(messages[1])])
    settled = await cluster.store.settle(bucket.fence, [outcome_of(message, result=b"1") for message in messages])
    assert [one.done for one in settled] == [True, True, True]
    states = await cluster.store.look_up([message.key for message in messages])
    assert [(state.status, state.result) for state in states] == [(JobStatus.SUCCEEDED, b"1")] * 3
    assert await cluster.messages(bucket) == []


async def test_an_outcome_of_another_bucket_s_run_is_stale(cluster: Cluster) -> None:
    bucket, other = await cluster.owned(), await cluster.owned("w2")
    message = await cluster.running(bucket)
    await cluster.store.push(other.id, [cluster.job(key=message.key)])
    (copy,) = await cluster.messages(other)
    (settled,) = await cluster.store.settle(other.fence, [outcome_of(copy, result=b"copy")])
    assert not settled.done
    row = await cluster.row(message.key)
    assert (row.status, row.bucket, row.result) == (JobStatus.PROCESSING, bucket.id, None)


async def test_an_outcome_of_an_earlier_assignment_to_the_same_bucket_is_stale(cluster: Cluster) -> None:
    bucket = await cluster.owned()
    early = await cluster.claimed(bucket)
    await cluster.store.release(bucket.fence, [outcome_of(early)])
    (now,) = (await cluster.claim(bucket)).jobs
    assert now.gen > early.gen
    (settled,) = await cluster.store.settle(bucket.fence, [outcome_of(early)])
    assert not settled.done
    assert await cluster.status(early.key) is JobStatus.QUEUED


async def test_an_outcome_without_a_checkpoint_keeps_the_earlier_one(cluster: Cluster) -> None:
    bucket = await cluster.owned()
    job = await cluster.claimed(bucket)
    await cluster.store.finish(bucket.fence, [outcome_of(job, JobStatus.HELD_ON_MASTER, checkpoint=b"7")])
    (job,) = (await cluster.claim(bucket)).jobs
    await cluster.store.finish(bucket.fence, [outcome_of(job, attempt=2)])
    await cluster.store.requeue(job.key)
    (job,) = (await cluster.claim(bucket)).jobs
    assert job.checkpoint == b"7"


async def test_evidence_is_void_when_its_job_has_ended(cluster: Cluster) -> None:
    bucket = await cluster.owned()
    message = await cluster.message(bucket)
    await cluster.lose(bucket)
    await cluster.store.end_worker(bucket.owner or 0, blame=[Blame(message.key, "SIGKILL")])
    adopted = await cluster.adopted(bucket)
    await cluster.store.settle(adopted.fence, [outcome_of(message)])
    await cluster.store.requeue(message.key)
    (job,) = (await cluster.claim(adopted)).jobs
    (verdict,) = await cluster.store.start(adopted.fence, [start_of(job)])
    assert (verdict.yes, verdict.recoveries) == (True, 0)


async def test_evidence_counts_at_one_start_only(cluster: Cluster) -> None:
    bucket = await cluster.owned()
    message = await cluster.message(bucket)
    await cluster.lose(bucket)
    await cluster.store.end_worker(bucket.owner or 0, blame=[Blame(message.key, "SIGKILL")])
    adopted = await cluster.adopted(bucket)
    for status in (JobStatus.QUEUED, JobStatus.PROCESSING):
        (verdict,) = await cluster.store.start(adopted.fence, [start_of(message, status=status)])
        assert (verdict.yes, verdict.recoveries) == (True, 1)


async def test_a_stale_fence_cannot_hold_a_job_for_another_attempt(cluster: Cluster) -> None:
    bucket = await cluster.owned()
    message = await cluster.message(bucket)
    await cluster.lose(bucket)
    with pytest.raises(Fenced):
        await cluster.store.settle(bucket.fence, [outcome_of(message, JobStatus.HELD_ON_MASTER)])
    assert await cluster.status(message.key) in {None, JobStatus.SAVE_PENDING}


async def test_a_stale_fence_cannot_start_a_claimed_job(cluster: Cluster) -> None:
    bucket = await cluster.owned()
    job = await cluster.claimed(bucket)
    await cluster.lose(bucket)
    with pytest.raises(Fenced):
        await cluster.store.take_over(bucket.fence, [start_of(job)])
    assert await cluster.status(job.key) is JobStatus.QUEUED


async def test_messages_and_claimed_jobs_start_in_one_batch(cluster: Cluster) -> None:
    bucket = await cluster.owned()
    claimed, messages = await cluster.claimed(bucket), await cluster.pushed(bucket, 3)
    await cluster.store.cancel(messages[1].key)
    starts = [start_of(messages[0]), start_of(claimed), start_of(messages[1]), start_of(messages[2])]
    verdicts = await cluster.store.take_over(bucket.fence, starts)
    assert [verdict.yes for verdict in verdicts] == [True, True, False, True]


@pytest.mark.parametrize("claimed_first", [True, False])
async def test_a_recovered_job_and_the_message_that_it_left_are_told_apart_in_one_batch(
    cluster: Cluster, *, claimed_first: bool
) -> None:
    bucket = await cluster.owned()
    left = await cluster.running(bucket)
    adopted = await cluster.adopted(bucket)
    await cluster.store.recover_before(adopted.fence, adopted_us=adopted.adopted_us, limit=10)
    (claimed,) = (await cluster.claim(adopted)).jobs
    pair = (claimed, left) if claimed_first else (left, claimed)
    verdicts = await cluster.store.take_over(adopted.fence, [start_of(one, nonce=one.gen + 9) for one in pair])
    assert [verdict.yes for verdict in verdicts] == [one is claimed for one in pair]
    assert await cluster.messages(adopted) == []
    row = await cluster.row(claimed.key)
    assert (row.status, row.attempts) == (JobStatus.PROCESSING, 2)
    settled = await cluster.store.settle(
        adopted.fence, [outcome_of(one, attempt=2, result=bytes([one.gen])) for one in pair]
    )
    assert [one.done for one in settled] == [one is claimed for one in pair]
    assert (await cluster.row(claimed.key)).result == bytes([claimed.gen])


async def test_a_claim_names_the_first_job_that_it_leaves(cluster: Cluster) -> None:
    bucket = await cluster.owned()
    now_us = cluster.now_us
    for seconds in (5, 1, 3):
        await cluster.held(due_us=now_us - seconds * SECOND)
    claimed = await cluster.claim(bucket, limit=2)
    assert [job.due_us for job in claimed.jobs] == [now_us - 5 * SECOND, now_us - 3 * SECOND]
    assert claimed.next_due_us == now_us - SECOND
    claimed = await cluster.claim(bucket)
    assert (len(claimed.jobs), claimed.next_due_us) == (1, None)


async def test_a_cancelled_job_that_is_released_has_ended(cluster: Cluster) -> None:
    bucket = await cluster.owned()
    message, claimed = await cluster.message(bucket), await cluster.claimed(bucket)
    for job in (message, claimed):
        assert (await cluster.store.cancel(job.key)).outcome is CancelOutcome.REQUESTED
    await cluster.store.set_free(bucket.fence, [outcome_of(message), outcome_of(claimed)], ended=False)
    assert await cluster.status(message.key) is JobStatus.CANCELLED
    assert await cluster.status(claimed.key) is JobStatus.CANCELLED


async def test_a_recovered_job_is_suspect_at_a_new_assignment(cluster: Cluster) -> None:
    bucket = await cluster.owned()
    message = await cluster.running(bucket)
    cluster.later(1)
    adopted = await cluster.adopted(bucket)
    assert await cluster.store.recover_before(adopted.fence, adopted_us=adopted.adopted_us, limit=10) == 1
    (job,) = (await cluster.claim(adopted)).jobs
    assert (job.key, job.suspect, job.gen) == (message.key, True, message.gen + 2)


async def test_who_waits_for_a_job_that_is_lost_is_told(cluster: Cluster) -> None:
    bucket = await cluster.owned()
    message = await cluster.running(bucket, at_most_once=True, reply_to="me")
    cluster.later(1)
    adopted = await cluster.adopted(bucket)
    recovery = cluster.store.recover_before(adopted.fence, adopted_us=adopted.adopted_us, limit=10)
    assert await _rings(cluster, "client:me", recovery)
    assert await cluster.status(message.key) is JobStatus.FAILED


async def test_who_waits_for_a_job_is_told_of_its_end(cluster: Cluster) -> None:
    bucket = await cluster.owned()
    messages = await cluster.pushed(bucket, 2, reply_to="me")
    assert await _rings(cluster, "client:me", cluster.store.settle(bucket.fence, [outcome_of(messages[0])]))
    failed = outcome_of(messages[1], JobStatus.FAILED, error=ErrorInfo("E"))
    assert await _rings(cluster, "client:me", cluster.store.settle(bucket.fence, [failed]))
