"""Workers, renewals, lost buckets (R4, R6, R7, R8, R15, R15')."""

from __future__ import annotations

import asyncio

import pytest

from jobmaster.model.states import BucketStatus, JobStatus, WorkerMode
from jobmaster.model.worker import Demand, Predecessor, Registration, Renewal, WorkerStatus
from jobmaster.ports.answers import Fenced, HigherBoot, Refused
from tests.conformance.adapters import AGENT
from tests.conformance.cases import case
from tests.conformance.cluster import HOPELESS, NOON, SECOND, Cluster, start_of

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
    with pytest.raises(HigherBoot) as refused:
        await cluster.worker("w", boot=4)
    assert refused.value.boot == 5
    assert not (await cluster.renew(worker)).gone


@case("success", "register")
async def test_a_newer_boot_is_told_whose_living_lease_it_ended(cluster: Cluster) -> None:
    old = await cluster.store.register(Registration("w", 1, AGENT, ("",), WorkerMode.FULL, "box", 12))
    cluster.later(3)
    new = Registration("w", 2, AGENT, ("",), WorkerMode.FULL, "crate", 13)
    first, again = await cluster.store.register(new), await cluster.store.register(new)
    assert old.replaced is None
    assert first.replaced == Predecessor(old.worker, "box", 12, NOON)
    assert again.replaced is None


@case("success", "register")
async def test_a_lease_that_was_over_is_not_replaced(cluster: Cluster) -> None:
    await cluster.worker("ended", boot=1)
    await cluster.store.end_worker((await cluster.store.list_workers())[0].id)
    await cluster.worker("late", boot=1)
    cluster.later(11)
    for name in ("ended", "late"):
        told = await cluster.store.register(Registration(name, 2, AGENT, ("",), WorkerMode.FULL, "box", 12))
        assert told.replaced is None


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
    assert (row.status, row.gen, row.bucket, row.due_us) == (JobStatus.HELD_ON_MASTER, 2, None, forgotten.due_us)
    assert (row.recoveries, (await cluster.row(running.key)).recoveries) == (0, 0), "nobody died"
    assert await cluster.status(kept.key) is JobStatus.QUEUED
    assert await cluster.status(running.key) is JobStatus.HELD_ON_MASTER
    (attempt,) = await cluster.store.job_attempts(running.key)
    assert (attempt.attempt, attempt.reason) == (1, "taken back")


async def test_a_run_of_the_owner_before_is_counted_whoever_takes_it_back(cluster: Cluster) -> None:
    """Its recovery by the adopter did not come to this row."""
    bucket = await cluster.owned()
    running = await cluster.running(bucket)
    adopted = await cluster.adopted(bucket)
    cluster.later(3)
    await cluster.renew(adopted.owner or 0, held=[], cut_us=cluster.now_us)
    row = await cluster.row(running.key)
    assert (row.status, row.recoveries) == (JobStatus.HELD_ON_MASTER, 1)
    (attempt,) = await cluster.store.job_attempts(running.key)
    assert attempt.reason == "worker lost"


async def test_lost_replies_never_quarantine(cluster: Cluster) -> None:
    """The answers to its guarded starts are lost again and again: the row says Processing, and nobody runs it."""
    bucket = await cluster.owned()
    (job,) = await cluster.held()
    for _ in range(2 * HOPELESS):
        (claimed,) = (await cluster.claim(bucket)).jobs
        await cluster.store.start(bucket.fence, [start_of(claimed)])
        cluster.later(1)
        await cluster.renew(bucket.owner or 0, held=[], cut_us=cluster.now_us)
    row = await cluster.row(job.key)
    assert (row.status, row.recoveries, row.attempts) == (JobStatus.HELD_ON_MASTER, 0, 2 * HOPELESS)


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


@case("success", "renew")
async def test_a_grant_says_how_many_workers_live(cluster: Cluster) -> None:
    first, second = await cluster.worker("first"), await cluster.worker("second")
    assert (await cluster.renew(first)).workers == 2
    await cluster.store.end_worker(second)
    assert (await cluster.renew(first)).workers == 1
    await cluster.worker("third")
    cluster.later(11)
    assert (await cluster.renew(first)).workers == 1, "the third has not renewed"
