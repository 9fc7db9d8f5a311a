"""What follows from the end of an execution: a final status or another attempt, and when."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from jobmaster.model import reasons
from jobmaster.model.run import End, Ended
from jobmaster.model.states import JobStatus

if TYPE_CHECKING:
    from collections.abc import Callable

    from jobmaster.model.backoff import Backoff

SECOND = 1_000_000


class Next(NamedTuple):
    """`status` HeldOnMaster means another attempt after `delay_us`; `failures` counts this end where it was one."""

    status: JobStatus
    failures: int
    delay_us: int = 0
    reason: str = ""


_PLAIN = {
    End.RETURNED: (JobStatus.SUCCEEDED, ""),
    End.IGNORED: (JobStatus.SUCCEEDED, reasons.IGNORED),
    End.REJECTED: (JobStatus.FAILED, reasons.REJECTED),
    End.CANCELLED: (JobStatus.CANCELLED, ""),
}


def backoff_us(backoff: Backoff, *, failures: int, random: Callable[[], float]) -> int:
    """Delay before the attempt that follows the `failures`-th failure: base * factor^(failures - 1), capped.

    With jitter the delay is uniform between 0 and that ("full jitter"). `random` gives numbers in [0, 1).
    """
    exponent = min(failures - 1, 64)
    delay = min(backoff.base * backoff.factor**exponent, backoff.cap)
    return round(delay * (random() if backoff.jitter else 1.0) * SECOND)


def after(ended: Ended, *, failures: int, max_retries: int, backoff: Backoff, random: Callable[[], float]) -> Next:
    """The decision for one ended execution; `failures` are those before it."""
    if ended.end in _PLAIN:
        status, reason = _PLAIN[ended.end]
        return Next(status, failures, 0, ended.reason or reason)
    if ended.end is End.REQUEUED:
        return Next(JobStatus.HELD_ON_MASTER, failures, 0, ended.reason)
    if ended.end is End.CRASHED:  # a recovery: it is counted as such, and spends no retry
        return Next(JobStatus.HELD_ON_MASTER, failures, 0, reasons.WORKER_LOST)
    spent = failures + 1
    limit = max_retries if ended.max_retries is None else ended.max_retries
    if not ended.retryable or spent > limit:
        return Next(JobStatus.FAILED, spent, 0, ended.reason or _reason(ended.end))
    if ended.countdown is not None:
        return Next(JobStatus.HELD_ON_MASTER, spent, max(0, round(ended.countdown * SECOND)), ended.reason)
    return Next(JobStatus.HELD_ON_MASTER, spent, backoff_us(backoff, failures=spent, random=random), ended.reason)


def _reason(end: End) -> str:
    return reasons.TIMED_OUT if end is End.TIMED_OUT else ""
