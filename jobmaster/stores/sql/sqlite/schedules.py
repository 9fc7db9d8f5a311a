"""Recurring schedules: made, changed, ensured by their code, asked for (ports.schedules)."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from jobmaster.model.schedule import ScheduleKind
from jobmaster.rules import schedule_changes as changes
from jobmaster.rules.schedule_changes import Bearer, Drop
from jobmaster.rules.storable import check_schedule
from jobmaster.stores.sql.schedule_rows import NAMES, SCHEDULE, row_of, schedule_of
from jobmaster.stores.sql.sqlite.cancel import cancel
from jobmaster.stores.sql.sqlite.upkeep import delete_jobs

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jobmaster.model.ids import JobKey
    from jobmaster.model.schedule import Plan, Schedule, ScheduleKey
    from jobmaster.ports.schedules import ScheduleChange
    from jobmaster.stores.sql.sqlite.transaction import Transaction

SOME = f"SELECT {SCHEDULE} FROM jm_schedule WHERE id IN ({{keys}})"
BEARING = f"SELECT {SCHEDULE} FROM jm_schedule WHERE name = ? AND name <> '' AND status <> 3"
BEARERS = """
SELECT name, id, kind FROM jm_schedule WHERE name IN (SELECT value FROM json_each(?)) AND name <> '' AND status <> 3
"""
WRITE = f"""
INSERT INTO jm_schedule ({SCHEDULE}) VALUES ({", ".join("?" * len(NAMES))})
ON CONFLICT (id) DO UPDATE SET {", ".join(f"{name} = excluded.{name}" for name in NAMES[1:])}
"""
UNNAME = "UPDATE jm_schedule SET name = '' WHERE id = ?"
KEEP = "UPDATE jm_schedule SET ensured_us = ? WHERE id = ?"
IDLE = f"""
SELECT {SCHEDULE} FROM jm_schedule WHERE kind = 2 AND status = 2 AND ensured_us < ? ORDER BY id LIMIT ?
"""

PLANNED_AHEAD = """
SELECT o.at_us, j.id, j.status, j.attempts FROM jm_occurrence o JOIN jm_job j ON j.id = o.job_id
WHERE o.schedule = ? AND o.at_us > ? AND j.status IN (2, 3, 6)
"""
# What was dropped may be of another series, before the schedule began anew.
LATEST = """
SELECT at_us FROM jm_occurrence o WHERE schedule = ? AND at_us > ? AND at_us <= ? AND trigger_kind <> 3
    AND NOT EXISTS (SELECT 1 FROM jm_job j WHERE j.id = o.job_id AND j.status = 8 AND j.reason = 'schedule changed')
ORDER BY at_us DESC LIMIT 1
"""
DROPPED = "UPDATE jm_job SET reason = 'schedule changed' WHERE id = ? AND status = 8"
JITTERED = """
SELECT j.id FROM jm_occurrence o JOIN jm_job j ON j.id = o.job_id
WHERE o.schedule = ?1 AND o.at_us > ?2 - ?3 AND o.at_us <= ?2 AND o.trigger_kind = 2 AND o.waits = 0
    AND j.status IN (2, 3, 6) AND j.attempts = 0 AND j.due_us > ?2
"""
CLAIMED_AHEAD = """
SELECT o.at_us, j.id FROM jm_occurrence o JOIN jm_job j ON j.id = o.job_id
WHERE o.schedule = ? AND o.at_us > ? AND o.trigger_kind = 2 AND j.status IN (3, 6)
"""
FORGET = "DELETE FROM jm_occurrence WHERE schedule = ? AND at_us = ?"
# The latest of its series that has come stays with its schedule: the series may go on from it.
OLD_OCCURRENCES = """
DELETE FROM jm_occurrence WHERE (schedule, at_us) IN (
    SELECT schedule, at_us FROM jm_occurrence o WHERE at_us < ?1 AND created_us < ?1 AND (
        EXISTS (SELECT 1 FROM jm_occurrence l WHERE l.schedule = o.schedule AND l.at_us > o.at_us AND l.at_us <= ?3
            AND (l.trigger_kind <> 3 OR o.trigger_kind = 3))
        OR NOT EXISTS (SELECT 1 FROM jm_schedule s WHERE s.id = o.schedule))
    ORDER BY at_us LIMIT ?2)
"""
OLD_SCHEDULES = """
DELETE FROM jm_schedule WHERE id IN (
    SELECT id FROM jm_schedule WHERE status IN (3, 4, 5) AND ended_us < ?1 AND ensured_us < ?1 LIMIT ?2)
"""
HELD = 2


def some(transaction: Transaction, keys: Sequence[ScheduleKey]) -> dict[ScheduleKey, Schedule]:
    """The schedules that are there, by key."""
    return {row[0]: schedule_of(row) for row in transaction.by_keys(SOME, keys)}


def bearing(transaction: Transaction, name: str) -> Schedule | None:
    """The schedule that bears a name and is not Canceled."""
    row = transaction.row(BEARING, (name,))
    return None if row is None else schedule_of(row)


def get_schedule(transaction: Transaction, key: ScheduleKey) -> Schedule | None:
    """One schedule, as people see it."""
    found = some(transaction, [key]).get(key)
    return None if found is None else changes.seen(found)


def find_schedule(transaction: Transaction, name: str) -> Schedule | None:
    """The same by its name."""
    found = bearing(transaction, name)
    return None if found is None else changes.seen(found)


def add_schedule(transaction: Transaction, schedule: Schedule) -> Schedule:
    """A new one, or the one that is there."""
    there = some(transaction, [schedule.key]).get(schedule.key) or bearing(transaction, schedule.name)
    if there is not None:
        return changes.seen(there)
    new = changes.added(schedule, transaction.now_us)
    _write(transaction, new)
    return new


def ensure_schedules(transaction: Transaction, wanted: Sequence[Schedule]) -> list[Schedule]:
    """Static ones, as a worker's code has them."""
    given = changes.named(wanted, bearers(transaction, [one.name for one in wanted]))
    stored = some(transaction, [one.key for one in wanted])
    moved = [one.key for one in given.schedules if one.key in stored and stored[one.key].name != one.name]
    for key in (*given.lose, *moved):  # two may swap their names
        transaction.execute(UNNAME, (key,))
    for one in given.schedules:
        stored[one.key] = _ensure(transaction, stored.get(one.key), one)
    return [changes.seen(stored[one.key]) for one in wanted]


def _ensure(transaction: Transaction, stored: Schedule | None, wanted: Schedule) -> Schedule:
    now_us = transaction.now_us
    if stored is None:
        new = changes.added(wanted, now_us)
        _write(transaction, new)
        return new
    new, drops = changes.ensured(stored, wanted, now_us)
    if drops is not Drop.NOTHING:
        drop(transaction, stored, drops)
        new = _rewound(transaction, new)
    if new != stored:
        _write(transaction, new, stored)
    return new


def _rewound(transaction: Transaction, schedule: Schedule) -> Schedule:
    latest = transaction.row(LATEST, (schedule.key, schedule.since_us, transaction.now_us))
    return changes.rewound(schedule, latest[0] if latest else None, transaction.now_us)


def bearers(transaction: Transaction, names: Sequence[str]) -> list[Bearer]:
    """Who bears these names."""
    rows = transaction.rows(BEARERS, (json.dumps(names),))
    return [Bearer(name, key, ScheduleKind(kind)) for name, key, kind in rows]


def _write(transaction: Transaction, new: Schedule, stored: Schedule | None = None) -> None:
    """Store a schedule, and tell planners where they have to look at it sooner or not any more."""
    transaction.execute(WRITE, row_of(new))
    if stored is None or stored.plan_at_us != new.plan_at_us:
        transaction.topics.add("schedules")


def stale_schedules(
    transaction: Transaction, wanted: Sequence[Schedule], fresh_us: int, lost_us: int
) -> tuple[list[Schedule], list[ScheduleKey]]:
    """Those of a worker's code that nobody ensured lately, and those that it is to ensure itself."""
    stored, now_us = some(transaction, [one.key for one in wanted]), transaction.now_us
    there = [(before, one) for one in wanted if (before := stored.get(one.key)) is not None]
    stale = [one for before, one in there if changes.kept(before, one, now_us, fresh_us) != before]
    return stale, [one.key for one in wanted if changes.lacks(stored.get(one.key), one, now_us, lost_us)]


def keep_schedules(transaction: Transaction, wanted: Sequence[Schedule], fresh_us: int) -> None:
    """Static ones that a worker's code still has."""
    there = some(transaction, [one.key for one in wanted])
    for one in wanted:
        stored = there.get(one.key)
        if stored is None:
            continue
        new = changes.kept(stored, one, transaction.now_us, fresh_us)
        if (new.status, new.plan_at_us) == (stored.status, stored.plan_at_us):
            transaction.execute(KEEP, (new.ensured_us, new.key))
        else:
            _write(transaction, new, stored)


def expire_schedules(transaction: Transaction, idle_us: int, limit: int) -> list[ScheduleKey]:
    """Static ones that no code has any more."""
    idle = [schedule_of(row) for row in transaction.rows(IDLE, (transaction.now_us - idle_us, limit))]
    for stored in idle:
        drop(transaction, stored, Drop.ALL)
        transaction.execute(WRITE, row_of(changes.expired(stored, transaction.now_us)))
    return [one.key for one in idle]


def change_schedule(
    transaction: Transaction, key: ScheduleKey, change: ScheduleChange, version: int | None, planned_us: int | None
) -> Schedule | None:
    """A person's edit, pause, resumption or end."""
    stored = some(transaction, [key]).get(key)
    if stored is None or version not in (None, stored.version):
        return None
    changed = changes.changed(stored, change, transaction.now_us, planned_us)
    if changed is None:
        return None
    new, drops = changed
    check_schedule(new)
    changes.check_name(new, next((bearer.key for bearer in bearers(transaction, [new.name])), None))
    if drops is not Drop.NOTHING:
        drop(transaction, stored, drops)
        new = _rewound(transaction, new)
    if new != stored:
        _write(transaction, new)
    return changes.seen(new)


def drop(transaction: Transaction, schedule: Schedule, drops: Drop) -> None:
    """*drop*: what is planned for later and has not begun goes."""
    key, jitter_us = schedule.key, schedule.rule.jitter_us
    ahead = transaction.rows(PLANNED_AHEAD, (key, transaction.now_us))
    held = [(at_us, job) for at_us, job, status, attempts in ahead if status == HELD and not attempts]
    gone = [(at_us, job) for at_us, job in held if changes.is_forgotten(key, at_us, job)]
    delete_jobs(transaction, [job for _, job in gone])
    for at_us, _ in gone:
        transaction.execute(FORGET, (key, at_us))
    for at_us, job in held:
        if not changes.is_forgotten(key, at_us, job):
            _take_back(transaction, job)
    for _, job, status, _ in ahead:
        if status != HELD and drops is Drop.ALL:
            _take_back(transaction, job)
    if jitter_us and drops is Drop.ALL:
        for (job,) in transaction.rows(JITTERED, (key, transaction.now_us, jitter_us)):
            _take_back(transaction, job)


def drop_unplanned(transaction: Transaction, plan: Plan) -> None:
    """What owners still have of the plan before an edit, and is not in this one."""
    moments = {occurrence.at_us for occurrence in plan.occurrences}
    for at_us, job in transaction.rows(CLAIMED_AHEAD, (plan.key, transaction.now_us)):
        if at_us not in moments:
            _take_back(transaction, job)


def _take_back(transaction: Transaction, job: JobKey) -> None:
    """From its owner, who is told; a later plan may have the moment again."""
    cancel(transaction, job)
    transaction.execute(DROPPED, (job,))


def purge_schedules(transaction: Transaction, before_us: int, limit: int) -> int:
    """Retention."""
    transaction.execute(OLD_SCHEDULES, (before_us, limit))
    return transaction.changed(OLD_OCCURRENCES, (before_us, limit, transaction.now_us))
