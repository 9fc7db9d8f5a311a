"""What becomes of a schedule's row, the same in every store: made, edited, paused, ensured by its code, planned.

Pure: a store reads the row (and holds it), asks here, and writes what it is told.
"""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, Final, NamedTuple

from msgspec.structs import replace

from jobmaster.errors import ConfigurationError
from jobmaster.model.reasons import MISSED, SCHEDULE_CHANGED
from jobmaster.model.schedule import (
    MOST_OCCURRENCES,
    SCHEDULE_MOVES,
    Schedule,
    ScheduleKind,
    ScheduleStatus,
    Trigger,
    occurrence_key,
)
from jobmaster.rules.storable import LATEST_US, cleaned

if TYPE_CHECKING:
    from collections.abc import Iterable

    from jobmaster.model.ids import JobKey
    from jobmaster.model.schedule import Occurrence, Plan, ScheduleChange, ScheduleKey

ASLEEP_US: Final = LATEST_US
"""`plan_at_us` in the row of a static schedule that no worker's code has at present: a planner looks again when one
says that it has it. Nobody outside of a store sees it."""

LONGEST_ERROR: Final = 1_000

_DEFINED: Final = ("rule", "task", "template", "lane", "priority")
_IN_PLACE: Final = ("name", "source")
"""What an occurrence does not hang on."""


class Drop(Enum):
    """Which of the occurrences that are planned ahead go (ports.schedules: *drop*)."""

    NOTHING = 0
    HELD = 1
    """Those that no owner has; the schedule goes on."""
    ALL = 2


class Changed(NamedTuple):
    """A row after a change, and what becomes of what was planned."""

    schedule: Schedule
    drops: Drop


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


def changed(stored: Schedule, change: ScheduleChange, now_us: int, planned_us: int | None = None) -> Changed | None:
    """A person's edit, pause, resumption or end.

    Args:
        stored: the schedule as it is.
        change: what the person wants.
        now_us: the store's now.
        planned_us: until when its occurrences are planned; None: whoever changes it cannot tell.

    Returns:
        None: SCHEDULE_MOVES has no such move, or the change comes later than `planned_us`.
    """
    if change.status is not None and change.status not in SCHEDULE_MOVES[stored.status]:
        return None
    if planned_us is not None and now_us > planned_us:
        return None
    new = _edited(stored, change)
    is_edited = new != stored
    if change.clear_error or new.rule != stored.rule:
        new = replace(new, error="")
    if change.paused is not None:
        new = replace(new, paused=change.paused)
    if change.status is not None:
        new = replace(new, status=change.status, ended_us=now_us if change.status.is_final else None)
    if _has_other_moments(stored, new) or (new.paused, new.status) != (stored.paused, stored.status):
        new = _anew(new, now_us)
    elif is_edited or new.error != stored.error:
        new = _due(new, now_us)
    if change.name is not None:
        new = replace(new, name=change.name)
    if new == stored:  # a repetition
        return Changed(stored, Drop.NOTHING)
    return Changed(replace(new, version=stored.version + 1), _dropped(stored, new, is_edited=is_edited))


def _edited(stored: Schedule, change: ScheduleChange) -> Schedule:
    given = {name: value for name in _DEFINED if (value := getattr(change, name)) is not None}
    return replace(stored, **given)


def leaves_off(stored: Schedule, change: ScheduleChange) -> bool:
    """Whether the series that is running ends here, so that nobody plans any more what came of it before.

    That is to be planned first: what had its moment is not a matter of whether a planner was quick.
    """
    runs = stored.status is ScheduleStatus.ACTIVE and not stored.paused and not stored.error
    stops = change.paused is True or (change.status is not None and change.status.is_final)
    return runs and (stops or _has_other_moments(stored, _edited(stored, change)))


def _dropped(stored: Schedule, new: Schedule, *, is_edited: bool) -> Drop:
    stops = (new.paused and not stored.paused) or (new.status.is_final and not stored.status.is_final)
    if stops:
        return Drop.ALL
    return Drop.HELD if is_edited else Drop.NOTHING


def ensured(stored: Schedule, wanted: Schedule, now_us: int) -> Changed:
    """A static schedule after a worker said that its code has it, as `wanted`."""
    new = replace(stored, **{name: getattr(wanted, name) for name in _DEFINED})
    differs = new != stored
    revived = stored.status in (ScheduleStatus.INACTIVE, ScheduleStatus.COMPLETED)
    if differs or revived:
        new = replace(new, version=stored.version + 1)
    if revived:
        new = replace(new, status=ScheduleStatus.ACTIVE, ended_us=None)
    new = replace(new, error="")  # this worker can read the rule, whoever could not
    if revived or _has_other_moments(stored, new):
        new = _anew(new, now_us)
    elif differs or stored.error:
        new = _due(new, now_us)
    new = replace(new, ensured_us=now_us, **{name: getattr(wanted, name) for name in _IN_PLACE})
    return Changed(woken(new, now_us), Drop.HELD if differs else Drop.NOTHING)


def _has_other_moments(stored: Schedule, new: Schedule) -> bool:
    """Whether the series of occurrences is another one. An end only cuts it off."""
    before, after = stored.rule, new.rule
    return any(getattr(before, name) != getattr(after, name) for name in ("type_id", "text", "zone", "start_us"))


def rewound(schedule: Schedule, latest_us: int | None, now_us: int) -> Schedule:
    """A schedule whose moments are the old ones, after what was planned ahead was dropped: it is planned again.

    Args:
        schedule: as it is after the change.
        latest_us: the latest occurrence of its series that has come; None: the first is still to come.
        now_us: the store's now.
    """
    if schedule.cursor_us is None or schedule.cursor_us <= now_us:
        return schedule
    return replace(schedule, cursor_us=latest_us)


def kept(stored: Schedule, wanted: Schedule, now_us: int, fresh_us: int = 0) -> Schedule:
    """A static schedule after a worker said that its code still has it, as `wanted`.

    The same where somebody said so in the last `fresh_us`: of many workers one writes. The same, too, where the stored
    one is another release's: whoever has that says so.
    """
    if stored.kind is not ScheduleKind.STATIC or _is_defined_otherwise(stored, wanted):
        return stored
    sleeps = stored.status is ScheduleStatus.INACTIVE or stored.plan_at_us == ASLEEP_US
    if stored.ensured_us > now_us - fresh_us and not sleeps:
        return stored
    new = stored
    if stored.status is ScheduleStatus.INACTIVE:
        new = replace(stored, status=ScheduleStatus.ACTIVE, ended_us=None, version=stored.version + 1)
        new = _anew(new, now_us)
    return replace(woken(new, now_us), ensured_us=now_us)


def lacks(stored: Schedule | None, wanted: Schedule, now_us: int, lost_us: int) -> bool:
    """Whether a worker whose code has `wanted` is to ensure it again.

    Nobody knows it (an older backup was restored), or it is as another release has it of which nobody is left: nobody
    said for `lost_us` that it is still so.
    """
    if stored is None:
        return True
    is_lost = stored.ensured_us <= now_us - lost_us
    return is_lost and stored.kind is ScheduleKind.STATIC and _is_defined_otherwise(stored, wanted)


def _is_defined_otherwise(stored: Schedule, wanted: Schedule) -> bool:
    return any(getattr(stored, name) != getattr(wanted, name) for name in _DEFINED)


def woken(schedule: Schedule, now_us: int) -> Schedule:
    """The schedule, due for planning now if it slept because no code had it."""
    return replace(schedule, plan_at_us=now_us) if schedule.plan_at_us == ASLEEP_US else schedule


def expired(stored: Schedule, now_us: int) -> Schedule:
    """A static schedule that left the code."""
    return replace(stored, status=ScheduleStatus.INACTIVE, ended_us=now_us, plan_at_us=None, version=stored.version + 1)


def _anew(schedule: Schedule, now_us: int) -> Schedule:
    """Planned from now on, where it is planned at all."""
    return replace(_due(schedule, now_us), since_us=now_us, cursor_us=None)


def _due(schedule: Schedule, now_us: int) -> Schedule:
    """To be looked at by a planner, where it is planned at all."""
    due = schedule.status is ScheduleStatus.ACTIVE and not schedule.paused and not schedule.error
    return replace(schedule, plan_at_us=now_us if due else None)


def fits(stored: Schedule, plan: Plan) -> bool:
    """Whether a plan was made of the schedule as it is."""
    return (
        stored.status is ScheduleStatus.ACTIVE
        and not stored.paused
        and (stored.version, stored.cursor_us) == (plan.version, plan.cursor_us)
    )


def is_late(now_us: int, as_of_us: int, max_age_us: int) -> bool:
    """Whether plans that were made at `as_of_us` are too old: what was future then is past now."""
    return now_us > as_of_us + max_age_us


def begins_anew(plan: Plan, now_us: int) -> bool:
    """Whether what owners still have of the plan before an edit, and is not in this one, goes.

    Everything that is planned lies before the cursor. So where that is not to come, whatever is to come is of a plan
    before an edit, which set the cursor back.
    """
    is_set_back = plan.cursor_us is None or plan.cursor_us <= now_us
    return is_set_back and plan.version > 1 and not plan.error and len(plan.occurrences) < MOST_OCCURRENCES


def is_forgotten(schedule: ScheduleKey, at_us: int, job: JobKey) -> bool:
    """Whether a held job that is dropped is deleted with its occurrence, as if it had never been planned.

    One that took the place of another is cancelled, and remembered: planned again it would have that one's key.
    """
    return job in (occurrence_key(schedule, at_us), occurrence_key(schedule, at_us, Trigger.RUN_NOW))


def replaces(occurrence: Occurrence) -> str | None:
    """With which reason a Cancelled job of the same moment gives its place to this one's; None: with none.

    A plan makes anew what was dropped before an edit or a resumption, and has not come before that; a backfill makes up
    for what nobody started in time.
    """
    return {Trigger.SCHEDULE: SCHEDULE_CHANGED, Trigger.BACKFILL: MISSED}.get(occurrence.trigger)


def run_keys(occurrences: Iterable[Occurrence]) -> list[JobKey]:
    """The jobs of the runs by hand: each is made once, whatever its moment."""
    return [one.job.key for one in occurrences if one.trigger is Trigger.RUN_NOW]


def unmade(occurrences: Iterable[Occurrence], there: Iterable[JobKey]) -> list[bool]:
    """Which are to be added; not those runs by hand whose job is there, or comes before in the same order."""
    taken, wanted = set(there), []
    for one in occurrences:
        wanted.append(one.trigger is not Trigger.RUN_NOW or one.job.key not in taken)
        taken.add(one.job.key)
    return wanted


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


def check_name(schedule: Schedule, bearer: ScheduleKey | None) -> None:
    """Raise ConfigurationError where another schedule bears the name of this one."""
    if schedule.name and schedule.status is not ScheduleStatus.CANCELED and bearer not in (None, schedule.key):
        raise ConfigurationError(
            f"The schedule name {schedule.name!r} is taken. Choose another, or cancel the schedule that has it."
        )


class Bearer(NamedTuple):
    """A schedule that bears a name, and is not Canceled."""

    name: str
    key: ScheduleKey
    kind: ScheduleKind


class Named(NamedTuple):
    """Static schedules with the names that they get, and those that lose theirs."""

    schedules: list[Schedule]
    lose: list[ScheduleKey]


def named(wanted: Iterable[Schedule], bearers: Iterable[Bearer]) -> Named:
    """Who bears which name: no worker fails to start because of one.

    Another static schedule loses it (it has left the code, or another release has it); a dynamic one, and an earlier
    one of `wanted`, keeps it, and the static one goes without a name.
    """
    schedules = list(wanted)
    replaced = {schedule.key for schedule in schedules}
    others = {bearer.name: bearer for bearer in bearers if bearer.key not in replaced}
    kept = {name: other.key for name, other in others.items() if other.kind is not ScheduleKind.STATIC}
    given: list[Schedule] = []
    for schedule in schedules:
        free = not schedule.name or kept.setdefault(schedule.name, schedule.key) == schedule.key
        given.append(schedule if free else replace(schedule, name=""))
    names = {schedule.name for schedule in given}
    return Named(given, [other.key for name, other in others.items() if name in names])
