"""Occurrences that may not overlap: whose turn it is is decided with the start (ports.schedules: *turn*)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from jobmaster.model.reasons import OVERLAP
from jobmaster.model.schedule import Overlap
from jobmaster.model.states import CancelOutcome
from jobmaster.rules.overlap import WAIT_US
from jobmaster.stores.sql.job_rows import CANCELLED, HELD
from jobmaster.stores.sql.sqlite.cancel import cancel
from jobmaster.stores.sql.sqlite.recover import tell_client
from jobmaster.stores.sql.sqlite.rows import states

if TYPE_CHECKING:
    from jobmaster.model.ids import JobKey
    from jobmaster.model.job import Start
    from jobmaster.model.schedule import ScheduleKey
    from jobmaster.stores.sql.sqlite.transaction import Transaction

CURRENT = "SELECT current_job FROM jm_schedule WHERE id = ?"
TAKE = "UPDATE jm_schedule SET current_job = ? WHERE id = ?"
MARK = "UPDATE jm_occurrence SET waits = 1 WHERE schedule = ? AND at_us = ? AND job_id = ?"
UNMARK = "UPDATE jm_occurrence SET waits = 0 WHERE schedule = ? AND at_us = ? AND waits = 1"
PUT_OFF = """
UPDATE jm_job SET status = ?, bucket = NULL, gen = gen + 1, nonce = NULL, due_us = coalesce(?, due_us), touched_us = ?,
    finished_us = ?, suspect = 1, reason = ? WHERE id = ?
"""
WAITING = """
SELECT o.at_us, j.id, j.status = 2 AND j.reason <> 'unroutable' OR j.status = 6 AND j.suspect = 1
FROM jm_occurrence o LEFT JOIN jm_job j ON j.id = o.job_id WHERE o.schedule = ? AND o.waits = 1 ORDER BY o.at_us
"""
FIRST_WAITING = """
SELECT o.at_us FROM jm_occurrence o JOIN jm_job j ON j.id = o.job_id
WHERE o.schedule = ? AND o.waits = 1 AND (j.status = 2 AND j.reason <> 'unroutable' OR j.status = 6 AND j.suspect = 1)
ORDER BY o.at_us LIMIT 1
"""


def is_held_back(transaction: Transaction, start: Start) -> bool:
    """Whether an occurrence that has a row and would start now may not, because an earlier one has not ended.

    Else it is its turn.
    """
    key = start.envelope.schedule
    row = transaction.row(CURRENT, (key,))
    if row is None:
        return False
    current: JobKey | None = row[0]
    is_ones_turn = current in (None, start.key) or _has_made_way(transaction, current, start)
    if not is_ones_turn or _is_passed_over(transaction, start):
        _put_off(transaction, start)
        return True
    if current != start.key:
        transaction.execute(TAKE, (start.key, key))
        transaction.execute(UNMARK, (key, start.envelope.scheduled_us))
    return False


def _is_passed_over(transaction: Transaction, start: Start) -> bool:
    """Whether an earlier one waits, whose turn comes before this one's."""
    envelope = start.envelope
    if envelope.overlap != Overlap.QUEUE:
        return False
    first = transaction.row(FIRST_WAITING, (envelope.schedule,))
    return first is not None and bool(first[0] < envelope.scheduled_us)


def _has_made_way(transaction: Transaction, current: JobKey | None, start: Start) -> bool:
    earlier = None if current is None else states(transaction, [current]).get(current)
    if earlier is None or earlier.final:
        return True
    if start.envelope.overlap != Overlap.CANCEL_PREVIOUS:
        return False
    waited = earlier.status == HELD
    return cancel(transaction, earlier.key).outcome is CancelOutcome.CANCELLED and waited


def _put_off(transaction: Transaction, start: Start) -> None:
    envelope, now_us = start.envelope, transaction.now_us
    if envelope.overlap == Overlap.SKIP:
        transaction.execute(PUT_OFF, (CANCELLED, None, now_us, now_us, OVERLAP, start.key))
        tell_client(transaction, envelope)
        return
    transaction.execute(PUT_OFF, (HELD, now_us + WAIT_US, now_us, None, OVERLAP, start.key))
    transaction.execute(MARK, (envelope.schedule, envelope.scheduled_us, start.key))
    transaction.topics.add("held")


def release_occurrence(transaction: Transaction, key: ScheduleKey, job: JobKey) -> bool:
    """The run that held the schedule has ended: the earliest that waits is due now."""
    row = transaction.row(CURRENT, (key,))
    if row is None or row[0] != job:
        return False
    ended = states(transaction, [job]).get(job)
    if ended is not None and not ended.final:
        return False
    transaction.execute(TAKE, (None, key))
    for at_us, waiting, waits in transaction.rows(WAITING, (key,)):
        if not waits:
            transaction.execute(UNMARK, (key, at_us))
        else:
            transaction.execute(PUT_OFF, (HELD, transaction.now_us, transaction.now_us, None, "", waiting))
            transaction.topics.add("held")
            return True
    return False
