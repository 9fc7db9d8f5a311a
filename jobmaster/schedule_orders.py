"""What is asked and ordered about schedules, on an open gateway: the async half of `jm.schedules`."""

from __future__ import annotations

import dataclasses
import difflib
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Final
from uuid import UUID

from msgspec.structs import replace

from jobmaster.errors import ConfigurationError, NotRegistered, ScheduleConflict
from jobmaster.model.job import encode_envelope
from jobmaster.model.schedule import (
    Occurrence,
    OccurrenceRecord,
    Schedule,
    ScheduleKey,
    ScheduleKind,
    ScheduleStatus,
    Trigger,
)
from jobmaster.options import as_moment
from jobmaster.ports.schedules import ScheduleChange, ScheduleQuery
from jobmaster.presenting import job_error, schedule_id, trigger_word
from jobmaster.rules import planning
from jobmaster.rules.series import Series, finish, latest
from jobmaster.views import ScheduleRun

if TYPE_CHECKING:
    from jobmaster.gateway import Gateway
    from jobmaster.model.ids import JobKey
    from jobmaster.model.job import JobRecord
    from jobmaster.schedules.expression import Expression

TRIES: Final = 8
"""How often an order is repeated that others were faster than."""
MOST_RUNS: Final = 200
_BATCH: Final = 100
_PAGE: Final = 1_000
_LOOKED_AT: Final = 20
_NAMED: Final = ScheduleQuery(statuses=tuple(one for one in ScheduleStatus if one is not ScheduleStatus.CANCELED))


async def store_time_us(gate: Gateway) -> int:
    """The store's now, near enough for what people are shown."""
    return time.time_ns() // 1_000 + await gate.clock_ahead_us()


async def find(gate: Gateway, reference: str) -> Schedule:
    """The schedule of an id, or the one that bears the name and is not Canceled; of "shop.tick" also by "tick".

    Raises:
        NotRegistered: there is none, or there are several.
    """
    try:
        key = ScheduleKey(UUID(reference).bytes)
    except (ValueError, AttributeError):
        found = None
    else:
        found = await gate.store.get_schedule(key)
    return found or await gate.store.find_schedule(reference) or await _by_last_part(gate, reference)


async def _by_last_part(gate: Gateway, reference: str) -> Schedule:
    """The only schedule whose name ends so."""
    ending = await _those_that_say(gate, f".{reference}")
    meant = [name for name in ending if name.rpartition(".")[2] == reference]
    if len(meant) == 1:
        return ending[meant[0]]
    near = meant or await _near(gate, reference)
    if reference in near and (stored := await gate.store.find_schedule(reference)):
        return stored  # somebody has added it since
    hint = f"Did you mean {' or '.join(map(repr, near))}?" if near else "`jobmaster schedules list` shows them all."
    unknown = f"There is no schedule {reference!r}, neither by id nor by name. {hint}"
    raise NotRegistered(("" if meant else await _cancelled(gate, reference)) or unknown)


async def _those_that_say(gate: Gateway, text: str | None) -> dict[str, Schedule]:
    """Schedules by their names, as far as one page goes: of very many not all can be looked at for one question."""
    query = replace(_NAMED, text=text)
    page = await gate.store.list_schedules(query, limit=_PAGE)
    return {one.name: one for one in page.schedules if one.name}


async def _near(gate: Gateway, reference: str) -> list[str]:
    """Names that were probably meant."""
    names = await _those_that_say(gate, None)
    if len(names) >= _PAGE:  # there are more: those that begin or end alike, too
        part = max(2, len(reference) // 2)
        for text in (reference[:part], reference[-part:]):
            names |= await _those_that_say(gate, text)
    return difflib.get_close_matches(reference, names, n=3) or _near_last_parts(reference, names)


async def _cancelled(gate: Gateway, reference: str) -> str:
    """What to say of a name whose schedules were cancelled; empty: none was."""
    query = ScheduleQuery(statuses=(ScheduleStatus.CANCELED,), text=reference)
    page = await gate.store.list_schedules(query, limit=1_000)
    last = max(
        (one for one in page.schedules if one.name == reference), key=lambda one: one.ended_us or 0, default=None
    )
    if last is None:
        return ""
    when = "" if last.ended_us is None else f" at {as_moment(last.ended_us).isoformat(timespec='seconds')}"
    return (
        f"The schedule {reference!r} was cancelled{when}, so its name is free again: add a new one. What it was is "
        f"shown by its id, {schedule_id(last.key)}."
    )


def _near_last_parts(reference: str, names: Iterable[str]) -> list[str]:
    parts = {name.rpartition(".")[2]: name for name in names}
    return [parts[near] for near in difflib.get_close_matches(reference, parts, n=3)]


async def add(gate: Gateway, wanted: Schedule) -> Schedule:
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
        changed = await gate.store.change_schedule(stored.key, _towards(stored, wanted), version=stored.version)
        if changed is not None:
            return changed
    raise _conflict(stored)


async def change(gate: Gateway, reference: str, wanted: ScheduleChange, *, version: int | None = None) -> Schedule:
    """Pause, resume or the like.

    Raises:
        NotRegistered: there is no such schedule.
        ScheduleConflict: it is not of this version any more.
        ConfigurationError: it has ended.
    """
    stored = await find(gate, reference)
    if stored.status.is_final and wanted.status is None:
        raise ConfigurationError(
            f"{named(stored)} has ended ({stored.status}), so it can neither be paused nor resumed. {_taken_up(stored)}"
        )
    changed = await gate.store.change_schedule(stored.key, wanted, version=version)
    if changed is None:
        raise await _refusal(gate, stored, version)
    return changed


async def edit(
    gate: Gateway,
    reference: str,
    make: Callable[[Schedule], Awaitable[Schedule]],
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
        changed = await gate.store.change_schedule(stored.key, _towards(stored, edited), version=stored.version)
        if changed is not None:
            return changed
    raise _conflict(stored, version)


async def cancel(gate: Gateway, reference: str) -> bool:
    """End a schedule for good. False: it had ended by a cancel before.

    Raises:
        NotRegistered: there is no such schedule.
        ConfigurationError: it is defined in code.
    """
    stored = await find(gate, reference)
    refuse_code(stored, "cancelled")
    wanted = ScheduleChange(status=ScheduleStatus.CANCELED)
    return await gate.store.change_schedule(stored.key, wanted, version=None) is not None


async def run_now(gate: Gateway, reference: str, *, reply_to: str) -> Occurrence:
    """Make a job of the schedule that is due now, beside those that are planned; its end is told to `reply_to`."""
    schedule = await find(gate, reference)
    at_us = await gate.store.now_us()
    while True:
        made = _telling(planning.occurrence(schedule, at_us, now_us=at_us), reply_to)
        if (await gate.store.add_occurrences(schedule.key, [made]))[0]:
            return made
        at_us += 1  # somebody else's run has this very microsecond


async def backfill(
    gate: Gateway,
    reference: str,
    compiled: Callable[[Schedule], Expression],
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
    rule = compiled(schedule)
    begin_us = await _series_before(gate, schedule, rule, from_us) if rule.is_phased else None
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


async def _series_before(gate: Gateway, schedule: Schedule, rule: Expression, before_us: int) -> int:
    """The occurrence before a moment, from which the series goes on; else what it is counted from."""
    past = await gate.store.schedule_occurrences(schedule.key, limit=_LOOKED_AT, before_us=before_us)
    planned = (record.at_us for record in past if record.trigger is not Trigger.RUN_NOW)
    return next(planned, planning.begin(replace(schedule, cursor_us=None), rule))


def is_running(schedule: Schedule) -> bool:
    """Whether it fires at present."""
    return schedule.status is ScheduleStatus.ACTIVE and not schedule.paused and not schedule.error


async def goes_on_from(gate: Gateway, schedule: Schedule, rule: Expression) -> int:
    """The moment that its next occurrence from now on comes after."""
    now_us = await store_time_us(gate)
    if not rule.is_phased:
        return max(planning.begin(replace(schedule, cursor_us=None), rule), now_us)
    begin_us = planning.begin(schedule, rule)
    if begin_us > now_us and schedule.cursor_us is not None:
        # It is planned ahead: its series is that of the occurrence before.
        begin_us = await _series_before(gate, schedule, rule, now_us + 1)
    if begin_us >= now_us:
        return begin_us
    return finish(latest(Series(rule, end_us=schedule.rule.end_us), begin_us, now_us, 1)).goes_on_from


def reckoned(schedule: Schedule, rule: Expression, now_us: int) -> tuple[int, int | None]:
    """What `goes_on_from` and `last_run_us` answer, from the rule alone: for lists, which don't ask once a schedule.

    They differ only where a series was begun anew after a long sleep, or before the first run after a change.
    """
    begin_us = planning.begin(replace(schedule, cursor_us=None), rule)
    last_us = schedule.last_at_us
    is_ahead = last_us is not None and last_us > now_us
    if begin_us >= now_us:
        return begin_us, None if is_ahead else last_us
    after_us = now_us
    if rule.is_phased or is_ahead:
        past = finish(latest(Series(rule, end_us=schedule.rule.end_us), begin_us, now_us, 1))
        after_us = past.goes_on_from if rule.is_phased else now_us
        last_us = (past.moments[-1] if past.moments else None) if is_ahead else last_us
    return after_us, last_us


async def last_run_us(gate: Gateway, schedule: Schedule) -> int | None:
    """Its latest occurrence whose moment has come."""
    now_us = await store_time_us(gate)
    if schedule.last_at_us is not None and schedule.last_at_us <= now_us:
        return schedule.last_at_us
    if schedule.last_at_us is None:
        return None
    records = await gate.store.schedule_occurrences(schedule.key, limit=1, before_us=now_us + 1)
    return records[0].at_us if records else None


async def runs(gate: Gateway, reference: str, limit: int) -> Sequence[ScheduleRun]:
    """Its occurrences whose moment has come, newest first, with their jobs."""
    if isinstance(limit, bool) or not 1 <= limit <= MOST_RUNS:
        raise ConfigurationError(f"limit is {limit!r}, but a history has 1 to {MOST_RUNS} runs.")
    schedule = await find(gate, reference)
    before_us = await store_time_us(gate) + 1
    records = await gate.store.schedule_occurrences(schedule.key, limit=limit, before_us=before_us)
    return [await _run(gate, record) for record in records]


async def _run(gate: Gateway, record: OccurrenceRecord) -> ScheduleRun:
    at, job = as_moment(record.at_us), await gate.questions.get_job(record.key)
    shown = ScheduleRun(at=at, trigger=trigger_word(record.trigger), job_id=schedule_id(record.key) or "")
    return shown if job is None else await _with_job(gate, shown, record, job)


async def _with_job(gate: Gateway, run: ScheduleRun, record: OccurrenceRecord, job: JobRecord) -> ScheduleRun:
    first_us = job.started_us
    if first_us is not None and job.attempts > 1:
        attempts = await gate.questions.job_attempts(record.key)
        first_us = min([first_us, *(one.started_us for one in attempts if one.started_us is not None)])
    started, finished = job.started_us, job.finished_us
    return dataclasses.replace(
        run,
        status=job.status,
        started_at=None if started is None else as_moment(started),
        finished_at=None if finished is None else as_moment(finished),
        lateness=None if first_us is None else timedelta(microseconds=first_us - record.at_us),
        duration=None if started is None or finished is None else timedelta(microseconds=finished - started),
        attempts=job.attempts,
        reason=job.reason,
        error=job_error(job.error),
    )


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


async def _refusal(gate: Gateway, stored: Schedule, version: int | None) -> Exception:
    present = await gate.store.get_schedule(stored.key)
    if present is None:
        return NotRegistered(f"{named(stored)} is gone.")
    if version is not None and present.version != version:
        return _conflict(present, version)
    return ConfigurationError(f"{named(present)} is {present.status}, so that cannot be done with it.")


def _conflict(stored: Schedule, version: int | None = None) -> ScheduleConflict:
    meant = "while it was changed" if version is None else f"since version {version}"
    return ScheduleConflict(
        f"{named(stored)} was changed by somebody else {meant}: it has version {stored.version} now, and nothing was "
        "changed. Look at it again, and repeat it for this version.",
        version=stored.version,
    )
