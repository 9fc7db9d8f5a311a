"""What people ask: lists, filters, counts, and records of jobs, workers and buckets."""

from __future__ import annotations

import asyncio

import pytest

from jobmaster.errors import ConfigurationError
from jobmaster.model.ids import key_text
from jobmaster.model.job import ErrorInfo
from jobmaster.model.states import BucketStatus, JobStatus, WorkerMode
from jobmaster.model.worker import WorkerStatus
from jobmaster.ports.query import JobQuery
from tests.conformance.adapters import AGENT
from tests.conformance.cases import case
from tests.conformance.cluster import SECOND, Cluster, outcome_of, start_of


async def _history(cluster: Cluster) -> dict[str, bytes]:
    """One job in each of several states, a second apart, by name."""
    bucket = await cluster.owned()
    keys = {}
    for name, status in (("paid", JobStatus.SUCCEEDED), ("broken", JobStatus.FAILED)):
        message = await cluster.message(bucket, task=f"shop.{name}", custom_id=f"Order-{name}")
        await cluster.store.settle(bucket.fence, [outcome_of(message, status, reason=name)])
        keys[name] = message.key
        cluster.later(1)
    keys["running"] = (await cluster.running(bucket, task="shop.running")).key
    cluster.later(1)
    keys["held"] = (await cluster.held(task="mail.send", lane="mail", priority=5, due_in=60))[0].key
    cluster.later(1)
    keys["waiting"] = (await cluster.message(bucket, task="shop.waiting")).key
    return keys


@case("success", "list_jobs")
async def test_jobs_are_listed_newest_first_rows_and_messages_together(cluster: Cluster) -> None:
    keys = await _history(cluster)
    page = await cluster.store.list_jobs(JobQuery())
    names = ["waiting", "held", "running", "broken", "paid"]
    expected = [keys[name] for name in names if cluster.standalone or name != "waiting"]
    assert [job.key for job in page.jobs] == expected
    assert page.after is None
    if cluster.standalone:
        waiting = page.jobs[0]
        assert (waiting.status, waiting.in_master, waiting.task) == (JobStatus.SAVE_PENDING, False, "shop.waiting")


@case("success", "list_jobs")
@pytest.mark.parametrize(
    ("query", "names"),
    [
        (JobQuery(statuses=(JobStatus.FAILED, JobStatus.SUCCEEDED)), {"paid", "broken"}),
        (JobQuery(statuses=()), set()),
        (JobQuery(task="shop.running"), {"running"}),
        (JobQuery(lane="mail"), {"held"}),
        (JobQuery(priority=5), {"held"}),
        (JobQuery(reason="broken"), {"broken"}),
        (JobQuery(text="ORDER-p"), {"paid"}),
        (JobQuery(text="MAIL."), {"held"}),
        (JobQuery(text="%"), set()),
        (JobQuery(text="_"), set()),
        (JobQuery(worker=999_999), set()),
        (JobQuery(statuses=(JobStatus.FAILED,), task="shop.paid"), set()),
    ],
    # A set in a fixed order: helpers of one run must agree on the names of tests.
    ids=lambda value: str(sorted(value) if isinstance(value, set) else value),
)
async def test_filters_choose_jobs(cluster: Cluster, query: JobQuery, names: set[str]) -> None:
    keys = await _history(cluster)
    found = {job.key for job in (await cluster.store.list_jobs(query)).jobs}
    assert found == {keys[name] for name in names}
    counts = await cluster.store.count_jobs(query)
    assert sum(counts.values()) == len(names)


async def test_jobs_are_found_by_a_part_of_their_id_and_by_their_worker_and_time(cluster: Cluster) -> None:
    keys = await _history(cluster)
    text = key_text(keys["held"])
    for part in (text, text.upper(), text[4:22], text.replace("-", "")[8:]):
        found = await cluster.store.list_jobs(JobQuery(text=part))
        assert [job.key for job in found.jobs] == [keys["held"]]
    row = await cluster.row(keys["running"])
    ran = await cluster.store.list_jobs(JobQuery(worker=row.worker))
    assert {job.key for job in ran.jobs} == {keys["running"], keys["paid"], keys["broken"]}
    span = JobQuery(created_from_us=row.created_us, created_to_us=row.created_us)
    assert [job.key for job in (await cluster.store.list_jobs(span)).jobs] == [keys["running"]]


async def test_pages_follow_each_other_without_gaps_or_repeats(cluster: Cluster) -> None:
    jobs = []
    for number in range(7):
        jobs += await cluster.held(1)
        cluster.later(number % 2)  # some were created in the same microsecond
    seen, after = [], None
    for _ in range(10):
        page = await cluster.store.list_jobs(JobQuery(), limit=3, after=after)
        seen += [job.key for job in page.jobs]
        after = page.after
        if after is None:
            break
    assert sorted(seen) == sorted(job.key for job in jobs)
    created = [(await cluster.row(key)).created_us for key in seen]
    assert created == sorted(created, reverse=True)


@case("conflict", "list_jobs")
@pytest.mark.parametrize("bad", [{"limit": 0}, {"limit": 1001}, {"after": "nonsense"}, {"after": "1:zz"}], ids=str)
async def test_a_page_that_cannot_be_is_refused(cluster: Cluster, bad: dict[str, object]) -> None:
    with pytest.raises(ConfigurationError):
        await cluster.store.list_jobs(JobQuery(), **bad)


@case("repeat", "list_jobs", "count_jobs", "get_job")
async def test_asking_again_gives_the_same(cluster: Cluster) -> None:
    keys = await _history(cluster)
    assert await cluster.store.list_jobs(JobQuery()) == await cluster.store.list_jobs(JobQuery())
    assert await cluster.store.count_jobs(JobQuery()) == await cluster.store.count_jobs(JobQuery())
    assert await cluster.store.get_job(keys["paid"]) == await cluster.store.get_job(keys["paid"])


@case("race", "list_jobs", "count_jobs", "get_job", "job_attempts")
async def test_people_may_ask_while_batches_are_settled(cluster: Cluster) -> None:
    bucket = await cluster.owned()
    other = await cluster.other()
    outcomes = [outcome_of(message) for message in await cluster.pushed(bucket, 20)]
    key = outcomes[0].key
    page, counts, record, attempts, _ = await asyncio.gather(
        other.list_jobs(JobQuery()),
        other.count_jobs(JobQuery()),
        other.get_job(key),
        other.job_attempts(key),
        cluster.store.settle(bucket.fence, outcomes),
    )
    if cluster.standalone:
        assert (len(page.jobs), sum(counts.values())) == (20, 20)
        assert record is not None
    assert attempts == []
    assert await cluster.store.count_jobs(JobQuery()) == {JobStatus.SUCCEEDED: 20}


async def test_a_list_says_how_many_waiting_messages_are_not_in_it(cluster: Cluster) -> None:
    bucket = await cluster.owned()
    await cluster.pushed(bucket, 3)
    await cluster.renew(bucket.owner or 0, depths={bucket.id: 3})
    page = await cluster.store.list_jobs(JobQuery())
    assert (len(page.jobs), page.unlisted) == ((3, 0) if cluster.standalone else (0, 3))


@case("success", "count_jobs")
async def test_jobs_are_counted_by_status(cluster: Cluster) -> None:
    await _history(cluster)
    expected = dict.fromkeys((JobStatus.SUCCEEDED, JobStatus.FAILED, JobStatus.PROCESSING, JobStatus.HELD_ON_MASTER), 1)
    if cluster.standalone:
        expected[JobStatus.SAVE_PENDING] = 1
    assert await cluster.store.count_jobs(JobQuery()) == expected


@case("conflict", "count_jobs")
async def test_nothing_is_counted_where_nothing_fits(cluster: Cluster) -> None:
    assert await cluster.store.count_jobs(JobQuery()) == {}
    await cluster.held()
    assert await cluster.store.count_jobs(JobQuery(task="nobody")) == {}


@case("success", "get_job")
async def test_a_job_is_shown_with_its_payload(cluster: Cluster) -> None:
    job = cluster.job(metadata={"a": [1, 2.5, None, "é"]}, custom_id="order 7", expires_us=cluster.now_us + SECOND)
    await cluster.store.hold([job])
    record = await cluster.store.get_job(job.key)
    assert (record.key, record.envelope, record.custom_id) == (job.key, job.envelope, "order 7")
    bucket = await cluster.owned()
    await cluster.store.push(bucket.id, [message := cluster.job(task="waiting")])
    waiting = await cluster.store.get_job(message.key)
    if cluster.standalone:
        assert (waiting.envelope, waiting.bucket, waiting.in_master) == (message.envelope, bucket.id, False)
    else:
        assert waiting is None


@case("conflict", "get_job", "job_attempts")
async def test_an_id_that_nobody_knows_is_none(cluster: Cluster) -> None:
    assert await cluster.store.get_job(cluster.job().key) is None
    assert await cluster.store.job_attempts(cluster.job().key) == []


@case("success", "job_attempts")
@case("repeat", "job_attempts")
async def test_attempts_are_told_first_to_last(cluster: Cluster) -> None:
    bucket = await cluster.owned()
    job = await cluster.claimed(bucket)
    for number in (1, 2, 3):
        await cluster.store.start(bucket.fence, [start_of(job)])
        error = ErrorInfo("ValueError", f"number {number}")
        status = JobStatus.FAILED if number == 3 else JobStatus.HELD_ON_MASTER
        await cluster.store.finish(bucket.fence, [outcome_of(job, status, attempt=number, error=error)])
        jobs = (await cluster.claim(bucket)).jobs
        job = jobs[0] if jobs else job
    attempts = await cluster.store.job_attempts(job.key)
    assert [(one.attempt, one.status, one.error.message) for one in attempts] == [
        (number, JobStatus.FAILED, f"number {number}") for number in (1, 2, 3)
    ]
    assert await cluster.store.job_attempts(job.key) == attempts


@case("success", "list_workers", "workers_by_id")
async def test_workers_are_listed_living_first(cluster: Cluster) -> None:
    dead, alive, stopping = [await cluster.worker(name) for name in ("a", "b", "c")]
    await cluster.store.end_worker(dead)
    await cluster.renew(stopping, stopping=True)
    workers = await cluster.store.list_workers()
    assert [(one.id, one.status) for one in workers] == [
        (alive, WorkerStatus.ACTIVE), (stopping, WorkerStatus.STOPPING), (dead, WorkerStatus.DEAD),
    ]  # fmt: skip
    assert (workers[0].agent, workers[0].lanes, workers[0].mode) == (AGENT, ("",), WorkerMode.FULL)
    found = await cluster.store.workers_by_id([dead, alive])
    assert {one.id: one.status for one in found} == {alive: WorkerStatus.ACTIVE, dead: WorkerStatus.DEAD}


@case("conflict", "list_workers", "workers_by_id", "list_buckets")
async def test_unknown_workers_are_left_out_and_a_lapsed_lease_is_dead(cluster: Cluster) -> None:
    assert await cluster.store.list_workers() == []
    assert await cluster.store.list_buckets() == []
    worker = await cluster.worker()
    cluster.later(11)
    (record,) = await cluster.store.workers_by_id([worker, 999_999, worker])
    assert record.status is WorkerStatus.DEAD
    assert await cluster.store.workers_by_id([]) == []


@case("repeat", "list_workers", "workers_by_id", "list_buckets")
async def test_listing_workers_and_buckets_again_gives_the_same(cluster: Cluster) -> None:
    bucket = await cluster.owned()
    assert await cluster.store.list_workers() == await cluster.store.list_workers()
    assert await cluster.store.list_buckets() == await cluster.store.list_buckets()
    ids = [bucket.owner]
    assert await cluster.store.workers_by_id(ids) == await cluster.store.workers_by_id(ids)


@case("race", "list_workers", "workers_by_id", "list_buckets")
async def test_lists_are_asked_while_workers_come(cluster: Cluster) -> None:
    other = await cluster.other()
    worker = await cluster.worker("first")
    workers, found, buckets, _ = await asyncio.gather(
        other.list_workers(), other.workers_by_id([worker]), other.list_buckets(), cluster.worker("second")
    )
    assert {one.name for one in workers} in ({"first"}, {"first", "second"})
    assert ([one.id for one in found], buckets) == ([worker], [])


@case("success", "list_buckets")
async def test_buckets_are_listed_with_owner_epoch_status_and_depth(cluster: Cluster) -> None:
    bucket = await cluster.owned()
    await cluster.renew(bucket.owner or 0, depths={bucket.id: 7})
    (listed,) = await cluster.store.list_buckets()
    assert (listed.id, listed.owner, listed.epoch, listed.depth) == (bucket.id, bucket.owner, 1, 7)
    await cluster.store.complete(bucket.fence)
    assert (await cluster.bucket_now(bucket)).status is BucketStatus.COMPLETING
