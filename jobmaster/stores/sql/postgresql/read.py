"""An owner's reads, and what it removes. Nothing here takes longer because the bucket is longer.

Messages that were due when they were stored are found by number alone. Those that were not are passed over by number
and found by their due time, in an index of their own, when the window reaches them. An answer is one row: its messages
are arrays, which are cheaper to make, to send and to take apart than rows.
"""

from __future__ import annotations

from itertools import repeat
from typing import TYPE_CHECKING, Any

from jobmaster.model.job import Message
from jobmaster.ports.agent import Cursor, Read, Reread
from jobmaster.ports.answers import Fenced
from jobmaster.stores.sql.postgresql.late_commits import Seen
from jobmaster.stores.sql.postgresql.numbering import SEQUENCE_BITS, end_of, first_of
from jobmaster.stores.sql.postgresql.transaction import CLOCK

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

    from jobmaster.model.job import Fence
    from jobmaster.stores.sql.job_rows import Row
    from jobmaster.stores.sql.postgresql.late_commits import Floor
    from jobmaster.stores.sql.postgresql.transaction import Transaction

LONGEST_SCAN = 4_000
"""Messages passed over in one read at most (not due yet)."""
LOOK_AT_ONCE = 10_000
"""Messages that one statement of a look below the cursor passes."""

# `age` says how many transactions began since: together with xmin that is the next one to begin (late_commits.Seen).
NOW = f"""
s AS MATERIALIZED (SELECT coalesce($2::bigint, {CLOCK}) AS now_us, pg_current_snapshot() AS snapshot)
"""
SEEN = "pg_snapshot_xmin(s.snapshot)::text::bigint AS xmin, age(pg_snapshot_xmin(s.snapshot)::xid) AS ahead"
HORIZON = "(SELECT now_us + $3::bigint FROM s)"
BUNDLE = """
array_agg(seq) AS seqs, array_agg(job_id) AS keys, array_agg(due_us) AS dues, array_agg(payload) AS payloads,
    array_agg(seq) FILTER (WHERE verify = 1) AS verify
"""
COLUMNS = "seq, job_id, due_us, payload, verify"

# $1 bucket, $2 clock, $3 how far ahead, $4 and $5 the cursor's number and the bucket's end, $6 and $7 the cursor's due
# time and number, $8 limit. `seq + 0` keeps the planner from the index of numbers where the one of due times is meant.
READ = f"""
WITH {NOW},
due AS MATERIALIZED (
    SELECT {COLUMNS} FROM jm_message
    WHERE bucket = $1 AND later = 1 AND (due_us, seq) > (coalesce($6::bigint, {HORIZON}), $7::bigint)
        AND due_us <= {HORIZON} AND seq + 0 <= $4
    ORDER BY due_us, seq LIMIT $8
), cut AS MATERIALIZED (
    SELECT due_us, seq FROM due WHERE (SELECT count(*) FROM due) = $8 ORDER BY due_us DESC, seq DESC LIMIT 1
), found AS MATERIALIZED (
    SELECT count(*) AS number, {BUNDLE} FROM (
        SELECT * FROM (SELECT {COLUMNS} FROM due ORDER BY seq) AS fallen
        UNION ALL
        SELECT * FROM (
            SELECT {COLUMNS} FROM (
                SELECT {COLUMNS}, later FROM jm_message WHERE seq > $4 AND seq < $5
                ORDER BY seq LIMIT $8::bigint + {LONGEST_SCAN}
            ) AS scanned WHERE later = 0 OR due_us <= {HORIZON} LIMIT $8::bigint - (SELECT count(*) FROM due)
        ) AS fresh
    ) AS both_kinds
)
SELECT b.epoch, s.now_us, {SEEN}, (SELECT count(*) FROM due) AS fallen, cut.due_us AS cut_us, cut.seq AS cut_seq,
    found.seqs, found.keys, found.dues, found.payloads, found.verify, passed.number, passed.last,
    (SELECT m.due_us FROM jm_message m WHERE m.bucket = $1 AND m.later = 1 AND (m.due_us, m.seq) > (
            coalesce((SELECT due_us FROM cut), greatest($6::bigint, {HORIZON})),
            coalesce((SELECT seq FROM cut), 9223372036854775807)
        ) ORDER BY m.due_us, m.seq LIMIT 1) AS next_due_us
FROM s CROSS JOIN found LEFT JOIN cut ON true LEFT JOIN jm_agent_bucket b ON b.id = $1
CROSS JOIN LATERAL (
    SELECT count(*) AS number, max(seq) AS last FROM (
        SELECT seq FROM jm_message WHERE seq > $4 AND seq < $5 ORDER BY seq LIMIT $8::bigint + {LONGEST_SCAN}
    ) AS scanned WHERE found.number < $8
) AS passed
"""

# $4 and $5: above which number, and up to which.
BELOW = f"""
WITH {NOW},
passed AS MATERIALIZED (
    SELECT seq, later, due_us FROM jm_message WHERE seq > $4 AND seq <= $5 ORDER BY seq LIMIT {LOOK_AT_ONCE}
)
SELECT b.epoch, {SEEN}, (SELECT count(*) FROM passed) AS number, (SELECT max(seq) FROM passed) AS last,
    (SELECT array_agg(seq) FROM passed WHERE later = 0 OR due_us <= {HORIZON}) AS seqs
FROM s LEFT JOIN jm_agent_bucket b ON b.id = $1
"""
BODIES = f"SELECT {BUNDLE} FROM (SELECT {COLUMNS} FROM jm_message WHERE seq = ANY($1::bigint[]) ORDER BY seq) AS m"
FIRST = f"""
SELECT {BUNDLE} FROM (
    SELECT {COLUMNS} FROM jm_message WHERE seq > $1 AND seq < $2 ORDER BY seq LIMIT $3
) AS m
"""
REMOVE = "DELETE FROM jm_message WHERE seq = ANY($1::bigint[])"

# One step in the index for each bucket, not one per message.
USED = f"""
WITH RECURSIVE used(bucket) AS (
    (SELECT seq >> {SEQUENCE_BITS} FROM jm_message ORDER BY seq LIMIT 1)
    UNION ALL
    SELECT (SELECT m.seq >> {SEQUENCE_BITS} FROM jm_message m WHERE m.seq >= (u.bucket + 1) << {SEQUENCE_BITS}
        ORDER BY m.seq LIMIT 1)
    FROM used u WHERE u.bucket IS NOT NULL
)
SELECT bucket FROM used WHERE bucket IS NOT NULL
"""
ORPHANS = f"SELECT id FROM jm_agent_bucket UNION ({USED}) ORDER BY 1"
DEPTHS = f"""
SELECT b, (SELECT count(*) FROM (
    SELECT FROM jm_message WHERE seq > b << {SEQUENCE_BITS} AND seq < (b + 1) << {SEQUENCE_BITS} LIMIT 10000
) AS counted) FROM unnest($1::bigint[]) AS b
"""


async def read(transaction: Transaction, fence: Fence, cursor: Cursor | None, floor: Floor, **window: int) -> Read:
    """Messages after the cursor, and those below it that fell due. `window`: see `_window`."""
    limit, start = window["limit"], first_of(fence.bucket) if cursor is None else cursor.seq
    (row,) = await transaction.rows(
        READ,
        fence.bucket,
        _clock(transaction),
        ahead(transaction, window["window_us"]),
        start,
        end_of(fence.bucket),
        None if cursor is None else cursor.due_us,
        2**63 - 1 if cursor is None else cursor.due_seq,
        limit,
    )
    epoch, now_us, xmin, beyond, fallen, cut_us, cut_seq, *found, passed, last, next_due_us = row
    require_epoch(transaction, fence, epoch)
    messages = bundled(fence.bucket, found)
    if len(messages) == limit:
        more, reached = True, messages[-1].seq if fallen < limit else start
    else:
        more, reached = passed == limit + LONGEST_SCAN, last or start
    horizon = now_us + ahead(transaction, window["window_us"])
    due_us = cut_us if cut_us is not None else max(horizon, 0 if cursor is None else cursor.due_us)
    return Read(
        messages=messages,
        cursor=Cursor(reached, due_us, 2**63 - 1 if cut_seq is None else cut_seq),
        now_us=now_us,
        more=more,
        next_due_us=next_due_us,
        unsettled=floor.read(start, reached, Seen(xmin, xmin + beyond)),
    )


async def reread(
    transaction: Transaction,
    fence: Fence,
    cursor: Cursor,
    floor: Floor,
    known: Collection[int],
    *,
    limit: int,
    window_us: int,
    full: bool,
) -> Reread:
    """R9: numbers first, and the rest only of those that the owner does not know."""
    begin = max(floor.begin(cursor.seq, full=full), first_of(fence.bucket))
    unknown: list[int] = []
    above: int | None = begin
    first: Seen | None = None
    while above is not None and len(unknown) < limit:
        seqs, seen, above = await _look(transaction, fence, above, cursor.seq, window_us)
        # The first statement's snapshot: a later one does not see what appeared where the first has looked.
        first = first or seen
        unknown += [seq for seq in seqs if seq not in known]
    messages = await _bodies(transaction, fence.bucket, unknown[:limit])
    if first is None or len(unknown) >= limit:  # cut: what lies above was not looked at
        return Reread(messages, unsettled=first is None or not first.settled)
    return Reread(messages, unsettled=floor.looked(begin, cursor.seq, first, found=bool(unknown)))


async def _look(
    transaction: Transaction, fence: Fence, above: int, upto: int, window_us: int
) -> tuple[list[int], Seen, int | None]:
    """The due messages above a number, the snapshot, and above which number to go on; None: that was all."""
    (row,) = await transaction.rows(
        BELOW, fence.bucket, _clock(transaction), ahead(transaction, window_us), above, upto
    )
    epoch, xmin, beyond, passed, last, seqs = row
    require_epoch(transaction, fence, epoch)
    return seqs or [], Seen(xmin, xmin + beyond), last if passed == LOOK_AT_ONCE else None


async def _bodies(transaction: Transaction, bucket: int, seqs: Sequence[int]) -> list[Message]:
    if not seqs:
        return []
    (row,) = await transaction.rows(BODIES, seqs)
    return bundled(bucket, row)


async def first_messages(transaction: Transaction, bucket: int, limit: int) -> list[Message]:
    """The first messages of a bucket, due or not."""
    (row,) = await transaction.rows(FIRST, first_of(bucket), end_of(bucket), limit)
    return bundled(bucket, row)


def of_bucket(bucket: int, seqs: Iterable[int]) -> list[int]:
    """Those of the numbers that a message of the bucket can have."""
    first, end = first_of(bucket), end_of(bucket)
    return [seq for seq in seqs if first < seq < end]


async def depths(transaction: Transaction, buckets: Sequence[int]) -> dict[int, int]:
    """Counted up to 10,000."""
    return {row[0]: row[1] for row in await transaction.rows(DEPTHS, list(buckets))} if buckets else {}


async def orphans(transaction: Transaction, known: Collection[int]) -> list[int]:
    """R18. Where the master is here, too, a message is only taken into a bucket that it knows."""
    if transaction.standalone:
        return []
    return [row[0] for row in await transaction.rows(ORPHANS) if row[0] not in known]


def ahead(transaction: Transaction, window_us: int) -> int:
    """How far ahead a read looks: in standalone, what is due later can still be cancelled for certain."""
    return min(window_us, transaction.rules.window_us) if transaction.standalone else window_us


def require_epoch(transaction: Transaction, fence: Fence, epoch: int | None) -> None:
    """Raise Fenced where the agent's row has a higher epoch, or (in standalone) is gone."""
    if epoch is None:
        if transaction.standalone:
            raise Fenced(f"bucket {fence.bucket} is gone")
    elif epoch > fence.epoch:
        raise Fenced(f"bucket {fence.bucket} is at epoch {epoch}, above {fence.epoch}")


def bundled(bucket: int, arrays: Sequence[Any] | Row) -> list[Message]:
    """The messages of a BUNDLE: all in arrays of one length, and which of them are to be verified."""
    seqs, keys, dues, payloads, verify = arrays
    if seqs is None:
        return []
    # By position, which is the quickest: seq, bucket, key, gen (always 0 here), due_us, payload.
    messages = list(map(Message, seqs, repeat(bucket), keys, repeat(0), dues, payloads))
    if verify:
        places = {seq: place for place, seq in enumerate(seqs)}
        for seq in verify:
            place = places[seq]
            messages[place] = Message(seq, bucket, keys[place], 0, dues[place], payloads[place], True)
    return messages


def _clock(transaction: Transaction) -> int | None:
    clock = transaction.setting.clock_us
    return None if clock is None else clock()
