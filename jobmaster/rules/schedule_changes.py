"""What becomes of a schedule's row, the same in every store: made, edited, paused, ensured by its code, planned.

Pure: a store reads the row (and holds it), asks here, and writes what it is told.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from msgspec.structs import replace

from jobmaster.errors import ConfigurationError
from jobmaster.model.schedule import SCHEDULE_MOVES, Schedule, ScheduleKind, ScheduleStatus
from jobmaster.rules.storable import LATEST_US, cleaned

if TYPE_CHECKING:
    from collections.abc import Iterable

    from jobmaster.model.schedule import Plan, ScheduleChange, ScheduleKey

ASLEEP_US: Final = LATEST_US
"""`plan_at_us` in the row of a static schedule that no worker's code has at present: a planner looks again when one
says that it has it. Nobody outside of a store sees it."""

LONGEST_ERROR: Final = 1_000

_DEFINED: Final = ("rule", "task", "template", "lane", "priority", "name", "source")
_EDITED: Final = ("rule", "task", "template", "lane", "priority", "name")


class Changed(NamedTuple):
    """A row after a change. `drops`: what was planned ahead goes (ports.schedules: *drop*)."""

    schedule: Schedule
    drops: bool


def added(schedule: Schedule, now_us: int) -> Schedule:
    """A schedule as it is when it is stored for the first time."""
    new = replace(
        schedule,
        status=ScheduleStatus.ACTIVE,
        error="",
        version=1,
        created_us=now_us,
        last_at_us=None,
        ensured_us=now_us if schedule.kind is ScheduleKind.STATIC else 0,
        ended_us=None,
        current_job=None,
    )
    return _anew(new, now_us)


def changed(stored: Schedule, change: ScheduleChange, now_us: int) -> Changed | None:
    """A person's edit, pause, resumption or end. None: SCHEDULE_MOVES has no such move."""
    if change.status is not None and change.status not in SCHEDULE_MOVES[stored.status]:
        return None
    new = replace(stored, **_differing(stored, change))
    edited = new != stored
    if edited and new.rule != stored.rule:
        new = replace(new, error="")
    if change.clear_error and new.error:
        new = replace(new, error="", plan_at_us=now_us)
    pauses = change.paused is not None and change.paused != stored.paused
    if pauses:
        new = replace(new, paused=not stored.paused)
    moves = change.status is not None
    if change.status is not None:
        ended_us = now_us if change.status.is_final else None
        new = replace(new, status=change.status, ended_us=ended_us)
    if edited or pauses or moves:
        new = _anew(new, now_us)
    if new == stored:  # a repetition
        return Changed(stored, drops=False)
    drops = edited or (pauses and new.paused) or (moves and new.status.is_final)
    return Changed(replace(new, version=stored.version + 1), drops=drops)


def _differing(stored: Schedule, change: ScheduleChange) -> dict[str, object]:
    given = ((name, getattr(change, name)) for name in _EDITED)
    return {name: value for name, value in given if value is not None and value != getattr(stored, name)}


def ensured(stored: Schedule, wanted: Schedule, now_us: int) -> Changed:
    """A static schedule after a worker said that its code has it, as `wanted`."""
    new = replace(stored, **{name: getattr(wanted, name) for name in _DEFINED})
    differs = new != stored
    revived = _is_revived(stored)
    if differs:
        new = replace(new, error="")
    if revived:
        new = replace(new, status=ScheduleStatus.ACTIVE, ended_us=None)
    if differs or revived:
        new = replace(_anew(new, now_us), version=stored.version + 1)
    return Changed(replace(woken(new, now_us), ensured_us=now_us), drops=differs)


def kept(stored: Schedule, now_us: int) -> Schedule:
    """A static schedule after a worker said that its code still has it."""
    new = stored
    if stored.status is ScheduleStatus.INACTIVE:
        new = replace(stored, status=ScheduleStatus.ACTIVE, ended_us=None, version=stored.version + 1)
        new = _anew(new, now_us)
    return replace(woken(new, now_us), ensured_us=now_us)


def woken(schedule: Schedule, now_us: int) -> Schedule:
    """The schedule, due for planning now if it slept because no code had it."""
    return replace(schedule, plan_at_us=now_us) if schedule.plan_at_us == ASLEEP_US else schedule


def _is_revived(stored: Schedule) -> bool:
    return stored.status in (ScheduleStatus.INACTIVE, ScheduleStatus.COMPLETED)


def expired(stored: Schedule, now_us: int) -> Schedule:
    """A static schedule that left the code."""
    return replace(stored, status=ScheduleStatus.INACTIVE, ended_us=now_us, plan_at_us=None, version=stored.version + 1)


def _anew(schedule: Schedule, now_us: int) -> Schedule:
    """Planned from now on, where it is planned at all."""
    due = schedule.status is ScheduleStatus.ACTIVE and not schedule.paused and not schedule.error
    return replace(schedule, since_us=now_us, cursor_us=None, plan_at_us=now_us if due else None)


def fits(stored: Schedule, plan: Plan) -> bool:
    """Whether a plan was made of the schedule as it is."""
    return (
        stored.status is ScheduleStatus.ACTIVE
        and not stored.paused
        and (stored.version, stored.cursor_us) == (plan.version, plan.cursor_us)
    )


def planned(stored: Schedule, plan: Plan, now_us: int) -> Schedule:
    """The schedule after a plan of it was applied."""
    moments = [occurrence.at_us for occurrence in plan.occurrences]
    if stored.last_at_us is not None:
        moments.append(stored.last_at_us)
    return replace(
        stored,
        cursor_us=plan.new_cursor_us,
        plan_at_us=None if plan.error or plan.status.is_final else plan.plan_at_us,
        last_at_us=max(moments, default=None),
        status=plan.status,
        error=cleaned(plan.error)[:LONGEST_ERROR],
        ended_us=now_us if plan.status.is_final else stored.ended_us,
    )


def seen(schedule: Schedule) -> Schedule:
    """The schedule as it leaves the store."""
    return replace(schedule, plan_at_us=None) if schedule.plan_at_us == ASLEEP_US else schedule


def check_names(wanted: Iterable[Schedule], bearers: Iterable[tuple[str, ScheduleKey]]) -> None:
    """Raise ConfigurationError where one has a name that another schedule bears.

    Args:
        wanted: schedules that shall bear their names.
        bearers: those names and keys that are stored; of `wanted` ones they are to be replaced.
    """
    new = [schedule for schedule in wanted if schedule.name]
    replaced = {schedule.key for schedule in new}
    taken = {name: key for name, key in bearers if key not in replaced}
    for schedule in new:
        if taken.setdefault(schedule.name, schedule.key) != schedule.key:
            raise ConfigurationError(
                f"The schedule name {schedule.name!r} is taken. Choose another, or cancel the schedule that has it."
            )
