"""The statements about schedules on SQLite find their rows by an index, with 10,000 schedules and a long history."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator

import pytest

from jobmaster.stores.sql.sqlite import occurrences, schedules, turns
from jobmaster.stores.sql.sqlite.provisioning import fresh_statements

pytestmark = pytest.mark.backend("sqlite")

STATEMENTS = {
    "next": occurrences.NEXT,
    "due": occurrences.DUE,
    "claim": occurrences.CLAIM,
    "planned": occurrences.PLANNED,
    "known": occurrences.KNOWN,
    "before": occurrences.BEFORE,
    "after": occurrences.AFTER,
    "some": schedules.SOME.replace("{keys}", "?, ?"),
    "bearing": schedules.BEARING,
    "bearers": schedules.BEARERS,
    "keep": schedules.KEEP,
    "planned ahead": schedules.PLANNED_AHEAD,
    "claimed ahead": schedules.CLAIMED_AHEAD,
    "latest": schedules.LATEST,
    "taken back": occurrences.TAKEN_BACK,
    "instead": occurrences.INSTEAD,
    "forget": schedules.FORGET,
    "current": turns.CURRENT,
    "take": turns.TAKE,
    "mark": turns.MARK,
    "unmark": turns.UNMARK,
    "put off": turns.PUT_OFF,
    "waiting": turns.WAITING,
    "holder": turns.HOLDER,
    "marked": turns.MARKED,
    "all marked": turns.ALL_MARKED,
    "before mine": turns.BEFORE,
    "after mine": turns.AFTER,
    "how many are planned": turns.PLANNED,
    "skip": turns.SKIP,
    "let go": turns.LET_GO,
    "old occurrences": schedules.OLD_OCCURRENCES,
}
COUNT = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?1)"
FILL_SCHEDULES = f"""{COUNT}
INSERT INTO jm_schedule (id, name, kind, status, expression, rule, task, priority, template, version, created_us,
    since_us, cursor_us, plan_at_us, ensured_us)
SELECT key(i), 's' || i, 2 + i % 2, 2, 'every minute',
    x'', 't', 3, x'', 1, i, i, i, iif(i % 10, i * 1000, NULL), i FROM n
"""
FILL_OCCURRENCES = f"""{COUNT}
INSERT INTO jm_occurrence (schedule, at_us, job_id, trigger_kind, waits, created_us)
SELECT key(i % 10000 + 1), i, key(i), 2, i % 1000 = 0, i FROM n
"""


@pytest.fixture(scope="module")
def database() -> Iterator[sqlite3.Connection]:
    connection = sqlite3.connect(":memory:", isolation_level=None)
    connection.create_function("key", 1, lambda number: number.to_bytes(16, "big"), deterministic=True)
    for statement in fresh_statements():
        connection.execute(statement)
    connection.execute(FILL_SCHEDULES, (10_000,))
    connection.execute(FILL_OCCURRENCES, (100_000,))
    yield connection
    connection.close()


@pytest.mark.parametrize("analyzed", [False, True], ids=["as it is", "analyzed"])
def test_every_statement_finds_its_rows_by_an_index(database: sqlite3.Connection, *, analyzed: bool) -> None:
    if analyzed:
        database.execute("ANALYZE")
    wrong = {}
    for name, statement in STATEMENTS.items():
        values = ["[]" if "json_each" in statement else 1] * statement.count("?")
        numbered = max(map(int, re.findall(r"\?(\d+)", statement)), default=None)
        steps = [row[3] for row in database.execute(f"EXPLAIN QUERY PLAN {statement}", values[:numbered])]
        scans = [step for step in steps if step.startswith("SCAN") and "json_each" not in step]
        if any("jm_schedule_due" not in step for step in scans):
            wrong[name] = steps
    assert wrong == {}


def test_a_pass_with_nothing_due_takes_a_few_steps(database: sqlite3.Connection) -> None:
    taken = 0

    def step() -> int:
        nonlocal taken
        taken += 1
        return 0

    database.set_progress_handler(step, 1)
    assert database.execute(occurrences.NEXT).fetchone() == (1_000,)
    assert database.execute(occurrences.DUE, (999, 200)).fetchall() == []
    database.set_progress_handler(None, 0)
    assert taken < 150, "that grows with the schedules"
