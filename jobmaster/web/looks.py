"""How values are told to people: labels and signs of statuses, moments, durations, ids, payloads."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from jobmaster.model.states import JobStatus

if TYPE_CHECKING:
    from jobmaster.views import JobInfo

NOTHING: Final = "\N{EN DASH}"
LONGEST_PAYLOAD: Final = 20_000
LONGEST_ID: Final = 28
ONE_LINE: Final = 60
UUID_LENGTH: Final = 36


@dataclass(frozen=True, slots=True)
class Look:
    """A status as it is shown: word, sign and the name of its colour, so that no meaning is in the colour alone."""

    label: str
    sign: str
    tone: str


_LOOKS: Final = {
    JobStatus.SAVE_PENDING: Look("Accepted", "◌", "accepted"),
    JobStatus.HELD_ON_MASTER: Look("Held", "◷", "held"),
    JobStatus.ASSIGNED_TO_BUCKET: Look("Assigned", "▤", "assigned"),
    JobStatus.QUEUED: Look("Queued", "▥", "queued"),
    JobStatus.PROCESSING: Look("Running", "◐", "running"),
    JobStatus.SUCCEEDED: Look("Succeeded", "✓", "succeeded"),
    JobStatus.FAILED: Look("Failed", "✕", "failed"),
    JobStatus.CANCELLED: Look("Cancelled", "⊘", "cancelled"),
}
_SCHEDULED: Final = Look("Scheduled", "◷", "held")
_RETRYING: Final = Look("Retrying", "↻", "retrying")
_RETRIED: Final = Look("Retried", "↻", "retrying")


def look_of_status(status: JobStatus) -> Look:
    """The look of a bare status, such as an attempt's. An attempt that is followed by another one was retried."""
    return _RETRIED if status is JobStatus.HELD_ON_MASTER else _LOOKS[status]


def look_of_job(job: JobInfo, now: datetime) -> Look:
    """The look of a job: one that waits after a failure, or for its moment, says so."""
    if not job.status.is_final and job.status is not JobStatus.PROCESSING and job.failures:
        return _RETRYING
    if job.status is JobStatus.HELD_ON_MASTER and job.due_at > now:
        return _SCHEDULED
    return _LOOKS[job.status]


def duration_text(length: timedelta | None) -> str:
    """A duration in one or two units: `84 ms`, `3.2 s`, `4 min 5 s`, `3 h`, `12 d`. None and negative: a dash."""
    if length is None or length < timedelta(0):
        return NOTHING
    seconds = length.total_seconds()
    if seconds < 1:
        return f"{round(seconds * 1000)} ms"
    if seconds < 60:  # noqa: PLR2004 - a minute
        return f"{seconds:.1f} s"
    return " ".join(_two_units(int(seconds)))


def ago_text(moment: datetime | None, now: datetime) -> str:
    """How far a moment is from now: `5 s ago`, `in 3 min`, `just now`."""
    if moment is None:
        return NOTHING
    distance = now - moment
    size = abs(distance)
    if size < timedelta(seconds=1):
        return "just now"
    text = _two_units(int(size.total_seconds()))[0]
    return f"{text} ago" if distance > timedelta(0) else f"in {text}"


def moment_text(moment: datetime) -> str:
    """Date and time to the millisecond, in UTC."""
    return moment.astimezone(UTC).isoformat(sep=" ", timespec="milliseconds").removesuffix("+00:00") + " UTC"


def clock_text(moment: datetime) -> str:
    """The time of day to the second, in UTC."""
    return moment.astimezone(UTC).strftime("%H:%M:%S")


def short_id(job_id: str) -> str:
    """An id for a narrow column. Ids that JobMaster makes begin alike (with their time), so that their end is shown."""
    if len(job_id) == UUID_LENGTH and job_id.count("-") == 4:  # noqa: PLR2004 - a UUID
        return f"…{job_id[-12:]}"
    return job_id if len(job_id) <= LONGEST_ID else f"{job_id[:LONGEST_ID]}…"


def payload_text(value: Any) -> str:
    """A value as JSON, indented unless it is short; what JSON does not know as Python writes it. Cut if very long."""
    try:
        short = json.dumps(value, ensure_ascii=False, default=repr)
        text = short if len(short) <= ONE_LINE else json.dumps(value, indent=2, ensure_ascii=False, default=repr)
    except (TypeError, ValueError, RecursionError):
        text = repr(value)
    left_out = len(text) - LONGEST_PAYLOAD
    return text if left_out <= 0 else f"{text[:LONGEST_PAYLOAD]}\n… {left_out:,} more characters"


def run_time(job: JobInfo, now: datetime) -> timedelta | None:
    """How long the last attempt ran, or has been running."""
    if job.started_at is None or not (job.status.is_final or job.status is JobStatus.PROCESSING):
        return None
    return (job.finished_at or now) - job.started_at


def wait_time(job: JobInfo, now: datetime) -> timedelta | None:
    """How long a job that was due waited for its start, or has been waiting."""
    end = job.started_at or job.finished_at or now
    return None if end < job.due_at else end - job.due_at


def _two_units(seconds: int) -> list[str]:
    """The biggest unit and, below days, the next one."""
    parts: list[str] = []
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "min"), (1, "s")):
        count, seconds = divmod(seconds, size)
        if count or parts:
            parts.append(f"{count} {unit}")
    return [part for part in parts[:2] if not part.startswith("0 ")] or ["0 s"]
