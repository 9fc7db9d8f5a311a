"""What all workers of a cluster must agree on: kept in the master, compared when a worker starts.

The first worker writes its settings as version 1. One that starts later with other values of lease, clock or retention
is refused, because two leases or two retentions in one cluster lose jobs. Once no worker lives any more the next one
may change them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from jobmaster.errors import ClusterMismatch
from jobmaster.model.definition import ClusterRecord
from jobmaster.model.durations import duration_text
from jobmaster.settings import AGREED, STANDALONE_AGENT

if TYPE_CHECKING:
    from jobmaster.ports.master import MasterStore
    from jobmaster.ports.query import QueryStore
    from jobmaster.registry import Registry
    from jobmaster.settings import Agent, Settings


async def join_cluster(master: MasterStore, questions: QueryStore, *, settings: Settings, registry: Registry) -> None:
    """Compare the settings with those of the cluster, and write what this program brings: settings and definitions.

    Raises:
        ClusterMismatch: the master belongs to another cluster, or other workers run with other values; both are named.
    """
    if await _agree(master, questions, settings):
        await _refuse_to_leave_agents(questions, settings)
    await master.save_definitions([definition.stored(settings) for definition in registry])


async def require_same_cluster(master: MasterStore, settings: Settings) -> None:
    """Refuse a master of another cluster, before a job of this one gets into it. A new master belongs to nobody yet.

    Raises:
        ClusterMismatch: it belongs to another cluster; the text names both.
    """
    stored = await master.load_cluster()
    if stored is not None:
        _require_same(stored, settings)


def _require_same(stored: ClusterRecord, settings: Settings) -> None:
    if stored.cluster != settings.cluster_id:
        raise ClusterMismatch(
            f"The master {settings.master} belongs to cluster {stored.cluster!r}, and this app is "
            f"{settings.cluster_id!r}. Give each cluster a database of its own, or use the same id."
        )


async def _agree(master: MasterStore, questions: QueryStore, settings: Settings) -> bool:
    """Compare, and write what is new. The answer: whether the cluster has, or had, agents."""
    ours = agreed_values(settings)
    while True:
        stored = await master.load_cluster()
        if stored is None:
            record = ClusterRecord(cluster=settings.cluster_id, version=1, settings=msgspec.json.encode(ours))
            if await master.save_cluster(record):
                return bool(ours["agents"])
            continue  # somebody else was first: compare with what they wrote
        _require_same(stored, settings)
        theirs: dict[str, Any] = msgspec.json.decode(stored.settings)
        # What a newer program has agreed on besides stays: this code neither knows nor contradicts it.
        merged = {**theirs, **ours, "agents": {**theirs.get("agents", {}), **ours["agents"]}}
        faults = contradictions(theirs, ours, protect_agents=settings.protect_agents)
        if not faults and merged == theirs:
            return bool(merged["agents"])
        if faults and await _others_live(questions):
            raise ClusterMismatch(
                f"Cluster {settings.cluster_id!r} runs with other settings than this worker has:\n- "
                + "\n- ".join(faults)
                + "\nGive it the same values, or stop all workers first: the next one to start sets the new ones."
            )
        if any(fault.startswith("agent ") for fault in faults):
            raise ClusterMismatch("\n".join(faults))
        record = ClusterRecord(
            cluster=settings.cluster_id, version=stored.version + 1, settings=msgspec.json.encode(merged)
        )
        if await master.save_cluster(record):
            return bool(merged["agents"])


async def _others_live(questions: QueryStore) -> bool:
    return any(worker.status.lives for worker in await questions.list_workers())


async def _refuse_to_leave_agents(questions: QueryStore, settings: Settings) -> None:
    """A cluster that goes back to standalone would leave the messages in its agents behind.

    A bucket's depth is what its last owner published, and producers may have pushed since: only an agent whose buckets
    are gone, because a drain has emptied and closed them, holds nothing for certain.
    """
    if not settings.is_standalone or not settings.protect_agents:
        return
    left: dict[str, list[int]] = {}
    for bucket in await questions.list_buckets():
        if bucket.agent != STANDALONE_AGENT:
            left.setdefault(bucket.agent, []).append(bucket.depth)
    if left:
        told = ", ".join(
            f"{agent} ({len(depths):,} buckets, {sum(depths):,} messages when last counted)"
            for agent, depths in sorted(left.items())
        )
        raise ClusterMismatch(
            f"Cluster {settings.cluster_id!r} has no agents= any more, but messages may wait in its agents: {told}. "
            "Stop all other workers and run `jobmaster worker --mode drain` with the agents until `jobmaster buckets` "
            "shows none of theirs; or set protect_agents=False to leave behind what they hold."
        )


def agreed_values(settings: Settings) -> dict[str, Any]:
    """The values that all workers must have in common, as plain data. No secret is in them."""
    return {
        **{name: _text(getattr(settings, name)) for name in AGREED},
        "agents": {agent.name: fingerprint(agent) for agent in settings.agents},
    }


def contradictions(theirs: Mapping[str, Any], ours: Mapping[str, Any], *, protect_agents: bool) -> Sequence[str]:
    """Sentences about the values that differ, with both of them."""
    faults = [
        f"{name} is {theirs[name]} in the cluster and {ours[name]} here"
        for name in AGREED
        if name in theirs and theirs[name] != ours[name]
    ]
    if protect_agents:
        known = theirs.get("agents", {})
        faults += [
            f"agent {name!r} points to another store than before: its messages would be left behind. Give the new "
            "store another name, or set protect_agents=False once the old one is empty"
            for name, place in ours["agents"].items()
            if known.get(name, place) != place
        ]
    return faults


def fingerprint(agent: Agent) -> str:
    """Tells one store from another without saying where it is: neither user nor password are part of it."""
    dsn = agent.dsn
    place = "\n".join((dsn.kind, dsn.path, dsn.host, str(dsn.port or ""), dsn.database))
    return hashlib.sha256(place.encode()).hexdigest()[:16]


def _text(value: object) -> str:
    if value is None:
        return "none"
    return duration_text(value) if isinstance(value, int | float) else str(value)
