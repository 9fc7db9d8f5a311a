"""Occurrences of schedules: planned, run now, remembered (ports.schedules)."""

from __future__ import annotations

from itertools import chain
from typing import TYPE_CHECKING

from msgspec.structs import replace

from jobmaster.model.schedule import DueSchedules, ScheduleKind, replanned_key
from jobmaster.rules import schedule_changes as changes
from jobmaster.stores.sql.schedule_rows import NEW_OCCURRENCE, OCCURRENCE, SCHEDULE, occurrence_of, schedule_of
from jobmaster.stores.sql.sqlite.accept import PRESENT, hold
from jobmaster.stores.sql.sqlite.schedules import drop_unplanned, some
from jobmaster.stores.sql.sqlite.transaction import chunks, values_text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jobmaster.model.job import NewJob
    from jobmaster.model.schedule import Occurrence, OccurrenceRecord, Plan, Schedule, ScheduleKey
    from jobmaster.stores.sql.sqlite.transaction import Row, Transaction

NEXT = "SELECT plan_at_us FROM jm_schedule WHERE plan_at_us IS NOT NULL ORDER BY plan_at_us LIMIT 1"
DUE = f"""
SELECT {SCHEDULE} FROM jm_schedule WHERE plan_at_us IS NOT NULL AND plan_at_us <= ? ORDER BY plan_at_us, id LIMIT ?
"""
CLAIM = "UPDATE jm_schedule SET plan_at_us = ? WHERE id = ?"
PLANNED = """
UPDATE jm_schedule SET cursor_us = ?, plan_at_us = ?, last_at_us = ?, status = ?, error = ?, ended_us = ? WHERE id = ?
"""
INSERT = f"INSERT INTO jm_occurrence ({NEW_OCCURRENCE}) VALUES "
UNLESS_THERE = " ON CONFLICT (schedule, at_us) DO NOTHING RETURNING schedule, at_us"
KNOWN = "SELECT 1 FROM jm_schedule WHERE id = ?"
TAKEN_BACK = """
SELECT j.id FROM jm_occurrence o JOIN jm_job j ON j.id = o.job_id
WHERE o.schedule = ? AND o.at_us = ? AND j.status = 8 AND j.reason = ?
"""
INSTEAD = "UPDATE jm_occurrence SET job_id = ?, trigger_kind = ?, waits = 0 WHERE schedule = ? AND at_us = ?"
BEFORE = f"""
SELECT {OCCURRENCE} FROM jm_occurrence WHERE schedule = ? AND at_us < ? ORDER BY at_us DESC LIMIT ?
"""
AFTER = f"SELECT {OCCURRENCE} FROM jm_occurrence WHERE schedule = ? AND at_us > ? ORDER BY at_us LIMIT ?"
LAST = 2**63 - 1


def next_plan(transaction: Transaction) -> tuple[int, int | None]:
    """The store's now, and when a planner must look at the next schedule."""
    row = transaction.row(NEXT)
    return transaction.now_us, None if row is None or row[0] == changes.ASLEEP_US else row[0]


def due_schedules(transaction: Transaction, limit: int, claim_us: int, idle_us: int) -> DueSchedules:
    """Schedules to be planned, left alone by other planners for a while."""
    now_us = transaction.now_us
    found: list[Schedule] = []
    moved: list[Row] = []
    for row in transaction.rows(DUE, (now_us, limit)):
        stored = schedule_of(row)
        idle = stored.kind is ScheduleKind.STATIC and stored.ensured_us < now_us - idle_us
        plan_at_us = changes.ASLEEP_US if idle else now_us + claim_us
        moved.append((plan_at_us, stored.key))
        if not idle:
            found.append(replace(stored, plan_at_us=plan_at_us))
    transaction.connection.executemany(CLAIM, moved)
    return DueSchedules(found, now_us, next_plan(transaction)[1])


def plan_schedules(transaction: Transaction, plans: Sequence[Plan], as_of_us: int, max_age_us: int) -> list[bool]:
    """Occurrences and cursors in one step; what somebody else was faster with is left."""
    now_us = transaction.now_us
    if changes.is_late(now_us, as_of_us, max_age_us):
        return [False] * len(plans)
    stored = some(transaction, [plan.key for plan in plans])
    applied: list[bool] = []
    wanted: list[tuple[ScheduleKey, Occurrence]] = []
    for plan in plans:
        before = stored.get(plan.key)
        fits = before is not None and changes.fits(before, plan)
        applied.append(fits)
        if before is not None and fits:
            stored[plan.key] = changes.planned(before, plan, now_us)
            if changes.begins_anew(plan, now_us):
                drop_unplanned(transaction, plan)
            wanted += [(plan.key, occurrence) for occurrence in plan.occurrences]
    _insert(transaction, wanted)
    after = [stored[plan.key] for plan, done in zip(plans, applied, strict=True) if done]
    transaction.connection.executemany(PLANNED, [_planned_row(one) for one in after])
    return applied


def _planned_row(schedule: Schedule) -> Row:
    return (
        schedule.cursor_us, schedule.plan_at_us, schedule.last_at_us, schedule.status.value, schedule.error,
        schedule.ended_us, schedule.key,
    )  # fmt: skip


def add_occurrences(transaction: Transaction, key: ScheduleKey, occurrences: Sequence[Occurrence]) -> list[bool]:
    """Run now, and backfill."""
    if transaction.row(KNOWN, (key,)) is None:
        return [False] * len(occurrences)
    there = [row[0] for row in transaction.by_keys(PRESENT, changes.run_keys(occurrences))]
    new = changes.unmade(occurrences, there)
    added = iter(_insert(transaction, [(key, one) for one, is_new in zip(occurrences, new, strict=True) if is_new]))
    return [is_new and next(added) for is_new in new]


def _insert(transaction: Transaction, wanted: Sequence[tuple[ScheduleKey, Occurrence]]) -> list[bool]:
    """Occurrences with their jobs, each unless its moment is there."""
    rows = [(key, one.at_us, one.job.key, one.trigger.value, transaction.now_us) for key, one in wanted]
    inserted: set[tuple[ScheduleKey, int]] = set()
    for chunk in chunks(rows, 5):
        statement = INSERT + values_text(5, len(chunk)) + UNLESS_THERE
        inserted.update((key, at) for key, at in transaction.rows(statement, tuple(chain.from_iterable(chunk))))
    new: list[bool] = []
    for key, one in wanted:
        new.append((key, one.at_us) in inserted)
        inserted.discard((key, one.at_us))
    jobs = [one.job for (_, one), is_new in zip(wanted, new, strict=True) if is_new]
    for place, ((key, one), is_new) in enumerate(zip(wanted, new, strict=True)):
        if not is_new and (job := _instead(transaction, key, one)) is not None:
            jobs.append(job)
            new[place] = True
    hold(transaction, jobs, "")
    return new


def _instead(transaction: Transaction, key: ScheduleKey, occurrence: Occurrence) -> NewJob | None:
    """The job that takes the place of one that never began, where it may."""
    reason = changes.replaces(occurrence)
    row = None if reason is None else transaction.row(TAKEN_BACK, (key, occurrence.at_us, reason))
    if row is None:
        return None
    again = replanned_key(row[0])
    transaction.execute(INSTEAD, (again, occurrence.trigger.value, key, occurrence.at_us))
    return replace(occurrence.job, key=again)


def schedule_occurrences(
    transaction: Transaction, key: ScheduleKey, limit: int, before_us: int | None, after_us: int | None
) -> list[OccurrenceRecord]:
    """What was planned: newest first, or on from a moment."""
    if after_us is not None:
        return [occurrence_of(row) for row in transaction.rows(AFTER, (key, after_us, limit))]
    before = LAST if before_us is None else before_us
    return [occurrence_of(row) for row in transaction.rows(BEFORE, (key, before, limit))]
