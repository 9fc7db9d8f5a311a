"""Accepting jobs as messages of a bucket (R1): one statement a call, which is its own transaction.

The bucket's row is locked before a number is drawn, so that the transaction has its own number (its xid) first: what
`late_commits` says about messages that appear below a cursor rests on this order.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from jobmaster.stores.sql.postgresql.numbering import next_seq
from jobmaster.stores.sql.postgresql.transaction import CLOCK

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jobmaster.model.job import NewJob

SLEEPERS = 1_784_505
"""Class of the advisory locks that stand for "the owner of this bucket sleeps" (see `sleepers`)."""

WAKE = f"""
CASE WHEN NOT pg_try_advisory_xact_lock_shared({SLEEPERS}, id::int) THEN pg_notify('jm:bucket:' || id, '') END
"""

# What is the same for all jobs of a call comes as an empty array, which unnest fills up with NULL.
PUSH = f"""
WITH b AS MATERIALIZED (
    SELECT id FROM jm_agent_bucket WHERE id = $1 AND closing = 0 FOR SHARE
), c AS MATERIALIZED (
    SELECT coalesce($2::bigint, {CLOCK}) AS now_us
), j AS (
    SELECT b.id, c.now_us, coalesce(u.due_us, c.now_us + coalesce(u.delay_us, 0)) AS due_us, u.verify, u.at_most_once,
        coalesce(u.task, $3::text) AS task, u.job_id, u.created_us, u.payload, u.custom_id
    FROM b, c, unnest($4::uuid[], $5::bigint[], $6::bytea[], $7::bigint[], $8::bigint[], $9::boolean[], $10::boolean[],
        $11::text[], $12::text[])
        AS u (job_id, created_us, payload, due_us, delay_us, verify, at_most_once, task, custom_id)
), stored AS (
    INSERT INTO jm_message (seq, bucket, job_id, gen, due_us, later, verify, at_most_once, task, custom_id, created_us,
        payload)
    SELECT {next_seq("id")}, id, job_id, 0, due_us, CASE WHEN due_us > now_us THEN 1 ELSE 0 END,
        CASE WHEN verify THEN 1 ELSE 0 END, CASE WHEN at_most_once THEN 1 ELSE 0 END, task, custom_id, created_us,
        payload
    FROM j {{once}}
)
SELECT {WAKE} FROM b
"""
FAST = PUSH.format(once="")
ONCE = PUSH.format(once="ON CONFLICT (job_id, gen, bucket) DO NOTHING")
"""Where a message of one of the jobs may be there already: dearer, so only when a job says so, or after a conflict."""

# A plan without unnest and further steps is made ready in half of the time, which is most of what one job costs.
SINGLE = f"""
INSERT INTO jm_message (seq, bucket, job_id, gen, due_us, later, verify, at_most_once, task, custom_id, created_us,
    payload)
SELECT {next_seq("b.id")}, b.id, $3::uuid, 0, b.due_us, CASE WHEN b.due_us > b.now_us THEN 1 ELSE 0 END, 0, $4::int,
    $5::text, $6::text, $7::bigint, $8::bytea
FROM (
    SELECT id, now_us, coalesce($9::bigint, now_us + $10::bigint) AS due_us FROM (
        SELECT id, coalesce($2::bigint, {CLOCK}) AS now_us FROM jm_agent_bucket WHERE id = $1 AND closing = 0 FOR SHARE
    ) AS held
) AS b
RETURNING {WAKE.replace("id::int", "bucket::int").replace("|| id", "|| bucket")}
"""
"""FAST for one job."""


def single_values(bucket: int, job: NewJob, clock_us: int | None) -> tuple[Any, ...]:
    """What SINGLE is given."""
    envelope = job.envelope
    return (
        bucket, clock_us, job.key, int(envelope.at_most_once), envelope.task, envelope.custom_id, envelope.created_us,
        job.payload, job.due_us, job.delay_us,
    )  # fmt: skip


def statement_for(jobs: Sequence[NewJob]) -> str:
    """The statement to try first."""
    return ONCE if any(job.verify for job in jobs) else FAST


def values_of(bucket: int, jobs: Sequence[NewJob], clock_us: int | None) -> tuple[Any, ...]:
    """What the statement is given. `clock_us`: the store's clock in tests."""
    envelopes = [job.envelope for job in jobs]
    tasks = [envelope.task for envelope in envelopes]
    task = tasks[0] if tasks else ""
    return (
        bucket,
        clock_us,
        task,
        [job.key for job in jobs],
        [envelope.created_us for envelope in envelopes],
        [job.payload for job in jobs],
        _unless_all([job.due_us for job in jobs], None),
        _unless_all([job.delay_us for job in jobs], 0),
        _unless_all([job.verify for job in jobs], False),
        _unless_all([envelope.at_most_once for envelope in envelopes], False),
        _unless_all(tasks, task),
        _unless_all([envelope.custom_id for envelope in envelopes], None),
    )


def _unless_all(values: list[Any], usual: object) -> list[Any]:
    """The values, or none where all of them are the usual one."""
    return [] if values.count(usual) == len(values) else values
