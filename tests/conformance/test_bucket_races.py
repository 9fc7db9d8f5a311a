"""Two transactions over one worker or one bucket, on servers: who waits, who passes by, and who wins.

The commit of the first is held while the second begins.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import pytest

from jobmaster.model.job import Blame
from jobmaster.model.states import BucketStatus, JobStatus, WorkerMode
from jobmaster.model.worker import Registration, Renewal
from jobmaster.ports.answers import Fenced, HigherBoot, Refused
from tests.conformance.adapters import ADAPTERS, AGENT, with_locks
from tests.conformance.cluster import Cluster, outcome_of, start_of
from tests.conformance.conftest import made

SERVERS = [name for name in with_locks() if ADAPTERS[name].needs]
STANDALONE = [name for name in SERVERS if ADAPTERS[name].standalone]


@pytest.fixture(params=SERVERS)
def cluster(request: pytest.FixtureRequest, tmp_path: Path) -> Cluster:
    return made(request, tmp_path)


async def _begun(cluster: Cluster, verb: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
    """The verb in its transaction, before its commit."""
    await cluster.commits.hold()
    before = await cluster.commits.waiting()
    task = asyncio.create_task(verb)
    while await cluster.commits.waiting() == before and not task.done():
        await asyncio.sleep(0)
    return task


async def _second(cluster: Cluster, verb: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
    """A verb that comes while the first one has not committed, as far as it gets."""
    task = asyncio.create_task(verb)
    await cluster.commits.turn()
    return task


def _boot(boot: int) -> Registration:
    return Registration("w", boot, AGENT, ("",), WorkerMode.FULL)


async def test_of_two_adopters_of_one_bucket_the_second_passes_by(cluster: Cluster) -> None:
    bucket = await cluster.owned("dead")
    await cluster.lose(bucket)
    one, two, other = await cluster.worker("one"), await cluster.worker("two"), await cluster.other()
    first = await _begun(cluster, cluster.store.renew([Renewal(one, 1, adopt=5)]))
    second = await _second(cluster, other.renew([Renewal(two, 1, adopt=5)]))
    assert await cluster.commits.waiting() == 2, "the second waits for its own commit only"
    await cluster.commits.let_go()
    assert [one.id for one in (await first)[0].buckets] == [bucket.id]
    assert (await second)[0].buckets == []
    assert (await cluster.bucket_now(bucket)).epoch == 3


async def test_an_adopter_takes_the_next_bucket_where_the_first_is_being_taken(cluster: Cluster) -> None:
    worker = await cluster.worker("dead")
    buckets = [await cluster.bucket(worker), await cluster.bucket(worker)]
    await cluster.lose(buckets[0])
    one, two, other = await cluster.worker("one"), await cluster.worker("two"), await cluster.other()
    first = await _begun(cluster, cluster.store.renew([Renewal(one, 1, adopt=1)]))
    second = await _second(cluster, other.renew([Renewal(two, 1, adopt=1)]))
    await cluster.commits.let_go()
    taken = [grant.buckets[0].id for (grant,) in (await first, await second)]
    assert taken == [bucket.id for bucket in buckets]


async def test_a_renewal_under_way_keeps_its_buckets_from_being_lost(cluster: Cluster) -> None:
    bucket = await cluster.owned()
    cluster.later(11)
    renewing = await _begun(cluster, cluster.renew(bucket.owner or 0))
    assert await cluster.store.mark_lost() == []
    await cluster.commits.let_go()
    assert [one.epoch for one in (await renewing).buckets] == [bucket.epoch]
    assert (await cluster.bucket_now(bucket)).status is BucketStatus.ACTIVE


async def test_a_renewal_that_comes_during_the_loss_is_granted_nothing(cluster: Cluster) -> None:
    bucket = await cluster.owned()
    cluster.later(11)
    losing = await _begun(cluster, cluster.store.mark_lost())
    renewing = await _second(cluster, cluster.renew(bucket.owner or 0))
    assert not renewing.done()
    await cluster.commits.let_go()
    assert len(await losing) == 1
    assert (await renewing).buckets == []


async def test_a_loss_does_not_wait_where_another_bucket_can_be_lost(cluster: Cluster) -> None:
    worker = await cluster.worker()
    busy, quiet = await cluster.bucket(worker), await cluster.bucket(worker)
    message = await cluster.running(busy)
    cluster.later(11)
    finishing = await _begun(cluster, cluster.store.finish(busy.fence, [outcome_of(message)]))
    losing = await _second(cluster, cluster.store.mark_lost())
    assert await cluster.commits.waiting() == 2
    await cluster.commits.let_go()
    assert [one.id for one in await losing] == [quiet.id]
    assert (await finishing)[0].done
    assert [one.id for one in await cluster.store.mark_lost()] == [busy.id]


async def test_two_producers_that_find_no_bucket_get_the_same_one(cluster: Cluster) -> None:
    other = await cluster.other()
    first = await _begun(cluster, cluster.store.offer_bucket(cluster.new_bucket()))
    second = await _second(cluster, other.offer_bucket(cluster.new_bucket()))
    elsewhere = await _second(cluster, other.offer_bucket(cluster.new_bucket(lane="mail")))
    assert await cluster.commits.waiting() == 2, "other places do not wait"
    await cluster.commits.let_go()
    assert (await first).id == (await second).id != (await elsewhere).id
    assert len(await cluster.store.list_buckets()) == 2


async def test_a_call_that_is_repeated_before_its_first_try_commits_opens_one_bucket(cluster: Cluster) -> None:
    worker, other, new = await cluster.worker(), await cluster.other(), [cluster.new_bucket()]
    first = await _begun(cluster, cluster.store.create_buckets(worker, new))
    second = await _second(cluster, other.create_buckets(worker, new))
    assert not second.done()
    await cluster.commits.let_go()
    assert await first == await second
    assert len(await cluster.store.list_buckets()) == 1


async def test_a_newer_boot_that_registers_at_once_ends_the_older_one(cluster: Cluster) -> None:
    other = await cluster.other()
    first = await _begun(cluster, cluster.store.register(_boot(1)))
    second = await _second(cluster, other.register(_boot(2)))
    await cluster.commits.let_go()
    old, new = await first, await second
    assert new.replaced is not None
    assert new.replaced.worker == old.worker
    assert [(await cluster.renew(one.worker)).gone for one in (old, new)] == [True, False]


async def test_an_older_boot_that_registers_at_once_is_refused(cluster: Cluster) -> None:
    other = await cluster.other()
    first = await _begun(cluster, cluster.store.register(_boot(2)))
    second = await _second(cluster, other.register(_boot(1)))
    await cluster.commits.let_go()
    with pytest.raises(HigherBoot):
        await second
    assert not (await cluster.renew((await first).worker)).gone


async def test_an_end_that_comes_while_a_bucket_is_opened_takes_it_away(cluster: Cluster) -> None:
    worker = await cluster.worker()
    opening = await _begun(cluster, cluster.store.create_buckets(worker, [cluster.new_bucket()]))
    ending = await _second(cluster, cluster.store.end_worker(worker))
    assert not ending.done()
    await cluster.commits.let_go()
    (bucket,) = await opening
    await ending
    assert (await cluster.bucket_now(bucket)).status is BucketStatus.LOST


async def test_a_worker_that_is_being_ended_opens_nothing(cluster: Cluster) -> None:
    worker = await cluster.worker()
    ending = await _begun(cluster, cluster.store.end_worker(worker))
    opening = await _second(cluster, cluster.store.create_buckets(worker, [cluster.new_bucket()]))
    await cluster.commits.let_go()
    await ending
    with pytest.raises(Fenced):
        await opening
    assert await cluster.store.list_buckets() == []


@pytest.mark.parametrize("cluster", STANDALONE, indirect=True)
async def test_a_retired_bucket_waits_for_inserts_and_leaves_their_jobs_to_the_master(cluster: Cluster) -> None:
    bucket = await cluster.owned()
    await cluster.store.complete(bucket.fence)
    pushing = await _begun(cluster, cluster.store.push(bucket.id, [job := cluster.job()]))
    retiring = await _second(cluster, cluster.store.retire(bucket.fence))
    assert not retiring.done()
    await cluster.commits.let_go()
    await pushing
    await retiring
    assert await cluster.status(job.key) is JobStatus.HELD_ON_MASTER
    with pytest.raises(Refused):
        await cluster.store.push(bucket.id, [cluster.job()])


@pytest.mark.parametrize("cluster", STANDALONE, indirect=True)
async def test_a_push_that_waits_for_a_retirement_is_refused(cluster: Cluster) -> None:
    bucket = await cluster.owned()
    await cluster.store.complete(bucket.fence)
    retiring = await _begun(cluster, cluster.store.retire(bucket.fence))
    pushing = await _second(cluster, cluster.store.push(bucket.id, [cluster.job()]))
    assert not pushing.done()
    await cluster.commits.let_go()
    await retiring
    with pytest.raises(Refused):
        await pushing


async def test_a_drain_waits_for_inserts_that_are_under_way(cluster: Cluster) -> None:
    draining = await cluster.draining(await cluster.owned())
    pushing = await _begun(cluster, cluster.store.push(draining.id, [job := cluster.job()]))
    drain = await _second(cluster, cluster.store.drain(draining.fence, limit=10))
    assert not drain.done()
    await cluster.commits.let_go()
    await pushing
    assert await drain
    assert await cluster.status(job.key) is JobStatus.HELD_ON_MASTER


async def test_a_drain_after_a_finish_that_was_under_way_finds_the_outcome(cluster: Cluster) -> None:
    bucket = await cluster.owned()
    message = await cluster.running(bucket)
    finishing = await _begun(cluster, cluster.store.finish(bucket.fence, [outcome_of(message)]))
    ending = await _second(cluster, cluster.store.end_worker(bucket.owner))
    assert not ending.done()
    await cluster.commits.let_go()
    await finishing
    await ending
    drainer = await cluster.worker("drainer")
    draining = await cluster.store.claim_drain(drainer, agent=AGENT, older_us=0)
    assert await cluster.store.drain(draining.fence, limit=10)
    assert await cluster.status(message.key) is JobStatus.SUCCEEDED


async def test_two_drainers_at_once_take_two_buckets(cluster: Cluster) -> None:
    owner = await cluster.worker("dead")
    buckets = [await cluster.bucket(owner), await cluster.bucket(owner)]
    await cluster.lose(buckets[0])
    one, two, other = await cluster.worker("one"), await cluster.worker("two"), await cluster.other()
    first = await _begun(cluster, cluster.store.claim_drain(one, agent=AGENT, older_us=0))
    again = await _second(cluster, other.claim_drain(one, agent=AGENT, older_us=0))
    second = await _second(cluster, other.claim_drain(two, agent=AGENT, older_us=0))
    await cluster.commits.let_go()
    taken = [await task for task in (first, again, second)]
    assert [one and one.id for one in taken] == [buckets[0].id, buckets[0].id, buckets[1].id]


async def test_evidence_that_comes_while_the_job_is_taken_back_is_not_counted_again(cluster: Cluster) -> None:
    bucket = await cluster.owned("dead")
    message = await cluster.running(bucket)
    adopted = await cluster.adopted(bucket)
    recovering = await _begun(
        cluster, cluster.store.recover_before(adopted.fence, adopted_us=adopted.adopted_us, limit=10)
    )
    blaming = await _second(cluster, cluster.store.end_worker(bucket.owner, blame=[Blame(message.key, "killed")]))
    assert not blaming.done()
    await cluster.commits.let_go()
    assert await recovering == 1
    await blaming
    (job,) = (await cluster.claim(adopted)).jobs
    (verdict,) = await cluster.store.start(adopted.fence, [start_of(job, nonce=2)])
    assert (verdict.yes, verdict.recoveries) == (True, 1)


async def test_a_start_under_way_is_not_recovered_by_a_renewal_that_does_not_know_it(cluster: Cluster) -> None:
    bucket = await cluster.owned()
    job = await cluster.claimed(bucket)
    cluster.later(1)
    starting = await _begun(cluster, cluster.store.start(bucket.fence, [start_of(job)]))
    renewing = await _second(cluster, cluster.renew(bucket.owner or 0, held=[], cut_us=cluster.now_us))
    await cluster.commits.let_go()
    assert (await starting)[0].yes
    await renewing
    assert await cluster.status(job.key) is JobStatus.PROCESSING


async def test_a_give_up_waits_for_a_finish_that_is_under_way(cluster: Cluster) -> None:
    bucket = await cluster.owned()
    job = await cluster.claimed(bucket)
    finishing = await _begun(cluster, cluster.store.finish(bucket.fence, [outcome_of(job)]))
    giving = await _second(cluster, cluster.store.give_up(bucket.fence))
    assert not giving.done()
    await cluster.commits.let_go()
    assert (await finishing)[0].done
    await giving
    assert await cluster.status(job.key) is JobStatus.SUCCEEDED
    assert (await cluster.bucket_now(bucket)).clean


async def test_a_bucket_that_is_given_up_beside_a_start_is_not_clean(cluster: Cluster) -> None:
    bucket = await cluster.owned()
    message = await cluster.message(bucket)
    starting = await _begun(cluster, cluster.store.start(bucket.fence, [start_of(message)]))
    giving = await _second(cluster, cluster.store.give_up(bucket.fence))
    assert not giving.done()
    await cluster.commits.let_go()
    assert (await starting)[0].yes
    await giving
    assert not (await cluster.bucket_now(bucket)).clean
