"""What people do to a job: cancel (R19), give it another time, run it again."""

from __future__ import annotations

import asyncio

from jobmaster.model.states import CancelOutcome, JobStatus
from jobmaster.ports.master import ClaimRequest
from tests.conformance.cases import case
from tests.conformance.cluster import NOON, SECOND, Cluster, outcome_of, start_of


@case("success", "cancel")
async def test_a_held_job_is_cancelled_for_certain(cluster: Cluster) -> None:
    (job,) = await cluster.held()
    assert (await cluster.store.cancel(job.key)).outcome is CancelOutcome.CANCELLED
    row = await cluster.row(job.key)
    assert (row.status, row.finished_us) == (JobStatus.CANCELLED, cluster.now_us)
    assert (await cluster.claim(await cluster.owned())).jobs == []


@case("success", "cancel")
async def test_the_cancel_of_a_running_job_is_a_request_to_its_owner(cluster: Cluster) -> None:
    bucket = await cluster.owned()
    message = await cluster.running(bucket)
    reply = await cluster.store.cancel(message.key)
    assert (reply.outcome, reply.owner) == (CancelOutcome.REQUESTED, bucket.owner)
    assert await cluster.status(message.key) is JobStatus.PROCESSING
    assert (await cluster.renew(bucket.owner or 0)).cancels == [message.key]


@case("success", "cancel")
async def test_a_queued_job_is_ended_for_certain_only_where_its_start_is_guarded(cluster: Cluster) -> None:
    bucket = await cluster.owned()
    once, least = await cluster.claimed(bucket, at_most_once=True), await cluster.claimed(bucket)
    assert (await cluster.store.cancel(once.key)).outcome is CancelOutcome.CANCELLED
    reply = await cluster.store.cancel(least.key)
    assert (reply.outcome, reply.owner) == (CancelOutcome.REQUESTED, bucket.owner)
    for key in (once.key, least.key):
        assert await cluster.status(key) is JobStatus.CANCELLED


@case("success", "cancel")
async def test_a_job_that_nobody_knows_yet_gets_a_tombstone(cluster: Cluster) -> None:
    job = cluster.job()
    assert (await cluster.store.cancel(job.key)).outcome is CancelOutcome.REQUESTED
    assert await cluster.status(job.key) is None
    bucket = await cluster.owned()
    await cluster.store.push(bucket.id, [job])
    (message,) = await cluster.messages(bucket)
    assert not (await cluster.store.take_over(bucket.fence, [start_of(message)]))[0].yes
    assert await cluster.status(job.key) is JobStatus.CANCELLED


async def test_an_unread_message_of_the_same_database_is_cancelled_for_certain(cluster: Cluster) -> None:
    free = await cluster.store.offer_bucket(cluster.new_bucket())
    owned = await cluster.bucket(await cluster.worker(lanes=("x",)), lane="x")
    waiting, later, once = cluster.job(), cluster.job(lane="x", due_in=600), cluster.job(lane="x", at_most_once=True)
    await cluster.store.push(free.id, [waiting])
    await cluster.store.push(owned.id, [later, once])
    outcomes = [(await cluster.store.cancel(job.key)).outcome for job in (waiting, later, once)]
    if not cluster.standalone:
        assert outcomes == [CancelOutcome.REQUESTED] * 3
        return
    assert outcomes == [CancelOutcome.CANCELLED] * 3
    for job in (waiting, later, once):
        row = await cluster.row(job.key)
        assert (row.status, row.task, row.in_master) == (JobStatus.CANCELLED, "greet", True)
    assert await cluster.store.depths([free.id, owned.id]) == {free.id: 0, owned.id: 0}


async def test_a_message_that_its_owner_may_have_started_is_only_asked_back(cluster: Cluster) -> None:
    bucket = await cluster.owned()
    message = await cluster.message(bucket)
    reply = await cluster.store.cancel(message.key)
    assert reply.outcome is CancelOutcome.REQUESTED
    assert reply.owner == (bucket.owner if cluster.standalone else None)
    assert len(await cluster.messages(bucket)) == 1
    ended = outcome_of(message, JobStatus.CANCELLED, started_us=None)
    assert (await cluster.store.settle(bucket.fence, [ended]))[0].done
    assert await cluster.status(message.key) is JobStatus.CANCELLED


@case("conflict", "cancel")
async def test_a_job_that_has_ended_cannot_be_cancelled(cluster: Cluster) -> None:
    bucket = await cluster.owned()
    message = await cluster.finished(bucket)
    assert (await cluster.store.cancel(message.key)).outcome is CancelOutcome.TOO_LATE
    assert await cluster.status(message.key) is JobStatus.SUCCEEDED
    assert (await cluster.renew(bucket.owner or 0)).cancels == []


@case("repeat", "cancel")
async def test_a_cancel_whose_reply_was_lost_answers_the_same_again(cluster: Cluster) -> None:
    bucket = await cluster.owned()
    (held,) = await cluster.held(due_in=60)
    claimed, running = await cluster.claimed(bucket), await cluster.running(bucket)
    for key in (held.key, claimed.key, running.key, cluster.job().key):
        first = await cluster.store.cancel(key)
        assert await cluster.store.cancel(key) == first
    assert len((await cluster.renew(bucket.owner or 0)).cancels) == 4


@case("race", "cancel")
async def test_two_cancels_at_once_agree(cluster: Cluster) -> None:
    (job,) = await cluster.held()
    other = await cluster.other()
    one, two = await asyncio.gather(cluster.store.cancel(job.key), other.cancel(job.key))
    assert one == two
    assert one.outcome is CancelOutcome.CANCELLED


@case("success", "reschedule")
async def test_a_held_job_gets_another_time(cluster: Cluster) -> None:
    bucket = await cluster.owned()
    (job,) = await cluster.held(due_in=3600)
    assert await cluster.store.reschedule(job.key, NOON)
    assert [one.key for one in (await cluster.claim(bucket)).jobs] == [job.key]
    (later,) = await cluster.held()
    assert await cluster.store.reschedule(later.key, NOON + 60 * SECOND)
    assert (await cluster.claim(bucket)).next_due_us == NOON + 60 * SECOND


async def test_an_unread_message_of_the_same_database_gets_another_time_and_is_still_read(cluster: Cluster) -> None:
    bucket = await cluster.owned()
    job = cluster.job(due_in=600)
    await cluster.store.push(bucket.id, [job])
    read = await cluster.store.read(bucket.fence, None, limit=9, window_us=15 * SECOND)
    assert read.messages == []
    assert await cluster.store.reschedule(job.key, NOON + SECOND) is cluster.standalone
    again = await cluster.store.read(bucket.fence, read.cursor, limit=9, window_us=15 * SECOND)
    assert [message.key for message in again.messages] == ([job.key] if cluster.standalone else [])


@case("conflict", "reschedule")
async def test_what_an_owner_has_or_what_has_ended_keeps_its_time(cluster: Cluster) -> None:
    bucket = await cluster.owned()
    keys = [
        (await cluster.claimed(bucket)).key,
        (await cluster.running(bucket)).key,
        (await cluster.finished(bucket)).key,
        (await cluster.message(bucket)).key,
        cluster.job().key,
    ]
    assert [await cluster.store.reschedule(key, NOON + SECOND) for key in keys] == [False] * 5


@case("repeat", "reschedule")
async def test_rescheduling_again_gives_the_same_time(cluster: Cluster) -> None:
    (job,) = await cluster.held()
    for _ in range(2):
        assert await cluster.store.reschedule(job.key, NOON + SECOND)
    assert (await cluster.row(job.key)).due_us == NOON + SECOND


@case("race", "reschedule")
async def test_rescheduling_beside_a_claim_is_refused_or_decides(cluster: Cluster) -> None:
    bucket = await cluster.owned()
    other = await cluster.other()
    (job,) = await cluster.held()
    moved, claimed = await asyncio.gather(
        cluster.store.reschedule(job.key, NOON + 60 * SECOND), other.claim([_ask(bucket)], window_us=0)
    )
    assert len(claimed.jobs) == (0 if moved else 1)


@case("success", "requeue")
async def test_a_person_runs_a_failed_job_again(cluster: Cluster) -> None:
    bucket = await cluster.owned()
    message = await cluster.finished(bucket, JobStatus.FAILED, failures=3, reason="exception")
    assert await cluster.store.requeue(message.key)
    row = await cluster.row(message.key)
    assert (row.status, row.due_us, row.failures, row.recoveries) == (JobStatus.HELD_ON_MASTER, cluster.now_us, 0, 0)
    assert (row.finished_us, row.reason, row.error) == (None, "", None)
    (job,) = (await cluster.claim(bucket)).jobs
    assert (job.key, job.gen > message.gen) == (message.key, True)
    (late,) = await cluster.store.settle(bucket.fence, [outcome_of(message)])
    assert not late.done


@case("success", "requeue")
async def test_a_cancelled_job_that_is_run_again_is_not_cancelled_again(cluster: Cluster) -> None:
    bucket = await cluster.owned()
    (job,) = await cluster.held()
    await cluster.store.cancel(job.key)
    assert await cluster.store.requeue(job.key, due_us=NOON + 5 * SECOND)
    assert (await cluster.row(job.key)).due_us == NOON + 5 * SECOND
    (claimed,) = (await cluster.claim(bucket, window=5)).jobs
    assert (await cluster.store.start(bucket.fence, [start_of(claimed)]))[0].yes


@case("conflict", "requeue")
async def test_a_job_that_has_not_ended_is_not_run_again(cluster: Cluster) -> None:
    bucket = await cluster.owned()
    (held,) = await cluster.held(due_in=60)
    running = await cluster.running(bucket)
    keys = (held.key, running.key, cluster.job().key)
    assert [await cluster.store.requeue(key) for key in keys] == [False] * 3
    assert await cluster.status(running.key) is JobStatus.PROCESSING


@case("repeat", "requeue")
async def test_a_repeated_wish_to_run_again_runs_it_once_more_only(cluster: Cluster) -> None:
    message = await cluster.finished(await cluster.owned())
    assert await cluster.store.requeue(message.key)
    assert not await cluster.store.requeue(message.key)
    assert (await cluster.row(message.key)).gen == 1


@case("race", "requeue")
async def test_two_people_run_a_job_again_once(cluster: Cluster) -> None:
    message = await cluster.finished(await cluster.owned())
    other = await cluster.other()
    assert sorted(await asyncio.gather(cluster.store.requeue(message.key), other.requeue(message.key))) == [False, True]


def _ask(bucket):

    return ClaimRequest(bucket.fence, bucket.lane, bucket.priority, 10)
