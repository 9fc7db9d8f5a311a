"""No statement of the PostgreSQL agent touches more pages than its batch explains, whatever its plan was made on.

Each is prepared and planned generically while all tables are empty and were never analysed, which is the plan that a
long-lived session keeps; then planned anew over a full table without statistics, and with them. The table it runs on
has 100,000 rows of the bucket, as many of others, and as many dead ones that nobody has vacuumed.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, NamedTuple

import psycopg
import pytest

from jobmaster.model.ids import new_job_key
from jobmaster.model.job import Envelope, NewJob, encode_envelope
from jobmaster.stores.sql.postgresql import accept, fencing, read
from jobmaster.stores.sql.postgresql.connection import hot
from jobmaster.stores.sql.postgresql.numbering import SEQUENCE_BITS, first_of
from tests.servers.databases import Databases

pytestmark = [pytest.mark.backend("postgresql"), pytest.mark.slow]

NOW = 1_800_000_000_000_000
WINDOW = 15_000_000
ROWS = 100_000
BUCKET, BUCKETS, TAKER = 3, 20, 4
BATCH = 100

# Every tenth message is due in an hour.
FILL = f"""
INSERT INTO jm_message (seq, bucket, job_id, gen, due_us, later, created_us, payload)
SELECT b << {SEQUENCE_BITS} | nextval('jm_message_seq_seq'), b, gen_random_uuid(), 0,
    {NOW} + CASE WHEN i % 10 = 0 THEN 3600000000 ELSE 0 END, CASE WHEN i % 10 = 0 THEN 1 ELSE 0 END, {NOW}, '\\x00'
FROM generate_series(1, {ROWS}::bigint) AS i CROSS JOIN LATERAL (SELECT ({{bucket}})::bigint AS b) AS place
"""

JOBS = [
    NewJob(new_job_key(), envelope := Envelope("shop.receipt", b"{}", NOW, NOW), encode_envelope(envelope))
    for _ in range(BATCH)
]


class Prepared:
    """Statements as one session has prepared them, each at its first use."""

    def __init__(self, session: psycopg.Connection, prefix: str) -> None:
        self.session = session
        self._prefix = prefix
        self._names: dict[str, str] = {}

    def explained(self, statement: str, values: tuple[Any, ...]) -> dict[str, Any]:
        """Run it and undo it; its plan with what it cost."""
        if statement not in self._names:
            self._names[statement] = name = f"{self._prefix}{len(self._names)}"
            run(self.session, f"PREPARE {name} AS {statement}")
        given = f"({', '.join(map(literal, values))})" if values else ""
        with self.session.transaction(force_rollback=True):
            rows = run(
                self.session, f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) EXECUTE {self._names[statement]}{given}"
            ).fetchall()
        plan: dict[str, Any] = rows[0][0][0]["Plan"]
        return plan

    def forget(self) -> None:
        for name in self._names.values():
            run(self.session, f"DEALLOCATE {name}")


def run(session: psycopg.Connection, statement: str) -> psycopg.Cursor:
    return session.execute(statement.encode())


def literal(value: Any) -> str:
    if value is None:
        return "NULL"
    if isinstance(value, bool):
        return str(value)
    if isinstance(value, bytes):
        return f"'{value.hex()}'" if len(value) == 16 else f"'\\x{value.hex()}'"
    if isinstance(value, list):
        return "'{" + ",".join(_element(one) for one in value) + "}'"
    return f"'{value}'"


def _element(value: Any) -> str:
    if isinstance(value, bytes):
        return value.hex() if len(value) == 16 else f'"\\\\x{value.hex()}"'
    return f'"{value}"' if isinstance(value, str) else str(value)


def statements(middle: list[int]) -> dict[str, tuple[str, tuple[Any, ...], int]]:
    """Name: statement, values, and how many rows it may look at."""
    start, end = middle[0] if middle else first_of(BUCKET), first_of(BUCKET + 1)
    last = middle[-1] if middle else start
    below = (BUCKET, NOW, WINDOW, start, last)
    return {
        "push": (accept.FAST, accept.values_of(BUCKET, JOBS, NOW), BATCH),
        "push of one": (accept.SINGLE, accept.single_values(BUCKET, JOBS[0], NOW), 1),
        "push again": (accept.ONCE, accept.values_of(BUCKET, JOBS, NOW), BATCH),
        "read": (read.READ, (BUCKET, NOW, WINDOW, start, end, NOW + WINDOW, 2**63 - 1, BATCH), 2 * BATCH),
        "read what fell due": (
            read.READ,
            (BUCKET, NOW + 3_600_000_000, WINDOW, start, end, NOW, 2**63 - 1, BATCH),
            2 * BATCH,
        ),
        "read at the end": (read.READ, (BUCKET, NOW, WINDOW, end - 1, end, NOW + WINDOW, 2**63 - 1, BATCH), BATCH),
        "look below": (read.BELOW, below, 2 * BATCH),
        "bodies": (read.BODIES, (middle,), BATCH),
        "first": (read.FIRST, (start, end, BATCH), BATCH),
        "remove": (read.REMOVE, (middle,), BATCH),
        "hand over": (fencing.MOVE, (start, end, TAKER, BATCH, NOW, WINDOW, 0), 3 * BATCH),
        "last number": (fencing.LAST_SEQ, (first_of(BUCKET), end), 1),
        "anything there": (fencing.HAS_MESSAGES, (start, end), 1),
        "bucket": (fencing.HELD, (BUCKET,), 1),
        "both buckets": (fencing.BOTH_HELD, ([BUCKET, TAKER],), 2),
    }


class Table(NamedTuple):
    """The full table, and the statements that were prepared while it was empty."""

    fresh: Prepared
    middle: list[int]
    """Numbers of messages in the midst of the bucket."""


@pytest.fixture(scope="module")
def table(postgres_databases: Databases) -> Iterator[Table]:
    dsn = postgres_databases.borrow(used=False)
    with psycopg.connect(dsn, autocommit=True) as session:
        for setting in (*hot(60), "plan_cache_mode = force_generic_plan"):
            run(session, f"SET {setting}")
        fresh = Prepared(session, "fresh")
        for statement, values, _ in statements([]).values():
            fresh.explained(statement, values)
        run(session, f"INSERT INTO jm_agent_bucket SELECT i, 1, 0 FROM generate_series(1, {BUCKETS}) AS i")
        run(session, FILL.format(bucket=BUCKET))
        run(session, "DELETE FROM jm_message")
        run(session, FILL.format(bucket=BUCKET))
        run(session, FILL.format(bucket=f"CASE WHEN i % {BUCKETS} = {BUCKET} THEN 1 ELSE i % {BUCKETS} END"))
        found = run(
            session, f"SELECT seq FROM jm_message WHERE bucket = {BUCKET} ORDER BY seq OFFSET {ROWS // 2} LIMIT {BATCH}"
        )
        yield Table(fresh, [row[0] for row in found.fetchall()])
    postgres_databases.give_back(dsn)


NAMES = list(statements([]))
PAGES, PAGES_PER_ROW = 100, 14
"""A row costs a few index pages and one of the table; an insert touches three indexes, too."""


def check(table: Table, prepared: Prepared, name: str) -> None:
    statement, values, rows = statements(table.middle)[name]
    prepared.explained(statement, values)  # the first also marks dead entries of the index as such
    plan = prepared.explained(statement, values)
    scans = [node for node in nodes(plan) if node["Node Type"] == "Seq Scan" and node["Relation Name"] == "jm_message"]
    assert not scans, scans
    pages = touched(plan)
    assert pages <= PAGES + PAGES_PER_ROW * rows, (pages, json.dumps(plan, indent=1))


def touched(plan: dict[str, Any]) -> int:
    """Pages. What a change inside WITH touches is not part of what the statement's last step counts."""
    changes = [node for node in nodes(plan) if node["Node Type"] == "ModifyTable" and "Subplan Name" in node]
    return sum(node["Shared Hit Blocks"] + node["Shared Read Blocks"] for node in (plan, *changes))


def nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for below in plan.get("Plans", ()):
        yield from nodes(below)


@pytest.mark.parametrize("name", NAMES)
def test_a_plan_made_on_empty_tables_stays_good(table: Table, name: str) -> None:
    check(table, table.fresh, name)


@pytest.fixture
def anew(table: Table, request: pytest.FixtureRequest) -> Iterator[Prepared]:
    session = table.fresh.session
    run(session, f"SET plan_cache_mode = {request.param}")
    prepared = Prepared(session, "anew")
    yield prepared
    prepared.forget()
    run(session, "SET plan_cache_mode = force_generic_plan")


planned = pytest.mark.parametrize("anew", ["force_generic_plan", "force_custom_plan"], indirect=True)


@planned
@pytest.mark.parametrize("name", NAMES)
def test_a_plan_made_without_statistics_is_good(table: Table, anew: Prepared, name: str) -> None:
    check(table, anew, name)


@pytest.fixture(scope="module")
def aged(table: Table) -> Table:
    run(table.fresh.session, "ANALYZE jm_message, jm_agent_bucket")
    return table


@planned
@pytest.mark.parametrize("name", NAMES)
def test_a_plan_made_with_statistics_is_good(aged: Table, anew: Prepared, name: str) -> None:
    check(aged, anew, name)


def test_the_check_finds_a_scan(table: Table) -> None:
    plan = table.fresh.explained("SELECT count(*) FROM jm_message WHERE payload = $1", (b"\0",))
    assert touched(plan) > PAGES + PAGES_PER_ROW * BATCH
    assert any(node["Node Type"] == "Seq Scan" for node in nodes(plan))
