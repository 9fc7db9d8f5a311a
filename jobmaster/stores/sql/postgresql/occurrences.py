"""Occurrences of schedules: planned, run now, remembered (ports.schedules)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from msgspec.structs import replace

from jobmaster.model.schedule import DueSchedules, replanned_key
from jobmaster.rules import schedule_changes as changes
from jobmaster.stores.sql.postgresql.hold import hold
from jobmaster.stores.sql.postgresql.schedules import drop_unplanned, some
from jobmaster.stores.sql.postgresql.transaction import CLOCK
from jobmaster.stores.sql.schedule_rows import NAMES, NEW_OCCURRENCE, OCCURRENCE, SCHEDULE, occurrence_of, schedule_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from jobmaster.model.job import NewJob
    from jobmaster.model.schedule import Occurrence, OccurrenceRecord, Plan, Schedule, ScheduleKey
    from jobmaster.stores.sql.postgresql.transaction import Setting, Transaction

# One statement, a transaction by itself: rows that another planner holds are skipped, so nobody waits here.
DUE = f"""
WITH now AS MATERIALIZED (SELECT coalesce($1::bigint, {CLOCK}) AS us),
due AS MATERIALIZED (
    SELECT id, plan_at_us AS since FROM jm_schedule
    WHERE plan_at_us IS NOT NULL AND plan_at_us <= (SELECT us FROM now)
    ORDER BY plan_at_us LIMIT $2 FOR NO KEY UPDATE SKIP LOCKED
), taken AS (
    UPDATE jm_schedule SET plan_at_us = (SELECT us FROM now) + CASE
        WHEN kind = 2 AND ensured_us < (SELECT us FROM now) - $4::bigint
        THEN {changes.ASLEEP_US} - (SELECT us FROM now) ELSE $3::bigint END
    WHERE id = ANY(ARRAY(SELECT id FROM due)) RETURNING {SCHEDULE}
)
SELECT now.us, (
        SELECT plan_at_us FROM jm_schedule WHERE plan_at_us IS NOT NULL AND plan_at_us > (SELECT us FROM now)
        ORDER BY plan_at_us LIMIT 1
    ), {", ".join(f"taken.{name}" for name in NAMES)}
FROM now LEFT JOIN (taken JOIN due ON due.id = taken.id) ON true ORDER BY due.since, taken.id
"""
PLANNED = """
UPDATE jm_schedule s SET cursor_us = u.cursor_us, plan_at_us = u.plan_at_us, last_at_us = u.last_at_us,
    status = u.status, error = u.error, ended_us = u.ended_us
FROM unnest($1::uuid[], $2::bigint[], $3::bigint[], $4::bigint[], $5::int[], $6::text[], $7::bigint[])
    AS u(id, cursor_us, plan_at_us, last_at_us, status, error, ended_us)
WHERE s.id = u.id
"""
INSERT = f"""
INSERT INTO jm_occurrence ({NEW_OCCURRENCE})
SELECT u.*, $5::bigint FROM unnest($1::uuid[], $2::bigint[], $3::uuid[], $4::int[]) AS u
ON CONFLICT (schedule, at_us) DO NOTHING RETURNING schedule, at_us
"""
KNOWN = "SELECT id FROM jm_schedule WHERE id = $1 FOR NO KEY UPDATE"
PRESENT = "SELECT id FROM jm_job WHERE id = ANY($1::uuid[])"
TAKEN_BACK = """
SELECT o.schedule, o.at_us, o.job_id FROM unnest($1::uuid[], $2::bigint[]) AS u(schedule, at_us)
JOIN jm_occurrence o ON o.schedule = u.schedule AND o.at_us = u.at_us
WHERE (SELECT j.status = 8 AND j.reason = $3 FROM jm_job j WHERE j.id = o.job_id)
"""
INSTEAD = """
UPDATE jm_occurrence o SET job_id = u.job, trigger_kind = u.kind, waits = 0
FROM unnest($1::uuid[], $2::bigint[], $3::uuid[], $4::int[]) AS u(schedule, at_us, job, kind)
WHERE o.schedule = u.schedule AND o.at_us = u.at_us
"""
BEFORE = f"""
SELECT {OCCURRENCE} FROM jm_occurrence WHERE schedule = $1 AND at_us < $2 ORDER BY at_us DESC LIMIT $3
"""
AFTER = f"SELECT {OCCURRENCE} FROM jm_occurrence WHERE schedule = $1 AND at_us > $2 ORDER BY at_us LIMIT $3"
LAST = 2**63 - 1


def due_values(setting: Setting, limit: int, claim_us: int, idle_us: int) -> tuple[object, ...]:
    """What the statement is given."""
    return (None if setting.clock_us is None else setting.clock_us(), limit, claim_us, idle_us)


def due_schedules(rows: Sequence[Any], limit: int) -> DueSchedules:
    """Schedules to be planned, left alone by other planners for a while."""
    now_us, next_us = rows[0][0], rows[0][1]
    taken = [schedule_of(tuple(row)[2:]) for row in rows if row[2] is not None]
    found = [one for one in taken if one.plan_at_us != changes.ASLEEP_US]
    moments = [one.plan_at_us for one in found if one.plan_at_us is not None]
    if next_us is not None and next_us != changes.ASLEEP_US:
        moments.append(next_us)
    if len(taken) == limit:
        moments.append(now_us)  # there may be more
    return DueSchedules(found, now_us, min(moments, default=None))


async def plan_schedules(transaction: Transaction, plans: Sequence[Plan], as_of_us: int, max_age_us: int) -> list[bool]:
    """Occurrences and cursors in one step; what somebody else was faster with is left."""
    stored = await some(transaction, [plan.key for plan in plans])
    now_us = await transaction.tick()
    if changes.is_late(now_us, as_of_us, max_age_us):
        return [False] * len(plans)
    applied: list[bool] = []
    wanted: list[tuple[ScheduleKey, Occurrence]] = []
    for plan in plans:
        before = stored.get(plan.key)
        fits = before is not None and changes.fits(before, plan)
        applied.append(fits)
        if before is not None and fits:
            stored[plan.key] = changes.planned(before, plan, now_us)
            wanted += [(plan.key, occurrence) for occurrence in plan.occurrences]
    done_plans = [plan for plan, done in zip(plans, applied, strict=True) if done]
    await drop_unplanned(transaction, [plan for plan in done_plans if changes.begins_anew(plan, now_us)])
    await _insert(transaction, wanted)
    after = {plan.key: stored[plan.key] for plan in done_plans}
    await _write_planned(transaction, list(after.values()))
    return applied


async def _write_planned(transaction: Transaction, after: Sequence[Schedule]) -> None:
    if after:
        await transaction.changed(
            PLANNED,
            [one.key for one in after],
            [one.cursor_us for one in after],
            [one.plan_at_us for one in after],
            [one.last_at_us for one in after],
            [one.status.value for one in after],
            [one.error for one in after],
            [one.ended_us for one in after],
        )


async def add_occurrences(transaction: Transaction, key: ScheduleKey, occurrences: Sequence[Occurrence]) -> list[bool]:
    """Run now, and backfill."""
    if await transaction.value(KNOWN, key) is None:
        return [False] * len(occurrences)
    there = [row[0] for row in await transaction.rows(PRESENT, changes.run_keys(occurrences))]
    new = changes.unmade(occurrences, there)
    wanted = [(key, one) for one, is_new in zip(occurrences, new, strict=True) if is_new]
    added = iter(await _insert(transaction, wanted))
    return [is_new and next(added) for is_new in new]


async def _insert(transaction: Transaction, wanted: Sequence[tuple[ScheduleKey, Occurrence]]) -> list[bool]:
    """Occurrences with their jobs, each unless its moment is there."""
    if not wanted:
        return []
    now_us = await transaction.tick()
    rows = sorted((key, one.at_us, one.job.key, one.trigger.value) for key, one in wanted)
    columns = [list(column) for column in zip(*rows, strict=True)]
    inserted = {(row[0], row[1]) for row in await transaction.rows(INSERT, *columns, now_us)}
    new: list[bool] = []
    for key, one in wanted:
        new.append((key, one.at_us) in inserted)
        inserted.discard((key, one.at_us))
    jobs = [one.job for (_, one), is_new in zip(wanted, new, strict=True) if is_new]
    there = {(key, one.at_us): one for (key, one), is_new in zip(wanted, new, strict=True) if not is_new}
    again = await _instead(transaction, there)
    await hold(transaction, [*jobs, *again.values()], "")
    return [is_new or (key, one.at_us) in again for (key, one), is_new in zip(wanted, new, strict=True)]


async def _instead(
    transaction: Transaction, there: Mapping[tuple[ScheduleKey, int], Occurrence]
) -> dict[tuple[ScheduleKey, int], NewJob]:
    """The jobs that take the places of those that never began, where they may."""
    asked: dict[str, list[tuple[ScheduleKey, int]]] = {}
    for place, one in there.items():
        reason = changes.replaces(one)
        if reason is not None:
            asked.setdefault(reason, []).append(place)
    rows = [
        row
        for reason, places in asked.items()
        for row in await transaction.rows(TAKEN_BACK, *map(list, zip(*places, strict=True)), reason)
    ]
    again = {(key, at_us): replace(there[key, at_us].job, key=replanned_key(job)) for key, at_us, job in rows}
    if again:
        changed = ((*place, job.key, there[place].trigger.value) for place, job in again.items())
        await transaction.changed(INSTEAD, *map(list, zip(*changed, strict=True)))
    return again


async def schedule_occurrences(
    transaction: Transaction, key: ScheduleKey, limit: int, before_us: int | None, after_us: int | None
) -> list[OccurrenceRecord]:
    """What was planned: newest first, or on from a moment."""
    if after_us is not None:
        return [occurrence_of(row) for row in await transaction.rows(AFTER, key, after_us, limit)]
    before = LAST if before_us is None else before_us
    return [occurrence_of(row) for row in await transaction.rows(BEFORE, key, before, limit)]
