"""No hot statement of the SQLite store looks at more than its batch, however many rows there are.

A file of 1,000,000 rows is made; then each verb runs on it inside a transaction that is rolled back, all statements
that it issued are explained by SQLite, and the steps that its virtual machine took are counted.
"""

from __future__ import annotations

import re
import sqlite3
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from jobmaster.model.bucket import NewBucket
from jobmaster.model.ids import JobKey, new_job_key
from jobmaster.model.job import Blame, Envelope, Fence, NewJob, Outcome, Start, encode_envelope
from jobmaster.model.states import JobStatus, WorkerMode
from jobmaster.model.worker import Registration, Renewal
from jobmaster.ports.agent import Cursor
from jobmaster.ports.master import ClaimRequest, MasterRules
from jobmaster.stores.sql.sqlite import (
    accept,
    buckets,
    cancel,
    claim,
    commands,
    fencing,
    finish,
    leases,
    look_up,
    read,
    start,
    upkeep,
)
from jobmaster.stores.sql.sqlite.provisioning import fresh_statements
from jobmaster.stores.sql.sqlite.transaction import Setting, Transaction

pytestmark = [pytest.mark.backend("sqlite"), pytest.mark.slow]

NOW = 1_800_000_000_000_000
MESSAGES, JOBS = 500_000, 500_000
BUCKETS = 20
BATCH = 100

SMALL = {"jm_worker", "jm_bucket", "jm_agent_bucket", "jm_cluster", "jm_definition"}
"""Tables with a row per worker, bucket or task: reading one whole is no scan that grows with the backlog."""

STEPS_PER_JOB = 2_500
"""A verb may take this many steps of SQLite's virtual machine for each job of its batch (a scan takes millions)."""

ENVELOPE = Envelope("shop.receipt", b"{}", NOW, NOW, custom_id=None)
PAYLOAD = encode_envelope(ENVELOPE)

COUNT = "WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < ?1 - 1)"

# Message i is in bucket i % 20 + 1; every fifth is due in an hour.
FILL_MESSAGES = f"""{COUNT}
INSERT INTO jm_message (bucket, job_id, gen, due_us, later, task, created_us, payload)
SELECT i % {BUCKETS} + 1, unhex_key(1, i), 0, ?2 + iif(i / 20 % 5, 0, 3600000000), i / 20 % 5 = 0, 'shop.receipt', ?2,
    ?3 FROM n
"""

# Of the rows 80 % have ended, 8 % are held (half of them due), 8 % wait in buckets, 4 % run.
FILL_JOBS = f"""{COUNT}
INSERT INTO jm_job (id, status, gen, bucket, task, lane, priority, created_us, scheduled_us, due_us, touched_us,
    finished_us,
    expires_us, reason, payload)
SELECT unhex_key(2, i), s.status, 1, iif(s.status IN (3, 4, 6), i / 25 % {BUCKETS} + 1, NULL), 'shop.receipt', '', i %
    5 + 1, ?2 + i, ?2,
    ?2 + iif(i % 2, 0, 3600000000), ?2, iif(s.status IN (5, 7, 8), ?2 + i, NULL), iif(i % 50 = 1, ?2 + 3600000000,
    NULL), '', ?3
FROM n JOIN (SELECT 0 AS r, 5 AS status UNION ALL SELECT 20, 2 UNION ALL SELECT 22, 3 UNION ALL SELECT 23, 6 UNION ALL
    SELECT 24, 4) s
    ON s.r = CASE WHEN i % 25 < 20 THEN 0 WHEN i % 25 < 22 THEN 20 ELSE i % 25 END
"""


class Recorder(sqlite3.Connection):
    """A connection that remembers the statements it ran, with one set of values each, and counts steps."""

    seen: dict[str, Any]
    steps: int

    def execute(self, statement: str, values: Any = (), /) -> sqlite3.Cursor:
        if hasattr(self, "seen"):
            self.seen.setdefault(statement, values)
        return super().execute(statement, values)

    def executemany(self, statement: str, rows: Any, /) -> sqlite3.Cursor:
        rows = list(rows)
        if rows and hasattr(self, "seen"):
            self.seen.setdefault(statement, rows[0])
        return super().executemany(statement, rows)


def key(kind: int, number: int) -> JobKey:
    return JobKey(bytes([kind]) + number.to_bytes(15, "big"))


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Recorder]:
    began = time.monotonic()
    connection = sqlite3.connect(tmp_path_factory.mktemp("plans") / "big.db", isolation_level=None, factory=Recorder)
    connection.create_function("unhex_key", 2, key, deterministic=True)
    for setting in ("journal_mode = OFF", "synchronous = OFF", "cache_size = -200000", "temp_store = MEMORY"):
        connection.execute(f"PRAGMA {setting}").fetchall()
    for statement in fresh_statements():
        connection.execute(statement)
    connection.execute("BEGIN")
    connection.execute(FILL_MESSAGES, (MESSAGES, NOW, PAYLOAD))
    connection.execute(FILL_JOBS, (JOBS, NOW, PAYLOAD))
    connection.execute("COMMIT")
    connection.execute("PRAGMA journal_mode = MEMORY").fetchall()
    fill_small_tables(transaction(connection))
    assert connection.execute(
        "SELECT (SELECT count(*) FROM jm_job) + (SELECT count(*) FROM jm_message)"
    ).fetchone() == (1_000_000,)
    print(f"1,000,000 rows made in {time.monotonic() - began:.1f} s")
    yield connection
    connection.close()


def transaction(connection: Recorder) -> Transaction:
    setting = Setting(MasterRules(), lambda: NOW, standalone=True, gone=lambda worker: False)
    return Transaction(connection, now_us=NOW, setting=setting)


def fill_small_tables(tx: Transaction) -> None:
    worker = leases.register(tx, Registration("w", 1, "here", ("", "mail"), WorkerMode.FULL)).worker
    for number in range(BUCKETS):
        new = NewBucket(f"token-{number}", "here", "", number % 5 + 1)
        [bucket] = buckets.create_buckets(tx, worker, [new])
        fencing.fence(tx, bucket.fence)
    tx.connection.executemany(cancel.BURY, [(key(3, number), NOW, "") for number in range(2_000)])
    leases.end_worker(tx, 99, [Blame(key(3, number), "SIGKILL") for number in range(2_000)])
    commands.send_command(tx, [worker], "ping", b"{}")


FENCE = Fence(1, 1, 1)
BEHIND = Cursor(MESSAGES, NOW - 1, 2**63 - 1)
WAITING = [key(1, number * BUCKETS) for number in range(BATCH)]
"""Jobs whose messages are in bucket 1."""
SEQS = [number * BUCKETS + 1 for number in range(BATCH)]
QUEUED = [key(2, number * 500 + 23) for number in range(BATCH)]
"""Rows in bucket 1 that are Queued."""
ENDED = [key(2, number * 25) for number in range(BATCH)]
HELD = [key(2, number * 25 + 20) for number in range(BATCH)]


def new_job(**fields: Any) -> NewJob:
    return NewJob(new_job_key(), ENVELOPE, PAYLOAD, **fields)


def outcome(job: JobKey, seq: int | None, *, gen: int = 0, status: JobStatus = JobStatus.SUCCEEDED) -> Outcome:
    return Outcome(job, gen, ENVELOPE, PAYLOAD, NOW, status, 1, seq=seq, started_us=NOW, finished_us=NOW, result=b"1")


def outcomes(**fields: Any) -> list[Outcome]:
    return [outcome(job, seq, **fields) for job, seq in zip(WAITING, SEQS, strict=True)]


def start_of(job: JobKey, *, gen: int = 0, seq: int | None = None) -> Start:
    return Start(job, gen, 7, ENVELOPE, PAYLOAD, NOW, seq=seq, take_over=True)


RETRY = JobStatus.HELD_ON_MASTER

VERBS: dict[str, Callable[[Transaction], object]] = {
    "push": lambda tx: accept.push(tx, 1, [new_job() for _ in range(BATCH)]),
    "push delayed": lambda tx: accept.push(tx, 1, [new_job(delay_us=60_000_000) for _ in range(BATCH)]),
    "push again": lambda tx: accept.push(tx, 1, [NewJob(job, ENVELOPE, PAYLOAD) for job in WAITING]),
    "hold": lambda tx: accept.hold(tx, [new_job() for _ in range(BATCH)], ""),
    "read from the start": lambda tx: read.read(tx, FENCE, None, BATCH, 15_000_000),
    "read at the end": lambda tx: read.read(tx, FENCE, BEHIND, BATCH, 15_000_000),
    "read what fell due": lambda tx: read.read(tx, FENCE, Cursor(MESSAGES, NOW + 3_599_999_999), BATCH, 15_000_000),
    "remove": lambda tx: read.remove(tx, 1, SEQS),
    "fence": lambda tx: fencing.fence(tx, FENCE),
    "close": lambda tx: fencing.close(tx, FENCE),
    "hand over": lambda tx: fencing.hand_over(
        tx, FENCE, 2, cursor=Cursor(0, NOW), high_mark=0, limit=BATCH, window_us=15_000_000
    ),
    "drain read": lambda tx: fencing.drain_read(tx, 1, 5, BATCH),
    "orphans": read.used_buckets,
    "claim": lambda tx: claim.claim(tx, [ClaimRequest(FENCE, "", 1, BATCH)], 15_000_000),
    "claim nothing": lambda tx: claim.claim(tx, [ClaimRequest(FENCE, "mail", 5, BATCH)], 15_000_000),
    "route": lambda tx: claim.route(tx, ["shop.receipt", "shop.invoice"]),
    "start new": lambda tx: start.take_over(
        tx, FENCE, [start_of(j, seq=s) for j, s in zip(WAITING, SEQS, strict=True)]
    ),
    "start claimed": lambda tx: start.start(tx, FENCE, [start_of(job, gen=1) for job in QUEUED]),
    "settle new": lambda tx: finish.settle(tx, FENCE, outcomes()),
    "settle for a retry": lambda tx: finish.settle(tx, FENCE, outcomes(status=RETRY)),
    "settle claimed": lambda tx: finish.settle(tx, FENCE, [outcome(job, None, gen=1) for job in QUEUED]),
    "settle stale": lambda tx: finish.settle(tx, FENCE, [outcome(job, None) for job in ENDED]),
    "release": lambda tx: finish.set_free(tx, FENCE, [outcome(job, None, gen=1) for job in QUEUED], ended=False),
    "hand back": lambda tx: finish.set_free(tx, FENCE, outcomes(), ended=True),
    "recover a part": lambda tx: buckets.recover_before(tx, FENCE, NOW + 1, BATCH),
    "register": lambda tx: leases.register(tx, Registration("v", 1, "here", ("",), WorkerMode.FULL)),
    "mark lost": lambda tx: leases.mark_lost(tx, 100, None),
    "end worker": lambda tx: leases.end_worker(tx, 1, None),
    "open buckets": buckets.open_buckets,
    "offer bucket": lambda tx: buckets.offer_bucket(tx, NewBucket("new", "here", "bulk", 3)),
    "look up": lambda tx: look_up.look_up(tx, [*WAITING[:30], *ENDED[:30], *(key(9, i) for i in range(30))]),
    "get job": lambda tx: [look_up.get_job(tx, job) for job in (WAITING[0], ENDED[0])],
    "cancel": lambda tx: [cancel.cancel(tx, job) for job in (WAITING[0], QUEUED[0], HELD[0], ENDED[0], key(9, 1))],
    "reschedule": lambda tx: [cancel.reschedule(tx, job, NOW) for job in (WAITING[0], WAITING[1], HELD[0])],
    "requeue": lambda tx: cancel.requeue(tx, ENDED[0], None),
    "sweep": lambda tx: upkeep.sweep(tx, 0, BATCH),
    "purge": lambda tx: upkeep.purge(tx, NOW + JOBS, BATCH),
    "forget results": lambda tx: upkeep.forget_results(tx, BATCH),
    "aged": lambda tx: upkeep.aged(tx, NOW + JOBS, BATCH),
    "commands": lambda tx: commands.unanswered(tx, 1),
}


def run(database: Recorder, verb: Callable[[Transaction], object]) -> tuple[dict[str, Any], int]:
    """The statements of a verb and how many steps they took."""
    database.seen = {}
    steps = 0

    def step() -> None:
        nonlocal steps
        steps += 100

    database.execute("BEGIN")
    database.seen.clear()
    database.set_progress_handler(step, 100)
    try:
        verb(transaction(database))
    finally:
        seen = dict(database.seen)
        database.set_progress_handler(None, 0)
        database.execute("ROLLBACK")
    return seen, steps


def faults(database: Recorder, statement: str, values: Any) -> list[str]:
    """What SQLite's plan says about scans of big tables and about sorting."""
    plan = [row[3] for row in database.execute(f"EXPLAIN QUERY PLAN {statement}", values)]
    found = []
    for line in plan:
        scanned = re.match(r"SCAN (\w+)", line)
        # A walk that a LIMIT ends is no scan, unless it passes over rows: then the steps, counted besides, show it.
        if scanned and scanned[1].startswith("jm_") and scanned[1] not in SMALL and " LIMIT " not in statement:
            found.append(line)
        if "TEMP B-TREE" in line and not set(re.findall(r"jm_\w+", statement)) <= SMALL:
            found.append(line)
    return found


@pytest.mark.parametrize("name", VERBS)
def test_a_verb_looks_at_no_more_than_its_batch(database: Recorder, name: str) -> None:
    seen, steps = run(database, VERBS[name])
    assert seen, "the verb ran no statement"
    for statement, values in seen.items():
        assert not faults(database, statement, values), statement
    assert steps <= STEPS_PER_JOB * BATCH, f"{steps:,} steps for a batch of {BATCH}"


def test_a_renewal_looks_at_what_its_worker_has_and_at_no_backlog(database: Recorder) -> None:
    held = database.execute("SELECT id, gen FROM jm_job WHERE status IN (4, 6)").fetchall()
    renewal = Renewal(1, 1, held=held, cut_us=NOW + 1, adopt=1)
    seen, steps = run(database, lambda tx: leases.renew(tx, [renewal]))
    for statement, values in seen.items():
        assert not faults(database, statement, values), statement
    assert 10_000 < len(held) < steps < len(held) * 40


def test_a_testimony_looks_at_what_the_dead_worker_had(database: Recorder) -> None:
    seen, steps = run(database, lambda tx: leases.end_worker(tx, 1, [Blame(WAITING[0], "SIGKILL")]))
    for statement, values in seen.items():
        assert not faults(database, statement, values), statement
    (running,) = database.execute("SELECT count(*) FROM jm_job WHERE status = 4").fetchone()
    assert 10_000 < running < steps < running * 100


def test_the_explainer_finds_a_scan_and_a_sort(database: Recorder) -> None:
    assert faults(database, "SELECT count(*) FROM jm_job WHERE reason = ?", ("x",))
    assert faults(database, "SELECT id FROM jm_job WHERE bucket = ? AND status IN (3, 4, 6) ORDER BY due_us", (1,))
    _, steps = run(database, lambda tx: tx.rows("SELECT count(*) FROM jm_job WHERE reason = 'x'"))
    assert steps > STEPS_PER_JOB * BATCH


def test_far_messages_are_passed_once_and_not_again(database: Recorder) -> None:
    """Bucket 1 holds thousands of messages that are due in an hour: who has passed them pays nothing for them."""
    cursor, found = None, 0
    while True:
        page = read.read(transaction(database), FENCE, cursor, 1_000, 15_000_000)
        cursor, found = page.cursor, found + len(page.messages)
        if not page.more:
            break
    assert found == MESSAGES // BUCKETS * 4 // 5
    assert page.next_due_us == NOW + 3_600_000_000
    _, steps = run(database, lambda tx: read.read(tx, FENCE, cursor, 1_000, 15_000_000))
    assert steps <= 500
    assert read.read(transaction(database), FENCE, cursor, 1_000, 15_000_000).messages == []
