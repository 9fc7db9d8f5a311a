"""Occurrences that may not overlap: whose turn it is is decided with the start (ports.schedules: *turn*).

Their schedules' rows are held before any job's row, and those of the runs that have the turn together with the rows of
the batch. A run that ends meanwhile releases its schedule after that, and finds what was told to wait.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from jobmaster.model.reasons import OVERLAP
from jobmaster.model.schedule import Overlap, Rule, ScheduleKey, Trigger
from jobmaster.rules import overlap
from jobmaster.rules.overlap import WAIT_US, Holder, Others, Turn, Waiting, asks_for_turn
from jobmaster.stores.sql.job_rows import CANCELLED, FINAL, HELD, State
from jobmaster.stores.sql.postgresql.cancel import cancel
from jobmaster.stores.sql.postgresql.recover import tell_client, tell_ended
from jobmaster.stores.sql.postgresql.rows import Change
from jobmaster.stores.sql.schedule_rows import terms_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from jobmaster.model.ids import JobKey
    from jobmaster.model.job import Start
    from jobmaster.stores.sql.job_rows import Row
    from jobmaster.stores.sql.postgresql.transaction import Transaction

CURRENT = """
SELECT id, current_job, rule, template FROM jm_schedule WHERE id = ANY($1::uuid[]) ORDER BY id FOR NO KEY UPDATE
"""
HOLDERS = "SELECT id, scheduled_us, trigger_kind = 4, reason = 'unroutable' FROM jm_job WHERE id = ANY($1::uuid[])"
TAKE = """
UPDATE jm_schedule s SET current_job = u.job FROM unnest($1::uuid[], $2::uuid[]) AS u(id, job) WHERE s.id = u.id
"""
MARK = """
UPDATE jm_occurrence o SET waits = 1 FROM unnest($1::uuid[], $2::bigint[], $3::uuid[]) AS u(schedule, at_us, job)
WHERE o.schedule = u.schedule AND o.at_us = u.at_us AND o.job_id = u.job
"""
UNMARK = """
UPDATE jm_occurrence o SET waits = 0 FROM unnest($1::uuid[], $2::bigint[]) AS u(schedule, at_us)
WHERE o.schedule = u.schedule AND o.at_us = u.at_us AND o.waits = 1
"""
PUT_OFF = Change(
    ("due_us", "touched_us", "expires_us", "payload"),
    """status = 2, bucket = NULL, gen = jm_job.gen + 1, nonce = NULL, due_us = excluded.due_us,
    touched_us = excluded.touched_us, suspect = 1, reason = 'overlap', expires_us = excluded.expires_us,
    payload = excluded.payload""",
)
MOVE_ON = Change(
    ("status", "due_us", "touched_us", "finished_us", "reason"),
    """status = excluded.status, bucket = NULL, gen = jm_job.gen + 1, nonce = NULL, due_us = excluded.due_us,
    touched_us = excluded.touched_us, finished_us = excluded.finished_us, reason = excluded.reason""",
)
# One that was given another time by a person, has expired, or has no task is in nobody's way.
WAITS = """
(status = 2 AND reason <> 'unroutable' AND due_us <= {now} + {wait} OR status = 6 AND suspect = 1)
AND (expires_us IS NULL OR expires_us > {now})
"""
MARKED = "SELECT at_us, trigger_kind, job_id FROM jm_occurrence WHERE schedule = $1 AND waits = 1 ORDER BY at_us"
# Judged in the answer, not as conditions: those would lead to a walk through all jobs that are held.
WAITING = f"""
SELECT id, status, lane, priority, due_us, {WAITS.format(now="$2::bigint", wait=WAIT_US)}
FROM jm_job WHERE id = ANY($1::uuid[]) ORDER BY id FOR UPDATE
"""
# Marks change under the schedule's row only, which is held. What becomes of their jobs meanwhile costs a wait at worst.
THOSE = "FROM jm_occurrence o WHERE o.schedule = u.schedule AND o.waits = 1 AND o.job_id <> u.job"
_WAITS = WAITS.format(now="$6::bigint", wait=WAIT_US)
_THAT_WAIT = f"{THOSE} AND (SELECT {_WAITS} FROM jm_job j WHERE j.id = o.job_id)"
_IN_PLACE = "(SELECT j.lane = u.lane AND j.priority = u.priority FROM jm_job j WHERE j.id = o.job_id)"
OTHERS = f"""
SELECT u.job, u.overlap = {Overlap.QUEUE.value} AND EXISTS (SELECT {_THAT_WAIT} AND o.at_us < u.at_us AND {_IN_PLACE}),
    u.overlap = {Overlap.CANCEL_PREVIOUS.value}
        AND EXISTS (SELECT {_THAT_WAIT} AND o.at_us > u.at_us AND o.trigger_kind <> 4),
    coalesce(m.waits = 1, false),
    CASE WHEN u.overlap = {Overlap.QUEUE.value} AND coalesce(m.waits = 0, true)
        THEN (SELECT count(*) {_THAT_WAIT} AND o.trigger_kind = 2) ELSE 0 END
FROM unnest($1::uuid[], $2::bigint[], $3::uuid[], $4::text[], $5::int[], $7::int[])
    AS u(schedule, at_us, job, lane, priority, overlap)
LEFT JOIN jm_occurrence m ON m.schedule = u.schedule AND m.at_us = u.at_us AND m.job_id = u.job
"""


class _Schedule(NamedTuple):
    """What its row says, which is held."""

    current: JobKey | None
    rule: bytes
    template: bytes

    @property
    def terms(self) -> Rule:
        return terms_of(self.rule)


class Turns:
    """The schedules of one batch of starts, and what is decided about their turns."""

    def __init__(self) -> None:
        self._schedules: dict[ScheduleKey, _Schedule] = {}
        self._holders: dict[JobKey, tuple[int, bool, bool]] = {}
        self._others: dict[JobKey, Others] = {}
        self._taken: dict[ScheduleKey, int] = {}
        self._cancels: dict[JobKey, None] = {}
        self._put_off: list[Row] = []
        self._skipped: list[Row] = []
        self._waiting: list[Start] = []

    async def hold(self, transaction: Transaction, starts: Sequence[Start]) -> None:
        """Hold the schedules that these ask for their turn; nothing where none does."""
        asking = [start for start in starts if asks_for_turn(start)]
        if not asking:
            return
        keys = {start.envelope.schedule for start in asking}
        self._schedules = {row[0]: _Schedule(*row[1:]) for row in await transaction.rows(CURRENT, list(keys))}
        current = [one.current for one in self._schedules.values() if one.current is not None]
        if current:
            self._holders = {row[0]: tuple(row)[1:] for row in await transaction.rows(HOLDERS, current)}
        waiting = [start for start in asking if start.envelope.overlap != Overlap.SKIP]
        if waiting:
            now_us = await transaction.tick()
            rows = await transaction.rows(
                OTHERS,
                [start.envelope.schedule for start in waiting],
                [start.envelope.scheduled_us for start in waiting],
                [start.key for start in waiting],
                [start.envelope.lane for start in waiting],
                [start.envelope.priority for start in waiting],
                now_us,
                [start.envelope.overlap for start in waiting],
            )
            self._others = {row[0]: Others(*row[1:]) for row in rows}

    def others(self, keys: Sequence[JobKey]) -> list[JobKey]:
        """These keys, and those of the jobs that have the turn now."""
        current = {one.current for one in self._schedules.values() if one.current is not None}
        return [*keys, *(current - set(keys))]

    def holds_back(self, row: State, start: Start, rows: Mapping[JobKey, State], now_us: int) -> bool:
        """Whether a start that would be allowed is not, because another occurrence has the turn."""
        key = ScheduleKey(start.envelope.schedule or b"")
        schedule = self._schedules.get(key)
        if schedule is None or schedule.current == start.key or not asks_for_turn(start):
            return False
        envelope, holder = start.envelope, self._holder(schedule.current, rows)
        others, limit = self._seen(key, start), schedule.terms.misfire_limit
        told, cancels = overlap.turn(envelope, holder, others, limit=limit)
        if cancels and schedule.current is not None:
            self._cancels[schedule.current] = None
        if told is Turn.TAKEN:
            self._schedules[key] = schedule._replace(current=start.key)
            self._holders[start.key] = envelope.scheduled_us, envelope.trigger == Trigger.BACKFILL, False
            self._taken[key] = envelope.scheduled_us
        elif told is Turn.SKIPPED:
            self._skipped.append((row.key, CANCELLED, row.due_us, now_us, now_us, OVERLAP))
        else:
            self._hold_back(key, start, now_us)
        return told is not Turn.TAKEN

    def _seen(self, key: ScheduleKey, start: Start) -> Others:
        """Those that wait, with those of this batch."""
        others, at_us = self._others.get(start.key, Others()), start.envelope.scheduled_us
        here = [one.envelope for one in self._waiting if one.envelope.schedule == key]
        return others._replace(
            before=others.before or any(one.scheduled_us < at_us for one in here),
            after=others.after or any(one.scheduled_us > at_us and one.trigger != Trigger.BACKFILL for one in here),
            planned=others.planned + sum(one.trigger == Trigger.SCHEDULE for one in here),
        )

    def _holder(self, current: JobKey | None, rows: Mapping[JobKey, State]) -> Holder | None:
        """The run that has the turn, where it bars others."""
        row = None if current is None else rows.get(current)
        if row is None or row.final:
            return None
        at_us, is_extra, is_unroutable = self._holders.get(row.key, (0, False, False))
        is_held, was_requeued = row.status == HELD, not row.suspect and row.started_us is None
        if not overlap.bars(is_held=is_held, is_unroutable=is_unroutable, was_requeued=was_requeued):
            return None
        return Holder(at_us, is_held, is_extra)

    def _hold_back(self, key: ScheduleKey, start: Start, now_us: int) -> None:
        envelope = start.envelope
        expires_us, payload = overlap.patient(envelope, start.payload, self._schedules[key].template)
        self._put_off.append((start.key, now_us + WAIT_US, now_us, expires_us, payload))
        self._waiting.append(start)

    async def write(self, transaction: Transaction, starts: Sequence[Start]) -> None:
        """Write what was decided."""
        if self._taken:
            taken = list(self._taken)
            await transaction.changed(TAKE, taken, [self._schedules[key].current for key in taken])
            await transaction.changed(UNMARK, taken, list(self._taken.values()))
        await PUT_OFF.apply(transaction, self._put_off)
        await MOVE_ON.apply(transaction, self._skipped)
        if self._waiting:
            marks = [(one.envelope.schedule, one.envelope.scheduled_us, one.key) for one in self._waiting]
            await transaction.changed(MARK, *map(list, zip(*marks, strict=True)))
            transaction.topics.add("held")
        skipped = {row[0] for row in self._skipped}
        for start in starts:
            if start.key in skipped:
                tell_client(transaction, start.envelope)
        for job in self._cancels:
            await cancel(transaction, job)


async def release_occurrence(transaction: Transaction, key: ScheduleKey, job: JobKey) -> bool:
    """The run that held the schedule has ended: of those that wait, whose turn it is is due now."""
    rows = await transaction.rows(CURRENT, [key])
    if not rows or rows[0][1] != job:
        return False
    marked = await transaction.rows(MARKED, key)
    now_us = await transaction.tick()
    found = {row[0]: row for row in await transaction.rows(WAITING, [job, *(row[2] for row in marked)], now_us)}
    if job in found and found[job][1] not in FINAL:
        return False
    await transaction.changed(TAKE, [key], [None])
    waiting = [Waiting(*mark, *found[mark[2]][2:4]) for mark in marked if mark[2] in found and found[mark[2]][-1]]
    stale = {mark[0] for mark in marked}.difference(one.at_us for one in waiting)
    if stale:
        await transaction.changed(UNMARK, [key] * len(stale), list(stale))
    due, skipped = overlap.let_go(terms_of(rows[0][2]).overlap, waiting)
    now_us = await transaction.tick()
    ends = [(one.job, CANCELLED, found[one.job][4], now_us, now_us, OVERLAP) for one in skipped]
    await MOVE_ON.apply(transaction, [*ends, *((one.job, HELD, now_us, now_us, None, "") for one in due)])
    await tell_ended(transaction, [one.job for one in skipped])
    if due:
        transaction.topics.add("held")
    return bool(due)
