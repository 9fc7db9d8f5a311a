"""What all workers of a cluster must agree on, and what happens where one does not."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import msgspec
import pytest

from jobmaster import Agent, ClusterMismatch, JobMaster
from jobmaster.agreement import join_cluster
from jobmaster.model.bucket import Bucket
from jobmaster.model.states import WorkerMode
from jobmaster.model.worker import Registration
from jobmaster.registry import Registry
from jobmaster.settings import AGREED
from jobmaster.stores.memory import MemoryStore

pytestmark = pytest.mark.backend("memory")


def settings(**given: Any):
    return JobMaster(given.pop("cluster", "shop"), master="sqlite:////tmp/never-opened.db", **given).settings


async def join(store: MemoryStore, **given: Any) -> None:
    await join_cluster(store, store, settings=settings(**given), registry=Registry())


async def register(store: MemoryStore) -> int:
    lanes, mode = ("",), WorkerMode.FULL
    answer = await store.register(Registration(name="w", boot=1, agent="standalone", lanes=lanes, mode=mode))
    return answer.worker


def test_the_first_worker_writes_version_one_and_an_equal_one_changes_nothing() -> None:
    async def scenario() -> None:
        store = MemoryStore()
        await join(store)
        await join(store)
        record = await store.load_cluster()
        assert record is not None
        assert (record.cluster, record.version) == ("shop", 1)

    asyncio.run(scenario())


OTHER_VALUES: dict[str, tuple[dict[str, Any], str]] = {
    "lease": ({"lease": 20, "renew_every": 3}, "lease is 10s in the cluster and 20s here"),
    "renew_every": ({"renew_every": 2}, "renew_every is 3s in the cluster and 2s here"),
    "retention": ({"retention": None}, "retention is 30d in the cluster and none here"),
    "time_zone": ({"time_zone": "Europe/Berlin"}, "time_zone is UTC in the cluster and Europe/Berlin here"),
}


def test_each_setting_that_is_agreed_on_has_a_value_here_that_breaks_it() -> None:
    assert set(OTHER_VALUES) == set(AGREED)


@pytest.mark.fault("H7")
@pytest.mark.parametrize(("given", "told"), OTHER_VALUES.values(), ids=OTHER_VALUES)
def test_other_values_are_refused_with_both_while_workers_live_and_taken_when_none_does(given: Any, told: str) -> None:
    async def scenario() -> None:
        store = MemoryStore()
        await join(store)
        worker = await register(store)
        with pytest.raises(ClusterMismatch) as error:
            await join(store, **given)
        assert told in str(error.value)
        assert str(error.value).count("\n- ") == 1, "and nothing else"
        record = await store.load_cluster()
        assert record is not None
        assert record.version == 1, "who is refused changes nothing"

        await store.end_worker(worker)
        await join(store, **given)
        record = await store.load_cluster()
        assert record is not None
        assert record.version == 2

    asyncio.run(scenario())


def test_what_a_newer_program_has_agreed_on_besides_stays_when_an_older_one_joins() -> None:
    async def scenario() -> None:
        store = MemoryStore()
        await join(store)
        record = await store.load_cluster()
        assert record is not None
        more = msgspec.json.decode(record.settings) | {"quantum": "7s"}
        await store.save_cluster(msgspec.structs.replace(record, version=2, settings=msgspec.json.encode(more)))

        await join(store)
        await join(store, retention=None)  # nobody lives, so it is taken; the rest stays
        record = await store.load_cluster()
        assert record is not None
        assert record.version == 3
        assert msgspec.json.decode(record.settings) == more | {"retention": "none"}

    asyncio.run(scenario())


def test_a_master_belongs_to_one_cluster() -> None:
    async def scenario() -> None:
        store = MemoryStore()
        await join(store)
        with pytest.raises(ClusterMismatch, match="belongs to cluster 'shop', and this app is 'other'"):
            await join(store, cluster="other")

    asyncio.run(scenario())


def test_an_agents_name_that_points_elsewhere_is_refused_unless_that_is_wanted(tmp_path: Path) -> None:
    async def scenario() -> None:
        store = MemoryStore()
        await join(store, agents=[Agent("a", f"sqlite:///{tmp_path}/a.db")])
        moved = [Agent("a", f"sqlite:///{tmp_path}/b.db")]
        with pytest.raises(ClusterMismatch, match="agent 'a' points to another store"):
            await join(store, agents=moved)
        await join(store, agents=moved, protect_agents=False)

    asyncio.run(scenario())


def test_going_back_to_standalone_is_refused_while_an_agent_may_hold_messages() -> None:
    class WithBucket(MemoryStore):
        def __init__(self) -> None:
            super().__init__()
            self.seen = [Bucket(id=1, agent="pg-1", lane="", priority=3, epoch=1, depth=3)]

        async def list_buckets(self) -> list[Bucket]:
            return self.seen

    async def scenario() -> None:
        store = WithBucket()
        await join(store, agents=[Agent("pg-1", "sqlite:////x/pg.db")])
        with pytest.raises(ClusterMismatch, match=r"messages may wait in its agents: pg-1 \(1 buckets, 3 messages"):
            await join(store)
        # Nobody has counted since its owner left: messages may have come.
        store.seen = [Bucket(id=1, agent="pg-1", lane="", priority=3, epoch=1, depth=0)]
        with pytest.raises(ClusterMismatch, match="--mode drain"):
            await join(store)
        await join(store, protect_agents=False)
        store.seen = [Bucket(id=2, agent="standalone", lane="", priority=3, epoch=1, depth=7)]
        await join(store)

    asyncio.run(scenario())


def test_of_two_that_write_first_the_later_one_compares() -> None:
    class Raced(MemoryStore):
        raced = False

        async def save_cluster(self, record: Any) -> bool:
            if not self.raced:
                self.raced = True
                await MemoryStore.save_cluster(self, record)
                return False
            return await MemoryStore.save_cluster(self, record)

    async def scenario() -> None:
        store = Raced()
        await join(store)
        record = await store.load_cluster()
        assert record is not None
        assert record.version == 1

    asyncio.run(scenario())
