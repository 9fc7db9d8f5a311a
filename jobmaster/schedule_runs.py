"""Runs that people make of a schedule beside those that are planned: one now, or those of moments that have passed."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Final, NamedTuple

from msgspec.structs import replace

from jobmaster.errors import ConfigurationError, DuplicateJob, NotRegistered, OutcomeUnknown, StoreUnavailable
from jobmaster.model.ids import JobKey, key_text, new_job_key
from jobmaster.model.job import encode_envelope
from jobmaster.model.schedule import Occurrence, ScheduleKey
from jobmaster.options import as_moment, plan_call
from jobmaster.rules import planning
from jobmaster.rules.series import finish
from jobmaster.schedule_finding import find
from jobmaster.schedule_history import series_before
from jobmaster.schedule_orders import named

if TYPE_CHECKING:
    from jobmaster.gateway import Gateway
    from jobmaster.schedule_settling import Rules

_BATCH: Final = 100
_PAGE: Final = 1_000


class RunPlan(NamedTuple):
    """The key of the job of a run by hand, and its id where that is no UUID."""

    key: JobKey
    custom_id: str | None

    @property
    def job_id(self) -> str:
        """As people write it."""
        return self.custom_id or key_text(self.key)


def run_plan(job_id: str | None) -> RunPlan:
    """For the id that a caller chose, or a new one; raises ConfigurationError where that cannot be an id."""
    if job_id is None:
        return RunPlan(new_job_key(), None)
    plan = plan_call({"job_id": job_id})
    return RunPlan(plan.key or new_job_key(), plan.custom_id)


@contextlib.contextmanager
def repeatable(plan: RunPlan) -> Iterator[None]:
    """Whoever does not know whether the run was made is told by which id to repeat it."""
    try:
        yield
    except StoreUnavailable as error:
        if not isinstance(error, OutcomeUnknown) and not isinstance(error.__cause__, TimeoutError):
            raise
        raise OutcomeUnknown(
            f"{error} The run may be there or not. Repeat it with job_id={plan.job_id!r}: the same id is the same run.",
            job_id=plan.job_id,
        ) from error


async def run_now(gate: Gateway, reference: str, plan: RunPlan, *, reply_to: str) -> Occurrence:
    """Make a job of the schedule that is due now, beside those that are planned; its end is told to `reply_to`.

    Where its job is there already, nothing is made: the same key is the same run.

    Raises:
        NotRegistered: there is no such schedule.
        DuplicateJob: the job of this key is none of this schedule.
    """
    schedule = await find(gate, reference)
    at_us = await gate.store.now_us()
    while True:
        made = _telling(planning.run_now(schedule, at_us, key=plan.key, custom_id=plan.custom_id), reply_to)
        if (await gate.store.add_occurrences(schedule.key, [made]))[0]:
            return made
        there = await gate.questions.get_job(plan.key)
        if there is None:
            at_us += 1  # somebody else's run has this very microsecond
            if await gate.store.get_schedule(schedule.key) is None:
                raise NotRegistered(f"{named(schedule)} is gone: it had ended, and retention has just deleted it.")
        elif there.envelope is not None and there.envelope.schedule == schedule.key:
            return made
        else:
            raise DuplicateJob(
                f"The job {plan.job_id!r} is there, and no run of {named(schedule)}. Give another job_id, or none.",
                existing=plan.job_id,
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
