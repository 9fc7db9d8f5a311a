"""Outcomes of runs (R12, R13) as one statement, which is a transaction by itself: the way of nearly all jobs.

It inserts final rows, and ends those that are there under the same assignment. Outcomes that it leaves are decided one
by one (outcomes.py), as are retries.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple

from jobmaster.model.job import result_until_us
from jobmaster.model.states import JobStatus
from jobmaster.rules.storable import cleaned_error, cleaned_reason
from jobmaster.stores.sql.job_rows import SUCCEEDED, encode_error
from jobmaster.stores.sql.postgresql.arrays import KIND, by_key, kinds, placed
from jobmaster.stores.sql.postgresql.transaction import CLOCK, TELL, channel_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from jobmaster.model.job import Envelope, Fence, Outcome
    from jobmaster.stores.sql.postgresql.transaction import Setting

EACH = ("id", "task", "created_us", "scheduled_us", "due_us", "started_us", "finished_us", "payload", "result")
RUN: dict[str, str | None] = {
    "status": str(SUCCEEDED), "attempts": None, "failures": None, "reason": "''", "error": "NULL", "checkpoint": "NULL",
    "result_until_us": "NULL",
}  # fmt: skip
"""How the attempt ended; the same for all where all went well."""

BEFORE = 6
"""Parameters before the columns: bucket, owner, epoch, now (NULL: the server's), messages that leave, channels."""

# The bucket's row is locked and judged first. Messages go before rows, in the order in which a cancel takes them.
# Rows come sorted by key, so that two batches with the same jobs wait for each other in one order.
FINISH = """
WITH own AS MATERIALIZED (
    SELECT id FROM jm_bucket WHERE id = $1 AND owner = $2 AND epoch = $3 FOR SHARE
), gone AS (
    DELETE FROM jm_message WHERE seq = ANY(CASE WHEN EXISTS (SELECT FROM own) THEN $5::bigint[] END) RETURNING 1
), now AS MATERIALIZED (
    SELECT coalesce($4::bigint, {clock}) AS us, (SELECT count(*) FROM gone) AS gone FROM own
), done AS (
    INSERT INTO jm_job (bucket, worker, touched_us, {names})
    SELECT $1::bigint, $2::bigint, now.us, {values} FROM now, {arrays}
    {otherwise}
    RETURNING id{returned}
), counted AS (
    UPDATE jm_blame SET counted = 1 WHERE counted = 0
        AND job_id = ANY(CASE WHEN EXISTS (SELECT FROM jm_blame) AND EXISTS (SELECT FROM own) THEN ${keys}::uuid[] END)
), told AS MATERIALIZED (
    SELECT count({tell}) AS channels FROM now, unnest($6::text[]) AS channel
){attempts}
SELECT (SELECT count(*) FROM own), (SELECT channels FROM told), count(*),
    CASE WHEN count(*) < cardinality(${keys}::uuid[]) THEN array_agg(id) END FROM done
"""
# A row that is there decides: it must be of this assignment and not final. Where no row is expected the clause is left
# out, which saves a fifth of the statement; a row that is there all the same is then an error, and nothing is changed.
OTHERWISE = """
ON CONFLICT (id) DO UPDATE SET status = excluded.status, finished_us = excluded.finished_us,
    touched_us = excluded.touched_us, reason = excluded.reason, worker = excluded.worker,
    attempts = excluded.attempts, failures = excluded.failures, started_us = excluded.started_us,
    result = excluded.result, result_until_us = excluded.result_until_us, error = excluded.error,
    checkpoint = coalesce(excluded.checkpoint, jm_job.checkpoint)
WHERE jm_job.bucket = excluded.bucket AND jm_job.gen = excluded.gen AND jm_job.status NOT IN (5, 7, 8)
"""
# A failed attempt is recorded as its row says, once more where somebody recorded it before.
RETURNED = ", status, attempts, worker, bucket, started_us, finished_us, reason, error"
ATTEMPTS = """, failed AS (
    INSERT INTO jm_attempt (job_id, attempt, status, worker, bucket, started_us, finished_us, reason, error)
    SELECT id, attempts, status, worker, bucket, started_us, finished_us, reason, error FROM done
    WHERE status = 7 AND (started_us IS NOT NULL OR error IS NOT NULL)
    ON CONFLICT (job_id, attempt) DO UPDATE SET status = excluded.status, worker = excluded.worker,
        bucket = excluded.bucket, started_us = excluded.started_us, finished_us = excluded.finished_us,
        reason = excluded.reason, error = excluded.error
)"""


@cache
def statement(*, all_new: bool, went_well: bool, one_kind: bool) -> str:
    """The statement for a batch in which no job has a row or any may have one, all went well or not, and so on."""
    insert = placed(EACH, [(RUN, went_well), (KIND, one_kind)], after=BEFORE)
    return FINISH.format(
        clock=CLOCK,
        tell=TELL,
        **insert._asdict(),
        otherwise="" if all_new else OTHERWISE,
        keys=BEFORE + 1,
        returned="" if went_well else RETURNED,
        attempts="" if went_well else ATTEMPTS,
    )


def ready(outcomes: Sequence[Outcome]) -> Sequence[Outcome]:
    """Those that the statement can take: final ones whose end is known."""
    fit = [one for one in outcomes if one.finished_us and one.status is not JobStatus.HELD_ON_MASTER]
    return outcomes if len(fit) == len(outcomes) else fit


class Batch(NamedTuple):
    """What the statement is given, and which form of it that needs."""

    went_well: bool
    one_kind: bool
    values: list[Any]

    def statement(self, *, all_new: bool) -> str:
        """`all_new`: no job has a row."""
        return statement(all_new=all_new, went_well=self.went_well, one_kind=self.one_kind)


def batch(setting: Setting, fence: Fence, outcomes: Sequence[Outcome], *, removing: bool) -> Batch:
    """These outcomes as the statement takes them."""
    outcomes = sorted(outcomes, key=by_key)
    envelopes = [outcome.envelope for outcome in outcomes]
    went_well, run = _run(outcomes, envelopes)
    one_kind, kind = kinds(outcomes, envelopes)
    given = [
        fence.bucket,
        fence.owner,
        fence.epoch,
        None if setting.clock_us is None else setting.clock_us(),
        [outcome.seq for outcome in outcomes if outcome.seq is not None] if removing else [],
        _channels(envelopes),
        [outcome.key for outcome in outcomes],
        [envelope.task for envelope in envelopes],
        [envelope.created_us for envelope in envelopes],
        [envelope.scheduled_us for envelope in envelopes],
        [outcome.due_us for outcome in outcomes],
        [outcome.started_us for outcome in outcomes],
        [outcome.finished_us for outcome in outcomes],
        [outcome.payload for outcome in outcomes],
        [outcome.result for outcome in outcomes],
        *run,
        *kind,
    ]
    return Batch(went_well, one_kind, given)


def _run(outcomes: Sequence[Outcome], envelopes: Sequence[Envelope]) -> tuple[bool, list[Any]]:
    """Whether all went well in the same attempt, and the values of RUN: each once, or as arrays."""
    count = len(outcomes)
    statuses = [outcome.status for outcome in outcomes]
    attempts = [outcome.attempt for outcome in outcomes]
    failures = [outcome.failures for outcome in outcomes]
    reasons = [outcome.reason for outcome in outcomes]
    errors = [outcome.error for outcome in outcomes]
    checkpoints = [outcome.checkpoint for outcome in outcomes]
    keeps = [envelope.keep_result for envelope in envelopes]
    if (
        statuses.count(JobStatus.SUCCEEDED) == attempts.count(attempts[0]) == failures.count(failures[0]) == count
        and reasons.count("") == errors.count(None) == checkpoints.count(None) == keeps.count(None) == count
    ):
        return True, [attempts[0], failures[0]]
    return False, [
        [status.value for status in statuses],
        attempts,
        failures,
        [cleaned_reason(reason) if reason else "" for reason in reasons],
        [encode_error(cleaned_error(error)) if error is not None else None for error in errors],
        checkpoints,
        [result_until_us(one.envelope, one.result, one.finished_us) for one in outcomes],
    ]


def _channels(envelopes: Iterable[Envelope]) -> list[str]:
    """The clients that wait for any of these, once each."""
    tokens = {envelope.reply_to for envelope in envelopes}
    tokens.discard("")
    return [channel_of(f"client:{token}") for token in sorted(tokens)]
