"""Transactions that wait for each other: a commit is held open while the transaction has its row locks.

SQLite has one writer at a time, and no such tests.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import pytest

from jobmaster.model.states import BucketStatus, JobStatus
from jobmaster.ports.answers import Fenced, Refused
from tests.conformance.adapters import with_locks
from tests.conformance.cluster import Cluster, outcome_of
from tests.conformance.conftest import made


@pytest.fixture(params=with_locks())
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


async def test_a_bucket_is_not_lost_under_a_finish_that_is_under_way(cluster: Cluster) -> None:
    bucket = await cluster.owned()
    message = await cluster.running(bucket)
    cluster.later(11)
    finishing = await _begun(cluster, cluster.store.finish(bucket.fence, [outcome_of(message)]))
    losing = asyncio.create_task(cluster.store.mark_lost())
    await cluster.commits.turn()
    assert (await cluster.bucket_now(bucket)).status is BucketStatus.ACTIVE
    await cluster.commits.let_go()
    assert (await finishing)[0].done
    assert len(await losing) == 1
    assert await cluster.status(message.key) is JobStatus.SUCCEEDED


async def test_an_owner_that_renews_while_its_loss_waits_keeps_its_bucket(cluster: Cluster) -> None:
    bucket = await cluster.owned()
    message = await cluster.running(bucket)
    cluster.later(11)
    finishing = await _begun(cluster, cluster.store.finish(bucket.fence, [outcome_of(message)]))
    losing = asyncio.create_task(cluster.store.mark_lost())
    await cluster.commits.turn()
    renewing = asyncio.create_task(cluster.renew(bucket.owner or 0))
    await cluster.commits.turn()
    await cluster.commits.let_go()
    await finishing
    await renewing
    lost = await losing
    # Whoever came first: a renewal that was applied before the loss was judged keeps the bucket.
    kept = (await cluster.bucket_now(bucket)).status is BucketStatus.ACTIVE
    assert kept is not bool(lost)


async def test_a_lease_is_judged_after_the_lock_is_held(cluster: Cluster) -> None:
    bucket = await cluster.owned()
    message = await cluster.running(bucket)
    cluster.later(11)
    finishing = await _begun(cluster, cluster.store.finish(bucket.fence, [outcome_of(message)]))
    losing = asyncio.create_task(cluster.store.mark_lost())
    await cluster.commits.turn()
    # The clock of the database goes back to before the lease's end: as if the renewal had been committed meanwhile.
    cluster.later(-5)
    await cluster.commits.let_go()
    await finishing
    assert await losing == []


async def test_a_close_waits_for_inserts_that_are_under_way(cluster: Cluster) -> None:
    bucket = await cluster.owned()
    await cluster.store.complete(bucket.fence)
    pushing = await _begun(cluster, cluster.store.push(bucket.id, [cluster.job()]))
    closing = asyncio.create_task(cluster.store.close(bucket.fence))
    await cluster.commits.turn()
    assert not closing.done()
    await cluster.commits.let_go()
    await pushing
    assert await closing is False
    assert await cluster.store.depths([bucket.id]) == {bucket.id: 1}


async def test_a_push_that_waits_for_a_close_is_refused(cluster: Cluster) -> None:
    bucket = await cluster.owned()
    await cluster.store.complete(bucket.fence)
    first = await _begun(cluster, cluster.store.push(bucket.id, [job := cluster.job()]))
    closing = asyncio.create_task(cluster.store.close(bucket.fence))
    await cluster.commits.turn()
    second = asyncio.create_task(cluster.store.push(bucket.id, [cluster.job()]))
    await cluster.commits.turn()
    await cluster.commits.let_go()
    await first
    assert await closing is False
    await second
    await cluster.store.remove(bucket.fence, [message.seq for message in await cluster.messages(bucket)])
    assert await cluster.store.close(bucket.fence)
    with pytest.raises(Refused):
        await cluster.store.push(bucket.id, [job])


async def test_a_message_that_commits_late_is_found_below_the_cursor(cluster: Cluster) -> None:
    bucket = await cluster.owned()
    late = cluster.job()
    pushing = await _begun(cluster, cluster.store.push(bucket.id, [late]))
    read = await cluster.store.read(bucket.fence, None, limit=9, window_us=0)
    assert (read.messages, read.unsettled) == ([], True)
    looked = await cluster.store.reread(bucket.fence, read.cursor, known=[], limit=9, window_us=0)
    assert looked.messages == []
    await cluster.commits.let_go()
    await pushing
    again = await cluster.store.read(bucket.fence, read.cursor, limit=9, window_us=0)
    # Where the cursor has not passed its number, a store may know that nothing can appear below.
    assert looked.unsettled is not bool(again.messages)
    known = [message.seq for message in again.messages]
    found = await cluster.store.reread(bucket.fence, again.cursor, known=known, limit=9, window_us=0)
    assert [message.key for message in again.messages + found.messages] == [late.key]
    assert not found.unsettled


async def test_a_fence_waits_for_inserts_and_marks_them(cluster: Cluster) -> None:
    bucket = await cluster.owned()
    pushing = await _begun(cluster, cluster.store.push(bucket.id, [cluster.job()]))
    fencing = asyncio.create_task(cluster.store.fence(bucket.fence))
    await cluster.commits.turn()
    assert not fencing.done()
    await cluster.commits.let_go()
    await pushing
    takeover = await fencing
    (message,) = await cluster.messages(bucket)
    assert takeover.high_mark >= message.seq


async def test_a_finish_that_waits_for_a_give_up_is_fenced(cluster: Cluster) -> None:
    bucket = await cluster.owned()
    message = await cluster.message(bucket)
    giving = await _begun(cluster, cluster.store.give_up(bucket.fence))
    settling = asyncio.create_task(cluster.store.settle(bucket.fence, [outcome_of(message)]))
    await cluster.commits.turn()
    assert not settling.done()
    await cluster.commits.let_go()
    await giving
    with pytest.raises(Fenced):
        await settling
    assert await cluster.store.depths([bucket.id]) == {bucket.id: 1}


async def test_a_caller_that_gives_up_before_the_commit_leaves_no_lock_behind(cluster: Cluster) -> None:
    bucket = await cluster.owned()
    message = await cluster.message(bucket)
    finishing = await _begun(cluster, cluster.store.finish(bucket.fence, [outcome_of(message)]))
    finishing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await finishing
    await cluster.commits.let_go()
    await cluster.store.complete(bucket.fence)
    assert (await cluster.store.settle(bucket.fence, [outcome_of(message)]))[0].done
