"""What a split store adds to its halves: the order of its steps when one side fails, and the way to the right agent."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

import pytest

from jobmaster.errors import ConfigurationError, OutcomeUnknown, StoreUnavailable
from jobmaster.model.bucket import Bucket, NewBucket
from jobmaster.model.ids import new_job_key
from jobmaster.model.job import Envelope, Fence, NewJob, encode_envelope
from jobmaster.model.states import JobStatus, WorkerMode
from jobmaster.model.worker import Registration
from jobmaster.ports.agent import Cursor, Durability
from jobmaster.ports.answers import Fenced, Refused
from jobmaster.stores.memory import MemoryAgent, MemoryMaster
from jobmaster.stores.split import SplitStore
from tests.conformance.cluster import outcome_of, start_of

pytestmark = pytest.mark.backend("memory")


class FlakyAgent(MemoryAgent):
    """An agent whose removals are not answered while `deaf`."""

    deaf = False

    async def remove(self, fence: Any, seqs: Any) -> None:
        if self.deaf:
            raise OutcomeUnknown("the agent did not answer")
        await super().remove(fence, seqs)


def run(story: Coroutine[Any, Any, None]) -> None:
    asyncio.run(story)


async def opened(master: MemoryMaster, agents: dict[str, MemoryAgent]) -> tuple[SplitStore, dict[str, Bucket]]:
    """A split store and a bucket in each of its agents."""
    store = SplitStore(master, agents)
    buckets = {}
    for name in agents:
        registered = await store.register(Registration(f"w-{name}", 1, name, ("",), WorkerMode.FULL))
        (buckets[name],) = await store.create_buckets(registered.worker, [NewBucket(f"t-{name}", name, "", 3)])
        await store.fence(buckets[name].fence)
    return store, buckets


def job() -> NewJob:
    envelope = Envelope("greet", b"", 1, 1)
    return NewJob(new_job_key(), envelope, encode_envelope(envelope))


async def pushed(store: SplitStore, bucket: Bucket) -> Any:
    await store.push(bucket.id, [job()])
    return (await store.read(bucket.fence, None, limit=9, window_us=0)).messages[-1]


def test_a_settlement_whose_removal_was_not_answered_is_in_the_master_and_is_repeated() -> None:
    async def story() -> None:
        agent = FlakyAgent()
        store, buckets = await opened(MemoryMaster(), {"a": agent})
        message = await pushed(store, buckets["a"])
        agent.deaf = True
        with pytest.raises(OutcomeUnknown):
            await store.settle(buckets["a"].fence, [outcome_of(message)])
        (state,) = await store.look_up([message.key])
        assert state is not None
        assert state.status is JobStatus.SUCCEEDED
        agent.deaf = False
        assert (await store.settle(buckets["a"].fence, [outcome_of(message)]))[0].done
        assert await store.depths([buckets["a"].id]) == {buckets["a"].id: 0}

    run(story())


def test_a_take_over_whose_removal_was_not_answered_is_repeated_as_the_same_start() -> None:
    async def story() -> None:
        agent = FlakyAgent()
        store, buckets = await opened(MemoryMaster(), {"a": agent})
        message = await pushed(store, buckets["a"])
        start = start_of(message, nonce=4, take_over=True)
        agent.deaf = True
        with pytest.raises(OutcomeUnknown):
            await store.take_over(buckets["a"].fence, [start])
        agent.deaf = False
        (verdict,) = await store.take_over(buckets["a"].fence, [start])
        assert (verdict.yes, verdict.attempt, verdict.recoveries) == (True, 1, 0)
        assert await store.depths([buckets["a"].id]) == {buckets["a"].id: 0}

    run(story())


def test_a_master_that_does_not_answer_leaves_every_message_where_it_is() -> None:
    async def story() -> None:
        master = MemoryMaster()
        store, buckets = await opened(master, {"a": MemoryAgent()})
        message = await pushed(store, buckets["a"])
        await master.close_store()
        fence = buckets["a"].fence
        for verb in (
            lambda: store.settle(fence, [outcome_of(message)]),
            lambda: store.take_over(fence, [start_of(message, take_over=True)]),
            lambda: store.set_free(fence, [outcome_of(message)], ended=False),
            lambda: store.drain_orphan(fence.bucket, limit=10),
        ):
            with pytest.raises(StoreUnavailable):
                await verb()
        assert await store.depths([fence.bucket]) == {fence.bucket: 1}

    run(story())


def test_jobs_go_to_the_agent_of_their_bucket() -> None:
    async def story() -> None:
        agents = {"a": MemoryAgent(), "b": MemoryAgent()}
        store, buckets = await opened(MemoryMaster(), agents)
        await pushed(store, buckets["b"])
        ids = {name: bucket.id for name, bucket in buckets.items()}
        assert await agents["b"].depths([ids["b"]]) == {ids["b"]: 1}
        assert await agents["a"].depths([ids["b"]]) == {ids["b"]: 0}
        assert await store.depths(list(ids.values())) == {ids["a"]: 0, ids["b"]: 1}

    run(story())


def test_a_process_that_sees_a_bucket_first_asks_the_master_for_its_agent() -> None:
    async def story() -> None:
        master, agents = MemoryMaster(), {"a": MemoryAgent(), "b": MemoryAgent()}
        _, buckets = await opened(master, agents)
        producer = SplitStore(master, agents)
        await producer.push(buckets["b"].id, [job()])
        assert await agents["b"].depths([buckets["b"].id]) == {buckets["b"].id: 1}
        with pytest.raises(Refused):
            await producer.push(999, [job()])

    run(story())


def test_messages_are_not_handed_from_one_agent_to_another() -> None:
    async def story() -> None:
        store, buckets = await opened(MemoryMaster(), {"a": MemoryAgent(), "b": MemoryAgent()})
        await pushed(store, buckets["a"])
        moved = await store.hand_over(
            buckets["a"].fence, buckets["b"].id, cursor=Cursor(), high_mark=0, limit=9, window_us=0
        )
        assert moved == 0
        assert await store.depths([buckets["a"].id]) == {buckets["a"].id: 1}

    run(story())


def test_orphans_of_every_agent_are_found_and_drained() -> None:
    async def story() -> None:
        store, buckets = await opened(MemoryMaster(), {"a": MemoryAgent(), "b": MemoryAgent()})
        for bucket in buckets.values():
            await pushed(store, bucket)
            await store.complete(bucket.fence)
            await store.retire(bucket.fence)
        found = await store.unknown_buckets(await store.orphans([]))
        assert sorted(found) == sorted(bucket.id for bucket in buckets.values())
        for bucket in found:
            assert await store.drain_orphan(bucket, limit=10)
        assert await store.orphans([]) == []

    run(story())


def test_an_adopter_that_is_faster_than_the_producer_keeps_its_epoch() -> None:
    async def story() -> None:
        master, agent = MemoryMaster(), MemoryAgent()
        store = SplitStore(master, {"a": agent})
        offered = await store.offer_bucket(NewBucket("t", "a", "", 3))
        await agent.fence(Fence(offered.id, 2, 7))
        assert (await store.offer_bucket(NewBucket("t", "a", "", 3))).id == offered.id
        with pytest.raises(Fenced):
            await agent.fence(Fence(offered.id, 1, 0))

    run(story())


def test_the_weakest_agent_decides_what_an_acceptance_survives() -> None:
    class Careful(MemoryAgent):
        async def durability(self) -> Durability:
            return Durability("host", "synchronous=FULL")

    async def story() -> None:
        strong, _ = await opened(MemoryMaster(), {"a": Careful(), "b": Careful()})
        weak, _ = await opened(MemoryMaster(), {"a": Careful(), "b": MemoryAgent()})
        assert (await strong.durability()).survives == "host"
        assert (await weak.durability()).survives == "nothing"

    run(story())


def test_all_sides_are_closed_though_one_of_them_fails() -> None:
    class Stuck(MemoryAgent):
        async def close_store(self) -> None:
            raise StoreUnavailable("it does not answer")

    async def story() -> None:
        other = MemoryAgent()
        store, _ = await opened(MemoryMaster(), {"a": Stuck(), "b": other})
        with pytest.raises(StoreUnavailable):
            await store.close_store()
        with pytest.raises(StoreUnavailable):
            await other.depths([1])

    run(story())


def test_a_split_store_needs_an_agent() -> None:
    with pytest.raises(ConfigurationError, match="at least one agent"):
        SplitStore(MemoryMaster(), {})
