"""No statement about workers and buckets touches more pages than its rows explain, whatever its plan was made on.

As in test_postgresql_plans: planned on empty tables, on full ones without statistics, and with them. There are 120,000
jobs, of which 20,000 wait at the master and 2,000 are in the hands of 20 buckets, as many dead rows, 50,000
tombstones, and 50,000 orders that were answered.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, NamedTuple

import psycopg
import pytest

from jobmaster.stores.sql.postgresql import buckets, drain, leases, news, renewal, testimony
from jobmaster.stores.sql.postgresql.connection import hot
from tests.engine.test_postgresql_plans import Prepared, nodes, run, touched
from tests.servers.databases import Databases

pytestmark = [pytest.mark.backend("postgresql"), pytest.mark.slow]

NOW = 1_800_000_000_000_000
LEASE = 10_000_000
OPEN, BUCKETS, ENGINES = 100, 20, 16
CUT = 50
"""Of the open rows of each bucket, every second was touched before this."""

# Two of three finished jobs keep the bucket in which they ran.
FILL = f"""
INSERT INTO jm_job (id, status, gen, bucket, task, lane, priority, created_us, scheduled_us, due_us, touched_us,
    finished_us, worker, payload)
SELECT md5(i::text)::uuid, CASE WHEN i <= 100000 THEN 5 WHEN i <= 120000 THEN 2 WHEN i % 2 = 0 THEN 4 ELSE 6 END, 0,
    CASE WHEN i <= 100000 AND i % 3 > 0 OR i > 120000 THEN 1 + i % {BUCKETS} END, 't', '', 3, i, i, i, i % 100,
    CASE WHEN i <= 100000 THEN i END, 1 + i % {BUCKETS} % {ENGINES}, 'payload'
FROM generate_series(1, {120_000 + OPEN * BUCKETS}) AS i
"""
REST = f"""
INSERT INTO jm_tombstone (job_id, created_us) SELECT md5(i::text)::uuid, {NOW} FROM generate_series(1, 50000) AS i;
INSERT INTO jm_command (worker, verb, args, created_us, answered_us)
    SELECT 1 + i % {ENGINES}, 'ping', '', {NOW}, CASE WHEN i <= 50000 THEN 1 END FROM generate_series(1, 50100) AS i;
INSERT INTO jm_worker (name, boot, agent, lanes, mode, pid, slots, started_us, renewed_us, lease_until_us, ended, stats,
        demands)
    SELECT 'w' || i, 1, 'here', '[""]', 1, 1, 1, {NOW}, {NOW} - i, {NOW} + CASE WHEN i <= {ENGINES} THEN 1 ELSE -1 END,
        CASE WHEN i <= {ENGINES} THEN 0 ELSE 1 END, '{{}}', '[]' FROM generate_series(1, 500) AS i;
INSERT INTO jm_bucket (token, agent, lane, priority, epoch, status, owner, adopted_us, left_us)
    SELECT 'b' || i, 'here', '', 3, 1, 1, 1 + i % {ENGINES}, 0, {NOW} FROM generate_series(0, {BUCKETS - 1}) AS i;
INSERT INTO jm_bucket (token, agent, lane, priority, epoch, status, owner, adopted_us, left_us)
    SELECT 'free' || i, 'here', '', 3, 1, 5, NULL, 0, {NOW} FROM generate_series(1, 5) AS i
"""

Case = tuple[str, tuple[Any, ...], int]


def statements(keys: list[bytes]) -> dict[str, Case]:
    """Name: statement, values, and how many rows it may look at."""
    workers, owned = list(range(1, ENGINES + 1)), list(range(1, BUCKETS + 1))
    words = [b"{}"] * ENGINES
    some = keys[:OPEN]
    same = [len(some) * [number] for number in (0, 1, CUT)]
    return {
        "prolong": (renewal.PROLONG, (NOW, LEASE, workers, workers, [0] * ENGINES, words, words), ENGINES),
        "overtaken": (renewal.OVERTAKEN, (workers,), ENGINES),
        "granted or free": (renewal.GRANTED_OR_FREE, (workers, True), 3 * BUCKETS),
        "forgotten": (renewal.FORGOTTEN, (owned, [CUT] * BUCKETS), OPEN * BUCKETS),
        "hold forgotten": (renewal.HOLD_FORGOTTEN, (some, *same), OPEN),
        "news": (news.NEWS, (NOW, workers, ["here"], NOW, 0), 2_000 + 100 + 2 * ENGINES),
        "no news": (news.NEWS, (NOW, workers, ["here"], NOW, 50_000), 100 + 3 * ENGINES),
        "cancels": (news.CANCELS, (49_900,), 100),
        "hold free": (renewal.HOLD_FREE, (owned, 2), BUCKETS),
        "adopt": (renewal.ADOPT, (owned, owned, NOW), BUCKETS),
        "depths": (renewal.SET_DEPTHS, (owned, owned, owned), BUCKETS),
        "suspects": (leases.SUSPECTS, (NOW, None), 2 * BUCKETS + ENGINES),
        "hold suspects": (leases.HOLD_SUSPECTS, (owned, BUCKETS), BUCKETS),
        "hold owners": (leases.HOLD_OWNERS, (workers,), ENGINES),
        "running": (testimony.RUNNING, (1,), OPEN * BUCKETS),
        "hold blamed": (testimony.HOLD_BLAMED, (some,), OPEN),
        "hold losable": (leases.HOLD_LOSABLE, (1,), BUCKETS),
        "lose": (leases.LOSE, (owned, NOW), BUCKETS),
        "newest boot": (leases.HOLD_NEWEST_BOOT, ("w1",), 1),
        "open buckets": (buckets.OPEN_BUCKETS, (), 2 * BUCKETS),
        "by place": (buckets.BY_PLACE, ("here", "", 3), BUCKETS),
        "before": (buckets.BEFORE, (1, CUT, OPEN), OPEN),
        "hold before": (buckets.HOLD_BEFORE, (some, 1, CUT), OPEN),
        "pointing": (buckets.POINTING, (1,), OPEN),
        "abandoned": (drain.HOLD_ABANDONED, ("here", NOW), BUCKETS),
        "drained by": (drain.DRAINED_BY, (1, "here"), BUCKETS),
        "known": (drain.KNOWN, (owned,), BUCKETS),
    }


class Tables(NamedTuple):
    """The full tables, and the statements that were prepared while they were empty."""

    fresh: Prepared
    keys: list[bytes]
    """Open jobs."""


@pytest.fixture(scope="module")
def tables(postgres_databases: Databases) -> Iterator[Tables]:
    dsn = postgres_databases.borrow(used=False)
    with psycopg.connect(dsn, autocommit=True) as session:
        for setting in (*hot(60), "plan_cache_mode = force_generic_plan"):
            run(session, f"SET {setting}")
        fresh = Prepared(session, "fresh")
        for statement, values, _ in statements([]).values():
            fresh.explained(statement, values)
        run(session, FILL)
        run(session, "DELETE FROM jm_job")
        run(session, FILL)
        run(session, REST)
        found = run(session, f"SELECT id FROM jm_job WHERE status IN (4, 6) ORDER BY id LIMIT {OPEN}")
        yield Tables(fresh, [row[0].bytes for row in found.fetchall()])
    postgres_databases.give_back(dsn)


NAMES = list(statements([]))
PAGES, PAGES_PER_ROW = 100, 14


def check(tables: Tables, prepared: Prepared, name: str) -> None:
    statement, values, rows = statements(tables.keys)[name]
    prepared.explained(statement, values)  # the first also marks dead entries of the index as such
    plan = prepared.explained(statement, values)
    scans = [node for node in nodes(plan) if node["Node Type"] == "Seq Scan"]
    assert not scans, scans
    assert touched(plan) <= PAGES + PAGES_PER_ROW * rows, json.dumps(plan, indent=1)


@pytest.mark.parametrize("name", NAMES)
def test_a_plan_made_on_empty_tables_stays_good(tables: Tables, name: str) -> None:
    check(tables, tables.fresh, name)


@pytest.fixture
def anew(tables: Tables, request: pytest.FixtureRequest) -> Iterator[Prepared]:
    session = tables.fresh.session
    run(session, f"SET plan_cache_mode = {request.param}")
    prepared = Prepared(session, "anew")
    yield prepared
    prepared.forget()
    run(session, "SET plan_cache_mode = force_generic_plan")


planned = pytest.mark.parametrize("anew", ["force_generic_plan", "force_custom_plan"], indirect=True)


@planned
@pytest.mark.parametrize("name", NAMES)
def test_a_plan_made_without_statistics_is_good(tables: Tables, anew: Prepared, name: str) -> None:
    check(tables, anew, name)


@pytest.fixture(scope="module")
def aged(tables: Tables) -> Tables:
    run(tables.fresh.session, "ANALYZE")
    return tables


@planned
@pytest.mark.parametrize("name", NAMES)
def test_a_plan_made_with_statistics_is_good(aged: Tables, anew: Prepared, name: str) -> None:
    check(aged, anew, name)
