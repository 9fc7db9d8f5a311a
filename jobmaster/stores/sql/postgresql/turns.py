"""Occurrences that may not overlap: whose turn it is is decided with the start (ports.schedules: *turn*).

Their schedules' rows are held before any job's row, and those of the runs that have the turn together with the rows of
the batch. A run that ends meanwhile releases its schedule after that, and finds what was told to wait.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from jobmaster.model.reasons import OVERLAP
from jobmaster.model.schedule import Overlap, ScheduleKey
from jobmaster.rules.overlap import WAIT_US, asks_for_turn
from jobmaster.stores.sql.job_rows import CANCELLED, HELD, State
from jobmaster.stores.sql.postgresql.cancel import cancel
from jobmaster.stores.sql.postgresql.recover import tell_client
from jobmaster.stores.sql.postgresql.rows import Change, states

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from jobmaster.model.ids import JobKey
    from jobmaster.model.job import Start
    from jobmaster.stores.sql.job_rows import Row
    from jobmaster.stores.sql.postgresql.transaction import Transaction

CURRENT = """
SELECT id, current_job FROM jm_schedule WHERE id = ANY($1::uuid[]) ORDER BY id FOR NO KEY UPDATE
"""
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
    ("status", "due_us", "touched_us", "finished_us", "reason"),
    """status = excluded.status, bucket = NULL, gen = jm_job.gen + 1, nonce = NULL, due_us = excluded.due_us,
    touched_us = excluded.touched_us, finished_us = excluded.finished_us, suspect = 1, reason = excluded.reason""",
)
MARKED = "SELECT at_us, job_id FROM jm_occurrence WHERE schedule = $1 AND waits = 1 ORDER BY at_us"
# Judged in the answer, not as conditions: those would lead to a walk through all jobs that are held.
WAITING = """
SELECT id, status = 2 AND reason <> 'unroutable' OR status = 6 AND suspect = 1 FROM jm_job WHERE id = ANY($1::uuid[])
ORDER BY id FOR UPDATE
"""
# Marks change under the schedule's row only, which is held. What becomes of their jobs meanwhile costs a wait at worst.
FIRST_WAITING = """
SELECT s.id, first.at_us FROM unnest($1::uuid[]) AS s(id) CROSS JOIN LATERAL (
    SELECT o.at_us FROM jm_occurrence o WHERE o.schedule = s.id AND o.waits = 1 AND (
        SELECT status = 2 AND reason <> 'unroutable' OR status = 6 AND suspect = 1 FROM jm_job j WHERE j.id = o.job_id)
    ORDER BY o.at_us LIMIT 1) AS first
"""


class Turns:
    """The schedules of one batch of starts, and what is decided about their turns."""

    def __init__(self) -> None:
        self._current: dict[ScheduleKey, JobKey | None] = {}
        self._first: dict[ScheduleKey, int] = {}
        self._taken: dict[ScheduleKey, int] = {}
        self._cancels: dict[JobKey, None] = {}
        self._put_off: list[Row] = []
        self._marks: list[Row] = []

    async def hold(self, transaction: Transaction, starts: Sequence[Start]) -> None:
        """Hold the schedules that these ask for their turn; nothing where none does."""
        keys = {start.envelope.schedule for start in starts if asks_for_turn(start)}
        if keys:
            self._current = {row[0]: row[1] for row in await transaction.rows(CURRENT, list(keys))}
            self._first = {row[0]: row[1] for row in await transaction.rows(FIRST_WAITING, list(keys))}

    def others(self, keys: Sequence[JobKey]) -> list[JobKey]:
        """These keys, and those of the jobs that have the turn now."""
        return [*keys, *({current for current in self._current.values() if current is not None} - set(keys))]

    def holds_back(self, row: State, start: Start, rows: Mapping[JobKey, State], now_us: int) -> bool:
        """Whether a start that would be allowed is not, because an earlier occurrence has not ended."""
        key = ScheduleKey(start.envelope.schedule or b"")
        if key not in self._current or not asks_for_turn(start):
            return False
        current = self._current[key]
        is_ones_turn = current in (None, start.key) or self._has_made_way(current, start, rows)
        if not is_ones_turn or self._is_passed_over(key, start):
            self._hold_back(row, start, now_us)
            return True
        if current != start.key:
            self._current[key] = start.key
            self._taken[key] = start.envelope.scheduled_us
        return False

    def _is_passed_over(self, key: ScheduleKey, start: Start) -> bool:
        """Whether an earlier one waits, whose turn comes before this one's."""
        first_us = self._first.get(key)
        envelope = start.envelope
        return envelope.overlap == Overlap.QUEUE and first_us is not None and first_us < envelope.scheduled_us

    def _has_made_way(self, current: JobKey | None, start: Start, rows: Mapping[JobKey, State]) -> bool:
        earlier = None if current is None else rows.get(current)
        if earlier is None or earlier.final:
            return True
        if start.envelope.overlap != Overlap.CANCEL_PREVIOUS:
            return False
        self._cancels[earlier.key] = None
        return earlier.status == HELD

    def _hold_back(self, row: State, start: Start, now_us: int) -> None:
        envelope = start.envelope
        if envelope.overlap == Overlap.SKIP:
            self._put_off.append((row.key, CANCELLED, row.due_us, now_us, now_us, OVERLAP))
            return
        self._put_off.append((row.key, HELD, now_us + WAIT_US, now_us, None, OVERLAP))
        self._marks.append((envelope.schedule, envelope.scheduled_us, row.key))

    async def write(self, transaction: Transaction, starts: Sequence[Start]) -> None:
        """Write what was decided."""
        if self._taken:
            taken = list(self._taken)
            await transaction.changed(TAKE, taken, [self._current[key] for key in taken])
            await transaction.changed(UNMARK, taken, list(self._taken.values()))
        await PUT_OFF.apply(transaction, self._put_off)
        if self._marks:
            await transaction.changed(MARK, *map(list, zip(*self._marks, strict=True)))
            transaction.topics.add("held")
        skipped = {key for key, status, *_ in self._put_off if status == CANCELLED}
        for start in starts:
            if start.key in skipped:
                tell_client(transaction, start.envelope)
        for job in self._cancels:
            await cancel(transaction, job)


async def release_occurrence(transaction: Transaction, key: ScheduleKey, job: JobKey) -> bool:
    """The run that held the schedule has ended: the earliest that waits is due now."""
    rows = await transaction.rows(CURRENT, [key])
    if not rows or rows[0][1] != job:
        return False
    ended = (await states(transaction, [job])).get(job)
    if ended is not None and not ended.final:
        return False
    await transaction.changed(TAKE, [key], [None])
    marked = await transaction.rows(MARKED, key)
    if not marked:
        return False
    found = await transaction.rows(WAITING, [row[1] for row in marked])
    waiting = {key for key, waits in found if waits}
    first = next((index for index, row in enumerate(marked) if row[1] in waiting), len(marked))
    if first:
        await transaction.changed(UNMARK, [key] * first, [row[0] for row in marked[:first]])
    if first == len(marked):
        return False
    released = marked[first][1]
    now_us = await transaction.tick()
    await PUT_OFF.apply(transaction, [(released, HELD, now_us, now_us, None, "")])
    transaction.topics.add("held")
    return True
