"""The stores of a simulation: in memory, on the virtual clock, watched, and with commits that take their time."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from jobmaster.stores.memory import MemoryAgent, MemoryMaster, MemoryStore
from jobmaster.stores.memory.variants import without
from jobmaster.stores.split import SplitStore
from tests.simulation.network import RemoteStore, Server

if TYPE_CHECKING:
    from jobmaster.model.job import Message
    from jobmaster.ports.store import Store
    from tests.simulation.world import World

MASTER_LATENCY, AGENT_LATENCY = 0.006, 0.003
"""Mean seconds of a call's way to the store."""


def build_stores(world: World, guards_off: frozenset[str]) -> dict[str, Server]:
    """The servers, the master first."""
    fields: dict[str, Any] = {"clock": world.store_us, "late_commits": _late_commits(world)}
    if world.config.standalone:
        store = _watched(world, without(MemoryStore, guards_off))(rules=world.rules, **fields)
        servers = {"standalone": Server("standalone", store, MASTER_LATENCY)}
    else:
        store = without(MemoryMaster, guards_off)(rules=world.rules, **fields)
        servers = {"master": Server("master", store, MASTER_LATENCY)}
        for agent in world.config.agents:
            transport = _watched(world, without(MemoryAgent, guards_off))(**fields)
            servers[agent] = Server(agent, transport, AGENT_LATENCY)
    store.jobs = world.ledger.watched_jobs()
    return servers


def join(world: World, remotes: dict[str, RemoteStore], agent: str) -> Store:
    """What an engine of this agent holds."""
    if world.config.standalone:
        return remotes["standalone"]  # type: ignore[return-value]
    return without(SplitStore, world.guards_off)(remotes["master"], {agent: remotes[agent]})  # type: ignore[arg-type]


def _late_commits(world: World) -> Any:
    """What a transaction awaits between its checks and its commit: mostly nothing, sometimes seconds."""

    async def pause() -> None:
        if world.network.on and world.rng.random() < world.config.slow_commits:
            world.strike("slow commit")
            await asyncio.sleep(world.rng.uniform(0.1, world.rng.choice((0.5, 1.8, 6.0))))

    return pause


def _watched(world: World, kind: type[Any]) -> type[Any]:
    """The agent, telling the ledger of each message that leaves it."""

    class Watched(kind):  # type: ignore[misc]
        _moving = False

        def _drop(self, bucket: int, seq: int) -> Message | None:
            message: Message | None = super()._drop(bucket, seq)
            if message is not None:
                world.ledger.message_left(message, moved=self._moving)
            return message

        def _move(self, message: Message, to: int, *, verify: bool) -> None:
            self._moving = True
            super()._move(message, to, verify=verify)
            self._moving = False

    return Watched
