"""What the end of a run means: the outcome that the finisher writes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec.structs import replace

from jobmaster.model import reasons
from jobmaster.model.job import ErrorInfo, Outcome
from jobmaster.model.run import End, Ended
from jobmaster.model.states import JobStatus
from jobmaster.rules import retry

if TYPE_CHECKING:
    from collections.abc import Callable

    from jobmaster.engine.life import Entry
    from jobmaster.model.policy import TaskPolicy


def returned(entry: Entry, ended: Ended, *, finished_us: int) -> Outcome:
    """The outcome of a run that came to its end: most jobs take this way."""
    return Outcome(
        entry.key,
        entry.gen,
        entry.envelope,
        entry.payload,
        entry.due_us,
        JobStatus.SUCCEEDED,
        entry.attempts,
        entry.seq,
        entry.failures,
        entry.started_us,
        finished_us,
        0,
        ended.result,
        None,
        ended.reason,
        ended.checkpoint or entry.checkpoint,
    )


def after_run(
    entry: Entry,
    policy: TaskPolicy,
    ended: Ended,
    *,
    finished_us: int,
    cancelled: bool,
    random: Callable[[], float],
) -> Outcome:
    """The outcome of any other run: another attempt, or the end.

    Args:
        entry: its job.
        policy: of its task.
        ended: how it ended; not INTERRUPTED, which hands the job back.
        finished_us: when, by the store's clock.
        cancelled: this worker was told to cancel the job.
        random: numbers in [0, 1).
    """
    if ended.end is End.CANCELLED and not cancelled:
        ended = Ended(End.RAISED, error=ended.error, reason=ended.reason or reasons.INTERRUPTED)
    elif ended.end is End.TIMED_OUT and ended.error is None:
        ended = replace(ended, error=_time_limit_exceeded(entry))
    decision = retry.after(
        ended,
        failures=entry.failures,
        max_retries=policy.max_retries if entry.envelope.max_retries is None else entry.envelope.max_retries,
        backoff=policy.backoff,
        random=random,
    )
    return outcome_with(
        entry,
        decision.status,
        finished_us=finished_us,
        failures=decision.failures,
        delay_us=decision.delay_us,
        reason=decision.reason,
        ended=ended,
    )


def _time_limit_exceeded(entry: Entry) -> ErrorInfo:
    limit = "" if entry.run is None or entry.run.timeout is None else f" of {entry.run.timeout:g} s"
    return ErrorInfo(
        "jobmaster.errors.TimeLimitExceeded",
        f"Task {entry.envelope.task} ran longer than its hard time limit{limit} and was stopped. Give it more time "
        "with timeout=, or do less in one job; soft_timeout= lets it end by itself before.",
    )


def outcome_with(
    entry: Entry,
    status: JobStatus,
    *,
    finished_us: int,
    failures: int | None = None,
    delay_us: int = 0,
    reason: str = "",
    ended: Ended | None = None,
) -> Outcome:
    """An outcome with this status, of a job that did not start or whose run (if any) ended as `ended`."""
    return Outcome(
        key=entry.key,
        gen=entry.gen,
        envelope=entry.envelope,
        payload=entry.payload,
        due_us=entry.due_us,
        status=status,
        attempt=entry.attempts,
        seq=entry.seq,
        failures=entry.failures if failures is None else failures,
        started_us=entry.started_us or None,
        finished_us=finished_us,
        delay_us=delay_us,
        result=ended.result if ended else None,
        error=ended.error if ended else None,
        reason=reason,
        checkpoint=(ended.checkpoint if ended else None) or entry.checkpoint,
        recovered=ended is not None and ended.end is End.CRASHED and status is JobStatus.HELD_ON_MASTER,
    )
