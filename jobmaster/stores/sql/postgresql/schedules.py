"""Recurring schedules: made, changed, ensured by their code, asked for (ports.schedules).

A schedule's row is held before those of its jobs, by every verb that needs both.
"""

from __future__ import annotations

from operator import itemgetter
from typing import TYPE_CHECKING

from msgspec.structs import replace

from jobmaster.model.schedule import ScheduleKind
from jobmaster.rules import schedule_changes as changes
from jobmaster.rules.schedule_changes import Bearer, Drop
from jobmaster.rules.storable import check_schedule
from jobmaster.stores.sql.job_rows import HELD
from jobmaster.stores.sql.postgresql.cancel import cancel
from jobmaster.stores.sql.postgresql.retention import delete_jobs
from jobmaster.stores.sql.schedule_rows import NAMES, SCHEDULE, row_of, schedule_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from jobmaster.model.ids import JobKey
    from jobmaster.model.schedule import Plan, Schedule, ScheduleKey
    from jobmaster.ports.schedules import ScheduleChange
    from jobmaster.stores.sql.postgresql.transaction import Transaction

TYPES = (
    "uuid", "text", "int", "int", "smallint", "text", "text", "bytea", "text", "text", "int", "bytea", "text", "bigint",
    "bigint", "bigint", "bigint", "bigint", "bigint", "bigint", "bigint", "uuid",
)  # fmt: skip
_ARRAYS = ", ".join(f"${index}::{kind}[]" for index, kind in enumerate(TYPES, 1))

SOME = f"SELECT {SCHEDULE} FROM jm_schedule WHERE id = ANY($1::uuid[])"
AND_HOLD = " ORDER BY id FOR NO KEY UPDATE"
BEARING = f"SELECT {SCHEDULE} FROM jm_schedule WHERE name = $1 AND name <> '' AND status <> 3"
BEARERS = "SELECT name, id, kind FROM jm_schedule WHERE name = ANY($1::text[]) AND name <> '' AND status <> 3"
# Whatever is in the way, the key or the name: it is looked at again.
INSERT = f"""
INSERT INTO jm_schedule ({SCHEDULE}) SELECT * FROM unnest({_ARRAYS}) ON CONFLICT DO NOTHING RETURNING id
"""
WRITE = f"""
INSERT INTO jm_schedule ({SCHEDULE}) SELECT * FROM unnest({_ARRAYS})
ON CONFLICT (id) DO UPDATE SET {", ".join(f"{name} = excluded.{name}" for name in NAMES[1:])}
"""
UNNAME = "UPDATE jm_schedule SET name = '' WHERE id = ANY($1::uuid[])"
KEEP = "UPDATE jm_schedule SET ensured_us = $2 WHERE id = ANY($1::uuid[])"
IDLE = f"""
SELECT {SCHEDULE} FROM jm_schedule WHERE kind = 2 AND status = 2 AND ensured_us < $1
ORDER BY id LIMIT $2 FOR NO KEY UPDATE SKIP LOCKED
"""

PLANNED_AHEAD = """
SELECT o.at_us, j.id, j.status, j.attempts FROM jm_occurrence o JOIN jm_job j ON j.id = o.job_id
WHERE o.schedule = $1 AND o.at_us > $2 AND j.status IN (2, 3, 6) ORDER BY j.id FOR UPDATE OF j
"""
# What was dropped may be of another series, before the schedule began anew.
LATEST = """
SELECT at_us FROM jm_occurrence o WHERE schedule = $1 AND at_us > $2 AND at_us <= $3 AND trigger_kind <> 3
    AND (SELECT j.status = 8 AND j.reason = 'schedule changed' FROM jm_job j WHERE j.id = o.job_id) IS NOT TRUE
ORDER BY at_us DESC LIMIT 1
"""
DROPPED = "UPDATE jm_job SET reason = 'schedule changed' WHERE id = ANY($1::uuid[]) AND status = 8"
JITTERED = """
SELECT j.id FROM jm_occurrence o JOIN jm_job j ON j.id = o.job_id
WHERE o.schedule = $1 AND o.at_us > $2::bigint - $3::bigint AND o.at_us <= $2::bigint AND o.trigger_kind = 2
    AND o.waits = 0 AND j.status IN (2, 3, 6) AND j.attempts = 0 AND j.due_us > $2::bigint ORDER BY j.id
"""
CLAIMED_AHEAD = """
SELECT o.schedule, o.at_us, j.id FROM jm_occurrence o JOIN jm_job j ON j.id = o.job_id
WHERE o.schedule = ANY($1::uuid[]) AND o.at_us > $2 AND o.trigger_kind = 2 AND j.status IN (3, 6)
ORDER BY j.id
"""
FORGET = "DELETE FROM jm_occurrence WHERE schedule = $1 AND at_us = ANY($2::bigint[])"
# The latest of its series that has come stays with its schedule: the series may go on from it.
OLD_OCCURRENCES = """
DELETE FROM jm_occurrence WHERE (schedule, at_us) IN (
    SELECT schedule, at_us FROM jm_occurrence o WHERE at_us < $1 AND created_us < $1 AND (
        EXISTS (SELECT FROM jm_occurrence l WHERE l.schedule = o.schedule AND l.at_us > o.at_us AND l.at_us <= $3
            AND (l.trigger_kind <> 3 OR o.trigger_kind = 3))
        OR NOT EXISTS (SELECT FROM jm_schedule s WHERE s.id = o.schedule))
    ORDER BY at_us LIMIT $2 FOR UPDATE SKIP LOCKED)
"""
OLD_SCHEDULES = """
DELETE FROM jm_schedule WHERE id = ANY(ARRAY(
    SELECT id FROM jm_schedule WHERE status IN (3, 4, 5) AND ended_us < $1 AND ensured_us < $1 LIMIT $2
    FOR UPDATE SKIP LOCKED))
"""


async def some(
    transaction: Transaction, keys: Sequence[ScheduleKey], *, hold: bool = True
) -> dict[ScheduleKey, Schedule]:
    """The schedules that are there, by key; held until the end of the transaction, unless they are only looked at."""
    statement = SOME + AND_HOLD if hold else SOME
    return {row[0]: schedule_of(row) for row in await transaction.rows(statement, list(keys))}


async def bearing(transaction: Transaction, name: str) -> Schedule | None:
    """The schedule that bears a name and is not Canceled."""
    row = await transaction.row(BEARING, name)
    return None if row is None else schedule_of(row)


async def get_schedule(transaction: Transaction, key: ScheduleKey) -> Schedule | None:
    """One schedule, as people see it."""
    found = (await some(transaction, [key], hold=False)).get(key)
    return None if found is None else changes.seen(found)


async def find_schedule(transaction: Transaction, name: str) -> Schedule | None:
    """The same by its name."""
    found = await bearing(transaction, name)
    return None if found is None else changes.seen(found)


async def add_schedule(transaction: Transaction, schedule: Schedule) -> Schedule:
    """A new one, or the one that is there."""
    new = changes.added(schedule, await transaction.tick())
    while True:
        there = (await some(transaction, [new.key], hold=False)).get(new.key) or await bearing(transaction, new.name)
        if there is not None:
            return changes.seen(there)
        if await _insert(transaction, [new]):
            return new


async def ensure_schedules(transaction: Transaction, wanted: Sequence[Schedule]) -> list[Schedule]:
    """Static ones, as a worker's code has them."""
    while True:
        stored = await some(transaction, [one.key for one in wanted])
        now_us = await transaction.tick()
        given = changes.named(wanted, await bearers(transaction, [one.name for one in wanted]))
        named = {one.key: one for one in given.schedules}
        moved = [key for key, one in stored.items() if one.name != named[key].name]
        if moved or given.lose:
            await transaction.changed(UNNAME, sorted((*moved, *given.lose)))  # two may swap their names
        absent = [changes.added(one, now_us) for key, one in named.items() if key not in stored]
        if len(await _insert(transaction, absent)) == len(absent):
            break  # else somebody was faster
    after = {one.key: one for one in absent}
    for key, before in stored.items():
        after[key] = await _ensure(transaction, before, named[key])
    await _write(transaction, [after[key] for key in stored], stored.values())
    return [changes.seen(after[one.key]) for one in wanted]


async def _ensure(transaction: Transaction, before: Schedule, wanted: Schedule) -> Schedule:
    now_us = transaction.now_us
    after, drops = changes.ensured(before, wanted, now_us)
    if drops is Drop.NOTHING:
        return after
    await drop(transaction, before, drops)
    return await _rewound(transaction, after)


async def _rewound(transaction: Transaction, schedule: Schedule) -> Schedule:
    latest = await transaction.value(LATEST, schedule.key, schedule.since_us, transaction.now_us)
    return changes.rewound(schedule, latest, transaction.now_us)


async def bearers(transaction: Transaction, names: Sequence[str]) -> list[Bearer]:
    """Who bears these names."""
    rows = await transaction.rows(BEARERS, list(names))
    return [Bearer(name, key, ScheduleKind(kind)) for name, key, kind in rows]


async def _insert(transaction: Transaction, new: Sequence[Schedule]) -> set[ScheduleKey]:
    """Insert schedules; returned are those whose key and name were free."""
    if not new:
        return set()
    columns = [list(column) for column in zip(*sorted(map(row_of, new), key=itemgetter(0)), strict=True)]
    inserted = {row[0] for row in await transaction.rows(INSERT, *columns)}
    if inserted:
        transaction.topics.add("schedules")
    return inserted


async def _write(transaction: Transaction, new: Iterable[Schedule], stored: Iterable[Schedule]) -> None:
    """Store schedules that the transaction holds, and tell planners where they have to look sooner, or not any more."""
    before = {one.key: one for one in stored}
    changed = [one for one in new if one != before[one.key]]
    plain = [one for one in changed if _only_kept(before[one.key], one)]
    whole = [row_of(one) for one in changed if not _only_kept(before[one.key], one)]
    if plain:
        await transaction.changed(KEEP, [one.key for one in plain], plain[0].ensured_us)
    if whole:
        await transaction.changed(WRITE, *(list(column) for column in zip(*whole, strict=True)))
        if any(before[one.key].plan_at_us != one.plan_at_us for one in changed):
            transaction.topics.add("schedules")


def _only_kept(before: Schedule, after: Schedule) -> bool:
    return replace(before, ensured_us=after.ensured_us) == after


async def stale_schedules(
    transaction: Transaction, wanted: Sequence[Schedule], fresh_us: int, lost_us: int
) -> tuple[list[Schedule], list[ScheduleKey]]:
    """Those of a worker's code that nobody ensured lately, and those that it is to ensure itself."""
    stored = await some(transaction, [one.key for one in wanted], hold=False)
    now_us = await transaction.tick()
    there = [(before, one) for one in wanted if (before := stored.get(one.key)) is not None]
    stale = [one for before, one in there if changes.kept(before, one, now_us, fresh_us) != before]
    return stale, [one.key for one in wanted if changes.lacks(stored.get(one.key), one, now_us, lost_us)]


async def keep_schedules(transaction: Transaction, wanted: Sequence[Schedule], fresh_us: int) -> None:
    """Static ones that a worker's code still has."""
    stored = await some(transaction, [one.key for one in wanted])
    now_us = await transaction.tick()
    asked = {one.key: one for one in wanted}
    after = [changes.kept(before, asked[key], now_us, fresh_us) for key, before in stored.items()]
    await _write(transaction, after, stored.values())


async def expire_schedules(transaction: Transaction, idle_us: int, limit: int) -> list[ScheduleKey]:
    """Static ones that no code has any more."""
    now_us = await transaction.tick()
    idle = [schedule_of(row) for row in await transaction.rows(IDLE, now_us - idle_us, limit)]
    for stored in idle:
        await drop(transaction, stored, Drop.ALL)
    rows = [row_of(changes.expired(stored, now_us)) for stored in idle]
    if rows:
        await transaction.changed(WRITE, *(list(column) for column in zip(*rows, strict=True)))
    return [one.key for one in idle]


async def change_schedule(
    transaction: Transaction, key: ScheduleKey, change: ScheduleChange, version: int | None, planned_us: int | None
) -> Schedule | None:
    """A person's edit, pause, resumption or end."""
    stored = (await some(transaction, [key])).get(key)
    now_us = await transaction.tick()
    if stored is None or version not in (None, stored.version):
        return None
    changed = changes.changed(stored, change, now_us, planned_us)
    if changed is None:
        return None
    new, drops = changed
    check_schedule(new)
    changes.check_name(new, next((bearer.key for bearer in await bearers(transaction, [new.name])), None))
    if drops is not Drop.NOTHING:
        await drop(transaction, stored, drops)
        new = await _rewound(transaction, new)
    if new != stored:
        await transaction.changed(WRITE, *([value] for value in row_of(new)))
        transaction.topics.add("schedules")
    return changes.seen(new)


async def drop(transaction: Transaction, schedule: Schedule, drops: Drop) -> None:
    """*drop*: what is planned for later and has not begun goes."""
    key, jitter_us = schedule.key, schedule.rule.jitter_us
    ahead = await transaction.rows(PLANNED_AHEAD, key, transaction.now_us)
    held = [(at_us, job) for at_us, job, status, attempts in ahead if status == HELD and not attempts]
    gone = [(at_us, job) for at_us, job in held if changes.is_forgotten(key, at_us, job)]
    if gone:
        await delete_jobs(transaction, [job for _, job in gone])
        await transaction.changed(FORGET, key, [at_us for at_us, _ in gone])
    taken = [job for at_us, job in held if not changes.is_forgotten(key, at_us, job)]
    if drops is Drop.ALL:
        taken += [job for _, job, status, _ in ahead if status != HELD]
        if jitter_us:
            taken += [row[0] for row in await transaction.rows(JITTERED, key, transaction.now_us, jitter_us)]
    await _take_back(transaction, taken)


async def drop_unplanned(transaction: Transaction, plans: Sequence[Plan]) -> None:
    """What owners still have of the plans before an edit, and is not in these."""
    moments = {plan.key: {occurrence.at_us for occurrence in plan.occurrences} for plan in plans}
    if not moments:
        return
    ahead = await transaction.rows(CLAIMED_AHEAD, list(moments), transaction.now_us)
    await _take_back(transaction, [job for key, at_us, job in ahead if at_us not in moments[key]])


async def _take_back(transaction: Transaction, jobs: Sequence[JobKey]) -> None:
    """From their owners, who are told; a later plan may have their moments again."""
    for job in jobs:
        await cancel(transaction, job)
    if jobs:
        await transaction.changed(DROPPED, list(jobs))


async def purge_schedules(transaction: Transaction, before_us: int, limit: int) -> int:
    """Retention."""
    await transaction.changed(OLD_SCHEDULES, before_us, limit)
    return await transaction.changed(OLD_OCCURRENCES, before_us, limit, await transaction.tick())
