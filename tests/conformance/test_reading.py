"""What an owner does with the messages of its bucket: read, read again, remove, count (R9, R13)."""

from __future__ import annotations

import asyncio

import pytest

from jobmaster.ports.agent import Cursor, Reread
from jobmaster.ports.answers import Fenced
from tests.conformance.cases import case
from tests.conformance.cluster import NOON, SECOND, Cluster, start_of
from tests.conformance.commits import NeverHeld


@case("success", "read")
async def test_messages_are_read_in_the_order_of_their_arrival_batch_by_batch(cluster: Cluster) -> None:
    bucket = await cluster.owned()
    jobs = [cluster.job() for _ in range(5)]
    await cluster.store.push(bucket.id, jobs)
    first = await cluster.store.read(bucket.fence, None, limit=3, window_us=0)
    assert ([message.key for message in first.messages], first.more) == ([job.key for job in jobs[:3]], True)
    rest = await cluster.store.read(bucket.fence, first.cursor, limit=3, window_us=0)
    assert ([message.key for message in rest.messages], rest.more) == ([job.key for job in jobs[3:]], False)
    assert rest.now_us == NOON
    empty = await cluster.store.read(bucket.fence, rest.cursor, limit=3, window_us=0)
    assert (empty.messages, empty.more, empty.next_due_us) == ([], False, None)


@case("success", "read")
async def test_what_is_due_later_is_left_and_found_with_the_cursor_of_then(cluster: Cluster) -> None:
    bucket = await cluster.owned()
    late, now, soon = cluster.job(due_in=60), cluster.job(), cluster.job(due_in=20)
    await cluster.store.push(bucket.id, [late, now, soon])
    read = await cluster.store.read(bucket.fence, None, limit=9, window_us=0)
    assert ([message.key for message in read.messages], read.next_due_us) == ([now.key], NOON + 20 * SECOND)
    cluster.later(6)
    read = await cluster.store.read(bucket.fence, read.cursor, limit=9, window_us=15 * SECOND)
    assert ([message.key for message in read.messages], read.next_due_us) == ([soon.key], NOON + 60 * SECOND)
    cluster.later(60)
    read = await cluster.store.read(bucket.fence, read.cursor, limit=9, window_us=0)
    assert ([message.key for message in read.messages], read.next_due_us) == ([late.key], None)


async def test_many_jobs_of_one_due_time_come_in_batches_and_none_twice(cluster: Cluster) -> None:
    bucket = await cluster.owned()
    jobs = [cluster.job(due_us=NOON + 30 * SECOND) for _ in range(25)]
    await cluster.store.push(bucket.id, jobs)
    read = await cluster.store.read(bucket.fence, None, limit=10, window_us=0)
    assert read.messages == []
    cluster.later(30)
    await cluster.store.push(bucket.id, [cluster.job()])
    found = []
    for _ in range(4):
        read = await cluster.store.read(bucket.fence, read.cursor, limit=10, window_us=0)
        assert len(read.messages) <= 10
        found += [message.key for message in read.messages]
        if not read.more:
            break
    assert len(found) == len(set(found)) == 26
    assert {job.key for job in jobs} < set(found)


async def test_jobs_that_become_due_between_batches_are_all_found(cluster: Cluster) -> None:
    bucket = await cluster.owned()
    jobs = [cluster.job(due_in=number % 7) for number in range(40)]
    await cluster.store.push(bucket.id, jobs)
    found, cursor = [], None
    for _ in range(30):
        read = await cluster.store.read(bucket.fence, cursor, limit=6, window_us=0)
        found += [message.key for message in read.messages]
        cursor = read.cursor
        cluster.later(0.5)
    assert sorted(found) == sorted(job.key for job in jobs)


@case("conflict", "read", "reread")
async def test_a_reader_of_an_older_epoch_is_fenced(cluster: Cluster) -> None:
    bucket = await cluster.owned()
    await cluster.pushed(bucket)
    await cluster.adopted(bucket)
    with pytest.raises(Fenced):
        await cluster.store.read(bucket.fence, None, limit=9, window_us=0)
    with pytest.raises(Fenced):
        await cluster.store.reread(bucket.fence, Cursor(), known=[], limit=9, window_us=0)


@case("repeat", "read")
async def test_reading_changes_nothing(cluster: Cluster) -> None:
    bucket = await cluster.owned()
    await cluster.pushed(bucket, 3)
    first = await cluster.store.read(bucket.fence, None, limit=9, window_us=0)
    assert await cluster.store.read(bucket.fence, None, limit=9, window_us=0) == first


@case("race", "read", "reread")
async def test_reads_beside_pushes_miss_nothing(cluster: Cluster) -> None:
    bucket = await cluster.owned()
    others = [await cluster.other() for _ in range(3)]
    jobs = [cluster.job() for _ in range(60)]
    found: dict[int, bytes] = {}

    async def produce(number: int) -> None:
        for job in jobs[number::3]:
            await others[number].push(bucket.id, [job])

    producing = asyncio.gather(*(produce(number) for number in range(3)))
    cursor, over, unsettled = None, False, False
    while not over or unsettled:
        over = (
            producing.done()
        )  # what was pushed before this read, the read must find, or say that it may have missed it
        read = await cluster.store.read(bucket.fence, cursor, limit=40, window_us=0)
        cursor = read.cursor
        unsettled = unsettled or read.unsettled
        messages = list(read.messages)
        if unsettled:  # only a reread can say that nothing will appear below the cursor any more
            looked = await cluster.store.reread(bucket.fence, cursor, known=found.keys(), limit=99, window_us=0)
            unsettled = looked.unsettled
            messages += looked.messages
        assert not (cluster.store.gapless and unsettled)
        found |= {message.seq: message.key for message in messages}
        await asyncio.sleep(0)
    await producing
    assert sorted(found.values()) == sorted(job.key for job in jobs)


@case("success", "reread")
async def test_a_full_read_below_the_cursor_finds_what_is_not_in_memory(cluster: Cluster) -> None:
    bucket = await cluster.owned()
    messages = await cluster.pushed(bucket, 4)
    await cluster.store.push(bucket.id, [cluster.job(due_in=60)])
    read = await cluster.store.read(bucket.fence, None, limit=9, window_us=0)
    known = {messages[0].seq, messages[2].seq}
    found = await cluster.store.reread(bucket.fence, read.cursor, known=known, limit=9, window_us=0, full=True)
    assert found == Reread([messages[1], messages[3]])
    assert await cluster.store.reread(
        bucket.fence, read.cursor, known=known, limit=1, window_us=0, full=True
    ) == Reread([messages[1]])
    below = Cursor(messages[1].seq, read.cursor.due_us)
    assert await cluster.store.reread(bucket.fence, below, known=known, limit=9, window_us=0, full=True) == Reread(
        [messages[1]]
    )


@case("repeat", "reread")
async def test_a_full_read_again_gives_the_same(cluster: Cluster) -> None:
    bucket = await cluster.owned()
    await cluster.pushed(bucket, 2)
    read = await cluster.store.read(bucket.fence, None, limit=9, window_us=0)
    first = await cluster.store.reread(bucket.fence, read.cursor, known=[], limit=9, window_us=0, full=True)
    assert len(first.messages) == 2
    assert await cluster.store.reread(bucket.fence, read.cursor, known=[], limit=9, window_us=0, full=True) == first


@case("race", "reread")
async def test_a_full_read_beside_a_removal_sees_each_message_or_not(cluster: Cluster) -> None:
    bucket = await cluster.owned()
    messages = await cluster.pushed(bucket, 3)
    read = await cluster.store.read(bucket.fence, None, limit=9, window_us=0)
    found, _ = await asyncio.gather(
        cluster.store.reread(bucket.fence, read.cursor, known=[], limit=9, window_us=0, full=True),
        cluster.store.remove(bucket.fence, [messages[1].seq]),
    )
    assert {messages[0].seq, messages[2].seq} <= {message.seq for message in found.messages}
    assert {message.seq for message in await cluster.messages(bucket)} == {messages[0].seq, messages[2].seq}


@case("success", "remove", "depths")
async def test_removal_is_by_message(cluster: Cluster) -> None:
    bucket = await cluster.owned()
    messages = await cluster.pushed(bucket, 3)
    await cluster.store.remove(bucket.fence, [messages[0].seq, messages[2].seq])
    assert await cluster.messages(bucket) == [messages[1]]
    assert await cluster.store.depths([bucket.id]) == {bucket.id: 1}


@case("success", "remove")
async def test_a_job_that_is_pushed_again_survives_the_removal_of_its_first_message(cluster: Cluster) -> None:
    bucket = await cluster.owned()
    first = await cluster.message(bucket)
    await cluster.store.remove(bucket.fence, [first.seq])
    await cluster.store.push(bucket.id, [cluster.job(key=first.key, verify=True)])
    await cluster.store.remove(bucket.fence, [first.seq])
    (second,) = await cluster.messages(bucket)
    assert (second.key, second.seq > first.seq) == (first.key, True)


@case("conflict", "remove")
async def test_a_removal_by_an_older_owner_still_counts(cluster: Cluster) -> None:
    bucket = await cluster.owned()
    kept, settled = await cluster.pushed(bucket, 2)
    await cluster.adopted(bucket)
    await cluster.store.remove(bucket.fence, [settled.seq])
    assert [message.seq for message in await cluster.messages(bucket)] == [kept.seq]


@case("repeat", "remove")
async def test_removing_again_does_nothing(cluster: Cluster) -> None:
    bucket = await cluster.owned()
    gone, kept = await cluster.pushed(bucket, 2)
    await cluster.store.remove(bucket.fence, [gone.seq])
    await cluster.store.remove(bucket.fence, [gone.seq, 999_999])
    await cluster.store.remove(bucket.fence, [])
    assert await cluster.messages(bucket) == [kept]


@case("race", "remove", "depths")
async def test_removals_at_once_remove_each_message_once(cluster: Cluster) -> None:
    bucket = await cluster.owned()
    other = await cluster.other()
    messages = await cluster.pushed(bucket, 10)
    seqs = [message.seq for message in messages]
    await asyncio.gather(
        cluster.store.remove(bucket.fence, seqs[:7]), other.remove(bucket.fence, seqs[3:9]), other.depths([bucket.id])
    )
    assert await cluster.store.depths([bucket.id]) == {bucket.id: 1}


@case("conflict", "depths")
async def test_an_empty_or_unknown_bucket_has_no_messages(cluster: Cluster) -> None:
    bucket = await cluster.owned()
    assert await cluster.store.depths([bucket.id]) == {bucket.id: 0}
    assert await cluster.store.depths([]) == {}


@case("repeat", "depths")
async def test_counting_again_gives_the_same(cluster: Cluster) -> None:
    one, two = await cluster.owned("a"), await cluster.owned("b")
    await cluster.pushed(one, 3)
    await cluster.store.push(two.id, [cluster.job(due_in=60)])
    assert await cluster.store.depths([one.id, two.id]) == {one.id: 3, two.id: 1}
    assert await cluster.store.depths([one.id, two.id]) == {one.id: 3, two.id: 1}


async def test_a_store_says_whether_messages_can_appear_below_a_cursor(cluster: Cluster) -> None:
    assert isinstance(cluster.store.gapless, bool)
    assert cluster.store.gapless or cluster.adapter.commits is not NeverHeld


@case("conflict", "remove")
async def test_removing_one_copy_leaves_the_copy_in_another_bucket(cluster: Cluster) -> None:
    first, second = await cluster.owned("first"), await cluster.owned("second")
    job = cluster.job()
    await cluster.store.push(first.id, [job])
    await cluster.store.push(second.id, [cluster.job(key=job.key, verify=True)])
    (copy,) = await cluster.messages(first)
    await cluster.store.remove(first.fence, [copy.seq])
    assert await cluster.store.depths([first.id, second.id]) == {first.id: 0, second.id: 1}


async def test_a_message_that_can_still_be_cancelled_for_certain_is_read_by_nobody(cluster: Cluster) -> None:
    bucket = await cluster.owned()
    ahead = cluster.rules.window_us // SECOND + 5
    await cluster.store.push(bucket.id, [cluster.job(due_in=ahead)])
    read = await cluster.store.read(bucket.fence, None, limit=9, window_us=3600 * SECOND)
    assert len(read.messages) == (0 if cluster.standalone else 1)
    cluster.later(5)
    if cluster.standalone:
        read = await cluster.store.read(bucket.fence, read.cursor, limit=9, window_us=3600 * SECOND)
        assert len(read.messages) == 1


async def test_a_message_that_was_taken_over_is_not_read_again_by_a_new_life(cluster: Cluster) -> None:
    bucket = await cluster.owned()
    message = await cluster.message(bucket, at_most_once=True)
    await cluster.store.take_over(bucket.fence, [start_of(message, take_over=True)])
    await cluster.store.fence(bucket.fence)
    assert await cluster.messages(bucket) == []
