"""Orders to workers and their answers."""

from __future__ import annotations

import asyncio

import pytest

from jobmaster.errors import StoreUnavailable
from tests.conformance.cases import case
from tests.conformance.cluster import Cluster


@case("success", "send_command", "take_commands", "answer_command", "command_replies")
async def test_a_command_reaches_its_worker_and_its_answer_comes_back(cluster: Cluster) -> None:
    one, two = await cluster.worker("one"), await cluster.worker("two")
    numbers = await cluster.store.send_command([one, two], "concurrency", b'{"slots": 3}')
    assert len(set(numbers)) == 2
    (command,) = await cluster.store.take_commands(one)
    assert (command.id, command.verb, command.args) == (numbers[0], "concurrency", b'{"slots": 3}')
    cluster.later(1)
    await cluster.store.answer_command(numbers[0], b'{"slots": 3, "was": 20}')
    replies = {reply.id: reply for reply in await cluster.store.command_replies(numbers)}
    assert (replies[numbers[0]].worker, replies[numbers[0]].verb) == (one, "concurrency")
    assert (replies[numbers[0]].answered_us, replies[numbers[0]].reply) == (cluster.now_us, b'{"slots": 3, "was": 20}')
    assert replies[numbers[1]].answered_us is None


@case("conflict", "send_command", "take_commands", "answer_command", "command_replies")
async def test_commands_of_others_and_unknown_numbers_disturb_nobody(cluster: Cluster) -> None:
    one, two = await cluster.worker("one"), await cluster.worker("two")
    assert await cluster.store.send_command([], "ping", b"{}") == []
    (number,) = await cluster.store.send_command([one], "ping", b"{}")
    assert await cluster.store.take_commands(two) == []
    await cluster.store.answer_command(number + 1000, b"{}")
    assert await cluster.store.command_replies([number + 1000]) == []
    assert len(await cluster.store.take_commands(one)) == 1


@case("repeat", "send_command", "take_commands", "answer_command", "command_replies")
async def test_a_command_is_given_until_it_is_answered_and_the_first_answer_stays(cluster: Cluster) -> None:
    worker = await cluster.worker()
    numbers = [(await cluster.store.send_command([worker], "ping", b"{}"))[0] for _ in range(2)]
    first = await cluster.store.take_commands(worker)
    assert [command.id for command in first] == numbers
    assert await cluster.store.take_commands(worker) == first
    await cluster.store.answer_command(numbers[0], b"1")
    await cluster.store.answer_command(numbers[0], b"2")
    (reply,) = await cluster.store.command_replies(numbers[:1])
    assert reply.reply == b"1"
    assert await cluster.store.command_replies(numbers[:1]) == [reply]
    assert [command.id for command in await cluster.store.take_commands(worker)] == numbers[1:]


@case("race", "send_command", "take_commands", "answer_command", "command_replies")
async def test_two_answers_at_once_leave_one(cluster: Cluster) -> None:
    worker = await cluster.worker()
    other = await cluster.other()
    sent = await asyncio.gather(
        cluster.store.send_command([worker], "ping", b"{}"), other.send_command([worker], "ping", b"{}")
    )
    assert len({number for (number,) in sent}) == 2
    number = sent[0][0]
    await asyncio.gather(
        cluster.store.answer_command(number, b"a"),
        other.answer_command(number, b"b"),
        other.take_commands(worker),
        other.command_replies([number]),
    )
    (reply,) = await cluster.store.command_replies([number])
    assert reply.reply in {b"a", b"b"}
    assert await other.command_replies([number]) == [reply]


@case("success", "close_store")
@case("conflict", "close_store")
@case("repeat", "close_store")
async def test_a_closed_store_refuses_every_verb_and_may_be_closed_again(cluster: Cluster) -> None:
    bucket = await cluster.owned()
    await cluster.store.close_store()
    await cluster.store.close_store()
    verbs = [
        cluster.store.now_us,
        lambda: cluster.store.hold([cluster.job()]),
        lambda: cluster.store.push(bucket.id, [cluster.job()]),
        lambda: cluster.store.read(bucket.fence, None, limit=1, window_us=0),
        lambda: cluster.store.settle(bucket.fence, []),
        cluster.store.list_buckets,
    ]
    for verb in verbs:
        with pytest.raises(StoreUnavailable):
            await verb()


@case("race", "close_store")
async def test_what_was_answered_before_the_end_is_stored(cluster: Cluster) -> None:
    jobs = [cluster.job() for _ in range(5)]
    answers = await asyncio.gather(
        *(cluster.store.hold([job]) for job in jobs), cluster.store.close_store(), return_exceptions=True
    )
    stored = [job.key for job, answer in zip(jobs, answers[:5], strict=True) if answer == [True]]
    assert all(answer == [True] or isinstance(answer, StoreUnavailable) for answer in answers[:5])
    if cluster.adapter.lasting:
        again = await cluster.other()
        assert all(state is not None for state in await again.look_up(stored))
