"""The life of a bucket in the master: opened, taken in, given up, retired, drained (R5, R15'a, R16, R22', R24)."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from jobmaster.model.job import unreadable_envelope
from jobmaster.model.reasons import UNREADABLE
from jobmaster.model.states import BucketStatus, JobStatus
from jobmaster.ports.answers import Fenced
from jobmaster.rules.storable import check_bucket
from jobmaster.stores.memory.leases import is_free, lose
from jobmaster.stores.memory.rows import BucketRow, JobRow, WorkerRow, envelope_of
from jobmaster.stores.memory.state import MasterState

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from jobmaster.model.bucket import Bucket, NewBucket
    from jobmaster.model.job import Fence, Message

OPEN_TO_PRODUCERS = (BucketStatus.ACTIVE, BucketStatus.LOST)


class Buckets(MasterState):
    """The verbs about buckets."""

    async def open_buckets(self) -> list[Bucket]:
        self._begin()
        return [bucket.seen() for bucket in self.buckets.values() if bucket.status in OPEN_TO_PRODUCERS]

    async def offer_bucket(self, bucket: NewBucket) -> Bucket:
        now = self._begin()
        check_bucket(bucket)
        wanted = (bucket.agent, bucket.lane, bucket.priority)
        for row in self.buckets.values():
            if row.status in OPEN_TO_PRODUCERS and (row.agent, row.lane, row.priority) == wanted:
                return row.seen()
        return self._insert_bucket(bucket, None, now).seen()

    async def create_buckets(self, worker: int, buckets: Sequence[NewBucket]) -> list[Bucket]:
        now = self._begin()
        for bucket in buckets:
            check_bucket(bucket)
        self._living(worker)
        known = [self.buckets.get(self.tokens.get(bucket.token, 0)) for bucket in buckets]
        for row in known:
            if row is not None and not self._is_first_opening(row, worker):
                raise Fenced(f"bucket {row.id} was opened by this call before and has moved on to epoch {row.epoch}")
        rows = [row or self._insert_bucket(new, worker, now) for row, new in zip(known, buckets, strict=True)]
        return [row.seen() for row in rows]

    def _is_first_opening(self, bucket: BucketRow, worker: int) -> bool:
        return (bucket.owner, bucket.epoch) == (worker, 1)

    def _living(self, worker: int) -> WorkerRow:
        row = self.workers.get(worker)
        if row is None or row.ended:
            raise Fenced(f"worker {worker} was ended: a newer process of its name, or an operator, took its place")
        return row

    def _insert_bucket(self, new: NewBucket, owner: int | None, now: int) -> BucketRow:
        row = BucketRow(
            id=self._next_id(),
            token=new.token,
            agent=new.agent,
            lane=new.lane,
            priority=new.priority,
            owner=owner,
            changed_us=now,
        )
        self.buckets[row.id] = row
        self.tokens[row.token] = row.id
        return row

    async def recover_before(self, fence: Fence, *, adopted_us: int, limit: int) -> int:
        async with self._owned(fence):
            now = self._begin()
            rows = [row for row in self.jobs.in_bucket(fence.bucket) if self._is_before(row, adopted_us)][:limit]
            for row in rows:
                self._recover_lost(row, now, living=fence.owner)
            return len(rows)

    def _is_before(self, row: JobRow, adopted_us: int) -> bool:
        """Queued or Processing by an earlier owner."""
        return row.status in (JobStatus.QUEUED, JobStatus.PROCESSING) and row.touched_us < adopted_us

    async def give_up(self, fence: Fence) -> None:
        async with self._owned_alone(fence) as bucket:
            now = self._begin()
            rows = self.jobs.in_bucket(bucket.id)
            self._let_go(bucket, now)
            bucket.clean = self._is_left_clean(bucket, rows)
            bucket.owner, bucket.status, bucket.epoch = None, BucketStatus.ACTIVE, bucket.epoch + 1
            bucket.changed_us = now
            bucket.depth = self._left_in(bucket)

    def _left_in(self, bucket: BucketRow) -> int:
        """How much waits in a bucket that is given up: as last published, where nobody here can count it."""
        return bucket.depth

    def _is_left_clean(self, bucket: BucketRow, rows: Sequence[JobRow]) -> bool:
        """Whether no message in it is of a job that somebody had, where `rows` have just pointed at it.

        A bucket that was not clean stays so: messages of jobs that an earlier owner had may still be unread. And a row
        that went back to the master may have left its message in the agent.
        """
        return bucket.clean and not rows

    def _let_go(self, bucket: BucketRow, now: int) -> None:
        for row in self.jobs.in_bucket(bucket.id):
            if row.status is JobStatus.QUEUED:
                came = self._came_by(row)
                self._hold(row, now, due_us=row.due_us)
                self._take_away(came)

    async def complete(self, fence: Fence) -> None:
        async with self._owned_alone(fence) as bucket:
            if bucket.status is BucketStatus.ACTIVE:
                bucket.status = BucketStatus.COMPLETING

    async def reopen(self, fence: Fence) -> None:
        async with self._owned_alone(fence) as bucket:
            if bucket.status is BucketStatus.COMPLETING:
                bucket.status = BucketStatus.ACTIVE

    async def retire(self, fence: Fence) -> None:
        async with self._owned_alone(fence) as bucket:
            self._check_closing(bucket)
            self._retire(bucket)

    def _check_closing(self, bucket: BucketRow) -> None:
        if bucket.status not in (BucketStatus.COMPLETING, BucketStatus.DRAINING):
            raise Fenced(f"bucket {bucket.id} is {bucket.status}: it was opened again, and is in use")

    def _retire(self, bucket: BucketRow) -> None:
        self._take_back_all(bucket, self._begin())
        del self.buckets[bucket.id]
        self.tokens.pop(bucket.token, None)

    def _take_back_all(self, bucket: BucketRow, now: int) -> None:
        for row in self.jobs.in_bucket(bucket.id):
            self._recover(row, now, living=bucket.owner)

    # -- drain

    async def claim_drain(self, worker: int, *, agent: str, older_us: int) -> Bucket | None:
        now = self._begin()
        self._living(worker)
        mine = self._drained_by(worker, agent)
        if mine is not None:
            return mine.seen()
        for bucket in self.buckets.values():
            if bucket.agent == agent and is_free(bucket) and bucket.lock.free and bucket.changed_us <= now - older_us:
                bucket.owner, bucket.status, bucket.epoch = worker, BucketStatus.DRAINING, bucket.epoch + 1
                bucket.changed_us = now
                return bucket.seen()
        return None

    def _drained_by(self, worker: int, agent: str) -> BucketRow | None:
        draining = (b for b in self.buckets.values() if b.owner == worker and b.agent == agent)
        return next((b for b in draining if b.status is BucketStatus.DRAINING), None)

    async def return_bucket(self, fence: Fence) -> None:
        async with self._owned_alone(fence) as bucket:
            lose(bucket, self._begin())

    async def drain_in(self, fence: Fence, messages: Sequence[Message]) -> None:
        async with self._draining(fence):
            self._drain_in(fence, messages)

    @asynccontextmanager
    async def _draining(self, fence: Fence) -> AsyncIterator[BucketRow]:
        async with self._owned(fence) as bucket:
            if bucket.status is not BucketStatus.DRAINING:
                raise Fenced(f"bucket {bucket.id} is {bucket.status}, nobody drains it")
            yield bucket

    def _drain_in(self, fence: Fence, messages: Sequence[Message]) -> None:
        now = self._begin()
        for message in messages:
            row = self.jobs.get(message.key)
            if row is None:
                self._insert_drained(message, now)
            elif not row.status.is_final and self._mine_to_drain(row, fence.bucket, message.gen):
                self._recover(row, now, living=fence.owner)

    async def unknown_buckets(self, ids: Sequence[int]) -> list[int]:
        self._begin()
        return [bucket for bucket in ids if bucket not in self.buckets]

    def _mine_to_drain(self, row: JobRow, bucket: int, gen: int) -> bool:
        return self._mine(row, bucket, gen)

    def _insert_drained(self, message: Message, now: int) -> None:
        """A job that only its message knew: it comes to the master as if its owner had been lost."""
        envelope = envelope_of(message)
        row = JobRow(
            key=message.key,
            envelope=envelope or unreadable_envelope(message.due_us),
            payload=message.payload,
            status=JobStatus.ASSIGNED_TO_BUCKET,
            due_us=message.due_us,
            gen=message.gen,
            bucket=message.bucket,
        )
        self.jobs.insert(row)
        if envelope is None:
            unreadable = {"status": JobStatus.FAILED, "reason": UNREADABLE}
            self.jobs.change(row, **unreadable, bucket=None, finished_us=now, touched_us=now)
        else:
            self._recover(row, now)
