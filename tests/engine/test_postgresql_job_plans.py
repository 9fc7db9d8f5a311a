"""The statements of the job verbs find their rows by an index, on tables as they are born and on aged ones.

A session keeps a statement's plan for years: what counts is the plan without the values, made while tables are empty.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import asyncpg
import pytest

from jobmaster.stores.sql.postgresql import claim, finish, messages, outcomes, recover, rows, start, take_over
from jobmaster.stores.sql.postgresql.connection import hot

STATEMENTS = {
    "claim": claim.CLAIM,
    "states": rows.STATES,
    "tombstoned": rows.TOMBSTONES,
    "insert_absent": rows.INSERT_ABSENT,
    "blames_on": recover.BLAMES,
    "count_blames": recover.COUNT_BLAMES,
    "tell_ended": recover.ENVELOPES,
    "keep": messages.KEEP,
    "remove": messages.REMOVE,
    "recover": recover.RECOVER.statement,
    "hold_rows": recover.HOLD.statement,
    "outcome": outcomes.FINISH.statement,
    "retry": outcomes.AGAIN.statement,
    "go": start.GO.statement,
    "end": start.END.statement,
    **{
        f"finish, all new {new}, went well {well}, one kind {kind}": finish.statement(
            all_new=new, went_well=well, one_kind=kind
        )
        for new in (True, False)
        for well in (True, False)
        for kind in (True, False)
    },
    **{
        f"take over, {'all' if begin else 'not all'} begin, {'one kind' if kind else 'many kinds'}": (
            take_over.statement(all_begin=begin, one_kind=kind)
        )
        for begin in (True, False)
        for kind in (True, False)
    },
}

LARGE = ("jm_job", "jm_message", "jm_attempt", "jm_tombstone", "jm_blame")
SCANS = {"Index Scan", "Index Only Scan", "Bitmap Index Scan"}

AGE = """
INSERT INTO jm_job
    (id, status, gen, task, lane, priority, created_us, scheduled_us, due_us, touched_us, finished_us, payload)
SELECT md5(n::text)::uuid, CASE WHEN n % 4 = 0 THEN 2 ELSE 5 END, 0, 't', (ARRAY['', 'mail'])[1 + n % 2], 2 + n % 3,
    n, n, (random() * 1e9)::bigint, n, CASE WHEN n % 4 > 0 THEN n END, 'payload'
FROM generate_series(1, 20000) AS n;
INSERT INTO jm_message (seq, bucket, job_id, gen, due_us, task, created_us, payload)
SELECT (1 + n % 5)::bigint << 41 | n, 1 + n % 5, md5(n::text)::uuid, 0, n, 't', n, 'payload'
FROM generate_series(1, 20000) AS n;
INSERT INTO jm_attempt (job_id, attempt, status) SELECT md5(n::text)::uuid, 1, 7 FROM generate_series(1, 5000) AS n;
INSERT INTO jm_tombstone (job_id, created_us) SELECT md5(n::text)::uuid, n FROM generate_series(1, 5000) AS n;
INSERT INTO jm_blame (job_id, worker, created_us) SELECT md5(n::text)::uuid, 1, n FROM generate_series(1, 5000) AS n;
"""


async def _plan(connection: asyncpg.Connection[Any], statement: str) -> Any:
    """What the server does for the statement, whatever it is given."""
    await connection.execute(f"PREPARE asked AS {statement}")
    try:
        count = len(set(re.findall(r"\$(\d+)", statement)))
        answer = await connection.fetchval(f"EXPLAIN (FORMAT JSON) EXECUTE asked({', '.join(['NULL'] * count)})")
        return json.loads(answer)[0]["Plan"]
    finally:
        await connection.execute("DEALLOCATE asked")


def _nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for child in plan.get("Plans", ()):
        yield from _nodes(child)


def _is_large(name: str) -> bool:
    return name.startswith(LARGE)


def _found_otherwise(plan: dict[str, Any]) -> list[str]:
    """Steps that read a table which grows, other than by the conditions of an index."""
    wrong = []
    for node in _nodes(plan):
        kind, name = node["Node Type"], node.get("Relation Name", node.get("Index Name", ""))
        if kind in {"Hash Join", "Merge Join"} or (kind == "Seq Scan" and _is_large(name)):
            wrong.append(f"{kind} on {name}")
        elif kind in SCANS and _is_large(name) and "Index Cond" not in node and not _asks_for_any(node):
            wrong.append(f"{kind} on {name} from end to end")
    return wrong


def _asks_for_any(node: dict[str, Any]) -> bool:
    """Whether there is any evidence at all: the first entry of an index says so."""
    return node.get("Parent Relationship") == "InitPlan" and node.get("Index Name") == "jm_blame_pkey"


async def _session(dsn: str) -> asyncpg.Connection[Any]:
    connection = await asyncpg.connect(dsn)
    for setting in hot(10.0):
        await connection.execute(f"SET {setting}")
    await connection.execute("SET plan_cache_mode = force_generic_plan")
    return connection


@pytest.mark.parametrize("aged", [False, True], ids=["fresh", "aged"])
async def test_every_row_is_found_by_an_index(new_postgres_database: str, aged: bool) -> None:
    connection = await _session(new_postgres_database)
    try:
        if aged:
            await connection.execute(AGE)
            await connection.execute("ANALYZE")
        wrong = {name: _found_otherwise(await _plan(connection, text)) for name, text in STATEMENTS.items()}
        assert {name: steps for name, steps in wrong.items() if steps} == {}
    finally:
        await connection.close()


@pytest.mark.parametrize("aged", [False, True], ids=["fresh", "aged"])
async def test_a_claim_reads_its_lane_in_the_order_of_due_times(new_postgres_database: str, aged: bool) -> None:
    connection = await _session(new_postgres_database)
    try:
        if aged:
            await connection.execute(AGE)
            await connection.execute("ANALYZE")
        plan = await _plan(connection, claim.CLAIM)
    finally:
        await connection.close()
    (picked,) = [node for node in _nodes(plan) if node.get("Subplan Name") == "CTE picked"]
    read = [node for node in _nodes(picked) if node.get("Relation Name", "").startswith("jm_job")]
    assert read
    assert all("due_us <=" in node["Index Cond"] and "lane" in node["Index Cond"] for node in read)
    assert not [node for node in _nodes(picked) if node["Node Type"] == "Sort"]


async def test_the_test_sees_a_scan(new_postgres_database: str) -> None:
    connection = await _session(new_postgres_database)
    try:
        plan = await _plan(connection, "SELECT id FROM jm_job WHERE task = $1")
        assert _found_otherwise(plan)
    finally:
        await connection.close()
