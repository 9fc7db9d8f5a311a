"""What becomes of a job that has not started when its `expires` comes."""

from __future__ import annotations

from typing import NamedTuple

from jobmaster.model.job import Envelope, with_expiry
from jobmaster.model.reasons import EXPIRED, MISSED
from jobmaster.model.schedule import Trigger
from jobmaster.model.states import JobStatus


class Expiry(NamedTuple):
    """How it ends."""

    status: JobStatus
    reason: str


_CALLED = Expiry(JobStatus.FAILED, EXPIRED)
_PLANNED = Expiry(JobStatus.CANCELLED, MISSED)


def expiry_of(envelope: Envelope, attempts: int) -> Expiry | None:
    """How a job ends whose `expires` has passed; None: it goes on.

    The expiry of a schedule's occurrence is its misfire policy: nobody started it in time, and nothing has failed. One
    that began was in time, and its retries are its own.
    """
    if envelope.trigger == Trigger.CALL:
        return _CALLED
    return None if attempts else _PLANNED


def once_more(payload: bytes, expires_us: int | None, due_us: int) -> tuple[bytes, int | None]:
    """The envelope and the expiry of a job that a person runs again, at `due_us`.

    What has passed by then does not count any more: the person knows how old the job is.
    """
    if expires_us is None or expires_us > due_us:
        return payload, expires_us
    return with_expiry(payload, None), None


def put_off(payload: bytes, expires_us: int | None, trigger: int, due_us: int) -> tuple[bytes, int | None]:
    """The same of one that waits, and that a person gives another time.

    An occurrence's misfire policy is done with; what somebody has called expires when they said.
    """
    return (payload, expires_us) if trigger == Trigger.CALL else once_more(payload, expires_us, due_us)


def own_expiry_us(template: Envelope, at_us: int, made_us: int, trigger: int) -> int | None:
    """When an occurrence expires as its schedule's user said it, whatever its misfire policy says; None: never.

    In a template `expires` counts from its moment. `made_us`: when the job was made; a run now, or a backfilled one,
    has its time from then on.
    """
    if template.expires_us is None:
        return None
    begin_us = at_us if trigger == Trigger.SCHEDULE else max(at_us, made_us)
    return begin_us + template.expires_us - template.scheduled_us
