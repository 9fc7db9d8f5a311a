"""The bucket's row in the agent: fenced, closed, drained, orphaned, handed over (R15'a, R16, R18, R20, R24)."""

from __future__ import annotations

import asyncio

import pytest

from jobmaster.model.job import Fence
from jobmaster.ports.agent import Cursor
from jobmaster.ports.answers import Fenced, Refused
from tests.conformance.cases import case
from tests.conformance.cluster import SECOND, Cluster


@case("success", "fence")
async def test_the_adopters_fence_shuts_the_old_owner_out(cluster: Cluster) -> None:
    bucket = await cluster.owned()
    messages = await cluster.pushed(bucket, 3)
    adopted = await cluster.adopted(bucket)
    takeover = await cluster.store.fence(adopted.fence)
    assert takeover.high_mark >= messages[-1].seq
    assert [message.key for message in await cluster.messages(adopted)] == [message.key for message in messages]
    with pytest.raises(Fenced):
        await cluster.store.read(bucket.fence, None, limit=1, window_us=0)


async def test_what_is_pushed_after_a_fence_is_above_its_high_mark(cluster: Cluster) -> None:
    bucket = await cluster.owned()
    await cluster.pushed(bucket, 3)
    adopted = await cluster.adopted(bucket)
    mark = (await cluster.store.fence(adopted.fence)).high_mark
    new = await cluster.message(adopted)
    assert new.seq > mark


@case("conflict", "fence")
async def test_a_fence_of_an_older_epoch_changes_nothing(cluster: Cluster) -> None:
    bucket = await cluster.owned()
    adopted = await cluster.adopted(bucket)
    with pytest.raises(Fenced):
        await cluster.store.fence(bucket.fence)
    await cluster.store.read(adopted.fence, None, limit=1, window_us=0)


@case("repeat", "fence")
async def test_a_fence_again_at_the_same_epoch_succeeds_and_opens_the_bucket(cluster: Cluster) -> None:
    bucket = await cluster.owned()
    await cluster.store.fence(bucket.fence)
    assert await cluster.store.close(bucket.fence)
    await cluster.store.fence(bucket.fence)
    await cluster.store.push(bucket.id, [cluster.job()])
    assert len(await cluster.messages(bucket)) == 1


@case("race", "fence")
async def test_a_fence_beside_pushes_marks_all_that_an_earlier_life_can_have_read(cluster: Cluster) -> None:
    bucket = await cluster.owned()
    other = await cluster.other()
    await cluster.lose(bucket)
    await cluster.renew(await cluster.worker("heir"), adopt=1)
    adopted = await cluster.bucket_now(bucket)
    takeover, _, _ = await asyncio.gather(
        cluster.store.fence(adopted.fence),
        other.push(bucket.id, [cluster.job()]),
        other.push(bucket.id, [cluster.job()]),
    )
    assert len(await cluster.messages(adopted)) == 2
    late = await cluster.message(adopted)
    assert late.seq > takeover.high_mark


@case("success", "close")
async def test_an_empty_bucket_is_closed_in_one_step(cluster: Cluster) -> None:
    bucket = await cluster.owned()
    assert await cluster.store.close(bucket.fence)
    with pytest.raises(Refused):
        await cluster.store.push(bucket.id, [cluster.job()])


@case("conflict", "close")
async def test_a_bucket_with_messages_stays_open(cluster: Cluster) -> None:
    bucket = await cluster.owned()
    await cluster.store.push(bucket.id, [cluster.job(due_in=60)])
    assert not await cluster.store.close(bucket.fence)
    await cluster.store.push(bucket.id, [cluster.job()])
    assert await cluster.store.depths([bucket.id]) == {bucket.id: 2}


@case("conflict", "close")
async def test_a_late_close_of_the_old_owner_does_not_shut_the_adopters_bucket(cluster: Cluster) -> None:
    bucket = await cluster.owned()
    adopted = await cluster.adopted(bucket)
    with pytest.raises(Fenced):
        await cluster.store.close(bucket.fence)
    await cluster.store.push(adopted.id, [cluster.job()])


@case("repeat", "close")
async def test_closing_again_says_the_same(cluster: Cluster) -> None:
    bucket = await cluster.owned()
    assert await cluster.store.close(bucket.fence)
    assert await cluster.store.close(bucket.fence)
    await cluster.store.complete(bucket.fence)
    await cluster.store.retire(bucket.fence)
    assert await cluster.store.close(bucket.fence)


async def _two_buckets(cluster: Cluster, messages: int) -> tuple:
    giver, taker = await cluster.owned("giver"), await cluster.owned("taker")
    await cluster.store.push(giver.id, [cluster.job() for _ in range(messages)])
    return giver, taker


@case("success", "hand_over")
async def test_the_newest_unread_messages_go_to_a_hungry_owner(cluster: Cluster) -> None:
    giver, taker = await _two_buckets(cluster, 6)
    read = await cluster.store.read(giver.fence, None, limit=2, window_us=0)
    everything = await cluster.messages(giver)
    moved = await cluster.store.hand_over(giver.fence, taker.id, cursor=read.cursor, high_mark=0, limit=3, window_us=0)
    assert moved == 3
    assert [message.key for message in await cluster.messages(giver)] == [m.key for m in everything[:3]]
    taken = await cluster.messages(taker)
    assert [message.key for message in taken] == [message.key for message in everything[3:]]
    assert {(message.bucket, message.gen, message.verify) for message in taken} == {(taker.id, 0, False)}


@case("success", "hand_over")
async def test_what_its_owner_has_read_is_not_given_away(cluster: Cluster) -> None:
    giver, taker = await _two_buckets(cluster, 6)
    read = await cluster.store.read(giver.fence, None, limit=2, window_us=0)
    options = {"cursor": read.cursor, "high_mark": 0, "limit": 9, "window_us": 0}
    assert await cluster.store.hand_over(giver.fence, taker.id, **options) == 4
    assert await cluster.messages(giver) == read.messages


async def test_handed_over_messages_come_behind_the_takers_cursor(cluster: Cluster) -> None:
    giver, taker = await _two_buckets(cluster, 2)
    await cluster.pushed(taker, 2)
    read = await cluster.store.read(taker.fence, None, limit=9, window_us=0)
    await cluster.store.hand_over(giver.fence, taker.id, cursor=Cursor(), high_mark=0, limit=9, window_us=0)
    more = await cluster.store.read(taker.fence, read.cursor, limit=9, window_us=0)
    assert len(more.messages) == 2


@case("success", "hand_over")
async def test_messages_that_an_earlier_life_may_have_read_arrive_marked(cluster: Cluster) -> None:
    giver, taker = await _two_buckets(cluster, 2)
    old = await cluster.messages(giver)
    await cluster.store.push(giver.id, [cluster.job()])
    mark = old[-1].seq
    await cluster.store.hand_over(giver.fence, taker.id, cursor=Cursor(), high_mark=mark, limit=9, window_us=0)
    assert [message.verify for message in await cluster.messages(taker)] == [True, True, False]


@case("conflict", "hand_over")
async def test_nothing_goes_to_a_bucket_that_is_shut_or_unknown(cluster: Cluster) -> None:
    giver, taker = await _two_buckets(cluster, 2)
    assert await cluster.store.close(taker.fence)
    options = {"cursor": Cursor(), "high_mark": 0, "limit": 9, "window_us": 0}
    assert await cluster.store.hand_over(giver.fence, taker.id, **options) == 0
    assert await cluster.store.hand_over(giver.fence, 999, **options) == 0
    assert len(await cluster.messages(giver)) == 2


@case("conflict", "hand_over")
async def test_an_old_owner_gives_nothing_away(cluster: Cluster) -> None:
    giver, taker = await _two_buckets(cluster, 2)
    await cluster.store.end_worker(giver.owner)
    adopted = await cluster.adopted(giver)
    with pytest.raises(Fenced):
        await cluster.store.hand_over(giver.fence, taker.id, cursor=Cursor(), high_mark=0, limit=9, window_us=0)
    assert len(await cluster.messages(adopted)) == 2


@case("repeat", "hand_over")
async def test_a_hand_over_again_moves_what_is_left(cluster: Cluster) -> None:
    giver, taker = await _two_buckets(cluster, 3)
    options = {"cursor": Cursor(), "high_mark": 0, "limit": 2, "window_us": 0}
    assert [await cluster.store.hand_over(giver.fence, taker.id, **options) for _ in range(3)] == [2, 1, 0]
    assert len({message.key for message in await cluster.messages(taker)}) == 3


@case("race", "hand_over")
async def test_hand_overs_at_once_move_each_message_to_one_owner(cluster: Cluster) -> None:
    giver, taker = await _two_buckets(cluster, 8)
    third = await cluster.owned("third")
    other = await cluster.other()
    options = {"cursor": Cursor(), "high_mark": 0, "limit": 5, "window_us": 0}
    moved = await asyncio.gather(
        cluster.store.hand_over(giver.fence, taker.id, **options), other.hand_over(giver.fence, third.id, **options)
    )
    assert sum(moved) == 8
    keys = [m.key for bucket in (giver, taker, third) for m in await cluster.messages(bucket)]
    assert len(keys) == len(set(keys)) == 8


async def test_messages_that_are_not_due_are_not_handed_over(cluster: Cluster) -> None:
    giver, taker = await cluster.owned("giver"), await cluster.owned("taker")
    await cluster.store.push(giver.id, [cluster.job(due_in=60), cluster.job(due_in=3)])
    options = {"cursor": Cursor(), "high_mark": 0, "limit": 9}
    assert await cluster.store.hand_over(giver.fence, taker.id, window_us=5 * SECOND, **options) == 1
    assert await cluster.store.depths([giver.id, taker.id]) == {giver.id: 1, taker.id: 1}


@case("success", "drain_read")
async def test_a_drainer_reads_everything_and_shuts_the_bucket(cluster: Cluster) -> None:
    bucket = await cluster.owned()
    await cluster.pushed(bucket, 2)
    await cluster.store.push(bucket.id, [cluster.job(due_in=600)])
    draining = await cluster.draining(bucket)
    messages = await cluster.store.drain_read(bucket.id, draining.epoch, limit=2)
    assert len(messages) == 2
    await cluster.store.remove(draining.fence, [message.seq for message in messages])
    assert len(await cluster.store.drain_read(bucket.id, draining.epoch, limit=2)) == 1
    with pytest.raises(Refused):
        await cluster.store.push(bucket.id, [cluster.job()])


@case("conflict", "drain_read")
async def test_a_late_drainer_does_not_shut_the_bucket_of_its_next_owner(cluster: Cluster) -> None:
    bucket = await cluster.owned()
    draining = await cluster.draining(bucket)
    await cluster.store.return_bucket(draining.fence)
    adopted = await cluster.adopted(bucket)
    with pytest.raises(Fenced):
        await cluster.store.drain_read(bucket.id, draining.epoch, limit=9)
    await cluster.store.push(adopted.id, [cluster.job()])


@case("repeat", "drain_read")
async def test_draining_reads_the_same_again_until_it_is_removed(cluster: Cluster) -> None:
    bucket = await cluster.owned()
    await cluster.pushed(bucket, 2)
    draining = await cluster.draining(bucket)
    first = await cluster.store.drain_read(bucket.id, draining.epoch, limit=9)
    assert await cluster.store.drain_read(bucket.id, draining.epoch, limit=9) == first
    assert len(first) == 2


@case("race", "drain_read")
async def test_a_push_beside_a_drain_is_drained_or_refused(cluster: Cluster) -> None:
    bucket = await cluster.owned()
    other = await cluster.other()
    draining = await cluster.draining(bucket)
    pushed, _ = await asyncio.gather(
        other.push(bucket.id, [cluster.job()]),
        cluster.store.drain_read(bucket.id, draining.epoch, limit=9),
        return_exceptions=True,
    )
    left = await cluster.store.drain_read(bucket.id, draining.epoch, limit=9)
    assert len(left) == (1 if pushed is None else 0)
    assert pushed is None or isinstance(pushed, Refused)


@case("success", "orphans", "unknown_buckets")
async def test_buckets_that_the_master_does_not_know_are_found(cluster: Cluster) -> None:
    bucket = await cluster.owned()
    late = Fence(bucket.id + 50, 1, bucket.owner or 0)
    if cluster.standalone:
        assert await cluster.store.orphans([]) == []
    else:
        await cluster.store.fence(late)
        assert await cluster.store.orphans([]) == [bucket.id, late.bucket]
        assert await cluster.store.orphans([bucket.id]) == [late.bucket]
    assert await cluster.store.unknown_buckets([bucket.id, late.bucket]) == [late.bucket]


@case("conflict", "orphans", "unknown_buckets")
async def test_a_bucket_that_is_being_opened_is_no_orphan(cluster: Cluster) -> None:
    worker = await cluster.worker()
    found = await cluster.store.orphans([])
    (bucket,) = await cluster.store.create_buckets(worker, [cluster.new_bucket()])
    await cluster.store.fence(bucket.fence)
    assert await cluster.store.unknown_buckets([*found, bucket.id]) == []


@case("repeat", "orphans", "unknown_buckets")
async def test_asking_for_orphans_again_gives_the_same(cluster: Cluster) -> None:
    bucket = await cluster.owned()
    assert await cluster.store.orphans([bucket.id]) == await cluster.store.orphans([bucket.id]) == []
    assert await cluster.store.unknown_buckets([7_000, bucket.id]) == [7_000]
    assert await cluster.store.unknown_buckets([7_000, bucket.id]) == [7_000]


@case("race", "orphans", "unknown_buckets")
async def test_orphans_are_listed_while_buckets_are_retired(cluster: Cluster) -> None:
    bucket = await cluster.owned()
    await cluster.store.complete(bucket.fence)
    assert await cluster.store.close(bucket.fence)
    other = await cluster.other()
    found, _, unknown = await asyncio.gather(
        other.orphans([]), cluster.store.retire(bucket.fence), other.unknown_buckets([bucket.id])
    )
    assert set(found) <= {bucket.id}
    assert set(unknown) <= {bucket.id}
    assert await cluster.store.unknown_buckets([bucket.id]) == [bucket.id]


@case("success", "durability")
@case("conflict", "durability")
@case("repeat", "durability")
@case("race", "durability")
async def test_a_store_says_what_its_acknowledgement_survives_and_how_it_knows(cluster: Cluster) -> None:
    first, second = await asyncio.gather(cluster.store.durability(), cluster.store.durability())
    assert first == second
    assert first.evidence
    if cluster.adapter.name.startswith("postgresql"):  # as its server is set: one of our own promises little
        assert first.survives in {"nothing", "process", "host"}
    else:
        assert first.survives == ("host" if cluster.adapter.lasting else "nothing")
