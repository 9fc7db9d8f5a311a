"""The life of a bucket in the master (R5, R15'a, R16, R22', R24)."""

from __future__ import annotations

import asyncio

import pytest

from jobmaster.model.states import BucketStatus, JobStatus
from jobmaster.ports.answers import Fenced
from tests.conformance.adapters import AGENT
from tests.conformance.cases import case
from tests.conformance.cluster import HOPELESS, SECOND, Cluster, outcome_of, start_of


@case("success", "create_buckets")
async def test_a_worker_opens_buckets_that_it_owns_at_epoch_one(cluster: Cluster) -> None:
    worker = await cluster.worker()
    mail, main = await cluster.store.create_buckets(
        worker, [cluster.new_bucket(lane="mail", priority=5), cluster.new_bucket()]
    )
    assert (mail.agent, mail.lane, mail.priority) == (AGENT, "mail", 5)
    assert (main.owner, main.epoch, main.status, main.clean) == (worker, 1, BucketStatus.ACTIVE, True)
    assert {bucket.id for bucket in (await cluster.renew(worker)).buckets} == {mail.id, main.id}


@case("conflict", "create_buckets")
async def test_an_ended_worker_opens_nothing(cluster: Cluster) -> None:
    worker = await cluster.worker()
    await cluster.store.end_worker(worker)
    with pytest.raises(Fenced):
        await cluster.store.create_buckets(worker, [cluster.new_bucket()])
    assert await cluster.store.list_buckets() == []


@case("conflict", "create_buckets")
async def test_an_opening_that_is_repeated_after_the_bucket_was_lost_is_no_success(cluster: Cluster) -> None:
    worker = await cluster.worker()
    new = cluster.new_bucket()
    (bucket,) = await cluster.store.create_buckets(worker, [new])
    await cluster.lose(bucket)
    await cluster.renew(worker)
    with pytest.raises(Fenced):
        await cluster.store.create_buckets(worker, [new, cluster.new_bucket()])
    assert len(await cluster.store.list_buckets()) == 1


@case("repeat", "create_buckets")
async def test_opening_again_finds_the_same_buckets(cluster: Cluster) -> None:
    worker = await cluster.worker()
    news = [cluster.new_bucket(), cluster.new_bucket()]
    first = await cluster.store.create_buckets(worker, news)
    assert await cluster.store.create_buckets(worker, news) == first
    more = await cluster.store.create_buckets(worker, [*news, cluster.new_bucket()])
    assert more[:2] == first
    assert len(await cluster.store.list_buckets()) == 3


@case("race", "create_buckets")
async def test_the_same_opening_twice_at_once_makes_one_bucket(cluster: Cluster) -> None:
    worker = await cluster.worker()
    other = await cluster.other()
    new = cluster.new_bucket()
    one, two = await asyncio.gather(cluster.store.create_buckets(worker, [new]), other.create_buckets(worker, [new]))
    assert one == two
    assert len(await cluster.store.list_buckets()) == 1


# -- recover_before (R15'a 2)


@case("success", "recover_before")
async def test_the_adopter_recovers_what_the_old_owner_had_in_memory(cluster: Cluster) -> None:
    bucket = await cluster.owned()
    queued, running = await cluster.claimed(bucket), await cluster.running(bucket)
    adopted = await cluster.adopted(bucket)
    assert await cluster.store.recover_before(adopted.fence, adopted_us=adopted.adopted_us, limit=10) == 2
    waiting, ran = await cluster.row(queued.key), await cluster.row(running.key)
    assert (waiting.status, waiting.recoveries, waiting.due_us) == (JobStatus.HELD_ON_MASTER, 0, queued.due_us)
    assert (ran.status, ran.recoveries, ran.attempts) == (JobStatus.HELD_ON_MASTER, 1, 1)
    (attempt,) = await cluster.store.job_attempts(running.key)
    assert (attempt.attempt, attempt.status, attempt.reason) == (1, JobStatus.FAILED, "worker lost")
    left = [] if cluster.store.standalone else [running.key]
    assert [message.key for message in await cluster.messages(adopted)] == left, "its message is nobody's any more"
    claimed = {job.key: job for job in (await cluster.claim(adopted)).jobs}
    assert {job.suspect for job in claimed.values()} == {True}
    assert (claimed[running.key].attempts, claimed[running.key].failures) == (1, 0)


async def test_an_at_most_once_job_whose_worker_vanished_has_failed(cluster: Cluster) -> None:
    bucket = await cluster.owned()
    running = await cluster.running(bucket, at_most_once=True)
    waiting = await cluster.claimed(bucket, at_most_once=True)
    adopted = await cluster.adopted(bucket)
    await cluster.store.recover_before(adopted.fence, adopted_us=adopted.adopted_us, limit=10)
    row = await cluster.row(running.key)
    assert (row.status, row.reason, row.recoveries) == (JobStatus.FAILED, "worker lost", 0)
    assert await cluster.status(waiting.key) is JobStatus.HELD_ON_MASTER


async def test_a_job_that_keeps_losing_its_worker_is_quarantined_and_its_neighbours_are_not(cluster: Cluster) -> None:
    bucket = await cluster.owned("w0")
    killer, neighbour = await cluster.claimed(bucket), await cluster.claimed(bucket)
    for number in range(1, HOPELESS + 1):
        assert await cluster.status(killer.key) is not JobStatus.FAILED, "who went down in a crowd may be innocent"
        await cluster.store.start(bucket.fence, [start_of(killer)])
        bucket = await cluster.adopted(bucket, f"w{number}")
        await cluster.store.recover_before(bucket.fence, adopted_us=bucket.adopted_us, limit=10)
        jobs = {job.key: job for job in (await cluster.claim(bucket)).jobs}
        neighbour = jobs[neighbour.key]
        killer = jobs.get(killer.key, killer)
    row = await cluster.row(killer.key)
    assert (row.status, row.reason, row.recoveries) == (JobStatus.FAILED, "quarantined", HOPELESS)
    assert (await cluster.row(neighbour.key)).recoveries == 0
    assert len(await cluster.store.job_attempts(killer.key)) == HOPELESS


async def test_an_adopter_counts_no_run_of_its_own(cluster: Cluster) -> None:
    """It had lost the bucket and has it again: it lives, and so nobody has died."""
    bucket = await cluster.owned()
    running = await cluster.running(bucket)
    await cluster.lose(bucket)
    (again,) = (await cluster.renew(bucket.owner or 0, adopt=1)).buckets
    cluster.later(1)
    await cluster.store.recover_before(again.fence, adopted_us=again.adopted_us + 1, limit=10)
    row = await cluster.row(running.key)
    assert (row.status, row.recoveries, row.attempts) == (JobStatus.HELD_ON_MASTER, 0, 1)
    (attempt,) = await cluster.store.job_attempts(running.key)
    assert attempt.reason == "taken back"


async def test_a_recovered_job_is_not_started_before_its_time(cluster: Cluster) -> None:
    bucket = await cluster.owned()
    (job,) = await cluster.held(due_in=20)
    assert len((await cluster.claim(bucket, window=30)).jobs) == 1
    await cluster.store.end_worker(bucket.owner or 0)
    adopted = await cluster.adopted(bucket)
    await cluster.store.recover_before(adopted.fence, adopted_us=adopted.adopted_us + 1, limit=10)
    assert (await cluster.row(job.key)).due_us == cluster.now_us + 20 * SECOND


@case("conflict", "recover_before")
async def test_a_late_recovery_does_not_take_the_adopters_own_rows(cluster: Cluster) -> None:
    bucket = await cluster.owned()
    adopted = await cluster.adopted(bucket)
    cluster.later(1)
    own, running = await cluster.claimed(adopted), await cluster.running(adopted)
    assert await cluster.store.recover_before(adopted.fence, adopted_us=adopted.adopted_us, limit=10) == 0
    assert await cluster.status(own.key) is JobStatus.QUEUED
    assert await cluster.status(running.key) is JobStatus.PROCESSING
    with pytest.raises(Fenced):
        await cluster.store.recover_before(bucket.fence, adopted_us=cluster.now_us + 1, limit=10)


@case("repeat", "recover_before")
async def test_recovering_goes_on_batch_by_batch_until_nothing_is_left(cluster: Cluster) -> None:
    bucket = await cluster.owned()
    for _ in range(5):
        await cluster.claimed(bucket)
    adopted = await cluster.adopted(bucket)
    done = [await cluster.store.recover_before(adopted.fence, adopted_us=adopted.adopted_us, limit=2) for _ in range(4)]
    assert done == [2, 2, 1, 0]


@case("race", "recover_before")
async def test_two_recoveries_at_once_count_each_row_once(cluster: Cluster) -> None:
    bucket = await cluster.owned()
    running = [await cluster.running(bucket) for _ in range(4)]
    adopted = await cluster.adopted(bucket)
    other = await cluster.other()
    done = await asyncio.gather(
        cluster.store.recover_before(adopted.fence, adopted_us=adopted.adopted_us, limit=3),
        other.recover_before(adopted.fence, adopted_us=adopted.adopted_us, limit=3),
    )
    assert sum(done) == 4
    assert {(await cluster.row(message.key)).recoveries for message in running} == {1}


# -- give_up (R22')


@case("success", "give_up")
async def test_a_bucket_that_is_given_up_waits_open_for_its_next_owner(cluster: Cluster) -> None:
    bucket = await cluster.owned()
    queued, message = await cluster.claimed(bucket), await cluster.message(bucket)
    await cluster.store.give_up(bucket.fence)
    free = await cluster.bucket_now(bucket)
    assert (free.owner, free.status, free.epoch) == (None, BucketStatus.ACTIVE, 2)
    row = await cluster.row(queued.key)
    assert (row.status, row.bucket, row.recoveries) == (JobStatus.HELD_ON_MASTER, None, 0)
    await cluster.store.push(bucket.id, [cluster.job()])
    adopted = await cluster.adopted(bucket)
    assert (await cluster.messages(adopted))[0].key == message.key
    (claimed,) = (await cluster.claim(adopted)).jobs
    assert (claimed.key, claimed.suspect) == (queued.key, False)


@case("success", "give_up")
async def test_a_bucket_that_never_had_anything_started_is_given_up_clean(cluster: Cluster) -> None:
    bucket = await cluster.owned()
    await cluster.pushed(bucket, 2)
    await cluster.store.give_up(bucket.fence)
    assert (await cluster.bucket_now(bucket)).clean
    assert (await cluster.adopted(bucket)).clean


@case("success", "give_up")
async def test_a_bucket_that_is_given_up_shows_what_waits_in_it_and_no_ghosts(cluster: Cluster) -> None:
    bucket = await cluster.owned()
    await cluster.renew(bucket.owner or 0, depths={bucket.id: 10_000})
    await cluster.pushed(bucket, 2)
    await cluster.store.give_up(bucket.fence)
    # With separate databases nobody counts: the master shows what was published.
    assert (await cluster.bucket_now(bucket)).depth == (2 if cluster.standalone else 10_000)


@case("conflict", "give_up")
async def test_only_the_owner_gives_a_bucket_up(cluster: Cluster) -> None:
    bucket = await cluster.owned()
    adopted = await cluster.adopted(bucket)
    with pytest.raises(Fenced):
        await cluster.store.give_up(bucket.fence)
    assert await cluster.bucket_now(bucket) == adopted


@case("repeat", "give_up")
async def test_giving_up_again_is_fenced_and_changes_nothing(cluster: Cluster) -> None:
    bucket = await cluster.owned()
    await cluster.store.give_up(bucket.fence)
    with pytest.raises(Fenced):
        await cluster.store.give_up(bucket.fence)
    assert (await cluster.bucket_now(bucket)).epoch == 2


@case("race", "give_up")
async def test_giving_up_beside_a_finish_keeps_the_outcome_or_fences_it(cluster: Cluster) -> None:
    bucket = await cluster.owned()
    message = await cluster.message(bucket)
    other = await cluster.other()
    settled, _ = await asyncio.gather(
        cluster.store.settle(bucket.fence, [outcome_of(message)]), other.give_up(bucket.fence), return_exceptions=True
    )
    left = (await cluster.store.depths([bucket.id]))[bucket.id]
    assert left == (1 if isinstance(settled, Fenced) else 0)


# -- complete, reopen, retire (R24)


@case("success", "complete", "reopen")
async def test_a_completing_bucket_is_hidden_from_producers_and_can_be_opened_again(cluster: Cluster) -> None:
    bucket = await cluster.owned()
    await cluster.store.complete(bucket.fence)
    assert (await cluster.bucket_now(bucket)).status is BucketStatus.COMPLETING
    assert await cluster.store.open_buckets() == []
    await cluster.store.reopen(bucket.fence)
    assert (await cluster.bucket_now(bucket)).status is BucketStatus.ACTIVE


@case("conflict", "complete", "reopen")
async def test_only_the_owner_completes_or_reopens(cluster: Cluster) -> None:
    bucket = await cluster.owned()
    await cluster.store.complete(bucket.fence)
    await cluster.lose(bucket)
    for verb in (cluster.store.complete, cluster.store.reopen):
        with pytest.raises(Fenced):
            await verb(bucket.fence)
    assert (await cluster.bucket_now(bucket)).status is BucketStatus.LOST


@case("repeat", "complete", "reopen")
async def test_completing_and_reopening_again_change_nothing_more(cluster: Cluster) -> None:
    bucket = await cluster.owned()
    for _ in range(2):
        await cluster.store.complete(bucket.fence)
    for _ in range(2):
        await cluster.store.reopen(bucket.fence)
    assert (await cluster.bucket_now(bucket)).status is BucketStatus.ACTIVE


@case("race", "complete", "reopen")
async def test_completing_beside_a_loss_leaves_one_answer(cluster: Cluster) -> None:
    bucket = await cluster.owned()
    other = await cluster.other()
    await asyncio.gather(
        cluster.store.complete(bucket.fence), other.end_worker(bucket.owner or 0), return_exceptions=True
    )
    assert (await cluster.bucket_now(bucket)).status is BucketStatus.LOST
    with pytest.raises(Fenced):
        await cluster.store.reopen(bucket.fence)


async def test_a_completing_bucket_claims_nothing(cluster: Cluster) -> None:
    bucket = await cluster.owned()
    await cluster.held()
    await cluster.store.complete(bucket.fence)
    claimed = await cluster.claim(bucket)
    assert (claimed.jobs, claimed.fenced) == ([], []), "it takes nothing new, and is still its owner's"


@case("success", "retire")
async def test_a_retired_bucket_leaves_no_row_behind(cluster: Cluster) -> None:
    bucket = await cluster.owned()
    queued, running = await cluster.claimed(bucket), await cluster.running(bucket)
    await cluster.store.remove(bucket.fence, [running.seq])
    await cluster.store.complete(bucket.fence)
    assert await cluster.store.close(bucket.fence)
    await cluster.store.retire(bucket.fence)
    assert await cluster.store.list_buckets() == []
    for key in (queued.key, running.key):
        row = await cluster.row(key)
        assert (row.status, row.bucket) == (JobStatus.HELD_ON_MASTER, None)


@case("conflict", "retire")
async def test_only_the_owner_or_the_drainer_retires_a_bucket(cluster: Cluster) -> None:
    bucket = await cluster.owned()
    draining = await cluster.draining(bucket)
    with pytest.raises(Fenced):
        await cluster.store.retire(bucket.fence)
    await cluster.store.retire(draining.fence)
    assert await cluster.store.list_buckets() == []


@case("repeat", "retire")
async def test_retiring_again_is_fenced(cluster: Cluster) -> None:
    bucket = await cluster.owned()
    await cluster.store.complete(bucket.fence)
    await cluster.store.retire(bucket.fence)
    with pytest.raises(Fenced):
        await cluster.store.retire(bucket.fence)


async def test_a_retirement_that_comes_after_the_bucket_was_opened_again_takes_nothing_away(cluster: Cluster) -> None:
    bucket = await cluster.owned()
    await cluster.store.complete(bucket.fence)
    await cluster.store.reopen(bucket.fence)
    job = await cluster.running(bucket)
    with pytest.raises(Fenced):
        await cluster.store.retire(bucket.fence)
    assert await cluster.status(job.key) is JobStatus.PROCESSING


@case("race", "retire")
async def test_a_claim_beside_a_retirement_leaves_no_job_in_a_deleted_bucket(cluster: Cluster) -> None:
    bucket = await cluster.owned()
    (job,) = await cluster.held()
    other = await cluster.other()

    async def close() -> None:
        await other.complete(bucket.fence)
        await other.retire(bucket.fence)

    await asyncio.gather(cluster.claim(bucket), close())
    assert (await cluster.row(job.key)).status is JobStatus.HELD_ON_MASTER


async def test_a_bucket_that_is_given_up_is_clean_only_if_nothing_of_it_can_have_a_row(cluster: Cluster) -> None:
    fresh = await cluster.owned("fresh")
    await cluster.store.give_up(fresh.fence)
    assert (await cluster.bucket_now(fresh)).clean
    with_row = await cluster.owned("with-row")
    await cluster.claimed(with_row)
    await cluster.store.give_up(with_row.fence)
    assert (await cluster.bucket_now(with_row)).clean is cluster.standalone, "in an agent its message may be left"
    with_run = await cluster.owned("with-run")
    await cluster.running(with_run)
    await cluster.store.give_up(with_run.fence)
    assert not (await cluster.bucket_now(with_run)).clean, "the row may have its message here"


async def test_a_bucket_that_is_given_up_lets_the_messages_of_its_rows_go(cluster: Cluster) -> None:
    bucket = await cluster.owned()
    early, message = await cluster.pushed(bucket, 2)
    await cluster.store.take_over(bucket.fence, [start_of(early, status=JobStatus.QUEUED)])
    await cluster.store.give_up(bucket.fence)
    row = await cluster.row(early.key)
    assert (row.status, row.bucket) == (JobStatus.HELD_ON_MASTER, None)
    free = await cluster.bucket_now(bucket)
    assert free.clean is cluster.standalone
    adopted = await cluster.adopted(bucket)
    left = [one.key for one in await cluster.messages(adopted)]
    assert left == ([message.key] if cluster.standalone else [early.key, message.key])
    if cluster.standalone:
        assert free.depth == 1


async def test_a_bucket_that_was_lost_stays_unclean_when_its_next_owner_gives_it_up(cluster: Cluster) -> None:
    bucket = await cluster.owned()
    await cluster.pushed(bucket)
    adopted = await cluster.adopted(bucket)
    await cluster.store.give_up(adopted.fence)
    assert not (await cluster.bucket_now(adopted)).clean


async def test_a_bucket_that_was_lost_is_clean_again_when_it_is_given_up_empty(cluster: Cluster) -> None:
    bucket = await cluster.owned()
    ran = await cluster.message(bucket)
    adopted = await cluster.adopted(bucket)
    await cluster.store.settle(adopted.fence, [outcome_of(ran)])
    await cluster.store.give_up(adopted.fence)
    free = await cluster.bucket_now(adopted)
    assert free.clean is cluster.standalone, "an agent may still have messages of an earlier owner"
    assert free.depth == 0
