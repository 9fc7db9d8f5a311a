"""Workers, renewals, lost buckets (R4, R6, R7, R8, R15, R15')."""

from __future__ import annotations

import asyncio

import pytest

from jobmaster.model.job import Blame
from jobmaster.model.states import BucketStatus, JobStatus, WorkerMode
from jobmaster.model.worker import Demand, Registration, Renewal, WorkerStatus
from jobmaster.ports.answers import Fenced, Refused
from tests.conformance.adapters import AGENT
from tests.conformance.cases import case
from tests.conformance.cluster import NOON, SECOND, Cluster, outcome_of, start_of

LEASE = 10 * SECOND


@case("success", "register")
async def test_a_worker_registers_and_gets_its_number_and_the_clock(cluster: Cluster) -> None:
    registration = Registration("w", 7, AGENT, ("", "mail"), WorkerMode.FULL, "box", 12, 20, "1.0")
    registered = await cluster.store.register(registration)
    assert registered.now_us == NOON
    (record,) = await cluster.store.list_workers()
    assert (record.id, record.name, record.boot, record.lanes) == (registered.worker, "w", 7, ("", "mail"))
    assert (record.host, record.pid, record.slots, record.version) == ("box", 12, 20, "1.0")
    assert (record.status, record.lease_until_us) == (WorkerStatus.ACTIVE, NOON + LEASE)


@case("success", "register")
async def test_a_restart_under_the_same_name_ends_the_old_boots_lease(cluster: Cluster) -> None:
    old = await cluster.worker("w", boot=1)
    bucket = await cluster.bucket(old)
    new = await cluster.worker("w", boot=2)
    assert new != old
    assert (await cluster.renew(old)).gone
    await cluster.store.mark_lost()
    assert (await cluster.bucket_now(bucket)).status is BucketStatus.LOST
    grant = await cluster.renew(new, adopt=1)
    assert [(one.id, one.owner) for one in grant.buckets] == [(bucket.id, new)]


@case("conflict", "register")
async def test_a_late_registration_of_an_older_boot_is_refused_with_the_newer_number(cluster: Cluster) -> None:
    worker = await cluster.worker("w", boot=5)
    with pytest.raises(Refused, match="boot=5"):
        await cluster.worker("w", boot=4)
    assert not (await cluster.renew(worker)).gone


@case("repeat", "register")
async def test_registering_again_gives_the_same_worker(cluster: Cluster) -> None:
    worker = await cluster.worker("w", boot=5)
    bucket = await cluster.bucket(worker)
    assert await cluster.worker("w", boot=5) == worker
    assert [one.id for one in (await cluster.renew(worker)).buckets] == [bucket.id]


@case("race", "register")
async def test_of_two_boots_at_once_the_higher_one_stays(cluster: Cluster) -> None:
    other = await cluster.other()
    answers = await asyncio.gather(
        cluster.store.register(Registration("w", 1, AGENT, ("",), WorkerMode.FULL)),
        other.register(Registration("w", 2, AGENT, ("",), WorkerMode.FULL)),
        return_exceptions=True,
    )
    assert not isinstance(answers[1], BaseException)
    assert not (await cluster.renew(answers[1].worker)).gone
    assert isinstance(answers[0], Refused) or (await cluster.renew(answers[0].worker)).gone


@case("success", "renew")
async def test_a_renewal_prolongs_the_lease_and_names_what_is_owned(cluster: Cluster) -> None:
    worker = await cluster.worker()
    first, second = await cluster.bucket(worker), await cluster.bucket(worker, priority=5)
    await cluster.owned("other")
    cluster.later(3)
    grant = await cluster.renew(worker, depths={first.id: 12}, stats=b'{"jobs": 3}')
    assert (grant.number, grant.now_us, grant.gone) == (1, NOON + 3 * SECOND, False)
    assert {(one.id, one.epoch, one.owner) for one in grant.buckets} == {(first.id, 1, worker), (second.id, 1, worker)}
    assert (await cluster.bucket_now(first)).depth == 12
    (record,) = await cluster.store.workers_by_id([worker])
    assert (record.lease_until_us, record.renewed_us) == (NOON + 13 * SECOND, NOON + 3 * SECOND)
    assert record.stats == b'{"jobs": 3}'


async def test_a_completing_bucket_is_still_granted(cluster: Cluster) -> None:
    bucket = await cluster.owned()
    await cluster.store.complete(bucket.fence)
    grant = await cluster.renew(bucket.owner or 0)
    assert [one.status for one in grant.buckets] == [BucketStatus.COMPLETING]


async def test_a_bucket_that_is_drained_is_no_grant(cluster: Cluster) -> None:
    draining = await cluster.draining(await cluster.owned())
    assert (await cluster.renew(draining.owner or 0)).buckets == []


@case("conflict", "renew")
async def test_a_renewal_that_was_overtaken_changes_nothing(cluster: Cluster) -> None:
    bucket = await cluster.owned()
    worker = bucket.owner or 0
    job = await cluster.claimed(bucket)
    await cluster.renew(worker, number=5, held=[(job.key, job.gen)])
    cluster.later(4)
    late = await cluster.renew(worker, number=4, held=[], cut_us=cluster.now_us)
    assert [one.id for one in late.buckets] == [bucket.id]
    assert await cluster.status(job.key) is JobStatus.QUEUED
    assert (await cluster.store.workers_by_id([worker]))[0].lease_until_us == NOON + LEASE


@case("conflict", "renew")
async def test_an_ended_or_unknown_worker_is_told_that_it_is_gone(cluster: Cluster) -> None:
    worker = await cluster.worker()
    await cluster.store.end_worker(worker)
    assert (await cluster.renew(worker)).gone
    assert (await cluster.renew(999)).gone


@case("conflict", "renew")
async def test_a_worker_whose_bucket_was_lost_is_no_longer_granted_it(cluster: Cluster) -> None:
    bucket = await cluster.owned()
    await cluster.lose(bucket)
    assert (await cluster.renew(bucket.owner or 0)).buckets == []


@case("repeat", "renew")
async def test_the_same_renewal_again_prolongs_the_lease(cluster: Cluster) -> None:
    bucket = await cluster.owned()
    worker = bucket.owner or 0
    await cluster.renew(worker, number=1)
    cluster.later(8)
    grant = await cluster.renew(worker, number=1)
    assert [one.id for one in grant.buckets] == [bucket.id]
    cluster.later(8)
    assert await cluster.store.mark_lost() == []


@case("race", "renew")
async def test_an_orphaned_bucket_is_adopted_by_one_of_two(cluster: Cluster) -> None:
    bucket = await cluster.owned("dead")
    await cluster.lose(bucket)
    one, two = await cluster.worker("one"), await cluster.worker("two")
    other = await cluster.other()
    grants = await asyncio.gather(
        cluster.store.renew([Renewal(one, 1, adopt=5)]), other.renew([Renewal(two, 1, adopt=5)])
    )
    owners = [grant.buckets for (grant,) in grants]
    assert sorted(len(buckets) for buckets in owners) == [0, 1]
    assert (await cluster.bucket_now(bucket)).epoch == 3


async def test_one_call_renews_a_whole_process_tree(cluster: Cluster) -> None:
    one, two = await cluster.owned("one"), await cluster.owned("two")
    grants = await cluster.store.renew([Renewal(one.owner or 0, 3), Renewal(two.owner or 0, 8)])
    assert [grant.number for grant in grants] == [3, 8]
    assert [[bucket.id for bucket in grant.buckets] for grant in grants] == [[one.id], [two.id]]


# -- reconciliation (R8)


async def test_rows_that_the_worker_does_not_have_are_recovered(cluster: Cluster) -> None:
    bucket = await cluster.owned()
    forgotten, kept = await cluster.claimed(bucket), await cluster.claimed(bucket)
    running = await cluster.running(bucket)
    cluster.later(3)
    cut = cluster.now_us
    cluster.later(3)
    await cluster.renew(bucket.owner or 0, held=[(kept.key, kept.gen)], cut_us=cut)
    row = await cluster.row(forgotten.key)
    assert (row.status, row.gen, row.bucket, row.due_us) == (JobStatus.HELD_ON_MASTER, 2, None, cluster.now_us)
    assert (row.recoveries, (await cluster.row(running.key)).recoveries) == (0, 1)
    assert await cluster.status(kept.key) is JobStatus.QUEUED
    assert await cluster.status(running.key) is JobStatus.HELD_ON_MASTER


async def test_rows_written_after_the_worker_counted_are_left_alone(cluster: Cluster) -> None:
    bucket = await cluster.owned()
    cut = cluster.now_us
    cluster.later(1)
    claimed, running = await cluster.claimed(bucket), await cluster.running(bucket)
    await cluster.renew(bucket.owner or 0, held=[], cut_us=cut)
    assert await cluster.status(claimed.key) is JobStatus.QUEUED
    assert await cluster.status(running.key) is JobStatus.PROCESSING


async def test_a_held_id_of_an_older_assignment_protects_nothing(cluster: Cluster) -> None:
    bucket = await cluster.owned()
    job = await cluster.claimed(bucket)
    cluster.later(1)
    await cluster.renew(bucket.owner or 0, held=[(job.key, job.gen - 1)], cut_us=cluster.now_us)
    assert await cluster.status(job.key) is JobStatus.HELD_ON_MASTER


async def test_another_workers_rows_are_not_reconciled(cluster: Cluster) -> None:
    mine, theirs = await cluster.owned("me"), await cluster.owned("they")
    job = await cluster.claimed(theirs)
    cluster.later(1)
    await cluster.renew(mine.owner or 0, held=[], cut_us=cluster.now_us)
    assert await cluster.status(job.key) is JobStatus.QUEUED


# -- adoption (R15')


async def test_an_adoption_raises_the_epoch_and_says_when(cluster: Cluster) -> None:
    bucket = await cluster.owned("dead")
    await cluster.lose(bucket)
    heir = await cluster.worker("heir")
    (adopted,) = (await cluster.renew(heir, adopt=1)).buckets
    assert (adopted.id, adopted.owner, adopted.epoch, adopted.status) == (bucket.id, heir, 3, BucketStatus.ACTIVE)
    assert (adopted.adopted_us, adopted.clean) == (cluster.now_us, False)
    with pytest.raises(Fenced):
        await cluster.store.finish(bucket.fence, [])


async def test_nobody_adopts_who_does_not_ask_or_stops_or_serves_another_lane(cluster: Cluster) -> None:
    bucket = await cluster.owned("dead")
    await cluster.lose(bucket)
    one = await cluster.worker("one")
    assert (await cluster.renew(one, adopt=0)).buckets == []
    assert (await cluster.renew(one, adopt=5, stopping=True)).buckets == []
    assert (await cluster.renew(await cluster.worker("two", lanes=("mail",)), adopt=5)).buckets == []
    assert (await cluster.renew(await cluster.worker("far", agent="there"), adopt=5)).buckets == []
    (record,) = await cluster.store.workers_by_id([one])
    assert record.status is WorkerStatus.STOPPING


async def test_no_more_are_adopted_than_were_asked_for_and_never_a_living_ones(cluster: Cluster) -> None:
    dead = await cluster.worker("dead")
    for _ in range(3):
        await cluster.bucket(dead)
    await cluster.store.end_worker(dead)
    await cluster.owned("alive")
    heir = await cluster.worker("heir")
    assert [len((await cluster.renew(heir, adopt=2)).buckets) for _ in range(3)] == [2, 3, 3]


# -- what else a renewal's reply tells


async def test_renewals_carry_cancellations_once_and_in_order(cluster: Cluster) -> None:
    bucket = await cluster.owned()
    worker = bucket.owner or 0
    jobs = [cluster.job() for _ in range(3)]
    await cluster.store.cancel(jobs[0].key)
    await cluster.store.cancel(jobs[1].key)
    grant = await cluster.renew(worker, cancels_after=0)
    assert grant.cancels == [jobs[0].key, jobs[1].key]
    await cluster.store.cancel(jobs[2].key)
    later = await cluster.renew(worker, cancels_after=grant.cancels_upto)
    assert later.cancels == [jobs[2].key]
    none = await cluster.renew(worker, cancels_after=later.cancels_upto)
    assert (none.cancels, none.cancels_upto) == ([], later.cancels_upto)
    again = await cluster.renew(worker, cancels_after=grant.cancels_upto)
    assert again.cancels == [jobs[2].key]


async def test_renewals_carry_the_wishes_of_hungry_workers_to_who_has_such_work(cluster: Cluster) -> None:
    rich, hungry = await cluster.owned("rich"), await cluster.owned("hungry")
    elsewhere = await cluster.bucket(await cluster.worker("mail", lanes=("mail",)), lane="mail")
    wish = Demand(hungry.id, "", 3)
    await cluster.renew(hungry.owner or 0, demands=[wish])
    assert (await cluster.renew(rich.owner or 0)).demands == [wish]
    assert (await cluster.renew(elsewhere.owner or 0)).demands == []
    assert (await cluster.renew(hungry.owner or 0, demands=[wish])).demands == []
    cluster.later(6)
    assert (await cluster.renew(rich.owner or 0)).demands == []


async def test_renewals_carry_commands_until_they_are_answered(cluster: Cluster) -> None:
    worker = await cluster.worker()
    (number,) = await cluster.store.send_command([worker], "ping", b'{"a": 1}')
    for _ in range(2):
        (command,) = (await cluster.renew(worker)).commands
        assert (command.id, command.verb, command.args) == (number, "ping", b'{"a": 1}')
    await cluster.store.answer_command(number, b"{}")
    assert (await cluster.renew(worker)).commands == []


# -- the end of leases


@case("success", "mark_lost")
async def test_the_buckets_of_a_silent_worker_are_lost_when_its_lease_has_ended(cluster: Cluster) -> None:
    silent, alive = await cluster.owned("silent"), await cluster.owned("alive")
    cluster.later(9)
    await cluster.renew(alive.owner or 0)
    assert await cluster.store.mark_lost() == []
    cluster.later(1)
    (lost,) = await cluster.store.mark_lost()
    assert (lost.id, lost.owner, lost.epoch, lost.status, lost.clean) == (silent.id, None, 2, BucketStatus.LOST, False)
    assert (await cluster.bucket_now(alive)).epoch == 1


@case("conflict", "mark_lost")
async def test_buckets_without_an_owner_are_not_lost(cluster: Cluster) -> None:
    await cluster.store.offer_bucket(cluster.new_bucket())
    cluster.later(100)
    assert await cluster.store.mark_lost() == []


@case("repeat", "mark_lost")
async def test_marking_again_raises_no_epoch_twice(cluster: Cluster) -> None:
    bucket = await cluster.owned()
    cluster.later(11)
    assert len(await cluster.store.mark_lost()) == 1
    assert await cluster.store.mark_lost() == []
    assert (await cluster.bucket_now(bucket)).epoch == 2


@case("race", "mark_lost")
async def test_two_coordinators_mark_a_bucket_once(cluster: Cluster) -> None:
    bucket = await cluster.owned()
    cluster.later(11)
    other = await cluster.other()
    marked = await asyncio.gather(cluster.store.mark_lost(), other.mark_lost())
    assert sorted(len(lost) for lost in marked) == [0, 1]
    assert (await cluster.bucket_now(bucket)).epoch == 2


async def test_the_drain_of_a_dead_drainer_is_lost_too(cluster: Cluster) -> None:
    draining = await cluster.draining(await cluster.owned())
    cluster.later(11)
    (lost,) = await cluster.store.mark_lost()
    assert (lost.id, lost.status, lost.epoch) == (draining.id, BucketStatus.LOST, draining.epoch + 1)


async def test_at_most_limit_buckets_are_marked(cluster: Cluster) -> None:
    worker = await cluster.worker()
    for _ in range(3):
        await cluster.bucket(worker)
    cluster.later(11)
    assert [len(await cluster.store.mark_lost(limit=2)) for _ in range(3)] == [2, 1, 0]


@case("success", "end_worker")
async def test_an_ended_workers_buckets_are_lost_at_once(cluster: Cluster) -> None:
    bucket = await cluster.owned()
    await cluster.store.end_worker(bucket.owner or 0)
    lost = await cluster.bucket_now(bucket)
    assert (lost.status, lost.owner, lost.epoch, lost.clean) == (BucketStatus.LOST, None, 2, False)
    (record,) = await cluster.store.list_workers()
    assert record.status is WorkerStatus.DEAD
    with pytest.raises(Fenced):
        await cluster.store.start(bucket.fence, [])


@case("conflict", "end_worker")
async def test_ending_an_unknown_worker_or_a_dead_one_disturbs_nobody(cluster: Cluster) -> None:
    dead = await cluster.owned("dead")
    adopted = await cluster.adopted(dead)
    await cluster.store.end_worker(dead.owner or 0)
    await cluster.store.end_worker(999)
    assert await cluster.bucket_now(adopted) == adopted


@case("repeat", "end_worker")
async def test_evidence_counts_once_however_often_it_is_reported(cluster: Cluster) -> None:
    bucket = await cluster.owned()
    job = await cluster.claimed(bucket)
    blame = [Blame(job.key, "SIGSEGV")]
    await cluster.store.end_worker(bucket.owner or 0, blame=blame)
    await cluster.store.end_worker(bucket.owner or 0, blame=blame)
    adopted = await cluster.adopted(bucket)
    await cluster.store.recover_before(adopted.fence, adopted_us=adopted.adopted_us + 1, limit=10)
    assert (await cluster.row(job.key)).recoveries == 1
    (again,) = (await cluster.claim(adopted)).jobs
    assert (again.recoveries, again.suspect) == (1, True)
    await cluster.store.end_worker(bucket.owner or 0, blame=blame)
    await cluster.store.start(adopted.fence, [start_of(again)])
    assert (await cluster.row(job.key)).recoveries == 1


@case("conflict", "end_worker")
async def test_evidence_that_comes_after_the_recovery_is_not_counted_again(cluster: Cluster) -> None:
    bucket = await cluster.owned()
    job = await cluster.claimed(bucket)
    await cluster.store.start(bucket.fence, [start_of(job)])
    adopted = await cluster.adopted(bucket)
    await cluster.store.recover_before(adopted.fence, adopted_us=adopted.adopted_us + 1, limit=10)
    await cluster.store.end_worker(bucket.owner or 0, blame=[Blame(job.key, "SIGKILL")])
    (again,) = (await cluster.claim(adopted)).jobs
    await cluster.store.start(adopted.fence, [start_of(again)])
    assert (await cluster.row(job.key)).recoveries == 1


@case("race", "end_worker")
async def test_an_end_beside_a_finish_lets_one_of_them_win(cluster: Cluster) -> None:
    bucket = await cluster.owned()
    message = await cluster.message(bucket)
    other = await cluster.other()
    settled, _ = await asyncio.gather(
        cluster.store.settle(bucket.fence, [outcome_of(message)]),
        other.end_worker(bucket.owner or 0),
        return_exceptions=True,
    )
    left = await cluster.store.depths([bucket.id])
    if isinstance(settled, Fenced):
        assert left == {bucket.id: 1}
    else:
        assert ([answer.done for answer in settled], left) == ([True], {bucket.id: 0})


async def test_who_ran_beside_the_job_that_is_to_blame_is_excused(cluster: Cluster) -> None:
    bucket = await cluster.owned()
    killer, beside = await cluster.running(bucket), await cluster.running(bucket)
    testimony = [Blame(killer.key, "SIGSEGV")]
    for _ in range(2):
        await cluster.store.end_worker(bucket.owner or 0, blame=testimony)
    adopted = await cluster.adopted(bucket)
    await cluster.store.recover_before(adopted.fence, adopted_us=adopted.adopted_us + 1, limit=10)
    assert ((await cluster.row(killer.key)).recoveries, (await cluster.row(beside.key)).recoveries) == (1, 0)
    (attempt,) = await cluster.store.job_attempts(beside.key)
    assert attempt.reason == "worker lost"
    assert [len(await cluster.store.job_attempts(killer.key)), await cluster.status(beside.key)] == [
        1, JobStatus.HELD_ON_MASTER,
    ]  # fmt: skip


async def test_an_empty_testimony_excuses_every_run_and_none_at_all_excuses_nobody(cluster: Cluster) -> None:
    seen, unseen = await cluster.owned("seen"), await cluster.owned("unseen")
    excused, counted = await cluster.running(seen), await cluster.running(unseen)
    await cluster.store.end_worker(seen.owner or 0, blame=[])
    await cluster.store.end_worker(unseen.owner or 0)
    heir = await cluster.worker("heir")
    for bucket in (await cluster.renew(heir, adopt=2)).buckets:
        await cluster.store.recover_before(bucket.fence, adopted_us=bucket.adopted_us + 1, limit=10)
    assert (await cluster.row(excused.key)).recoveries == 0
    assert (await cluster.row(counted.key)).recoveries == 1


async def test_an_excuse_comes_in_time_after_the_bucket_was_marked_lost(cluster: Cluster) -> None:
    bucket = await cluster.owned()
    beside = await cluster.running(bucket)
    await cluster.lose(bucket)
    await cluster.store.end_worker(bucket.owner or 0, blame=[])
    adopted = await cluster.adopted(bucket)
    await cluster.store.recover_before(adopted.fence, adopted_us=adopted.adopted_us + 1, limit=10)
    assert (await cluster.row(beside.key)).recoveries == 0


async def test_an_excuse_holds_for_one_recovery_only(cluster: Cluster) -> None:
    bucket = await cluster.owned()
    message = await cluster.running(bucket, nonce=1)
    await cluster.store.end_worker(bucket.owner or 0, blame=[])
    adopted = await cluster.adopted(bucket)
    answers = []
    for nonce in (2, 3):
        (verdict,) = await cluster.store.start(adopted.fence, [start_of(message, nonce=nonce)])
        answers.append((verdict.yes, verdict.attempt, verdict.recoveries))
    assert answers == [(True, 2, 0), (True, 3, 1)]


async def test_a_job_that_only_its_message_knew_is_counted_when_its_process_died(cluster: Cluster) -> None:
    bucket = await cluster.owned()
    message = await cluster.message(bucket)
    await cluster.store.end_worker(bucket.owner or 0, blame=[Blame(message.key, "SIGKILL")])
    adopted = await cluster.adopted(bucket)
    (verdict,) = await cluster.store.start(adopted.fence, [start_of(message)])
    assert (verdict.yes, verdict.recoveries) == (True, 1)
