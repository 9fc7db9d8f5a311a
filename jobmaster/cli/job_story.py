"""What happened to one job, step by step: who ran it, why a run ended that had no outcome, and what followed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from jobmaster.model.reasons import HANDED_BACK, QUARANTINED, TAKEN_BACK, WORKER_LOST
from jobmaster.model.states import JobStatus

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from datetime import datetime

    from jobmaster.views import AttemptInfo, JobInfo


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One line of the story. `at` is None where nobody wrote the moment down.

    `event`: accepted, started, lost, taken back, handed back, failed, repeated, quarantined, ended, runs, waits,
    unrecorded.
    """

    at: datetime | None
    event: str
    text: str
    attempt: int | None = None
    worker: str | None = None
    host: str | None = None
    pid: int | None = None


def story(job: JobInfo, attempts: Sequence[AttemptInfo]) -> list[Step]:
    """The steps of a job's life, the first one first."""
    steps = [Step(at=job.created_at, event="accepted", text=f"accepted, lane {job.lane}")]
    unknown = set(range(1, job.attempts)).difference(attempt.attempt for attempt in attempts)
    for attempt in attempts:
        steps += _unrecorded(unknown, before=attempt.attempt)
        steps += _of_attempt(attempt)
    steps += _unrecorded(unknown, before=job.attempts)
    told = {attempt.attempt for attempt in attempts if attempt.reason != HANDED_BACK}
    if job.attempts and job.attempts not in told and job.started_at is not None:
        text = f"attempt {job.attempts} started on {_place(job.worker, bucket=job.bucket)}"
        steps.append(Step(at=job.started_at, event="started", text=text, attempt=job.attempts, worker=job.worker))
    steps.append(_now(job))
    return steps


def _unrecorded(unknown: set[int], *, before: int) -> Iterator[Step]:
    """Attempts that nothing is known of: one that succeeded, for example, until a person ran the job again."""
    for number in sorted(number for number in unknown if number < before):
        unknown.remove(number)
        text = f"attempt {number} has no record: it did not fail, and somebody ran the job again"
        yield Step(at=None, event="unrecorded", text=text, attempt=number)


def _of_attempt(attempt: AttemptInfo) -> Iterator[Step]:
    place = _place(attempt.worker, host=attempt.host, pid=attempt.pid, bucket=attempt.bucket)
    if attempt.started_at is not None:
        yield _step(attempt, attempt.started_at, "started", f"started on {place}")
    event, why = _end_of(attempt)
    unnoted = f" on {place}" if attempt.started_at is None else ""  # it died within its first second
    yield _step(attempt, attempt.finished_at, event, f"{event}{unnoted}: {why}")


def _step(attempt: AttemptInfo, at: datetime | None, event: str, text: str) -> Step:
    return Step(
        at=at,
        event=event,
        text=f"attempt {attempt.attempt} {text}",
        attempt=attempt.attempt,
        worker=attempt.worker,
        host=attempt.host,
        pid=attempt.pid,
    )


def _place(worker: str | None, *, host: str | None = None, pid: int | None = None, bucket: int | None = None) -> str:
    known = {"host": host, "pid": pid, "bucket": bucket}
    place = ", ".join(f"{name} {value}" for name, value in known.items() if value)
    return (worker or "an unknown worker") + (f" ({place})" if place else "")


def _end_of(attempt: AttemptInfo) -> tuple[str, str]:
    error = attempt.error
    match attempt.reason:
        case reason if reason == WORKER_LOST:
            return "lost", error.message if error else _unseen(attempt)
        case reason if reason == TAKEN_BACK:
            return "taken back", "its worker lived on and had it no more: an answer was lost, or its lease had ended"
        case reason if reason == HANDED_BACK:
            return "handed back", "its worker stopped before it had ended; the attempt is not spent"
        case reason if reason == QUARANTINED:
            return "quarantined", error.message if error else "its process died too often"
    if attempt.status is JobStatus.HELD_ON_MASTER:
        return "repeated", attempt.reason or "it asked for another run"
    said = f"{error.type}: {error.message}" if error else ""
    return "failed", said or attempt.reason or "without words"


def _unseen(attempt: AttemptInfo) -> str:
    """No supervisor has told of a death: the host or the whole tree of processes is gone, or hung too long."""
    if attempt.lease_until is None:
        return "its worker vanished, and nobody saw how"
    return (
        "its worker vanished, and nobody saw how (its whole tree or its host died, hung, or was cut off); "
        f"its lease ended at {attempt.lease_until:%H:%M:%S}"
    )


def _now(job: JobInfo) -> Step:
    reason = f" ({job.reason})" if job.reason else ""
    if job.status.is_final:
        return Step(at=job.finished_at, event="ended", text=f"{str(job.status).lower()}{reason}", attempt=job.attempts)
    if job.status is JobStatus.PROCESSING:
        return Step(at=None, event="runs", text=f"attempt {job.attempts} runs", attempt=job.attempts, worker=job.worker)
    return Step(at=job.due_at, event="waits", text=f"waits as {job.status}{reason}, due then")
