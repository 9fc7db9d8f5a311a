"""Held jobs: accepted by the master (R2), claimed by owners (R14'), swept (R17'), and what a waiting client asks."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING

from msgspec.structs import replace

from jobmaster.model.job import ClaimedJob, JobState
from jobmaster.model.reasons import UNROUTABLE
from jobmaster.model.states import BucketStatus, JobStatus
from jobmaster.model.versions import unparked
from jobmaster.ports.answers import Fenced
from jobmaster.ports.master import Claimed
from jobmaster.rules.expiry import expiry_of
from jobmaster.rules.storable import check_jobs, check_text, due_of
from jobmaster.stores.memory.rows import BucketRow, JobRow
from jobmaster.stores.memory.state import MasterState

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from jobmaster.model.ids import JobKey
    from jobmaster.model.job import NewJob
    from jobmaster.ports.master import ClaimRequest


class Claims(MasterState):
    """The verbs about held jobs."""

    async def hold(self, jobs: Sequence[NewJob], *, reason: str = "") -> list[bool]:
        now = self._begin()
        check_jobs(jobs, now)
        check_text(reason, "reason")
        await self._pause()
        return [self._insert_held(job, reason, now) for job in jobs]

    def _insert_held(self, job: NewJob, reason: str, now: int) -> bool:
        if self.jobs.get(job.key) is not None:
            return False
        cancelled = job.key in self.tombstones
        row = JobRow(
            key=job.key,
            envelope=job.envelope,
            payload=job.payload,
            status=JobStatus.CANCELLED if cancelled else JobStatus.HELD_ON_MASTER,
            due_us=due_of(job, now),
            touched_us=now,
            suspect=job.verify,
            reason=reason,
            finished_us=now if cancelled else None,
        )
        self._tell(self.jobs.insert(row))
        return True

    async def claim(self, requests: Sequence[ClaimRequest], *, window_us: int) -> Claimed:
        claimed: list[ClaimedJob] = []
        fenced: list[int] = []
        lanes: set[tuple[str, int]] = set()
        taken_us = self._begin()
        for request in requests:
            lanes.add((request.lane, request.priority))
            try:
                claimed += await self._claim(request, window_us)
            except Fenced:
                fenced.append(request.fence.bucket)
        return Claimed(
            jobs=claimed,
            now_us=self._begin(),
            taken_us=taken_us,
            next_due_us=self._next_due(lanes),
            fenced=fenced,
        )

    async def _claim(self, request: ClaimRequest, window_us: int) -> list[ClaimedJob]:
        async with self._claiming(request) as bucket:
            if bucket.status is not BucketStatus.ACTIVE:
                return []
            now = self._begin()
            rows: list[JobRow] = []
            for row in self.jobs.held(bucket.lane, bucket.priority):
                if row.due_us > now + window_us or len(rows) >= request.limit:
                    break
                rows.append(row)
            return [self._take(row, request, now) for row in rows]

    def _claiming(self, request: ClaimRequest) -> AbstractAsyncContextManager[BucketRow]:
        return self._owned(request.fence)

    def _take(self, row: JobRow, request: ClaimRequest, now: int) -> ClaimedJob:
        self.jobs.change(
            row,
            status=JobStatus.QUEUED,
            bucket=request.fence.bucket,
            worker=request.fence.owner,
            gen=self._claimed_gen(row),
            touched_us=now,
            reason="",
        )
        return ClaimedJob(
            key=row.key,
            gen=row.gen,
            bucket=request.fence.bucket,
            payload=row.payload,
            due_us=row.due_us,
            attempts=row.attempts,
            failures=row.failures,
            recoveries=row.recoveries,
            suspect=row.suspect,
            checkpoint=row.checkpoint,
        )

    def _claimed_gen(self, row: JobRow) -> int:
        return row.gen + 1

    def _next_due(self, lanes: Iterable[tuple[str, int]]) -> int | None:
        left = (next(self.jobs.held(lane, priority), None) for lane, priority in lanes)
        return min((row.due_us for row in left if row is not None), default=None)

    async def sweep(self, *, overdue_us: int, limit: int) -> int:
        now = self._begin()
        done = 0
        for bucket in [b for b in self.jobs.buckets() if b not in self.buckets]:
            for row in self.jobs.in_bucket(bucket):
                if done < limit and row.touched_us < now - overdue_us:
                    self._recover(row, now)
                    done += 1
        for row in self.jobs:
            if done < limit and _is_expired(row, now) and (end := expiry_of(row.envelope, row.attempts)):
                self.jobs.change(row, status=end.status, reason=end.reason, finished_us=now, touched_us=now)
                self._tell(row)
                done += 1
        return done

    async def route(self, tasks: Sequence[str]) -> int:
        now = self._begin()
        found = [row for row in self.jobs if _waits_for_task(row) and row.envelope.task in tasks]
        for row in found:
            envelope = replace(row.envelope, task=unparked(row.envelope.task))
            self.jobs.change(row, reason="", due_us=now, envelope=envelope)
        if found:
            self.hub.send(("held",))
        return len(found)

    async def look_up(self, keys: Sequence[JobKey]) -> list[JobState | None]:
        self._begin()
        return [self._state(key) for key in keys]

    def _state(self, key: JobKey) -> JobState | None:
        row = self.jobs.get(key)
        if row is None:
            return JobState(key, JobStatus.SAVE_PENDING) if self._messages_of(key) else None
        return JobState(key, row.status, row.result, row.error, row.reason, row.attempts)


def _is_expired(row: JobRow, now: int) -> bool:
    expires = row.envelope.expires_us
    return row.status is JobStatus.HELD_ON_MASTER and expires is not None and expires <= now


def _waits_for_task(row: JobRow) -> bool:
    return row.status is JobStatus.HELD_ON_MASTER and row.reason == UNROUTABLE
