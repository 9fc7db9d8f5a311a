"""What is ordered about schedules, on an open gateway: the async half of `jm.schedules`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Final

from msgspec.structs import replace

from jobmaster.errors import ConfigurationError, DuplicateJob, ScheduleConflict
from jobmaster.model.ids import key_text
from jobmaster.model.job import encode_envelope
from jobmaster.model.schedule import Occurrence, Schedule, ScheduleKey, ScheduleKind, ScheduleStatus
from jobmaster.options import as_moment
from jobmaster.ports.schedules import ScheduleChange
from jobmaster.presenting import schedule_id
from jobmaster.rules import planning
from jobmaster.rules.series import finish
from jobmaster.schedule_finding import find
from jobmaster.schedule_history import series_before
from jobmaster.schedule_settling import change_schedule

if TYPE_CHECKING:
    from jobmaster.gateway import Gateway
    from jobmaster.model.ids import JobKey
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
        changed = await change_schedule(gate.store, stored, wanted, rules)
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


async def run_now(
    gate: Gateway, reference: str, *, key: JobKey, custom_id: str | None = None, reply_to: str
) -> Occurrence:
    """Make a job of the schedule that is due now, beside those that are planned; its end is told to `reply_to`.

    Where its job is there already, nothing is made: the same key is the same run.

    Raises:
        NotRegistered: there is no such schedule.
        DuplicateJob: the job of this key is none of this schedule.
    """
    schedule = await find(gate, reference)
    at_us = await gate.store.now_us()
    while True:
        made = _telling(planning.run_now(schedule, at_us, key=key, custom_id=custom_id), reply_to)
        if (await gate.store.add_occurrences(schedule.key, [made]))[0]:
            return made
        there = await gate.questions.get_job(key)
        if there is None:
            at_us += 1  # somebody else's run has this very microsecond
        elif there.envelope is not None and there.envelope.schedule == schedule.key:
            return made
        else:
            job_id = custom_id or key_text(key)
            raise DuplicateJob(
                f"The job {job_id!r} is there, and no run of {named(schedule)}. Give another job_id, or none.",
                existing=job_id,
            )


async def backfill(
    gate: Gateway,
    reference: str,
    rules: Rules,
    *,
    from_us: int,
    until_us: int,
    limit: int,
    reply_to: str,
) -> Sequence[Occurrence]:
    """Make the jobs of past moments that have none, or one that nobody started in time; which.

    Their end is told to `reply_to`.

    Raises:
        ConfigurationError: there are more than `limit` moments, or the range is no past.
    """
    schedule = await find(gate, reference)
    now_us = await gate.store.now_us()
    if until_us > now_us:
        raise ConfigurationError(
            f"end is {as_moment(until_us).isoformat()}, which is still to come: what comes is planned by itself. "
            "Give a moment that has passed."
        )
    rule = rules(schedule)
    begin_us = await series_before(gate, schedule, rule, from_us) if rule.is_phased else None
    if begin_us is not None and begin_us >= until_us:
        raise ConfigurationError(
            f"{named(schedule)} counts from {as_moment(begin_us).isoformat()} on, and has no moments before that. "
            "Give a later range, or an expression with fixed times of day."
        )
    steps = planning.backfill(
        schedule, rule, from_us=from_us, until_us=until_us, now_us=now_us, most=limit + 1, begin_us=begin_us
    )
    wanted = finish(steps)
    if len(wanted) > limit:
        raise ConfigurationError(
            f"{named(schedule)} has more than {limit:,} occurrences in that range (limit). Give a shorter range, or a "
            "higher limit."
        )
    made: list[Occurrence] = []
    for start in range(0, len(wanted), _BATCH):
        batch = [_telling(occurrence, reply_to) for occurrence in wanted[start : start + _BATCH]]
        answers = await gate.store.add_occurrences(schedule.key, batch)
        made += [occurrence for occurrence, new in zip(batch, answers, strict=True) if new]
    return await _as_stored(gate, schedule.key, made)


async def _as_stored(gate: Gateway, key: ScheduleKey, made: Sequence[Occurrence]) -> Sequence[Occurrence]:
    """The same with the keys of their jobs: one that took another's place has one of its own."""
    if not made:
        return made
    keys: dict[int, JobKey] = {}
    after_us = made[0].at_us - 1
    while after_us < made[-1].at_us:
        records = await gate.store.schedule_occurrences(key, limit=_PAGE, after_us=after_us)
        keys |= {record.at_us: record.key for record in records}
        after_us = records[-1].at_us if len(records) == _PAGE else made[-1].at_us
    return [replace(one, job=replace(one.job, key=keys.get(one.at_us, one.job.key))) for one in made]


def _telling(occurrence: Occurrence, reply_to: str) -> Occurrence:
    envelope = replace(occurrence.job.envelope, reply_to=reply_to)
    return replace(occurrence, job=replace(occurrence.job, envelope=envelope, payload=encode_envelope(envelope)))


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
