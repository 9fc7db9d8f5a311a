"""Every verb of owners, producers and coordinators at once, on several connections, with leases that keep ending."""

from __future__ import annotations

import asyncio
import random

import psycopg
import pytest

from jobmaster.ports.master import MasterRules
from jobmaster.stores.sql.postgresql.connection import hot
from jobmaster.stores.sql.postgresql.store import PostgresStore
from tests.faults.storm import Owner, Producer, Storm

pytestmark = pytest.mark.backend("postgresql")

KNOWN = "SELECT id FROM jm_job UNION SELECT job_id FROM jm_message"
HALVES = """
SELECT (SELECT count(*) FROM jm_agent_bucket a WHERE NOT EXISTS (SELECT FROM jm_bucket b WHERE b.id = a.id)),
    (SELECT count(*) FROM jm_bucket b WHERE NOT EXISTS (SELECT FROM jm_agent_bucket a WHERE a.id = b.id)),
    (SELECT count(*) FROM jm_message m WHERE NOT EXISTS (SELECT FROM jm_bucket b WHERE b.id = m.bucket))
"""
VERBS = "register create_buckets fence claim read take_over settle give_up complete close retire mark_lost push drain"


def test_a_storm_loses_no_job_and_leaves_no_half_of_a_bucket(
    postgres_database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The leases are so short that a busy machine stands still for longer: its transactions are not to be ended for it.
    monkeypatch.setattr("jobmaster.stores.sql.postgresql.handle.hot", lambda _seconds: hot(30.0))
    storm = Storm(set(VERBS.split()), seconds=8)

    async def run() -> None:
        rules = MasterRules(lease_us=600_000)
        stores = [await PostgresStore.open(postgres_database, rules=rules) for _ in range(4)]
        try:
            draws = [random.Random(seed) for seed in range(11)]
            # Of each name two, so that they end each other's leases.
            owners = [Owner(storm, stores[n % 4], f"w{n // 2}", draws[n]) for n in range(8)]
            producers = [Producer(storm, stores[n], draws[8 + n]) for n in range(3)]
            await asyncio.gather(*(owner.run() for owner in owners), *(producer.run() for producer in producers))
        finally:
            for store in stores:
                await store.close_store()

    asyncio.run(run())
    with psycopg.connect(postgres_database) as connection:
        known = {row[0].bytes for row in connection.execute(KNOWN)}
        assert [key for key in storm.accepted if key not in known] == []
        assert connection.execute(HALVES).fetchone() == (0, 0, 0)
    assert len(storm.accepted) > 100
    assert {verb for verb in VERBS.split() if not storm.answered[verb]} == set(), "each happened"
