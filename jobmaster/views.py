"""What people see of a cluster: jobs, attempts, schedules, workers, buckets as frozen values with aware datetimes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, Literal

from jobmaster.model.states import BucketStatus, JobStatus, Priority, WorkerMode
from jobmaster.model.worker import WorkerStatus
from jobmaster.wire.redaction import redact_mapping, redact_text


@dataclass(frozen=True, slots=True, kw_only=True)
class JobQuery:
    """Which jobs are meant. What is left out does not matter; what is given must all be true.

    `statuses`: one of these. `worker`: the name of the worker that has, or had, it. `created_from`, `created_to`:
    aware datetimes. `reason`: such as "quarantined" or "unroutable". `text`: part of the task's name or of an id.
    """

    statuses: tuple[JobStatus, ...] | None = None
    task: str | None = None
    lane: str | None = None
    priority: Priority | int | str | None = None
    worker: str | None = None
    created_from: datetime | None = None
    created_to: datetime | None = None
    reason: str | None = None
    text: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class JobError:
    """The exception that ended an attempt."""

    type: str
    message: str = ""
    traceback: str = ""

    def redacted(self) -> JobError:
        """A copy without the secrets that its texts show: passwords in addresses, `token=...` and the like."""
        return replace(self, message=redact_text(self.message), traceback=redact_text(self.traceback))


@dataclass(frozen=True, slots=True, kw_only=True)
class JobInfo:
    """A job as people see it.

    `args`, `kwargs`, `metadata`, `result`, `schedule` (the id of the schedule whose occurrence it is) and `trigger`
    ("call", "schedule", "run now", "backfill": what made it) are there only when one job was asked for.

    Arguments and results are shown as plain data; `payload_error` says why they can't be read, where that is so.
    `in_master` False: the job waits in an agent and has no row in the master yet.
    """

    id: str
    status: JobStatus
    task: str
    lane: str
    priority: Priority
    created_at: datetime
    scheduled_at: datetime
    due_at: datetime
    started_at: datetime | None = None
    finished_at: datetime | None = None
    expires_at: datetime | None = None
    attempts: int = 0
    failures: int = 0
    recoveries: int = 0
    worker: str | None = None
    bucket: int | None = None
    reason: str = ""
    error: JobError | None = None
    in_master: bool = True
    args: tuple[Any, ...] | None = None
    kwargs: Mapping[str, Any] | None = None
    metadata: Mapping[str, object] = field(default_factory=dict)
    result: Any = None
    payload_error: str = ""
    schedule: str | None = None
    trigger: str | None = None

    def redacted(self) -> JobInfo:
        """A copy for people: values under secret names (`password`, `api_key`, ...) and secrets in texts are hidden."""
        payload = {"args": self.args, "kwargs": self.kwargs, "metadata": self.metadata, "result": self.result}
        shown: dict[str, Any] = redact_mapping(payload)
        error = None if self.error is None else self.error.redacted()
        return replace(self, error=error, **shown)


@dataclass(frozen=True, slots=True, kw_only=True)
class JobPage:
    """Jobs, newest first; iterating over the page gives them.

    `after` asks for the next page (None: the end); `unlisted`: waiting jobs without a row.
    """

    jobs: tuple[JobInfo, ...]
    after: str | None = None
    unlisted: int = 0

    def __iter__(self) -> Iterator[JobInfo]:
        """The page's jobs."""
        return iter(self.jobs)

    def __len__(self) -> int:
        """How many this page has."""
        return len(self.jobs)


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptInfo:
    """One execution that failed, was repeated or recovered."""

    attempt: int
    status: JobStatus
    worker: str | None
    started_at: datetime | None
    finished_at: datetime | None
    error: JobError | None = None
    reason: str = ""
    bucket: int | None = None
    host: str | None = None
    pid: int | None = None
    lease_until: datetime | None = None
    """Until when its worker had the lease, as far as the master knows."""

    def redacted(self) -> AttemptInfo:
        """A copy for people, as `JobInfo.redacted`."""
        return self if self.error is None else replace(self, error=self.error.redacted())


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerInfo:
    """A worker that the master remembers. `stats` is what it last told about itself."""

    id: int
    name: str
    status: WorkerStatus
    mode: WorkerMode
    agent: str
    lanes: tuple[str, ...]
    host: str
    pid: int
    slots: int
    version: str
    started_at: datetime
    renewed_at: datetime
    lease_until: datetime
    stats: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerReply:
    """A worker's answer to a command; `answered_after` is None where none came in time."""

    worker: str
    answered_after: timedelta | None
    reply: Mapping[str, Any] = field(default_factory=dict)

    @property
    def ok(self) -> bool:
        """Whether it answered, and did not refuse."""
        return self.answered_after is not None and self.reply.get("ok", True) is not False


@dataclass(frozen=True, slots=True, kw_only=True)
class BucketInfo:
    """A bucket. `owner` is a worker's name, None while it waits to be adopted; `depth` as the owner last published."""

    id: int
    agent: str
    lane: str
    priority: Priority
    status: BucketStatus
    epoch: int
    owner: str | None
    depth: int


class ScheduleState(StrEnum):
    """How a schedule is, in people's words. `Broken`: it is parked, because its rule could not be computed."""

    ACTIVE = "Active"
    PAUSED = "Paused"
    BROKEN = "Broken"
    INACTIVE = "Inactive"
    COMPLETED = "Completed"
    CANCELED = "Canceled"


@dataclass(frozen=True, slots=True, kw_only=True)
class ScheduleQuery:
    """Which schedules are meant. What is left out does not matter; what is given must all be true.

    `kind`: "static" ones stand in code or configuration, "dynamic" ones were made by a call. `text`: part of the name,
    the task, the expression or the id.
    """

    state: ScheduleState | str | None = None
    kind: Literal["static", "dynamic"] | None = None
    task: str | None = None
    lane: str | None = None
    text: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ScheduleInfo:
    """A schedule as people see it.

    `expression` is the rule in the language `type_id`, `explanation` the same in plain English, `zone` the time zone
    in which it is computed. `max_retries` and `timeout` None: as the task says. `next_run` None: none comes, or it does
    not run at present (`state`), or, in a list, nobody has planned it for so long that telling would take long; `get`
    tells it. `source`: where a static one stands in the code. `version` counts its changes.
    `args`, `kwargs` and `metadata` are there only when one schedule was asked for.
    """

    id: str
    name: str
    state: ScheduleState
    kind: Literal["static", "dynamic"]
    task: str
    type_id: str
    expression: str
    explanation: str
    zone: str
    lane: str
    priority: Priority
    next_run: datetime | None
    last_run: datetime | None
    version: int
    created_at: datetime
    ended_at: datetime | None = None
    start_after: datetime | None = None
    end_before: datetime | None = None
    misfire: str = "once"
    misfire_limit: int = 100
    misfire_grace: timedelta = timedelta(minutes=1)
    overlap: str = "allow"
    jitter: timedelta = timedelta(0)
    max_retries: int | None = None
    timeout: timedelta | None = None
    paused: bool = False
    error: str = ""
    source: str = ""
    args: tuple[Any, ...] | None = None
    kwargs: Mapping[str, Any] | None = None
    metadata: Mapping[str, object] = field(default_factory=dict)
    payload_error: str = ""

    def redacted(self) -> ScheduleInfo:
        """A copy for people, as `JobInfo.redacted`."""
        shown: dict[str, Any] = redact_mapping({"args": self.args, "kwargs": self.kwargs, "metadata": self.metadata})
        return replace(self, error=redact_text(self.error), **shown)


@dataclass(frozen=True, slots=True, kw_only=True)
class SchedulePage:
    """Schedules by name, those without one last; iterating over the page gives them.

    `after` asks for the next page (None: the end).
    """

    schedules: tuple[ScheduleInfo, ...]
    after: str | None = None

    def __iter__(self) -> Iterator[ScheduleInfo]:
        """The page's schedules."""
        return iter(self.schedules)

    def __len__(self) -> int:
        """How many this page has."""
        return len(self.schedules)


@dataclass(frozen=True, slots=True, kw_only=True)
class UpcomingRun:
    """A moment to come, in the schedule's zone. `note` says what daylight saving makes of it, where it does."""

    at: datetime
    note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ScheduleRun:
    """One occurrence and its job. `at` is the moment that names it.

    `status` None: the job is gone (retention), or cannot be found yet. `lateness`: from `at` to its first start;
    `duration`: of its last run.
    """

    at: datetime
    trigger: str
    job_id: str
    status: JobStatus | None = None
    started_at: datetime | None = None
    finished_at: datetime | None = None
    lateness: timedelta | None = None
    duration: timedelta | None = None
    attempts: int = 0
    reason: str = ""
    error: JobError | None = None
