"""What is ordered about schedules, on an open gateway: the async half of `jm.schedules`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Final

from jobmaster.errors import ConfigurationError, ScheduleConflict
from jobmaster.model.schedule import Schedule, ScheduleKind, ScheduleStatus
from jobmaster.ports.schedules import ScheduleChange
from jobmaster.presenting import schedule_id
from jobmaster.schedule_finding import find
from jobmaster.schedule_settling import change_schedule

if TYPE_CHECKING:
    from jobmaster.gateway import Gateway
    from jobmaster.schedule_settling import Rules

TRIES: Final = 8
"""How often an order is repeated that others were faster than."""
_BATCH: Final = 100
_PAGE: Final = 1_000


async def add(gate: Gateway, wanted: Schedule, rules: Rules) -> Schedule:
    """Store a schedule; where one of its name is there, that becomes what is wanted.

    Raises:
        ConfigurationError: the name belongs to a schedule of the code.
        ScheduleConflict: somebody else changes it all the time.
    """
    for _ in range(TRIES):
        stored = await gate.store.add_schedule(wanted)
        if stored.key == wanted.key or _is_same(stored, wanted):
            return stored
        if stored.kind is ScheduleKind.STATIC and stored.status is ScheduleStatus.INACTIVE:
            # It has left the code, and gives its name away.
            await gate.store.change_schedule(stored.key, ScheduleChange(name=""), version=stored.version)
            continue
        if stored.kind is ScheduleKind.STATIC:
            raise ConfigurationError(
                f"The name {wanted.name!r} belongs to a schedule that is defined in code ({stored.source}). "
                "Give this one another name, or change it there."
            )
        changed = await change_schedule(gate.store, stored, _towards(stored, wanted), rules)
        if changed is not None:
            return changed
    raise _conflict(stored)


async def change(
    gate: Gateway, reference: str, wanted: ScheduleChange, rules: Rules, *, version: int | None = None
) -> Schedule:
    """Pause, resume or the like.

    Raises:
        NotRegistered: there is no such schedule.
        ScheduleConflict: it is not of this version any more.
        ConfigurationError: it has ended.
    """
    for _ in range(TRIES):
        stored = await find(gate, reference)
        if version is not None and stored.version != version:
            raise _conflict(stored, version)
        if stored.status.is_final:
            raise ConfigurationError(
                f"{named(stored)} has ended ({stored.status}), so it can neither be paused nor resumed. "
                f"{_taken_up(stored)}"
            )
        changed = await change_schedule(gate.store, stored, wanted, rules, any_version=version is None)
        if changed is not None:
            return changed
    if version is None:  # others change it all the time, so that there is hardly a moment to be planned
        changed = await gate.store.change_schedule(stored.key, wanted, version=None)
        if changed is not None:
            return changed
    raise _conflict(stored, version)


async def edit(
    gate: Gateway,
    reference: str,
    make: Callable[[Schedule], Awaitable[Schedule]],
    rules: Rules,
    *,
    version: int | None,
) -> Schedule:
    """Change what a schedule is, all or nothing. `make` answers how it shall be.

    Raises:
        As `change`; also ConfigurationError where it is defined in code.
    """
    for _ in range(TRIES):
        stored = await find(gate, reference)
        refuse_code(stored, "edited")
        if stored.status is ScheduleStatus.CANCELED:
            raise ConfigurationError(f"{named(stored)} was cancelled. Add a new one instead.")
        if version is not None and stored.version != version:
            raise _conflict(stored, version)
        edited = await make(stored)
        changed = await change_schedule(gate.store, stored, _towards(stored, edited), rules)
        if changed is not None:
            return changed
    raise _conflict(stored, version)


async def cancel(gate: Gateway, reference: str, rules: Rules) -> bool:
    """End a schedule for good. False: it had ended by a cancel before.

    Raises:
        NotRegistered: there is no such schedule.
        ConfigurationError: it is defined in code.
        ScheduleConflict: somebody else changes it all the time.
    """
    stored = await find(gate, reference)
    wanted = ScheduleChange(status=ScheduleStatus.CANCELED)
    for _ in range(TRIES):
        refuse_code(stored, "cancelled")
        if stored.status is ScheduleStatus.CANCELED:
            return False
        if await change_schedule(gate.store, stored, wanted, rules) is not None:
            return True
        known = await gate.store.get_schedule(stored.key)
        if known is None:
            return False
        stored = known
    raise _conflict(stored)


def named(schedule: Schedule) -> str:
    """The schedule, in a sentence."""
    return f"Schedule {schedule.name!r}" if schedule.name else f"Schedule {schedule_id(schedule.key)}"


def refuse_code(schedule: Schedule, verb: str) -> None:
    """Refuse to change here what stands in code.

    Raises:
        ConfigurationError: it does; the text says where.
    """
    if schedule.kind is ScheduleKind.STATIC:
        raise ConfigurationError(
            f"{named(schedule)} is defined in code ({schedule.source}), and cannot be {verb} elsewhere: the next "
            "deploy would undo it. Change it there, or pause it."
        )


def _is_same(stored: Schedule, wanted: Schedule) -> bool:
    names = ("rule", "task", "template", "lane", "priority")
    return stored.kind is wanted.kind and all(getattr(stored, name) == getattr(wanted, name) for name in names)


def _taken_up(stored: Schedule) -> str:
    """How one that has ended goes on."""
    if stored.kind is ScheduleKind.STATIC:
        return f"It goes on when a worker's code has it again, with moments to come ({stored.source})."
    if stored.status is ScheduleStatus.CANCELED:
        return "Add a new one."
    return "Edit its expression or its end, and it goes on."


def _towards(stored: Schedule, wanted: Schedule) -> ScheduleChange:
    """The change that makes of one the other; what had come to its end is taken up again."""
    return ScheduleChange(
        rule=wanted.rule,
        template=wanted.template,
        task=wanted.task,
        lane=wanted.lane,
        priority=wanted.priority,
        name=wanted.name,
        status=ScheduleStatus.ACTIVE if stored.status.is_final else None,
        clear_error=True,
    )


def _conflict(stored: Schedule, version: int | None = None) -> ScheduleConflict:
    meant = "while it was changed" if version is None else f"since version {version}"
    return ScheduleConflict(
        f"{named(stored)} was changed by somebody else {meant}: it has version {stored.version} now, and nothing was "
        "changed. Look at it again, and repeat it for this version.",
        version=stored.version,
    )
