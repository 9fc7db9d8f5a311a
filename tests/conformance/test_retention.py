"""What becomes of jobs that have ended long ago: purged, or moved to an archive."""

from __future__ import annotations

import asyncio

import pytest

from jobmaster.errors import SerializationError
from jobmaster.model.job import ErrorInfo
from jobmaster.model.reasons import RESULT_EXPIRED
from jobmaster.model.states import JobStatus
from tests.conformance.cases import case
from tests.conformance.cluster import SECOND, Cluster, outcome_of

HOUR = 3600


async def _ended(cluster: Cluster, count: int = 1) -> list[bytes]:
    """Jobs that end now, one after another."""
    bucket = await cluster.owned(f"w{cluster.now_us}")
    keys = []
    for message in await cluster.pushed(bucket, count):
        await cluster.store.settle(bucket.fence, [outcome_of(message, finished_us=cluster.now_us)])
        keys.append(message.key)
    return keys


@case("success", "purge")
async def test_jobs_that_ended_before_a_moment_are_deleted_in_bounded_batches(cluster: Cluster) -> None:
    old = await _ended(cluster, 5)
    cluster.later(HOUR)
    (young,) = await _ended(cluster)
    (held,) = await cluster.held()
    before = cluster.now_us
    assert [await cluster.store.purge(before_us=before, limit=2) for _ in range(4)] == [2, 2, 1, 0]
    assert await cluster.store.look_up(old) == [None] * 5
    assert await cluster.status(young) is JobStatus.SUCCEEDED
    assert await cluster.status(held.key) is JobStatus.HELD_ON_MASTER


@case("success", "purge")
async def test_attempts_go_with_their_job(cluster: Cluster) -> None:
    bucket = await cluster.owned()
    message = await cluster.finished(bucket, JobStatus.FAILED, error=ErrorInfo("ValueError"))
    cluster.later(HOUR)
    assert await cluster.store.purge(before_us=cluster.now_us, limit=10) == 1
    assert await cluster.store.job_attempts(message.key) == []


@case("success", "purge")
async def test_old_tombstones_commands_and_dead_workers_go_too(cluster: Cluster) -> None:
    dead = await cluster.worker("dead")
    owner = await cluster.owned("owner")
    (number,) = await cluster.store.send_command([dead], "ping", b"{}")
    job = cluster.job()
    await cluster.store.cancel(job.key)
    cluster.later(25 * HOUR)
    await cluster.renew(owner.owner or 0)
    await cluster.store.purge(before_us=cluster.now_us - HOUR * SECOND, limit=10)
    assert [worker.name for worker in await cluster.store.list_workers()] == ["owner"]
    assert await cluster.store.command_replies([number]) == []
    assert (await cluster.renew(owner.owner or 0)).cancels == []
    await cluster.store.hold([job])
    assert await cluster.status(job.key) is JobStatus.HELD_ON_MASTER


@case("conflict", "purge")
async def test_what_has_not_ended_is_never_purged(cluster: Cluster) -> None:
    bucket = await cluster.owned()
    (held,) = await cluster.held(due_in=HOUR)
    running, message = await cluster.running(bucket), await cluster.message(bucket)
    assert await cluster.store.purge(before_us=cluster.now_us + HOUR * SECOND, limit=10) == 0
    assert await cluster.status(held.key) is JobStatus.HELD_ON_MASTER
    assert await cluster.status(running.key) is JobStatus.PROCESSING
    assert message in await cluster.messages(bucket)
    assert await cluster.store.list_buckets()


@case("repeat", "purge")
async def test_purging_again_deletes_nothing(cluster: Cluster) -> None:
    await _ended(cluster, 2)
    cluster.later(1)
    assert [await cluster.store.purge(before_us=cluster.now_us, limit=9) for _ in range(2)] == [2, 0]


@case("race", "purge", "aged", "delete_final")
async def test_janitors_at_once_delete_each_job_once(cluster: Cluster) -> None:
    keys = await _ended(cluster, 8)
    cluster.later(1)
    other = await cluster.other()
    one, two, three, aged = await asyncio.gather(
        cluster.store.purge(before_us=cluster.now_us, limit=5),
        other.purge(before_us=cluster.now_us, limit=5),
        other.delete_final(keys),
        cluster.store.aged(before_us=cluster.now_us, limit=10),
    )
    assert one + two + three == 8
    assert len(aged) <= 8


async def _told(cluster: Cluster, keep: float | None, status: JobStatus = JobStatus.SUCCEEDED) -> bytes:
    """A job that ends now with a result to be kept for so many seconds. Its row is new, as of a short job."""
    bucket = await cluster.owned(f"w{cluster.now_us}-{keep}-{status.value}")
    message = await cluster.message(bucket, keep_result=keep)
    ended = outcome_of(message, status, result=b'"told"', finished_us=cluster.now_us, reason="said so")
    await cluster.store.settle(bucket.fence, [ended])
    return message.key


@case("success", "forget_results")
async def test_results_go_when_their_time_has_passed_in_bounded_batches(cluster: Cluster) -> None:
    short = [await _told(cluster, 60), await _told(cluster, 30), await _told(cluster, 0)]
    for_ever = await _told(cluster, None)
    assert (await cluster.row(short[0])).result == b'"told"'
    cluster.later(60)
    assert [await cluster.store.forget_results(limit=2) for _ in range(3)] == [2, 1, 0]
    for key in short:
        row = await cluster.row(key)
        assert (row.result, row.status, row.reason) == (None, JobStatus.SUCCEEDED, RESULT_EXPIRED)
        assert (await cluster.store.look_up([key]))[0].reason == RESULT_EXPIRED
    assert ((row := await cluster.row(for_ever)).result, row.reason) == (b'"told"', "said so")


@case("success", "forget_results")
async def test_the_result_of_a_run_that_had_a_row_goes_too_and_a_failure_keeps_its_reason(cluster: Cluster) -> None:
    bucket = await cluster.owned()
    long, failed = [await cluster.running(bucket, keep_result=10) for _ in range(2)]
    given = {"result": b"1", "finished_us": cluster.now_us, "reason": "why"}
    await cluster.store.settle(bucket.fence, [outcome_of(long, **given), outcome_of(failed, JobStatus.FAILED, **given)])
    cluster.later(10)
    assert await cluster.store.forget_results(limit=9) == 2
    assert ((row := await cluster.row(long.key)).result, row.reason) == (None, RESULT_EXPIRED)
    assert ((row := await cluster.row(failed.key)).result, row.reason) == (None, "why")


@case("conflict", "forget_results")
async def test_a_result_is_kept_until_its_time_and_a_repeated_job_has_none_to_forget(cluster: Cluster) -> None:
    key, again = await _told(cluster, 60), await _told(cluster, 1)
    assert await cluster.store.requeue(again)
    cluster.later(59)
    assert await cluster.store.forget_results(limit=9) == 0
    assert (await cluster.row(key)).result == b'"told"'
    assert ((row := await cluster.row(again)).status, row.reason) == (JobStatus.HELD_ON_MASTER, "")


@case("repeat", "forget_results")
async def test_results_are_forgotten_once(cluster: Cluster) -> None:
    key = await _told(cluster, 1)
    cluster.later(2)
    assert [await cluster.store.forget_results(limit=9) for _ in range(2)] == [1, 0]
    assert (await cluster.row(key)).reason == RESULT_EXPIRED


@case("race", "forget_results")
async def test_two_janitors_forget_each_result_once(cluster: Cluster) -> None:
    keys = [await _told(cluster, number) for number in range(6)]
    cluster.later(10)
    other = await cluster.other()
    gone = await asyncio.gather(*(store.forget_results(limit=4) for store in (cluster.store, other)))
    assert sum(gone) == 6
    assert {(await cluster.row(key)).reason for key in keys} == {RESULT_EXPIRED}


@case("success", "import_aged", "forget_results")
async def test_a_result_is_not_kept_longer_in_the_archive(cluster: Cluster) -> None:
    key = await _told(cluster, 60)
    cluster.later(1)
    records = await cluster.store.aged(before_us=cluster.now_us, limit=10)
    await cluster.store.delete_final([key])
    await cluster.store.import_aged(records)
    assert await cluster.store.forget_results(limit=9) == 0
    cluster.later(60)
    assert await cluster.store.forget_results(limit=9) == 1


@case("success", "aged", "import_aged", "delete_final")
async def test_an_aged_job_moves_to_an_archive_with_all_that_is_known_of_it(cluster: Cluster) -> None:
    bucket = await cluster.owned()
    message = await cluster.message(bucket, metadata={"tenant": "blue"}, custom_id="order-7")
    error = ErrorInfo("ValueError", "boom", "Traceback")
    failed = outcome_of(message, JobStatus.FAILED, error=error, reason="exception", failures=2)
    await cluster.store.settle(bucket.fence, [failed])
    (later,) = await _ended(cluster)
    cluster.later(HOUR)
    before = await cluster.row(message.key)
    attempts = await cluster.store.job_attempts(message.key)
    records = await cluster.store.aged(before_us=cluster.now_us, limit=10)
    assert len(records) == 2
    assert await cluster.store.delete_final([message.key, later]) == 2
    assert sorted(await cluster.store.import_aged(records)) == sorted([message.key, later])
    after = await cluster.row(message.key)
    assert (after.status, after.error, after.reason, after.failures) == (JobStatus.FAILED, error, "exception", 2)
    assert (after.envelope, after.custom_id, after.attempts) == (before.envelope, "order-7", 1)
    assert (after.created_us, after.started_us, after.finished_us) == (
        before.created_us, before.started_us, before.finished_us,
    )  # fmt: skip
    assert await cluster.store.job_attempts(message.key) == attempts


async def test_aged_jobs_come_in_bounded_batches(cluster: Cluster) -> None:
    await _ended(cluster, 3)
    cluster.later(1)
    assert len(await cluster.store.aged(before_us=cluster.now_us, limit=2)) == 2
    assert await cluster.store.aged(before_us=cluster.now_us - 2 * SECOND, limit=2) == []


@case("conflict", "aged", "import_aged")
async def test_an_archive_keeps_what_it_has_and_refuses_what_it_cannot_read(cluster: Cluster) -> None:
    bucket = await cluster.owned()
    message = await cluster.finished(bucket, result=b"1")
    cluster.later(5)
    await cluster.held()
    (record,) = await cluster.store.aged(before_us=cluster.now_us, limit=10)
    await cluster.store.requeue(message.key)
    assert await cluster.store.import_aged([record]) == [message.key]
    assert await cluster.status(message.key) is JobStatus.HELD_ON_MASTER
    await cluster.store.cancel(message.key)
    await cluster.store.delete_final([message.key])
    with pytest.raises(SerializationError):
        await cluster.store.import_aged([record, b"\xff\x00garbage"])
    assert await cluster.status(message.key) is None


@case("repeat", "aged", "import_aged", "delete_final")
async def test_importing_and_deleting_again_change_nothing(cluster: Cluster) -> None:
    (key,) = await _ended(cluster)
    cluster.later(1)
    records = await cluster.store.aged(before_us=cluster.now_us, limit=10)
    assert await cluster.store.aged(before_us=cluster.now_us, limit=10) == records
    assert [await cluster.store.delete_final([key]) for _ in range(2)] == [1, 0]
    assert [await cluster.store.import_aged(records) for _ in range(2)] == [[key], [key]]
    assert await cluster.status(key) is JobStatus.SUCCEEDED


@case("race", "import_aged")
async def test_two_movers_import_a_job_once(cluster: Cluster) -> None:
    (key,) = await _ended(cluster)
    cluster.later(1)
    records = await cluster.store.aged(before_us=cluster.now_us, limit=10)
    await cluster.store.delete_final([key])
    other = await cluster.other()
    assert await asyncio.gather(cluster.store.import_aged(records), other.import_aged(records)) == [[key], [key]]


@case("conflict", "delete_final")
async def test_only_final_jobs_are_deleted(cluster: Cluster) -> None:
    (ended,) = await _ended(cluster)
    (held,) = await cluster.held()
    assert await cluster.store.delete_final([held.key, ended, cluster.job().key]) == 1
    assert await cluster.status(held.key) is JobStatus.HELD_ON_MASTER
