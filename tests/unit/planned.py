"""Plans of a schedule as planners make them, and what a store makes of them."""

from __future__ import annotations

from typing import Any

from msgspec.structs import replace

from jobmaster.model.schedule import Occurrence, Plan, Schedule
from jobmaster.rules.planning import finish, plan
from tests.unit.planning_rules import DAY, EPOCH, HOUR, SECOND, Aligned, Followed, Leaping, schedule

HORIZON = 600 * SECOND
KINDS = [Aligned, Leaping, Followed]
AWAKE = EPOCH + HOUR + 3 * DAY
"""When somebody plans again after three days that `asleep` leaves out."""


def planned(subject: Schedule, rule: Any, now_us: int, *, horizon_us: int = HORIZON) -> Plan:
    return finish(plan(subject, rule, now_us=now_us, horizon_us=horizon_us))


def moments(made: Plan) -> list[int]:
    return [occurrence.at_us for occurrence in made.occurrences]


def after(subject: Schedule, made: Plan) -> Schedule:
    """What a store makes of it."""
    assert (made.key, made.version, made.cursor_us) == (subject.key, subject.version, subject.cursor_us)
    return replace(
        subject,
        cursor_us=made.new_cursor_us,
        plan_at_us=made.plan_at_us,
        last_at_us=moments(made)[-1] if made.occurrences else subject.last_at_us,
        status=made.status,
    )


def asleep(rule: Any, lasts_us: int, **fields: Any) -> tuple[list[Occurrence], int]:
    """Plan as planners do for an hour, nobody for so long, then once more: what runs late, and the questions of it.

    Jobs run when they are due while somebody is awake. What is due at the awakening runs unless it has expired.
    """
    subject, now, waiting = schedule(**fields), EPOCH, {}
    while now < EPOCH + HOUR:
        made = planned(subject, rule, now)
        waiting |= {job.at_us: job for job in made.occurrences}
        subject = after(subject, made)
        now = min(EPOCH + HOUR, max(now + 1, made.plan_at_us or 0))
    waiting = {at: job for at, job in waiting.items() if (job.job.due_us or 0) > now}
    now += lasts_us
    rule.questions = 0
    while subject.plan_at_us is not None and subject.plan_at_us <= now + SECOND:
        made = planned(subject, rule, now)
        waiting |= {job.at_us: job for job in made.occurrences}
        subject = after(subject, made)
    late = [job for job in waiting.values() if (job.job.due_us or 0) <= now]
    return [job for job in late if (job.job.envelope.expires_us or now + 1) > now], rule.questions
