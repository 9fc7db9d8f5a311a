"""What sessions of the PostgreSQL store are set to, and what the server's own settings make of an acknowledgement."""

from __future__ import annotations

import asyncio
import time
from typing import Any, NamedTuple

import asyncpg
import pytest

from jobmaster.errors import ConfigurationError, StoreUnavailable
from jobmaster.ports.agent import Durability
from jobmaster.ports.master import MasterRules
from jobmaster.stores.sql.postgresql.store import PostgresStore
from jobmaster.stores.sql.postgresql.transaction import Transaction
from tests.engine.postgresql_at_work import SlowProducer, connected, job, opened, owned
from tests.servers.postgres import PostgresServer

pytestmark = pytest.mark.backend("postgresql")


@pytest.mark.slow
async def test_an_acknowledgement_survives_what_the_servers_settings_allow() -> None:
    with PostgresServer(durable=True).start() as server:
        promised: dict[str, Durability] = {}
        for settings in ("", "synchronous_commit = off", "synchronous_commit = local"):
            name = f"d{len(promised)}"
            address = server.create_database(name)
            if settings:
                server.execute(f"ALTER DATABASE {name} SET {settings}")
            async with opened(address) as store:
                promised[settings] = await store.durability()
        assert [durability.survives for durability in promised.values()] == ["host", "nothing", "host"]
        assert "synchronous_commit = off" in promised["synchronous_commit = off"].evidence
    with PostgresServer(durable=True, settings={"full_page_writes": "off"}).start() as server:
        async with opened(server.create_database("torn")) as store:
            assert (await store.durability()).survives == "process"


async def test_a_statement_that_waits_too_long_is_ended_by_the_server_and_certainly_has_no_effect(
    postgres_database: str,
) -> None:
    async with opened(postgres_database, timeout=1.0) as store, SlowProducer(postgres_database) as other:
        bucket = await owned(store)
        await other.connection.execute(f"SELECT FROM jm_agent_bucket WHERE id = {bucket.id} FOR UPDATE")
        began = time.monotonic()
        with pytest.raises(StoreUnavailable, match="took too long"):
            await store.push(bucket.id, [job()])
        assert 0.8 < time.monotonic() - began < 20
        await other.commit()
        await store.push(bucket.id, [job()])
        assert await store.depths([bucket.id]) == {bucket.id: 1}


async def test_statements_end_before_a_lease_does(postgres_database: str) -> None:
    store = await PostgresStore.open(postgres_database, rules=MasterRules(lease_us=2_000_000), timeout=60)
    try:
        assert await store._read(lambda tx: tx.value("SHOW statement_timeout")) == "1800ms"
        assert await store._read(lambda tx: tx.value("SHOW enable_seqscan")) == "off"
        assert await store._ask(lambda tx: tx.value("SHOW enable_seqscan")) == "on"
    finally:
        await store.close_store()


async def test_a_process_that_stops_in_the_middle_of_a_transaction_holds_its_locks_no_longer_than_that(
    postgres_database: str,
) -> None:
    async with (
        opened(postgres_database, timeout=30.0) as store,
        opened(postgres_database) as other,
        connected(postgres_database) as watcher,
    ):
        bucket = await owned(store)
        async with store._pool.connection() as connection:
            await connection.execute("SET idle_in_transaction_session_timeout = 200")

        async def stop_in_the_middle(tx: Transaction) -> None:
            await tx.rows(f"SELECT FROM jm_agent_bucket WHERE id = {bucket.id} FOR UPDATE")
            async with asyncio.timeout(5):
                while await watcher.fetchval("SELECT count(*) FROM pg_locks WHERE mode = 'RowShareLock'"):
                    await asyncio.sleep(0.01)
            await tx.tick()

        stopped = asyncio.create_task(store._write(stop_in_the_middle))
        await other.push(bucket.id, [job()])
        with pytest.raises(StoreUnavailable):
            await stopped
        await store.push(bucket.id, [job()])  # on another connection
        assert await store.depths([bucket.id]) == {bucket.id: 2}


class Version(NamedTuple):
    major: int
    minor: int


async def test_a_server_that_is_too_old_is_told(postgres_database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def old(_: Any) -> Version:
        return Version(13, 21)

    monkeypatch.setattr(asyncpg.Connection, "get_server_version", old)
    with pytest.raises(ConfigurationError, match=r"is PostgreSQL 13\.21, but JobMaster needs 14"):
        await PostgresStore.open(postgres_database, rules=MasterRules())
