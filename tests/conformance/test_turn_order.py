"""Whose turn it is among those that wait: in their order, without those that will not come, and never an older one."""

from __future__ import annotations

import msgspec
import pytest

from jobmaster.model.bucket import Bucket
from jobmaster.model.ids import JobKey
from jobmaster.model.job import ClaimedJob, Envelope, decode_envelope, encode_envelope
from jobmaster.model.schedule import Overlap, Schedule, Trigger, occurrence_key
from jobmaster.model.states import JobStatus
from jobmaster.rules.overlap import WAIT_US
from tests.conformance.cluster import NOON, SECOND, Cluster, outcome_of, start_of
from tests.conformance.schedule_cases import (
    EVERY_MINUTE,
    added,
    alone,
    apply,
    begins,
    changed,
    ended,
    in_memory,
    known,
    plan_of,
    run,
    running,
)
from tests.conformance.test_turns import Two, claimed_at_once, one_runs

MONTH = 30 * 86_400 * SECOND


async def bucket_of(cluster: Cluster, lane: str = "mail") -> Bucket:
    worker = await cluster.worker(f"worker-{lane}", lanes=(lane,))
    return await cluster.bucket(worker, lane=lane, priority=4)


async def is_told_to_stop(two: Two, job: ClaimedJob) -> bool:
    grant = await two.cluster.renew(two.bucket.owner or 0, held=[(job.key, job.gen)])
    return job.key in grant.cancels


async def skipped(cluster: Cluster, key: JobKey) -> bool:
    row = await cluster.row(key)
    return (row.status, row.reason, row.bucket) == (JobStatus.CANCELLED, "overlap", None)


async def waits(cluster: Cluster, key: JobKey) -> bool:
    row = await cluster.row(key)
    return (row.status, row.reason) == (JobStatus.HELD_ON_MASTER, "overlap")


# -- where a later one cancels an earlier one


@pytest.mark.parametrize("later_first", [True, False])
async def test_one_that_is_cancelled_for_another_of_its_batch_is_whole(cluster: Cluster, later_first: bool) -> None:
    """The retry of the run that has the turn, and a newer one, are started together."""
    two = await one_runs(cluster, Overlap.CANCEL_PREVIOUS)
    await ended(cluster, two.bucket, two.first, status=JobStatus.HELD_ON_MASTER)
    found = {job.key: job for job in (await cluster.claim(two.bucket)).jobs}
    batch = [found[two.key(1)], found[two.first.key]]
    starts = [start_of(job) for job in (batch if later_first else batch[::-1])]
    verdicts = await cluster.store.take_over(two.bucket.fence, starts)
    yes = {start.key for start, verdict in zip(starts, verdicts, strict=True) if verdict.yes}
    assert yes <= {two.first.key}
    retry = await cluster.row(two.first.key)
    if yes:
        assert (retry.status, retry.bucket) == (JobStatus.PROCESSING, two.bucket.id)
        assert await is_told_to_stop(two, found[two.first.key])
        await ended(cluster, two.bucket, found[two.first.key], status=JobStatus.CANCELLED)
    else:
        assert (retry.status, retry.bucket) == (JobStatus.CANCELLED, None)
    await two.release()
    cluster.later(WAIT_US / SECOND)
    assert await begins(cluster, two.bucket, await two.claim(1)), "its schedule is not blocked"


async def test_an_older_one_does_not_cancel_a_newer_one(cluster: Cluster) -> None:
    two = await one_runs(cluster, Overlap.CANCEL_PREVIOUS)
    jobs = await claimed_at_once(two)
    assert not await begins(cluster, two.bucket, jobs[1])
    await ended(cluster, two.bucket, two.first, status=JobStatus.CANCELLED)
    assert await two.release()
    assert await begins(cluster, two.bucket, jobs[2]), "the newest may begin beside one that waits"
    assert not await begins(cluster, two.bucket, await two.claim(1))
    assert await skipped(cluster, two.key(1))
    assert not await is_told_to_stop(two, jobs[2])
    assert (await known(cluster, two.schedule)).current_job == two.key(2)


async def test_the_latest_of_those_that_wait_goes_and_the_others_are_skipped(cluster: Cluster) -> None:
    two = await one_runs(cluster, Overlap.CANCEL_PREVIOUS)
    jobs = await claimed_at_once(two)
    for number in (1, 2):
        assert not await begins(cluster, two.bucket, jobs[number])
        assert await waits(cluster, two.key(number))
    await ended(cluster, two.bucket, two.first, status=JobStatus.CANCELLED)
    assert await two.release()
    row = await cluster.row(two.key(1))
    assert await skipped(cluster, two.key(1))
    assert row.finished_us == cluster.now_us
    assert (await cluster.row(two.key(2))).due_us == cluster.now_us
    assert await begins(cluster, two.bucket, await two.claim(2))


async def test_one_that_asks_while_a_later_one_waits_is_skipped(cluster: Cluster) -> None:
    two = await one_runs(cluster, Overlap.CANCEL_PREVIOUS)
    jobs = await claimed_at_once(two)
    starts = [start_of(jobs[number]) for number in (2, 1)]
    verdicts = await cluster.store.take_over(two.bucket.fence, starts)
    assert [verdict.yes for verdict in verdicts] == [False, False]
    assert await waits(cluster, two.key(2))
    assert await skipped(cluster, two.key(1))


async def test_an_old_one_that_a_person_runs_again_gives_way_to_what_runs(cluster: Cluster) -> None:
    two = await one_runs(cluster, Overlap.CANCEL_PREVIOUS)
    jobs = await claimed_at_once(two)
    await ended(cluster, two.bucket, two.first)
    assert await begins(cluster, two.bucket, jobs[1])
    assert await cluster.store.requeue(two.first.key)
    assert not await begins(cluster, two.bucket, await two.claim(0))
    assert await skipped(cluster, two.first.key)
    assert not await is_told_to_stop(two, jobs[1])


async def test_a_backfilled_run_is_not_superseded(cluster: Cluster) -> None:
    schedule = await alone(cluster, Overlap.CANCEL_PREVIOUS)
    old = [
        run(schedule, NOON - back * SECOND, trigger=Trigger.BACKFILL, overlap=Overlap.QUEUE.value) for back in (3, 2, 1)
    ]
    await cluster.store.add_occurrences(schedule.key, old)
    assert await apply(cluster, plan_of(schedule, NOON, NOON + 1)) == [True]
    bucket = await bucket_of(cluster)
    cluster.later(1)
    jobs = {job.key: job for job in (await cluster.claim(bucket)).jobs}
    keys = [one.job.key for one in old]
    regular = [occurrence_key(schedule.key, NOON + number) for number in (0, 1)]
    two = Two(cluster, schedule, bucket, jobs[keys[0]])
    assert [await begins(cluster, bucket, jobs[key]) for key in (*keys, *regular)] == [True] + [False] * 4
    assert not await is_told_to_stop(two, jobs[keys[0]])
    await ended(cluster, bucket, jobs[keys[0]])
    assert await two.release()
    assert (await cluster.row(keys[1])).due_us == cluster.now_us
    assert (await cluster.row(regular[1])).due_us == cluster.now_us
    assert await skipped(cluster, regular[0])
    assert await waits(cluster, keys[2])


# -- queues


async def test_one_that_was_given_another_time_holds_nobody_up(cluster: Cluster) -> None:
    two = await one_runs(cluster, Overlap.QUEUE)
    jobs = await claimed_at_once(two)
    for number in (1, 2):
        assert not await begins(cluster, two.bucket, jobs[number])
    later_us = cluster.now_us + MONTH
    assert await cluster.store.reschedule(two.key(1), later_us)
    await ended(cluster, two.bucket, two.first)
    assert await two.release()
    assert (await cluster.row(two.key(1))).due_us == later_us, "as the person said"
    second = await two.claim(2)
    assert await begins(cluster, two.bucket, second)
    await ended(cluster, two.bucket, second)
    assert not await cluster.store.release_occurrence(two.schedule.key, second.key)


async def test_one_that_was_given_another_time_is_not_before_anybody(cluster: Cluster) -> None:
    two = await one_runs(cluster, Overlap.QUEUE)
    jobs = await claimed_at_once(two)
    assert not await begins(cluster, two.bucket, jobs[1])
    assert await cluster.store.reschedule(two.key(1), cluster.now_us + MONTH)
    await ended(cluster, two.bucket, two.first)
    assert await begins(cluster, two.bucket, jobs[2]), "nobody had to release it"


async def test_one_that_waits_in_another_lane_holds_nobody_up(cluster: Cluster) -> None:
    schedule = await alone(cluster, Overlap.QUEUE)
    wanted = [
        run(schedule, NOON),
        run(schedule, NOON + 1, lane="old"),
        run(schedule, NOON + 2),
        run(schedule, NOON + 3),
    ]
    assert await apply(cluster, plan_of(schedule, occurrences=wanted, new_cursor_us=NOON + 3)) == [True]
    mail, old = await bucket_of(cluster), await bucket_of(cluster, "old")
    keys = [one.job.key for one in wanted]
    first = await running(cluster, mail, keys[0])
    cluster.later(1)
    assert not await begins(cluster, old, await in_memory(cluster, old, keys[1]))
    jobs = {job.key: job for job in (await cluster.claim(mail)).jobs}
    assert not await begins(cluster, mail, jobs[keys[2]])
    await ended(cluster, mail, first)
    assert await cluster.store.release_occurrence(schedule.key, first.key)
    assert [(await cluster.row(key)).due_us for key in keys[1:3]] == [cluster.now_us] * 2, "the first of each lane"
    assert not await begins(cluster, mail, jobs[keys[3]]), "one of its own lane waits"
    assert await begins(cluster, mail, await in_memory(cluster, mail, keys[2]))
    assert not await begins(cluster, old, await in_memory(cluster, old, keys[1])), "it is another's turn"


async def test_those_that_wait_go_in_the_order_of_their_moments(cluster: Cluster) -> None:
    schedule = await alone(cluster, Overlap.QUEUE)
    assert await apply(cluster, plan_of(schedule, *(NOON + number for number in range(5)))) == [True]
    bucket = await bucket_of(cluster)
    current = await running(cluster, bucket, occurrence_key(schedule.key, NOON))
    cluster.later(1)
    jobs = {job.key: job for job in (await cluster.claim(bucket)).jobs}
    numbers = {occurrence_key(schedule.key, NOON + number): number for number in range(5)}
    for number in (3, 1, 4, 2):
        assert not await begins(cluster, bucket, jobs[occurrence_key(schedule.key, NOON + number)])
    order = []
    for _ in range(4):
        await ended(cluster, bucket, current)
        assert await cluster.store.release_occurrence(schedule.key, current.key)
        (current,) = (await cluster.claim(bucket)).jobs
        assert await begins(cluster, bucket, current)
        order.append(numbers[current.key])
    assert order == [1, 2, 3, 4]


async def test_its_misfire_policy_is_done_with_one_that_waits(cluster: Cluster) -> None:
    schedule = await alone(cluster, Overlap.QUEUE)
    wanted = [run(schedule, NOON + at * SECOND, expires_us=NOON + (at + 60) * SECOND) for at in (0, 1)]
    assert await apply(cluster, plan_of(schedule, occurrences=wanted, new_cursor_us=NOON + SECOND)) == [True]
    bucket = await bucket_of(cluster)
    first = await running(cluster, bucket, wanted[0].job.key)
    cluster.later(1)
    assert not await begins(cluster, bucket, await in_memory(cluster, bucket, wanted[1].job.key))
    cluster.later(600)
    assert await cluster.store.sweep(overdue_us=MONTH, limit=100) == 0
    assert await waits(cluster, wanted[1].job.key)
    await cluster.renew(bucket.owner or 0, held=[(first.key, first.gen)])
    await ended(cluster, bucket, first)
    assert await cluster.store.release_occurrence(schedule.key, first.key)
    again = await in_memory(cluster, bucket, wanted[1].job.key)
    envelope = decode_envelope(again.payload)
    assert envelope == msgspec.structs.replace(wanted[1].job.envelope, expires_us=None), "its owner sees it, too"
    assert await begins(cluster, bucket, again)


async def with_expiry(cluster: Cluster, seconds: int) -> Schedule:
    """A queue whose runs expire so long after their moments, because its user said so."""
    template = Envelope("send", b"[]", created_us=0, scheduled_us=0, expires_us=seconds * SECOND)
    rule = msgspec.structs.replace(EVERY_MINUTE, overlap=Overlap.QUEUE)
    return await added(cluster, rule=rule, template=encode_envelope(template))


async def test_what_the_user_said_counts_for_one_that_waits(cluster: Cluster) -> None:
    schedule = await with_expiry(cluster, 100)
    wanted = [run(schedule, NOON + at * SECOND, expires_us=NOON + (at + 60) * SECOND) for at in (0, 1)]
    assert await apply(cluster, plan_of(schedule, occurrences=wanted, new_cursor_us=NOON + SECOND)) == [True]
    bucket = await bucket_of(cluster)
    await running(cluster, bucket, wanted[0].job.key)
    cluster.later(1)
    waiting = wanted[1].job.key
    assert not await begins(cluster, bucket, await in_memory(cluster, bucket, waiting))
    cluster.later(99)
    assert await cluster.store.sweep(overdue_us=MONTH, limit=100) == 0
    assert await waits(cluster, waiting)
    cluster.later(1)
    assert await cluster.store.sweep(overdue_us=MONTH, limit=100) == 1
    row = await cluster.row(waiting)
    assert (row.status, row.reason) == (JobStatus.CANCELLED, "missed")


async def test_one_that_has_expired_is_not_let_go(cluster: Cluster) -> None:
    schedule = await with_expiry(cluster, 20)
    wanted = [run(schedule, NOON + at * SECOND) for at in (0, 1, 5)]
    assert await apply(cluster, plan_of(schedule, occurrences=wanted, new_cursor_us=NOON + 5 * SECOND)) == [True]
    bucket = await bucket_of(cluster)
    first = await running(cluster, bucket, wanted[0].job.key)
    cluster.later(5)
    jobs = {job.key: job for job in (await cluster.claim(bucket)).jobs}
    for one in wanted[1:]:
        assert not await begins(cluster, bucket, jobs[one.job.key])
    cluster.later(17)
    await ended(cluster, bucket, first)
    assert await cluster.store.release_occurrence(schedule.key, first.key)
    assert (await cluster.row(wanted[2].job.key)).due_us == cluster.now_us
    assert await begins(cluster, bucket, await in_memory(cluster, bucket, wanted[2].job.key))


async def test_a_queue_has_an_end(cluster: Cluster) -> None:
    rule = msgspec.structs.replace(EVERY_MINUTE, overlap=Overlap.QUEUE, misfire_limit=2)
    schedule = await added(cluster, rule=rule)
    assert await apply(cluster, plan_of(schedule, *(NOON + number for number in range(5)))) == [True]
    ordered = run(schedule, NOON - SECOND, trigger=Trigger.BACKFILL)
    bucket = await bucket_of(cluster)
    await running(cluster, bucket, occurrence_key(schedule.key, NOON))
    await cluster.store.add_occurrences(schedule.key, [ordered])
    cluster.later(1)
    jobs = {job.key: job for job in (await cluster.claim(bucket)).jobs}
    keys = [ordered.job.key, *(occurrence_key(schedule.key, NOON + number) for number in range(1, 5))]
    assert not await begins(cluster, bucket, jobs[keys[0]])
    verdicts = await cluster.store.take_over(bucket.fence, [start_of(jobs[key]) for key in keys[1:4]])
    assert not any(verdict.yes for verdict in verdicts)
    assert [await waits(cluster, key) for key in keys[:4]] == [True, True, True, False]
    assert not await begins(cluster, bucket, jobs[keys[4]])
    assert await skipped(cluster, keys[3])
    assert await skipped(cluster, keys[4])
    await changed(cluster, schedule, rule=msgspec.structs.replace(rule, misfire_limit=1))
    cluster.later(30)
    again = {job.key: job for job in (await cluster.claim(bucket)).jobs}
    for key in keys[:3]:
        assert not await begins(cluster, bucket, again[key])
        assert await waits(cluster, key), "who waits already stays"
    another = run(schedule, NOON - 2 * SECOND, trigger=Trigger.BACKFILL)
    await cluster.store.add_occurrences(schedule.key, [another])
    assert not await begins(cluster, bucket, await in_memory(cluster, bucket, another.job.key))
    assert await waits(cluster, another.job.key), "what people have ordered is not turned away"


# -- what has become of the run that has the turn


async def test_a_run_that_a_person_repeats_later_holds_nobody_up(cluster: Cluster) -> None:
    two = await one_runs(cluster, Overlap.SKIP)
    jobs = await claimed_at_once(two)
    await ended(cluster, two.bucket, two.first)
    assert (await known(cluster, two.schedule)).current_job == two.first.key
    assert await cluster.store.requeue(two.first.key, due_us=cluster.now_us + MONTH)
    assert await begins(cluster, two.bucket, jobs[1])
    assert (await known(cluster, two.schedule)).current_job == two.key(1)


async def test_a_run_whose_task_nobody_has_any_more_holds_nobody_up(cluster: Cluster) -> None:
    two = await one_runs(cluster, Overlap.SKIP)
    jobs = await claimed_at_once(two)
    await ended(cluster, two.bucket, two.first, status=JobStatus.HELD_ON_MASTER, delay_us=SECOND)
    cluster.later(1)
    again = await two.claim(0)
    lost = outcome_of(again, JobStatus.HELD_ON_MASTER, reason="unroutable", started_us=None)
    await cluster.store.release(two.bucket.fence, [lost])
    assert await begins(cluster, two.bucket, jobs[1])


async def test_a_retry_keeps_its_turn_while_an_earlier_one_waits(cluster: Cluster) -> None:
    two = await one_runs(cluster, Overlap.QUEUE)
    jobs = await claimed_at_once(two)
    await ended(cluster, two.bucket, two.first)
    assert await begins(cluster, two.bucket, jobs[2])
    assert not await begins(cluster, two.bucket, jobs[1])
    await ended(cluster, two.bucket, jobs[2], status=JobStatus.HELD_ON_MASTER, delay_us=SECOND)
    cluster.later(1)
    retry = await two.claim(2)
    assert await begins(cluster, two.bucket, retry, nonce=2), "else the two would wait for each other"


@pytest.mark.parametrize("status", [JobStatus.FAILED, JobStatus.CANCELLED])
async def test_a_run_that_the_master_ended_is_released_by_time(cluster: Cluster, status: JobStatus) -> None:
    two = await one_runs(cluster, Overlap.QUEUE)
    jobs = await claimed_at_once(two)
    assert not await begins(cluster, two.bucket, jobs[1])
    await ended(cluster, two.bucket, two.first, status=status, reason="quarantined")
    cluster.later(WAIT_US / SECOND)
    again = await two.claim(1)
    assert await begins(cluster, two.bucket, again)
    assert not await two.release(), "the turn is another's now"
    assert (await known(cluster, two.schedule)).current_job == two.key(1)
