"""Guarded starts and early rows of jobs that have no row (R10, R11) as one statement, which is a transaction by itself.

It inserts rows for those that have none, if nobody cancelled or accused any job of the batch. Starts that it leaves are
decided one by one (start.py).
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

from jobmaster.model.job import Verdict
from jobmaster.model.states import JobStatus
from jobmaster.stores.sql.job_rows import PROCESSING, signed
from jobmaster.stores.sql.postgresql.arrays import KIND, alike, by_key, kinds, placed
from jobmaster.stores.sql.postgresql.transaction import CLOCK

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jobmaster.model.job import Fence, Start
    from jobmaster.stores.sql.postgresql.transaction import Setting

EACH = ("id", "nonce", "task", "created_us", "scheduled_us", "due_us", "started_us", "payload")
FIRST: dict[str, str | None] = {"status": str(PROCESSING), "attempts": None}
"""The same for all where all begin to run in the same attempt."""

BEFORE = 5
"""Parameters before the columns: bucket, owner, epoch, now (NULL: the server's), messages that leave."""

# A message of an at-most-once job leaves with its start, whatever the verdict. Where a job of the batch was cancelled
# or accused nothing happens at all: its message may only leave together with the decision.
TAKE_OVER = """
WITH own AS MATERIALIZED (
    SELECT id FROM jm_bucket WHERE id = $1 AND owner = $2 AND epoch = $3 FOR SHARE
), fit AS MATERIALIZED (
    SELECT id FROM own
    WHERE NOT EXISTS (SELECT FROM jm_tombstone WHERE job_id = ANY(${keys}::uuid[]))
        AND NOT EXISTS (SELECT FROM jm_blame WHERE job_id = ANY(${keys}::uuid[]) AND counted = 0)
), gone AS (
    DELETE FROM jm_message WHERE seq = ANY(CASE WHEN EXISTS (SELECT FROM fit) THEN $5::bigint[] END) RETURNING 1
), now AS MATERIALIZED (
    SELECT coalesce($4::bigint, {clock}) AS us, (SELECT count(*) FROM gone) AS gone FROM fit
), begun AS (
    INSERT INTO jm_job (bucket, worker, touched_us, {names})
    SELECT $1::bigint, $2::bigint, now.us, {values} FROM now, {arrays}
    ON CONFLICT (id) DO NOTHING RETURNING id
)
SELECT (SELECT count(*) FROM own), count(*),
    CASE WHEN count(*) < cardinality(${keys}::uuid[]) THEN array_agg(id) END FROM begun
"""


@cache
def statement(*, all_begin: bool, one_kind: bool) -> str:
    """The statement for a batch in which all begin to run or not, and all are of one kind or not."""
    insert = placed(EACH, [(FIRST, all_begin), (KIND, one_kind)], after=BEFORE)
    return TAKE_OVER.format(clock=CLOCK, **insert._asdict(), keys=BEFORE + 1)


def ready(starts: Sequence[Start]) -> list[Start]:
    """Those whose jobs may have no row: a job without a message has one."""
    return [one for one in starts if one.seq is not None and (one.started_us or one.status is JobStatus.QUEUED)]


def values(setting: Setting, fence: Fence, starts: Sequence[Start], *, removing: bool) -> tuple[str, list[Any]]:
    """The statement for these, and what it is given."""
    starts = sorted(starts, key=by_key)
    envelopes = [one.envelope for one in starts]
    one_kind, kind = kinds(starts, envelopes)
    runs = [one.status is JobStatus.PROCESSING for one in starts]
    attempts = [one.attempt if run else one.attempt - 1 for one, run in zip(starts, runs, strict=True)]
    all_begin = all(runs) and alike(attempts)
    given = [
        fence.bucket,
        fence.owner,
        fence.epoch,
        None if setting.clock_us is None else setting.clock_us(),
        [one.seq for one in starts if one.take_over] if removing else [],
        [one.key for one in starts],
        [signed(one.nonce) for one in starts],
        [envelope.task for envelope in envelopes],
        [envelope.created_us for envelope in envelopes],
        [envelope.scheduled_us for envelope in envelopes],
        [one.due_us for one in starts],
        [one.started_us if run else None for one, run in zip(starts, runs, strict=True)],
        [one.payload for one in starts],
        *([attempts[0]] if all_begin else [[one.status.value for one in starts], attempts]),
        *kind,
    ]
    return statement(all_begin=all_begin, one_kind=one_kind), given


def yes(start: Start) -> Verdict:
    """The verdict where the statement inserted the row."""
    return Verdict(yes=True, attempt=start.attempt, recoveries=0)
