"""What a schedule has done and what comes next: its runs, and the moment from which its series goes on."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Final, TypeVar

from msgspec.structs import replace

from jobmaster.errors import ConfigurationError
from jobmaster.model.schedule import OccurrenceRecord, Schedule, ScheduleStatus, Trigger
from jobmaster.options import as_moment
from jobmaster.presenting import job_error, schedule_id, trigger_word
from jobmaster.rules import planning
from jobmaster.rules.series import Series, finish, latest
from jobmaster.schedule_finding import find
from jobmaster.views import ScheduleRun

if TYPE_CHECKING:
    from jobmaster.gateway import Gateway
    from jobmaster.model.job import JobRecord
    from jobmaster.rules.series import Steps
    from jobmaster.schedules.expression import Expression

MOST_RUNS: Final = 200
_LOOKED_AT: Final = 20
_STEPS_OF_A_PAGE: Final = 10_000
"""Steps along the rules of a page, for reckoning, and as many for going on from what is stored."""
_SECONDS_OF_A_PAGE: Final = 0.25
"""The same in processor time: some steps are leaps, and cost more."""
_RECKONED: Final = 400
"""Steps for one schedule: a year of days. Where it takes more, the store says where its series stands."""
_GONE_ON: Final = 2_000

_T = TypeVar("_T")


class Patience:
    """How much many searches along rules may cost together: who asks for a list wants an answer soon.

    Args:
        steps: of all of them.
        seconds: of this thread's processor time.
    """

    def __init__(self, steps: int, seconds: float) -> None:
        self._steps = steps
        self._seconds = seconds

    def take(self, steps: Steps[_T], most: int) -> _T | None:
        """Take the steps of one search, at most `most` of them; None: it takes more, or nothing is left."""
        before = time.thread_time()
        for _ in range(min(most, self._steps)):
            if self._seconds <= 0:
                break
            self._steps -= 1
            try:
                next(steps)
            except StopIteration as end:
                result: _T = end.value
                return result
            finally:
                now = time.thread_time()
                self._seconds -= now - before
                before = now
        return None


class PageOfSeries:
    """Where the series of many schedules stand, told soon, whatever rules are among them."""

    def __init__(self) -> None:
        self._reckoning = Patience(_STEPS_OF_A_PAGE, _SECONDS_OF_A_PAGE)
        self._going_on = Patience(_STEPS_OF_A_PAGE, _SECONDS_OF_A_PAGE)

    async def stands(self, gate: Gateway, schedule: Schedule, rule: Expression) -> tuple[int | None, int | None]:
        """What `goes_on_from` and `last_run_us` answer; the store is asked only where reckoning is long.

        The first is None where nobody has planned for so long that the series had to be followed through all of it.
        """
        found = _reckoned(schedule, rule, await store_time_us(gate), self._reckoning)
        if found is not None:
            return found
        return await goes_on_from(gate, schedule, rule, self._going_on), await last_run_us(gate, schedule)


async def store_time_us(gate: Gateway) -> int:
    """The store's now, near enough for what people are shown."""
    return time.time_ns() // 1_000 + await gate.clock_ahead_us()


async def series_before(gate: Gateway, schedule: Schedule, rule: Expression, before_us: int) -> int:
    """The occurrence before a moment, from which the series goes on; else what it is counted from."""
    past = await gate.store.schedule_occurrences(schedule.key, limit=_LOOKED_AT, before_us=before_us)
    planned = (record.at_us for record in past if record.trigger is not Trigger.RUN_NOW)
    return next(planned, planning.begin(replace(schedule, cursor_us=None), rule))


def is_running(schedule: Schedule) -> bool:
    """Whether it fires at present."""
    return schedule.status is ScheduleStatus.ACTIVE and not schedule.paused and not schedule.error


async def goes_on_from(
    gate: Gateway, schedule: Schedule, rule: Expression, patience: Patience | None = None
) -> int | None:
    """The moment that its next occurrence from now on comes after; None: `patience` is too short to tell."""
    now_us = await store_time_us(gate)
    if not rule.is_phased:
        return max(planning.begin(replace(schedule, cursor_us=None), rule), now_us)
    begin_us = planning.begin(schedule, rule)
    if begin_us > now_us and schedule.cursor_us is not None:
        # It is planned ahead: its series is that of the occurrence before.
        begin_us = await series_before(gate, schedule, rule, now_us + 1)
    if begin_us >= now_us:
        return begin_us
    steps = latest(Series(rule, end_us=schedule.rule.end_us), begin_us, now_us, 1)
    past = finish(steps) if patience is None else patience.take(steps, _GONE_ON)
    return None if past is None else past.goes_on_from


def _reckoned(schedule: Schedule, rule: Expression, now_us: int, patience: Patience) -> tuple[int, int | None] | None:
    """From the rule alone; None: that takes long.

    It differs only where a series was begun anew after a long sleep, or before the first run after a change.
    """
    begin_us = planning.begin(replace(schedule, cursor_us=None), rule)
    last_us = schedule.last_at_us
    is_ahead = last_us is not None and last_us > now_us
    if begin_us >= now_us:
        return begin_us, None if is_ahead else last_us
    after_us = now_us
    if rule.is_phased or is_ahead:
        steps = latest(Series(rule, end_us=schedule.rule.end_us), begin_us, now_us, 1)
        past = patience.take(steps, _RECKONED)
        if past is None:
            return None
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
        job_id=(job.envelope and job.envelope.custom_id) or run.job_id,
        status=job.status,
        started_at=None if started is None else as_moment(started),
        finished_at=None if finished is None else as_moment(finished),
        lateness=None if first_us is None else timedelta(microseconds=first_us - record.at_us),
        duration=None if started is None or finished is None else timedelta(microseconds=finished - started),
        attempts=job.attempts,
        reason=job.reason,
        error=job_error(job.error),
    )
