"""Occurrences that may not overlap: whose turn it is is decided with the start (ports.schedules: *turn*)."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from jobmaster.model.schedule import Overlap, Trigger
from jobmaster.rules import overlap
from jobmaster.rules.overlap import WAIT_US, Holder, Others, Turn, Waiting
from jobmaster.stores.sql.job_rows import FINAL, HELD
from jobmaster.stores.sql.schedule_rows import terms_of
from jobmaster.stores.sql.sqlite.cancel import cancel
from jobmaster.stores.sql.sqlite.recover import tell_client, tell_ended
from jobmaster.stores.sql.sqlite.rows import states

if TYPE_CHECKING:
    from jobmaster.model.ids import JobKey
    from jobmaster.model.job import Start
    from jobmaster.model.schedule import ScheduleKey
    from jobmaster.stores.sql.sqlite.transaction import Transaction

CURRENT = "SELECT current_job, rule, template FROM jm_schedule WHERE id = ?"
HOLDER = """
SELECT status, scheduled_us, trigger_kind, reason = 'unroutable', suspect, started_us FROM jm_job WHERE id = ?
"""
TAKE = "UPDATE jm_schedule SET current_job = ? WHERE id = ?"
MARK = "UPDATE jm_occurrence SET waits = 1 WHERE schedule = ? AND at_us = ? AND job_id = ?"
MARKED = "SELECT waits FROM jm_occurrence WHERE schedule = ? AND at_us = ? AND job_id = ?"
UNMARK = "UPDATE jm_occurrence SET waits = 0 WHERE schedule = ? AND at_us = ? AND waits = 1"
PUT_OFF = """
UPDATE jm_job SET status = 2, bucket = NULL, gen = gen + 1, nonce = NULL, due_us = ?, touched_us = ?, suspect = 1,
    reason = 'overlap', expires_us = ?, payload = ? WHERE id = ?
"""
SKIP = """
UPDATE jm_job SET status = 8, bucket = NULL, gen = gen + 1, nonce = NULL, touched_us = ?1, finished_us = ?1,
    reason = 'overlap' WHERE id = ?2
"""
LET_GO = """
UPDATE jm_job SET status = 2, bucket = NULL, gen = gen + 1, nonce = NULL, due_us = ?1, touched_us = ?1, reason = ''
WHERE id = ?2
"""
# One that was given another time by a person, has expired, or has no task is in nobody's way.
WAITS = """
(j.status = 2 AND j.reason <> 'unroutable' AND j.due_us <= ?2 + ?3 OR j.status = 6 AND j.suspect = 1)
AND (j.expires_us IS NULL OR j.expires_us > ?2)
"""
# CROSS: from the few that are marked, always.
THOSE = f"""
FROM jm_occurrence o CROSS JOIN jm_job j ON j.id = o.job_id WHERE o.schedule = ?1 AND o.waits = 1 AND {WAITS}
"""
WAITING = f"SELECT o.at_us, o.trigger_kind, j.id, j.lane, j.priority {THOSE} ORDER BY o.at_us"
BEFORE = f"SELECT 1 {THOSE} AND o.at_us < ?4 AND j.lane = ?5 AND j.priority = ?6 ORDER BY o.at_us LIMIT 1"
AFTER = f"SELECT 1 {THOSE} AND o.at_us > ?4 AND o.trigger_kind <> 4 LIMIT 1"
PLANNED = f"SELECT count(*) {THOSE} AND o.trigger_kind = 2"
ALL_MARKED = "SELECT at_us FROM jm_occurrence WHERE schedule = ? AND waits = 1"


class Answer(NamedTuple):
    """Whether a start has to wait or is skipped, and which run was cancelled for it: its row is another one now."""

    is_held_back: bool
    cancelled: JobKey | None = None


def turn_of(transaction: Transaction, start: Start) -> Answer:
    """What an occurrence is told that has a row and would start now: another one has the turn, or it is its own."""
    envelope, key = start.envelope, start.envelope.schedule
    row = transaction.row(CURRENT, (key,))
    if row is None or row[0] == start.key:
        return Answer(is_held_back=False)
    current, rule, template = row
    others, limit = _others(transaction, start), terms_of(rule).misfire_limit
    holder = _holder(transaction, current)
    told, cancels = overlap.turn(envelope, holder, others, limit=limit)
    if cancels:
        cancel(transaction, current)
    if told is Turn.TAKEN:
        transaction.execute(TAKE, (start.key, key))
        transaction.execute(UNMARK, (key, envelope.scheduled_us))
    elif told is Turn.SKIPPED:
        transaction.execute(SKIP, (transaction.now_us, start.key))
        tell_client(transaction, envelope)
    else:
        _put_off(transaction, start, template)
    return Answer(told is not Turn.TAKEN, current if cancels else None)


def _holder(transaction: Transaction, current: JobKey | None) -> Holder | None:
    """The run that has the turn, where it bars others."""
    row = None if current is None else transaction.row(HOLDER, (current,))
    if row is None or row[0] in FINAL:
        return None
    status, at_us, trigger, is_unroutable, suspect, started_us = row
    is_held, was_requeued = status == HELD, not suspect and started_us is None
    if not overlap.bars(is_held=is_held, is_unroutable=bool(is_unroutable), was_requeued=was_requeued):
        return None
    return Holder(at_us, is_held, trigger == Trigger.BACKFILL)


def _others(transaction: Transaction, start: Start) -> Others:
    """Those that wait, as far as its policy asks about them."""
    envelope = start.envelope
    asked = (envelope.schedule, transaction.now_us, WAIT_US)
    if envelope.overlap == Overlap.CANCEL_PREVIOUS:
        return Others(after=_holds(transaction, AFTER, (*asked, envelope.scheduled_us)))
    if envelope.overlap != Overlap.QUEUE:
        return Others()
    place = (envelope.scheduled_us, envelope.lane, envelope.priority)
    is_marked = _holds(transaction, MARKED, (envelope.schedule, envelope.scheduled_us, start.key))
    return Others(
        before=_holds(transaction, BEFORE, (*asked, *place)),
        is_marked=is_marked,
        planned=0 if is_marked else transaction.rows(PLANNED, asked)[0][0],
    )


def _holds(transaction: Transaction, statement: str, values: tuple[object, ...]) -> bool:
    row = transaction.row(statement, values)
    return row is not None and bool(row[0])


def _put_off(transaction: Transaction, start: Start, template: bytes) -> None:
    envelope, now_us = start.envelope, transaction.now_us
    expires_us, payload = overlap.patient(envelope, start.payload, template)
    transaction.execute(PUT_OFF, (now_us + WAIT_US, now_us, expires_us, payload, start.key))
    transaction.execute(MARK, (envelope.schedule, envelope.scheduled_us, start.key))
    transaction.topics.add("held")


def release_occurrence(transaction: Transaction, key: ScheduleKey, job: JobKey) -> bool:
    """The run that held the schedule has ended: of those that wait, whose turn it is is due now."""
    row = transaction.row(CURRENT, (key,))
    if row is None or row[0] != job:
        return False
    ended = states(transaction, [job]).get(job)
    if ended is not None and not ended.final:
        return False
    transaction.execute(TAKE, (None, key))
    now_us = transaction.now_us
    waiting = [Waiting(*found) for found in transaction.rows(WAITING, (key, now_us, WAIT_US))]
    marked = {at_us for (at_us,) in transaction.rows(ALL_MARKED, (key,))}
    for at_us in marked.difference(one.at_us for one in waiting):
        transaction.execute(UNMARK, (key, at_us))
    due, skipped = overlap.let_go(terms_of(row[1]).overlap, waiting)
    for one in skipped:
        transaction.execute(SKIP, (now_us, one.job))
    tell_ended(transaction, [one.job for one in skipped])
    for one in due:
        transaction.execute(LET_GO, (now_us, one.job))
        transaction.topics.add("held")
    return bool(due)
