"""What people ask: lists, filters, counts. Never on the hot path; adapters may import heavy libraries on first use."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import msgspec

from jobmaster.model.bucket import Bucket
from jobmaster.model.ids import JobKey
from jobmaster.model.job import AttemptRecord, JobRecord
from jobmaster.model.states import JobStatus
from jobmaster.model.worker import WorkerRecord


class JobQuery(msgspec.Struct, frozen=True):
    """Filters of a job list; None means any. Times are of creation.

    `text` is a part of a task name or an id; upper and lower case of ASCII letters are the same. `not_ahead_of_us`
    leaves out what a schedule has planned ahead: its occurrences that are held or queued, and whose moment and due
    time are both later than this (a retry, or one that waits for its turn, has had its moment).
    """

    statuses: tuple[JobStatus, ...] | None = None
    task: str | None = None
    lane: str | None = None
    priority: int | None = None
    worker: int | None = None
    created_from_us: int | None = None
    created_to_us: int | None = None
    reason: str | None = None
    text: str | None = None
    not_ahead_of_us: int | None = None


class JobPage(msgspec.Struct, frozen=True):
    """One page, newest first.

    `after` continues it (None: the end). `unlisted`: waiting messages that have no row yet.
    """

    jobs: list[JobRecord]
    after: str | None = None
    unlisted: int = 0


class QueryStore(Protocol):
    """Read-only questions of people. None of them blocks the engine's writes."""

    async def list_jobs(self, query: JobQuery, *, limit: int = 50, after: str | None = None) -> JobPage:
        """A page of jobs, newest first, rows and (in standalone) messages together.

        Raises:
            ConfigurationError: `limit` is not 1 to 1,000, or `after` is no end of a page.
        """
        ...

    async def get_job(self, key: JobKey) -> JobRecord | None:
        """One job with its payload, or None for an id that nobody knows."""
        ...

    async def count_jobs(self, query: JobQuery) -> dict[JobStatus, int]:
        """Counts per status under the filters; in standalone, messages without a row count as SavePending."""
        ...

    async def job_attempts(self, key: JobKey) -> list[AttemptRecord]:
        """The recorded attempts of a job, first to last."""
        ...

    async def list_workers(self) -> list[WorkerRecord]:
        """All workers that the master remembers, living first."""
        ...

    async def list_buckets(self) -> list[Bucket]:
        """All buckets with owner, epoch, status and published depth."""
        ...

    async def workers_by_id(self, ids: Sequence[int]) -> list[WorkerRecord]:
        """Those workers, in no order; unknown ids are left out."""
        ...
