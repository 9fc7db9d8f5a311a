"""Verbs about one job that meet: one has its locks and has not committed yet, the other comes in between.

On servers: a store in memory has no moment between the locks and the commit of most of these verbs.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import pytest

from jobmaster.model.bucket import Bucket
from jobmaster.model.job import Message
from jobmaster.model.states import CancelOutcome, JobStatus
from jobmaster.ports.answers import Fenced
from tests.conformance.adapters import ADAPTERS, with_locks
from tests.conformance.cluster import Cluster, outcome_of, start_of
from tests.conformance.conftest import made


@pytest.fixture(params=[name for name in with_locks() if ADAPTERS[name].lasting])
def cluster(request: pytest.FixtureRequest, tmp_path: Path) -> Cluster:
    return made(request, tmp_path)


async def _meet(cluster: Cluster, first: Coroutine[Any, Any, Any], second: Coroutine[Any, Any, Any]) -> list[Any]:
    """What both answer, or raise, where the second comes between the first one's locks and its commit."""
    # Nobody is late because a connection is opened only then.
    await asyncio.gather(*(store.look_up([]) for store in cluster._opened for _ in range(3)))
    await cluster.commits.hold()
    before = await cluster.commits.waiting()
    begun = asyncio.create_task(first)
    while await cluster.commits.waiting() == before and not begun.done():
        await asyncio.sleep(0)
    assert not begun.done()
    waiting = asyncio.create_task(second)
    await cluster.commits.turn()
    await cluster.commits.let_go()
    return list(await asyncio.gather(begun, waiting, return_exceptions=True))


async def without_a_row(cluster: Cluster, **fields: Any) -> tuple[Bucket, Message]:
    bucket = await cluster.owned()
    return bucket, await cluster.message(bucket, **fields)


async def with_a_row(cluster: Cluster, **fields: Any) -> tuple[Bucket, Message]:
    bucket = await cluster.owned()
    return bucket, await cluster.running(bucket, **fields)


BOTH = pytest.mark.parametrize("prepared", [without_a_row, with_a_row], ids=["no row", "a row"])


@BOTH
async def test_an_outcome_that_is_repeated_before_its_commit_counts_once(cluster: Cluster, prepared: Any) -> None:
    bucket, message = await prepared(cluster)
    other = await cluster.other()
    outcome = outcome_of(message, result=b"42")
    answers = await _meet(cluster, cluster.store.settle(bucket.fence, [outcome]), other.settle(bucket.fence, [outcome]))
    assert [settled[0].done for settled in answers] == [True, True]
    (state,) = await cluster.store.look_up([message.key])
    assert (state.status, state.result, state.attempts) == (JobStatus.SUCCEEDED, b"42", 1)
    assert await cluster.messages(bucket) == []


@BOTH
async def test_a_success_that_waits_for_the_same_run_s_retry_is_stale(cluster: Cluster, prepared: Any) -> None:
    bucket, message = await prepared(cluster)
    retry = outcome_of(message, JobStatus.HELD_ON_MASTER)
    first, second = await _meet(
        cluster, cluster.store.finish(bucket.fence, [retry]), cluster.store.settle(bucket.fence, [outcome_of(message)])
    )
    assert (first[0].done, second[0].done) == (True, False)
    assert await cluster.status(message.key) is JobStatus.HELD_ON_MASTER
    assert await cluster.messages(bucket) == []


@BOTH
async def test_a_retry_that_waits_for_the_job_s_end_changes_nothing(cluster: Cluster, prepared: Any) -> None:
    bucket, message = await prepared(cluster)
    retry = outcome_of(message, JobStatus.HELD_ON_MASTER, attempt=2)
    first, second = await _meet(
        cluster, cluster.store.settle(bucket.fence, [outcome_of(message)]), cluster.store.finish(bucket.fence, [retry])
    )
    assert (first[0].done, second[0].done) == (True, False)
    assert await cluster.status(message.key) is JobStatus.SUCCEEDED


async def test_an_outcome_that_waits_for_a_certain_cancel_is_stale(cluster: Cluster) -> None:
    bucket = await cluster.owned()
    job = await cluster.claimed(bucket, at_most_once=True)
    reply, settled = await _meet(
        cluster, cluster.store.cancel(job.key), cluster.store.settle(bucket.fence, [outcome_of(job)])
    )
    assert (reply.outcome, settled[0].done) == (CancelOutcome.CANCELLED, False)
    assert await cluster.status(job.key) is JobStatus.CANCELLED


@BOTH
async def test_a_cancel_that_waits_for_the_job_s_end_comes_too_late_or_asks_in_vain(
    cluster: Cluster, prepared: Any
) -> None:
    bucket, message = await prepared(cluster)
    settled, reply = await _meet(
        cluster, cluster.store.settle(bucket.fence, [outcome_of(message)]), cluster.store.cancel(message.key)
    )
    assert settled[0].done
    # Where nothing is known of the job yet a cancel does not wait: it promises nothing then.
    assert reply.outcome in {CancelOutcome.TOO_LATE, CancelOutcome.REQUESTED}
    assert await cluster.status(message.key) is JobStatus.SUCCEEDED


async def test_a_start_that_waits_for_a_certain_cancel_may_not_run(cluster: Cluster) -> None:
    bucket = await cluster.owned()
    job = await cluster.claimed(bucket, at_most_once=True)
    reply, verdicts = await _meet(
        cluster, cluster.store.cancel(job.key), cluster.store.take_over(bucket.fence, [start_of(job)])
    )
    assert (reply.outcome, verdicts[0].yes) == (CancelOutcome.CANCELLED, False)
    assert await cluster.status(job.key) is JobStatus.CANCELLED


async def test_a_message_that_is_cancelled_for_certain_does_not_start(cluster: Cluster) -> None:
    bucket, message = await without_a_row(cluster, at_most_once=True)
    reply, verdicts = await _meet(
        cluster,
        cluster.store.cancel(message.key),
        cluster.store.take_over(bucket.fence, [start_of(message, take_over=True)]),
    )
    if reply.outcome is CancelOutcome.CANCELLED:
        assert not verdicts[0].yes
        assert await cluster.status(message.key) is JobStatus.CANCELLED
    assert (reply.outcome is CancelOutcome.CANCELLED) is cluster.standalone


async def test_a_cancel_that_waits_for_a_start_asks_the_owner(cluster: Cluster) -> None:
    bucket, message = await without_a_row(cluster, at_most_once=True)
    verdicts, reply = await _meet(
        cluster,
        cluster.store.take_over(bucket.fence, [start_of(message, take_over=True)]),
        cluster.store.cancel(message.key),
    )
    assert verdicts[0].yes
    assert reply.outcome is CancelOutcome.REQUESTED
    assert await cluster.status(message.key) is JobStatus.PROCESSING
    assert await cluster.messages(bucket) == []


async def test_of_two_lives_that_start_a_job_once_one_may(cluster: Cluster) -> None:
    bucket, message = await without_a_row(cluster, at_most_once=True)
    other = await cluster.other()
    first, second = await _meet(
        cluster,
        cluster.store.take_over(bucket.fence, [start_of(message, nonce=1, take_over=True)]),
        other.take_over(bucket.fence, [start_of(message, nonce=2, take_over=True)]),
    )
    assert (first[0].yes, second[0].yes) == (True, False)
    assert await cluster.status(message.key) is JobStatus.FAILED


async def test_a_repeated_start_that_meets_itself_may_run(cluster: Cluster) -> None:
    bucket, message = await without_a_row(cluster, at_most_once=True)
    start = start_of(message, nonce=1, take_over=True)
    other = await cluster.other()
    answers = await _meet(
        cluster, cluster.store.take_over(bucket.fence, [start]), other.take_over(bucket.fence, [start])
    )
    assert [(one[0].yes, one[0].attempt) for one in answers] == [(True, 1), (True, 1)]


async def test_an_early_row_that_waits_for_the_job_s_end_changes_nothing(cluster: Cluster) -> None:
    bucket, message = await without_a_row(cluster)
    early = start_of(message, status=JobStatus.QUEUED, started_us=0)
    settled, verdicts = await _meet(
        cluster,
        cluster.store.settle(bucket.fence, [outcome_of(message)]),
        cluster.store.take_over(bucket.fence, [early]),
    )
    assert (settled[0].done, verdicts[0].yes) == (True, False)
    assert await cluster.status(message.key) is JobStatus.SUCCEEDED


async def test_an_outcome_that_waits_for_its_job_s_early_row_ends_it(cluster: Cluster) -> None:
    bucket, message = await without_a_row(cluster)
    early = start_of(message, status=JobStatus.QUEUED, started_us=0)
    verdicts, settled = await _meet(
        cluster,
        cluster.store.take_over(bucket.fence, [early]),
        cluster.store.settle(bucket.fence, [outcome_of(message)]),
    )
    assert (verdicts[0].yes, settled[0].done) == (True, True)
    assert await cluster.status(message.key) is JobStatus.SUCCEEDED


async def test_a_start_that_waits_for_a_give_up_is_fenced_and_leaves_its_message(cluster: Cluster) -> None:
    bucket, message = await without_a_row(cluster, at_most_once=True)
    _, answer = await _meet(
        cluster,
        cluster.store.give_up(bucket.fence),
        cluster.store.take_over(bucket.fence, [start_of(message, take_over=True)]),
    )
    assert isinstance(answer, Fenced)
    assert await cluster.store.depths([bucket.id]) == {bucket.id: 1}
    assert await cluster.status(message.key) in {None, JobStatus.SAVE_PENDING}


async def test_a_claim_leaves_what_another_is_claiming(cluster: Cluster) -> None:
    bucket = await cluster.owned()
    other = await cluster.bucket(await cluster.worker("w2"))
    jobs = await cluster.held(4)
    first, second = await _meet(cluster, cluster.claim(bucket, limit=2), cluster.claim(other, limit=4))
    assert {job.key for job in first.jobs}.isdisjoint(job.key for job in second.jobs)
    assert {job.key for job in (*first.jobs, *second.jobs)} == {job.key for job in jobs}


async def test_a_claim_that_waits_for_a_give_up_gets_nothing(cluster: Cluster) -> None:
    bucket = await cluster.owned()
    (job,) = await cluster.held()
    _, claimed = await _meet(cluster, cluster.store.give_up(bucket.fence), cluster.claim(bucket))
    assert (claimed.jobs, claimed.fenced) == ([], [bucket.id])
    assert await cluster.status(job.key) is JobStatus.HELD_ON_MASTER
