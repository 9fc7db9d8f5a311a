"""Occurrences that may not overlap: the guarded start decides whose turn it is."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from jobmaster.model.bucket import Bucket
from jobmaster.model.ids import JobKey
from jobmaster.model.job import ClaimedJob
from jobmaster.model.schedule import Overlap, Schedule, Trigger, occurrence_key
from jobmaster.model.states import JobStatus
from jobmaster.rules.overlap import WAIT_US
from tests.conformance.cases import case
from tests.conformance.cluster import NOON, SECOND, Cluster, outcome_of, start_of
from tests.conformance.schedule_cases import (
    added,
    alone,
    begins,
    changed,
    ended,
    in_memory,
    known,
    made,
    moments,
    planned,
    run,
    running,
)

ALL_THAT_WAIT = [Overlap.QUEUE, Overlap.CANCEL_PREVIOUS]


class Two:
    """A schedule with three due occurrences, the first of which runs."""

    def __init__(self, cluster: Cluster, schedule: Schedule, bucket: Bucket, first: ClaimedJob) -> None:
        self.cluster, self.schedule, self.bucket, self.first = cluster, schedule, bucket, first

    def key(self, number: int) -> JobKey:
        return occurrence_key(self.schedule.key, NOON + number)

    async def claim(self, number: int) -> ClaimedJob:
        return await in_memory(self.cluster, self.bucket, self.key(number))

    async def release(self) -> bool:
        done: bool = await self.cluster.store.release_occurrence(self.schedule.key, self.first.key)
        return done


async def one_runs(cluster: Cluster, overlap: Overlap) -> Two:
    schedule = await planned(cluster, await alone(cluster, overlap), NOON, NOON + 1, NOON + 2)
    bucket = await cluster.bucket(await cluster.worker(lanes=("mail",)), lane="mail", priority=4)
    first = await running(cluster, bucket, occurrence_key(schedule.key, NOON))
    assert (await known(cluster, schedule)).current_job == first.key
    cluster.later(0.001)
    return Two(cluster, schedule, bucket, first)


async def claimed_at_once(two: Two) -> dict[int, ClaimedJob]:
    """The other two in the memory of their owner."""
    keys = {two.key(number): number for number in (1, 2)}
    request = await two.cluster.claim(two.bucket)
    return {keys[job.key]: job for job in request.jobs}


async def test_an_occurrence_that_may_overlap_asks_nobody(cluster: Cluster) -> None:
    schedule = await planned(cluster, await added(cluster), NOON, NOON + 1)
    bucket = await cluster.bucket(await cluster.worker(lanes=("mail",)), lane="mail", priority=4)
    cluster.later(1)
    jobs = (await cluster.claim(bucket)).jobs
    assert [await begins(cluster, bucket, job) for job in jobs] == [True, True]
    assert (await known(cluster, schedule)).current_job is None


async def test_one_that_meets_an_earlier_one_is_skipped(cluster: Cluster) -> None:
    two = await one_runs(cluster, Overlap.SKIP)
    jobs = await claimed_at_once(two)
    assert not await begins(cluster, two.bucket, jobs[1])
    row = await cluster.row(two.key(1))
    assert (row.status, row.reason, row.bucket) == (JobStatus.CANCELLED, "overlap", None)
    assert row.finished_us == cluster.now_us
    assert (await known(cluster, two.schedule)).current_job == two.first.key
    await ended(cluster, two.bucket, two.first)
    assert await begins(cluster, two.bucket, jobs[2]), "an earlier one that has ended bars nobody, released or not"
    assert (await known(cluster, two.schedule)).current_job == two.key(2)


@pytest.mark.parametrize("overlap", ALL_THAT_WAIT)
async def test_one_that_waits_has_its_turn_when_the_earlier_one_has_ended(cluster: Cluster, overlap: Overlap) -> None:
    two = await one_runs(cluster, overlap)
    jobs = await claimed_at_once(two)
    assert not await begins(cluster, two.bucket, jobs[1])
    row = await cluster.row(two.key(1))
    assert (row.status, row.reason, row.bucket) == (JobStatus.HELD_ON_MASTER, "overlap", None)
    assert (row.due_us, row.gen) == (cluster.now_us + WAIT_US, jobs[1].gen + 1)
    assert not await begins(cluster, two.bucket, jobs[1]), "a late repetition of the start is told the same"
    assert not await two.release(), "it has not ended"
    await ended(cluster, two.bucket, two.first)
    assert await two.release()
    assert (await known(cluster, two.schedule)).current_job is None
    again = await two.claim(1)
    assert again.suspect, "its next start is guarded"
    assert await begins(cluster, two.bucket, again)
    assert (await cluster.row(two.key(1))).reason == ""


@case("success", "release_occurrence")
async def test_the_earliest_of_those_that_wait_is_due_at_once(cluster: Cluster) -> None:
    two = await one_runs(cluster, Overlap.QUEUE)
    jobs = await claimed_at_once(two)
    for number in (2, 1):
        assert not await begins(cluster, two.bucket, jobs[number])
    await ended(cluster, two.bucket, two.first)
    assert await two.release()
    assert (await cluster.row(two.key(1))).due_us == cluster.now_us
    second = await two.claim(1)
    assert await begins(cluster, two.bucket, second)
    await ended(cluster, two.bucket, second)
    assert await cluster.store.release_occurrence(two.schedule.key, second.key)
    assert await begins(cluster, two.bucket, await two.claim(2))


async def test_a_later_one_waits_for_an_earlier_one_that_waits(cluster: Cluster) -> None:
    two = await one_runs(cluster, Overlap.QUEUE)
    jobs = await claimed_at_once(two)
    assert not await begins(cluster, two.bucket, jobs[1])
    await ended(cluster, two.bucket, two.first)
    assert not await begins(cluster, two.bucket, jobs[2]), "the turn is the other's, released or not"
    assert await two.release()
    again = (await cluster.claim(two.bucket)).jobs
    assert [job.key for job in again] == [two.key(1)]
    assert await begins(cluster, two.bucket, again[0])
    await ended(cluster, two.bucket, again[0])
    assert await cluster.store.release_occurrence(two.schedule.key, two.key(1))
    assert await begins(cluster, two.bucket, await two.claim(2))


async def test_an_earlier_one_that_nobody_can_run_holds_nobody_up(cluster: Cluster) -> None:
    two = await one_runs(cluster, Overlap.QUEUE)
    jobs = await claimed_at_once(two)
    assert not await begins(cluster, two.bucket, jobs[1])
    await ended(cluster, two.bucket, two.first)
    assert await two.release()
    again = await two.claim(1)
    lost = outcome_of(again, JobStatus.HELD_ON_MASTER, reason="unroutable", started_us=None)
    await cluster.store.release(two.bucket.fence, [lost])
    assert (await cluster.row(two.key(1))).reason == "unroutable"
    assert await begins(cluster, two.bucket, jobs[2])


@case("conflict", "release_occurrence")
async def test_only_who_has_the_turn_gives_it_up(cluster: Cluster) -> None:
    two = await one_runs(cluster, Overlap.QUEUE)
    jobs = await claimed_at_once(two)
    assert not await begins(cluster, two.bucket, jobs[1])
    release = cluster.store.release_occurrence
    assert not await release(two.schedule.key, two.key(1)), "it is another's turn"
    assert not await release(made("nobody").key, two.first.key)
    await ended(cluster, two.bucket, two.first, status=JobStatus.HELD_ON_MASTER, delay_us=SECOND)
    assert not await two.release(), "one that waits for its retry has not ended"
    assert not await begins(cluster, two.bucket, jobs[2])
    assert (await known(cluster, two.schedule)).current_job == two.first.key
    cluster.later(1)
    retry = await two.claim(0)
    assert await begins(cluster, two.bucket, retry, nonce=2), "and it has the turn when it goes on"
    await ended(cluster, two.bucket, retry, attempt=2)
    assert await two.release()


@case("repeat", "release_occurrence")
async def test_a_repeated_release_releases_one(cluster: Cluster) -> None:
    two = await one_runs(cluster, Overlap.QUEUE)
    jobs = await claimed_at_once(two)
    for number in (1, 2):
        assert not await begins(cluster, two.bucket, jobs[number])
    await ended(cluster, two.bucket, two.first)
    assert [await two.release() for _ in range(3)] == [True, False, False]
    assert (await cluster.row(two.key(2))).due_us == cluster.now_us + WAIT_US


@case("race", "release_occurrence")
async def test_a_release_beside_starts_leaves_nobody_waiting_for_nothing(cluster: Cluster) -> None:
    two = await one_runs(cluster, Overlap.QUEUE)
    jobs = await claimed_at_once(two)
    stores = [await cluster.other() for _ in range(3)]
    await ended(cluster, two.bucket, two.first)
    answers = await asyncio.gather(
        stores[0].release_occurrence(two.schedule.key, two.first.key),
        stores[1].take_over(two.bucket.fence, [start_of(jobs[1])]),
        stores[2].take_over(two.bucket.fence, [start_of(jobs[2])]),
    )
    yes = [verdict.yes for (verdict,) in answers[1:]]
    assert sum(yes) == 1, "one of them has the turn"
    has, waits = (1, 2) if yes[0] else (2, 1)
    assert (await known(cluster, two.schedule)).current_job == two.key(has)
    assert (await cluster.row(two.key(waits))).reason == "overlap"


async def test_one_that_waits_in_the_memory_of_an_owner_is_taken_back_for_its_turn(cluster: Cluster) -> None:
    two = await one_runs(cluster, Overlap.QUEUE)
    jobs = await claimed_at_once(two)
    assert not await begins(cluster, two.bucket, jobs[1])
    cluster.later(20)
    early = [job for job in (await cluster.claim(two.bucket, window=15)).jobs if job.key == two.key(1)]
    assert len(early) == 1, "it will be due soon"
    await ended(cluster, two.bucket, two.first)
    assert await two.release()
    assert not await begins(cluster, two.bucket, early[0]), "what its owner has is of the past"
    again = await two.claim(1)
    assert again.due_us == cluster.now_us
    assert await begins(cluster, two.bucket, again)


async def test_a_waiting_one_that_nobody_releases_tries_again(cluster: Cluster) -> None:
    two = await one_runs(cluster, Overlap.QUEUE)
    jobs = await claimed_at_once(two)
    assert not await begins(cluster, two.bucket, jobs[1])
    cluster.later(30)
    assert not await begins(cluster, two.bucket, await two.claim(1)), "the earlier one still runs"
    await ended(cluster, two.bucket, two.first)
    cluster.later(30)
    assert await begins(cluster, two.bucket, await two.claim(1))


async def test_a_later_one_cancels_the_one_that_runs(cluster: Cluster) -> None:
    two = await one_runs(cluster, Overlap.CANCEL_PREVIOUS)
    jobs = await claimed_at_once(two)
    assert not await begins(cluster, two.bucket, jobs[1])
    grant = await cluster.renew(two.bucket.owner or 0, held=[(two.first.key, two.first.gen)])
    assert grant.cancels == [two.first.key], "its owner is told"
    assert await cluster.status(two.first.key) is JobStatus.PROCESSING
    await ended(cluster, two.bucket, two.first, status=JobStatus.CANCELLED)
    assert await two.release()
    assert await begins(cluster, two.bucket, await two.claim(1))


async def test_a_later_one_goes_on_at_once_where_the_earlier_one_waits_for_its_retry(cluster: Cluster) -> None:
    two = await one_runs(cluster, Overlap.CANCEL_PREVIOUS)
    jobs = await claimed_at_once(two)
    await ended(cluster, two.bucket, two.first, status=JobStatus.HELD_ON_MASTER, delay_us=600 * SECOND)
    assert await begins(cluster, two.bucket, jobs[1])
    assert await cluster.status(two.first.key) is JobStatus.CANCELLED
    assert (await known(cluster, two.schedule)).current_job == two.key(1)


async def test_of_one_batch_one_has_the_turn(cluster: Cluster) -> None:
    schedule = await planned(cluster, await alone(cluster, Overlap.SKIP), NOON, NOON + 1, NOON + 2)
    other = await planned(cluster, await added(cluster, "other"), NOON)
    bucket = await cluster.bucket(await cluster.worker(lanes=("mail",)), lane="mail", priority=4)
    cluster.later(1)
    jobs = (await cluster.claim(bucket)).jobs
    verdicts = await cluster.store.take_over(bucket.fence, [start_of(job) for job in jobs])
    yes = {job.key for job, verdict in zip(jobs, verdicts, strict=True) if verdict.yes}
    assert yes == {(await known(cluster, schedule)).current_job, occurrence_key(other.key, NOON)}
    assert (await known(cluster, other)).current_job is None


async def test_a_repeated_start_and_a_second_life_keep_their_turn(cluster: Cluster) -> None:
    two = await one_runs(cluster, Overlap.SKIP)
    assert await begins(cluster, two.bucket, two.first)
    assert await begins(cluster, two.bucket, two.first, nonce=2)
    assert (await known(cluster, two.schedule)).current_job == two.first.key


async def test_early_rows_ask_for_no_turn(cluster: Cluster) -> None:
    two = await one_runs(cluster, Overlap.SKIP)
    jobs = await claimed_at_once(two)
    assert await begins(cluster, two.bucket, jobs[1], status=JobStatus.QUEUED)
    assert await cluster.status(two.key(1)) is JobStatus.QUEUED


@pytest.mark.parametrize("gone", ["schedule", "job"])
async def test_what_is_gone_bars_nobody(cluster: Cluster, gone: str) -> None:
    two = await one_runs(cluster, Overlap.SKIP)
    jobs = await claimed_at_once(two)
    if gone == "job":
        await ended(cluster, two.bucket, two.first)
        assert await cluster.store.delete_final([two.first.key]) == 1
    else:
        orphan = run(made("nobody", rule=two.schedule.rule), NOON + 9, trigger=Trigger.RUN_NOW)
        assert await cluster.store.hold([orphan.job]) == [True]
        cluster.later(1)
        found = await in_memory(cluster, two.bucket, orphan.job.key)
        assert await begins(cluster, two.bucket, found)
        return
    assert await begins(cluster, two.bucket, jobs[1])
    assert not await two.release()


async def test_a_cancelled_waiting_one_does_not_have_a_turn(cluster: Cluster) -> None:
    two = await one_runs(cluster, Overlap.QUEUE)
    jobs = await claimed_at_once(two)
    for number in (1, 2):
        assert not await begins(cluster, two.bucket, jobs[number])
    await cluster.store.cancel(two.key(1))
    await ended(cluster, two.bucket, two.first)
    assert await two.release()
    assert (await cluster.row(two.key(2))).due_us == cluster.now_us


async def test_a_pause_leaves_what_had_its_moment(cluster: Cluster) -> None:
    two = await one_runs(cluster, Overlap.QUEUE)
    jobs = await claimed_at_once(two)
    assert not await begins(cluster, two.bucket, jobs[1])
    await changed(cluster, two.schedule, paused=True)
    assert await moments(cluster, two.schedule) == [NOON, NOON + 1, NOON + 2]
    assert (await cluster.row(two.key(1))).reason == "overlap"


async def test_a_skipped_ones_client_is_told(cluster: Cluster) -> None:
    schedule = await alone(cluster, Overlap.SKIP)
    wanted = [run(schedule, NOON + number, reply_to="c1") for number in range(2)]
    await cluster.store.add_occurrences(schedule.key, wanted)
    bucket = await cluster.bucket(await cluster.worker(lanes=("mail",)), lane="mail", priority=4)
    cluster.later(1)
    jobs = {job.key: job for job in (await cluster.claim(bucket)).jobs}
    assert await begins(cluster, bucket, jobs[wanted[0].job.key])
    told: Any = asyncio.Event()
    subscription = (await cluster.other()).subscribe("client:c1", told.set)
    await asyncio.sleep(0)
    if cluster.adapter.needs:
        async with asyncio.timeout(10):
            await told.wait()
    told.clear()
    assert not await begins(cluster, bucket, jobs[wanted[1].job.key])
    async with asyncio.timeout(10):
        await told.wait()
    subscription.close()
