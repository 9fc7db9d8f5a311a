"""Statuses, their numbers, and the tables that say which moves exist. The docs' diagrams are generated from here."""

from __future__ import annotations

from enum import Enum, IntEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping


class Priority(IntEnum):
    """Share of a worker's slots that a job may claim when all priorities are busy (2:3:4:5:6)."""

    VERY_LOW = 1
    LOW = 2
    MEDIUM = 3
    HIGH = 4
    CRITICAL = 5


class JobStatus(Enum):
    """Where a job is. `str()` gives the name that people read, `.value` the number that is stored."""

    SAVE_PENDING = 1
    HELD_ON_MASTER = 2
    ASSIGNED_TO_BUCKET = 3
    PROCESSING = 4
    SUCCEEDED = 5
    QUEUED = 6
    FAILED = 7
    CANCELLED = 8

    def __str__(self) -> str:
        return self.name.title().replace("_", "")

    @property
    def is_final(self) -> bool:
        """True for a status that a job never leaves."""
        return self.value in FINAL_VALUES


FINAL_VALUES = (5, 7, 8)

JOB_MOVES: Mapping[JobStatus, frozenset[JobStatus]] = {
    JobStatus.SAVE_PENDING: frozenset(JobStatus) - {JobStatus.SAVE_PENDING},
    JobStatus.HELD_ON_MASTER: frozenset(
        {JobStatus.ASSIGNED_TO_BUCKET, JobStatus.QUEUED, JobStatus.CANCELLED, JobStatus.FAILED}
    ),
    JobStatus.ASSIGNED_TO_BUCKET: frozenset(
        {
            JobStatus.HELD_ON_MASTER,
            JobStatus.QUEUED,
            JobStatus.PROCESSING,
            JobStatus.SUCCEEDED,
            JobStatus.FAILED,
            JobStatus.CANCELLED,
        }
    ),
    JobStatus.QUEUED: frozenset(
        {
            JobStatus.HELD_ON_MASTER,
            JobStatus.PROCESSING,
            JobStatus.SUCCEEDED,
            JobStatus.FAILED,
            JobStatus.CANCELLED,
        }
    ),
    JobStatus.PROCESSING: frozenset(
        {JobStatus.HELD_ON_MASTER, JobStatus.SUCCEEDED, JobStatus.FAILED, JobStatus.CANCELLED}
    ),
    JobStatus.SUCCEEDED: frozenset(),
    JobStatus.FAILED: frozenset(),
    JobStatus.CANCELLED: frozenset(),
}
"""Every move of a job's row. Final states have none: I3. (SavePending is a message without a row.)"""


class BucketStatus(Enum):
    """Where a bucket is in its life."""

    ACTIVE = 1
    COMPLETING = 2
    READY_TO_DRAIN = 3
    DRAINING = 4
    LOST = 5
    READY_TO_DELETE = 6

    def __str__(self) -> str:
        return self.name.title().replace("_", "")


BUCKET_MOVES: Mapping[BucketStatus, frozenset[BucketStatus]] = {
    BucketStatus.ACTIVE: frozenset({BucketStatus.COMPLETING, BucketStatus.LOST}),
    BucketStatus.COMPLETING: frozenset({BucketStatus.READY_TO_DELETE, BucketStatus.LOST}),
    BucketStatus.LOST: frozenset({BucketStatus.ACTIVE, BucketStatus.READY_TO_DRAIN}),
    BucketStatus.READY_TO_DRAIN: frozenset({BucketStatus.DRAINING, BucketStatus.ACTIVE}),
    BucketStatus.DRAINING: frozenset({BucketStatus.READY_TO_DELETE, BucketStatus.LOST}),
    BucketStatus.READY_TO_DELETE: frozenset(),
}


class WorkerMode(Enum):
    """Which duties an engine has."""

    FULL = 1
    EXECUTION = 2
    DRAIN = 3
    COORDINATOR = 4

    @property
    def runs_jobs(self) -> bool:
        """True where the engine owns buckets and runs their jobs."""
        return self in {WorkerMode.FULL, WorkerMode.EXECUTION}

    @property
    def coordinates(self) -> bool:
        """True where the engine finds lost buckets, sweeps and cleans up."""
        return self in {WorkerMode.FULL, WorkerMode.COORDINATOR}

    @property
    def drains(self) -> bool:
        """True where the engine moves the messages of abandoned buckets to the master."""
        return self in {WorkerMode.FULL, WorkerMode.DRAIN}


class ClusterMode(Enum):
    """active: normal. passive: accepts work and runs nothing. archived: can be read."""

    ACTIVE = 1
    PASSIVE = 2
    ARCHIVED = 3


class CancelOutcome(Enum):
    """Answer of a cancel: certain, asked for, or too late."""

    CANCELLED = "cancelled"
    REQUESTED = "requested"
    TOO_LATE = "too_late"
