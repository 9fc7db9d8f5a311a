"""Signals are hints: they reach who listens, in every connection."""

from __future__ import annotations

import asyncio

from tests.conformance.cases import case
from tests.conformance.cluster import Cluster, outcome_of


class Bell:
    """Counts the hints that arrived."""

    def __init__(self) -> None:
        self.rung = asyncio.Event()
        self.count = 0

    def __call__(self) -> None:
        self.count += 1
        self.rung.set()

    async def heard(self) -> None:
        async with asyncio.timeout(5):
            await self.rung.wait()
        self.rung.clear()


@case("success", "subscribe", "signal")
async def test_a_push_rings_for_who_listens_to_the_bucket(cluster: Cluster) -> None:
    bucket = await cluster.owned()
    bell = Bell()
    subscription = cluster.store.subscribe(f"bucket:{bucket.id}", bell)
    await cluster.store.push(bucket.id, [cluster.job()])
    await bell.heard()
    await cluster.store.signal([f"bucket:{bucket.id}"])
    await bell.heard()
    subscription.close()


@case("success", "signal")
async def test_held_jobs_results_and_commands_ring_for_their_listeners(cluster: Cluster) -> None:
    bucket = await cluster.owned()
    held, client, worker = Bell(), Bell(), Bell()
    topics = {"held": held, "client:me": client, f"worker:{bucket.owner}": worker}
    subscriptions = [cluster.store.subscribe(topic, bell) for topic, bell in topics.items()]
    await cluster.held()
    await held.heard()
    message = await cluster.message(bucket, reply_to="me")
    await cluster.store.settle(bucket.fence, [outcome_of(message)])
    await client.heard()
    await cluster.store.send_command([bucket.owner or 0], "ping", b"{}")
    await worker.heard()
    running = await cluster.running(bucket)
    await cluster.store.cancel(running.key)
    await worker.heard()
    for subscription in subscriptions:
        subscription.close()


@case("conflict", "subscribe", "signal")
async def test_a_hint_reaches_only_its_topic(cluster: Cluster) -> None:
    held, elsewhere = Bell(), Bell()
    subscriptions = [cluster.store.subscribe("held", held), cluster.store.subscribe("client:x", elsewhere)]
    for _ in range(5):
        await cluster.store.signal(["held", "client:y"])
        await held.heard()
    assert elsewhere.count <= 1  # listening may ring when it has begun: what was signalled before may be missed
    for subscription in subscriptions:
        subscription.close()


@case("repeat", "subscribe", "signal")
async def test_a_closed_subscription_is_silent_and_may_be_closed_again(cluster: Cluster) -> None:
    closed, live = Bell(), Bell()
    subscription = cluster.store.subscribe("held", closed)
    other = cluster.store.subscribe("held", live)
    subscription.close()
    subscription.close()
    await cluster.store.signal(["held"])
    await live.heard()
    assert closed.count == 0
    other.close()


@case("race", "subscribe", "signal")
async def test_a_hint_crosses_connections(cluster: Cluster) -> None:
    other = await cluster.other()
    bells = [Bell(), Bell()]
    subscriptions = [store.subscribe("held", bell) for store, bell in zip((cluster.store, other), bells, strict=True)]
    await other.hold([cluster.job()])
    await asyncio.gather(*(bell.heard() for bell in bells))
    for subscription in subscriptions:
        subscription.close()


@case("success", "signal")
async def test_a_cancel_that_knows_no_owner_rings_for_all_workers(cluster: Cluster) -> None:
    bell = Bell()
    subscription = cluster.store.subscribe("workers", bell)
    await cluster.store.cancel(cluster.job().key)
    await bell.heard()
    subscription.close()
