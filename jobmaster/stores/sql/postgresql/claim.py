"""Held jobs go to owners straight from their rows (R14'). Each lane and priority is one range of an index."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from jobmaster.model.job import ClaimedJob
from jobmaster.ports.master import Claimed
from jobmaster.stores.sql.job_rows import QUEUED
from jobmaster.stores.sql.postgresql.owning import ACTIVE
from jobmaster.stores.sql.postgresql.transaction import CLOCK

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jobmaster.ports.master import ClaimRequest
    from jobmaster.stores.sql.job_rows import Row
    from jobmaster.stores.sql.postgresql.transaction import Setting

# "unroutable" rows are left out of the index by the same words: jobs whose task no worker knows.
WAITS = "status = 2 AND reason <> 'unroutable'"

# One statement a request, a transaction by itself: rows that somebody else holds are skipped, so nobody waits here.
# What is due next is read behind as many rows as were taken, because this statement still sees them as held. A row that
# was inserted beside its cancel (in a transaction that the cancel could not see) is made suspect: its start is guarded,
# and the guard sees the tombstone.
CLAIM = f"""
WITH own AS MATERIALIZED (
    SELECT id, owner, lane, priority, status FROM jm_bucket WHERE id = $1 AND owner = $2 AND epoch = $3 FOR SHARE
), now AS MATERIALIZED (
    SELECT coalesce($4::bigint, {CLOCK}) AS us, (SELECT count(*) FROM own) AS owned
), picked AS MATERIALIZED (
    SELECT id FROM jm_job
    WHERE {WAITS} AND lane = (SELECT lane FROM own WHERE status = {ACTIVE}) AND priority = (SELECT priority FROM own)
        AND due_us <= (SELECT us FROM now) + $5::bigint
    ORDER BY due_us LIMIT $6 FOR UPDATE SKIP LOCKED
), taken AS (
    UPDATE jm_job SET status = {QUEUED}, bucket = $1, worker = $2, gen = gen + 1, nonce = NULL,
        touched_us = (SELECT us FROM now), reason = ''
    WHERE id = ANY(ARRAY(SELECT id FROM picked))
    RETURNING id, gen, payload, due_us, attempts, failures, recoveries,
        suspect + (SELECT count(*) FROM jm_tombstone t WHERE t.job_id = jm_job.id) AS suspect, checkpoint
)
SELECT now.us, now.owned, (
        SELECT due_us FROM jm_job WHERE {WAITS} AND lane = $7 AND priority = $8
        ORDER BY due_us LIMIT 1 OFFSET (SELECT count(*) FROM picked)
    ), taken.*
FROM now LEFT JOIN taken ON true ORDER BY taken.due_us, taken.id
"""


def values(setting: Setting, request: ClaimRequest, window_us: int) -> tuple[object, ...]:
    """What the statement is given for one request."""
    fence = request.fence
    now_us = None if setting.clock_us is None else setting.clock_us()
    place = (request.lane, request.priority)
    return (fence.bucket, fence.owner, fence.epoch, now_us, window_us, max(request.limit, 0), *place)


def claimed(requests: Sequence[ClaimRequest], answers: Sequence[Sequence[Row]]) -> Claimed:
    """R14'. A request whose fence does not hold is named in the answer, the others are served."""
    jobs: list[ClaimedJob] = []
    fenced: list[int] = []
    dues: dict[tuple[str, int], int | None] = {}
    moments = []
    for request, rows in zip(requests, answers, strict=True):
        now_us, owned, due_us, *_ = rows[0]
        moments.append(now_us)
        dues[request.lane, request.priority] = due_us  # of two for one place the later look knows more
        if not owned:
            fenced.append(request.fence.bucket)
        jobs += [_job(request.fence.bucket, row) for row in rows if row[3] is not None]
    left = [due_us for due_us in dues.values() if due_us is not None]
    return Claimed(
        jobs=jobs,
        now_us=max(moments, default=0),
        taken_us=min(moments, default=0),
        next_due_us=min(left, default=None),
        fenced=fenced,
    )


def _job(bucket: int, row: Any) -> ClaimedJob:
    _, _, _, key, gen, payload, due_us, attempts, failures, recoveries, suspect, checkpoint = row
    return ClaimedJob(
        key=key,
        gen=gen,
        bucket=bucket,
        payload=payload,
        due_us=due_us,
        attempts=attempts,
        failures=failures,
        recoveries=recoveries,
        suspect=bool(suspect),
        checkpoint=checkpoint,
    )
