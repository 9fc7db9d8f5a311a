"""Which occurrences of a schedule become jobs now, and when its planner must look again (docs/decisions/0013).

Everything here is a pure function of the schedule, its rule and the store's now: planners at work at once make the
same jobs, and the store takes the plan of one of them. Questions to a rule cost something, so that planning is a
generator: it yields after each of them, and returns its result.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from msgspec.structs import replace

from jobmaster.model.job import Envelope, NewJob, decode_envelope, encode_envelope
from jobmaster.model.schedule import (
    MOST_OCCURRENCES,
    Misfire,
    Occurrence,
    Overlap,
    Plan,
    ScheduleStatus,
    Trigger,
    occurrence_key,
)
from jobmaster.rules.expiry import own_expiry_us
from jobmaster.rules.series import SECOND, Missed, Series, Steps, finish, latest
from jobmaster.rules.storable import LATEST_US

if TYPE_CHECKING:
    from jobmaster.model.ids import JobKey
    from jobmaster.model.schedule import Rule, Schedule
    from jobmaster.schedules.expression import Expression

__all__ = ["LOOK_AGAIN_US", "backfill", "begin", "finish", "parked", "plan", "run_now"]

LOOK_AGAIN_US: Final = 86_400 * SECOND
"""A schedule is looked at once a day at least: the rules of its time zone may have changed."""
_BREATH_US: Final = SECOND // 4
"""A rule with more occurrences than a pass may plan waits so long for the next pass: it must not plan for ever."""
_MOST_BYTES: Final = 4_000_000
"""Of the jobs of one plan, roughly: they travel in one transaction."""
_LONGEST_ERROR: Final = 500
_GIVES_UP_RUNS: Final = frozenset({int(Overlap.SKIP), int(Overlap.CANCEL_PREVIOUS)})


def plan(schedule: Schedule, rule: Expression, *, now_us: int, horizon_us: int) -> Steps[Plan]:
    """What comes up to now + `horizon_us` and is not planned yet, at most MOST_OCCURRENCES, fewer of large jobs.

    Occurrences that came while nobody planned run as usual if the oldest of them is within the grace: a take-over is no
    misfire. Otherwise the policy decides on all of them at once.

    Raises:
        Exception: whatever the rule raises; `parked` is the plan for it.
    """
    terms = schedule.rule
    series = Series(rule, end_us=terms.end_us)
    begins = at = begin(schedule, rule)
    limit_us = now_us + horizon_us
    most = max(1, min(MOST_OCCURRENCES, _MOST_BYTES // (len(schedule.template) + 1)))
    upcoming = series.after(at)
    yield
    chosen: list[int] = []
    if upcoming is not None and upcoming < now_us - terms.misfire_grace_us:
        missed: Missed = yield from latest(series, at, now_us, max(1, _most(terms)))
        chosen = missed.moments[: min(most, _most(terms))]
        at = missed.goes_on_from if len(chosen) < most else chosen[-1]
        upcoming = series.after(at)
        yield
    while upcoming is not None and upcoming <= limit_us and len(chosen) < most:
        chosen.append(upcoming)
        at = upcoming
        upcoming = series.after(at)
        yield
    following = chosen + (yield from _following(series, upcoming, _most(terms) if chosen else 0))
    plan_at_us = _look_again(schedule, chosen, upcoming, now_us=now_us, horizon_us=horizon_us)
    if series.phased:  # it goes on from its last occurrence
        cursor_us = schedule.cursor_us if at == begins else at
    else:
        covered_us = limit_us if upcoming is None or upcoming > limit_us else at
        cursor_us = max(covered_us, schedule.cursor_us or covered_us)
    return Plan(
        key=schedule.key,
        version=schedule.version,
        cursor_us=schedule.cursor_us,
        occurrences=_occurrences(schedule, chosen, following, now_us),
        new_cursor_us=cursor_us,
        plan_at_us=plan_at_us,
        status=ScheduleStatus.COMPLETED if plan_at_us is None and not _is_never(rule) else ScheduleStatus.ACTIVE,
    )


def _is_never(rule: Expression) -> bool:
    """It has no end either: people start it for as long as it is there."""
    return rule.type_id == "Never-Recurs"


def parked(schedule: Schedule, error: Exception) -> Plan:
    """What is written about a schedule whose rule cannot be computed: nobody plans it until somebody mends it."""
    text = f"{type(error).__name__}: {error}"
    return Plan(
        key=schedule.key,
        version=schedule.version,
        cursor_us=schedule.cursor_us,
        occurrences=[],
        new_cursor_us=schedule.cursor_us,
        plan_at_us=None,
        error=text if len(text) <= _LONGEST_ERROR else text[: _LONGEST_ERROR - 3] + "...",
    )


def backfill(
    schedule: Schedule,
    rule: Expression,
    *,
    from_us: int,
    until_us: int,
    now_us: int,
    most: int,
    begin_us: int | None = None,
) -> Steps[list[Occurrence]]:
    """The past occurrences in [from, until], due at once and without an expiry, at most `most` of them.

    A series whose occurrences depend on each other goes on from `begin_us`, one of them or what it is counted from;
    without that it begins anew at `from_us`. One that was planned then is the same job, so that the store leaves it
    alone.
    """
    series = Series(rule, end_us=min(until_us, now_us))
    base = from_us - 1
    if series.phased:
        base = from_us if begin_us is None else begin_us
        if base < from_us - 1:
            base = (yield from latest(series, base, from_us - 1, 1)).goes_on_from
    at = series.after(base)
    yield
    found: list[int] = []
    while at is not None and len(found) < most:
        found.append(at)
        at = series.after(at)
        yield
    template = _template(schedule)
    if template.overlap in _GIVES_UP_RUNS:  # whoever asks for each of them does not mean the last alone
        template = replace(template, overlap=int(Overlap.QUEUE))
    return [_occurrence(schedule, template, at, now_us, trigger=Trigger.BACKFILL, due_us=at) for at in found]


def run_now(schedule: Schedule, at_us: int, *, key: JobKey, custom_id: str | None = None) -> Occurrence:
    """One run beside what is planned, due at that moment, whose job has this key."""
    template = replace(_template(schedule), custom_id=custom_id)
    return _occurrence(schedule, template, at_us, at_us, trigger=Trigger.RUN_NOW, due_us=at_us, key=key)


def begin(schedule: Schedule, rule: Expression) -> int:
    """The moment that the next occurrence to be planned comes after.

    An occurrence exactly at the schedule's start counts, unless the start is what a series counts from.
    """
    start_us = schedule.rule.start_us
    since_us = schedule.since_us if schedule.cursor_us is None else schedule.cursor_us
    if start_us is None or (rule.is_phased and schedule.cursor_us is not None):
        return since_us
    return max(since_us, start_us if rule.is_phased else start_us - 1)


def _most(terms: Rule) -> int:
    """How many occurrences that nobody started in time still run; the next one supersedes them one by one."""
    if terms.misfire is Misfire.SKIP:
        return 0
    return 1 if terms.misfire is Misfire.ONCE else max(1, min(terms.misfire_limit, MOST_OCCURRENCES))


def _following(series: Series, upcoming: int | None, count: int) -> Steps[list[int]]:
    """The next `count` occurrences, of which the first is known."""
    found: list[int] = []
    while upcoming is not None and len(found) < count:
        found.append(upcoming)
        if len(found) < count:
            upcoming = series.after(upcoming)
            yield
    return found


def _look_again(
    schedule: Schedule, chosen: list[int], upcoming: int | None, *, now_us: int, horizon_us: int
) -> int | None:
    """When a planner must look at it again; None: never, its last occurrence has come."""
    last_us = max(now_us, (chosen[-1] if chosen else schedule.last_at_us) or now_us)
    if upcoming is None:
        return last_us if last_us > now_us else None
    if upcoming <= now_us + horizon_us:
        return max(now_us + _BREATH_US, (now_us + last_us) // 2)
    return min(max(now_us + horizon_us // 2, upcoming - horizon_us), now_us + LOOK_AGAIN_US)


def _occurrences(schedule: Schedule, chosen: list[int], following: list[int], now_us: int) -> list[Occurrence]:
    if not chosen:
        return []
    template, terms = _template(schedule), schedule.rule
    return [
        _occurrence(schedule, template, at, now_us, superseded_us=_superseded(terms, following, index))
        for index, at in enumerate(chosen)
    ]


def _superseded(terms: Rule, following: list[int], index: int) -> int | None:
    """When so many newer occurrences have come that this one is none of the last that may run late."""
    if terms.misfire is Misfire.SKIP:
        return 0
    later = index + _most(terms)
    return following[later] if later < len(following) else None


def _template(schedule: Schedule) -> Envelope:
    return replace(
        decode_envelope(schedule.template),
        task=schedule.task,
        lane=schedule.lane,
        priority=schedule.priority,
        schedule=schedule.key,
        overlap=int(schedule.rule.overlap),
    )


def _occurrence(
    schedule: Schedule,
    template: Envelope,
    at_us: int,
    now_us: int,
    *,
    trigger: Trigger = Trigger.SCHEDULE,
    due_us: int | None = None,
    superseded_us: int | None = None,
    key: JobKey | None = None,
) -> Occurrence:
    key = key or occurrence_key(schedule.key, at_us, trigger)
    if due_us is None:
        due_us = min(at_us + int.from_bytes(key[9:], "big") % (schedule.rule.jitter_us + 1), LATEST_US)
    expires_us = None if superseded_us is None else max(superseded_us, due_us + schedule.rule.misfire_grace_us)
    own_us = own_expiry_us(template, at_us, now_us, trigger)
    if own_us is not None:
        expires_us = own_us if expires_us is None else min(expires_us, own_us)
    if expires_us is not None and expires_us > LATEST_US:
        expires_us = None
    envelope = replace(template, created_us=now_us, scheduled_us=at_us, expires_us=expires_us, trigger=int(trigger))
    verify = schedule.rule.overlap is not Overlap.ALLOW
    return Occurrence(at_us, NewJob(key, envelope, encode_envelope(envelope), due_us=due_us, verify=verify), trigger)
