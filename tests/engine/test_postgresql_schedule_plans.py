"""The statements about schedules find their rows by an index, with 10,000 schedules and a history, and with none."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import asyncpg
import pytest

from jobmaster.stores.sql.postgresql import occurrences, schedules, turns
from tests.engine.test_postgresql_job_plans import SCANS, _nodes, _plan, _session
from tests.servers.databases import Databases

pytestmark = pytest.mark.backend("postgresql")

STATEMENTS = {
    "due": occurrences.DUE,
    "some": schedules.SOME + schedules.AND_HOLD,
    "insert": occurrences.INSERT,
    "planned": occurrences.PLANNED,
    "known": occurrences.KNOWN,
    "before": occurrences.BEFORE,
    "after": occurrences.AFTER,
    "bearing": schedules.BEARING,
    "bearers": schedules.BEARERS,
    "keep": schedules.KEEP,
    "planned ahead": schedules.PLANNED_AHEAD,
    "claimed ahead": schedules.CLAIMED_AHEAD,
    "latest": schedules.LATEST,
    "jittered": schedules.JITTERED,
    "taken back": occurrences.TAKEN_BACK,
    "instead": occurrences.INSTEAD,
    "forget": schedules.FORGET,
    "current": turns.CURRENT,
    "take": turns.TAKE,
    "mark": turns.MARK,
    "marked": turns.MARKED,
    "unmark": turns.UNMARK,
    "waiting": turns.WAITING,
    "holders": turns.HOLDERS,
    "others": turns.OTHERS,
}
LARGE = ("jm_schedule", "jm_occurrence", "jm_job")
WITHOUT_CONDITION = {"jm_occurrence_waits"}
"""An index of the few that wait: a walk through all of it is short."""

AGE = """
INSERT INTO jm_schedule (id, name, kind, status, expression, rule, task, priority, template, version, created_us,
    since_us, cursor_us, plan_at_us, ensured_us)
SELECT md5(n::text)::uuid, 's' || n, 2 + n % 2, 2, 'every minute', 'rule', 't', 3, 'template', 1, n, n, n,
    CASE WHEN n % 10 > 0 THEN n * 1000 END, n FROM generate_series(1, 10000) AS n;
INSERT INTO jm_occurrence (schedule, at_us, job_id, trigger_kind, waits, created_us)
SELECT md5((n % 10000 + 1)::text)::uuid, n, md5(n::text)::uuid, 2, CASE WHEN n % 1000 = 0 THEN 1 ELSE 0 END, n
FROM generate_series(1, 100000) AS n;
INSERT INTO jm_job (id, status, gen, task, priority, created_us, scheduled_us, due_us, touched_us, payload)
SELECT md5(n::text)::uuid, 5, 0, 't', 3, n, n, n, n, 'payload' FROM generate_series(1, 20000) AS n;
"""


def _found_otherwise(plan: dict[str, Any]) -> list[str]:
    wrong = []
    for node in _nodes(plan):
        kind, name = node["Node Type"], node.get("Relation Name", node.get("Index Name", ""))
        if not name.startswith(LARGE):
            continue
        if kind == "Seq Scan":
            wrong.append(f"{kind} on {name}")
        elif kind in SCANS and "Index Cond" not in node and node.get("Index Name") not in WITHOUT_CONDITION:
            wrong.append(f"{kind} on {name} from end to end")
    return wrong


@pytest.mark.parametrize("aged", [False, True], ids=["new", "aged"])
def test_every_statement_finds_its_rows_by_an_index(postgres_databases: Databases, *, aged: bool) -> None:
    async def judge(dsn: str) -> dict[str, list[str]]:
        connection = await _session(dsn)
        try:
            if aged:
                await connection.execute(AGE)
                await connection.execute("ANALYZE")
            plans = {name: await _plan(connection, statement) for name, statement in STATEMENTS.items()}
        finally:
            await connection.close()
        return {name: wrong for name, plan in plans.items() if (wrong := _found_otherwise(plan))}

    with postgres_databases.lent(used=False) as dsn:
        assert asyncio.run(judge(dsn)) == {}


def test_a_pass_with_nothing_due_reads_two_entries_of_an_index(postgres_databases: Databases) -> None:
    async def look(dsn: str) -> dict[str, Any]:
        connection: asyncpg.Connection[Any] = await _session(dsn)
        try:
            await connection.execute(AGE)
            await connection.execute("ANALYZE")
            answer = await connection.fetchval(f"EXPLAIN (ANALYZE, FORMAT JSON) {_given(occurrences.DUE)}")
        finally:
            await connection.close()
        plan: dict[str, Any] = json.loads(answer)[0]["Plan"]
        return plan

    with postgres_databases.lent(used=False) as dsn:
        plan = asyncio.run(look(dsn))
    read = [node for node in _nodes(plan) if str(node.get("Relation Name", "")) == "jm_schedule"]
    assert sum(node["Actual Rows"] * node["Actual Loops"] for node in read) <= 2


def _given(statement: str) -> str:
    """The statement as a planner asks it when nothing is due: before the earliest moment."""
    for number, value in ((4, 0), (3, 5_000_000), (2, 200), (1, 500)):
        statement = statement.replace(f"${number}", str(value))
    return statement
