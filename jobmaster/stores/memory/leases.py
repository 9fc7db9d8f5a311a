"""Workers, their leases and renewals, and buckets whose owner is lost (R4, R6 to R8, R15)."""

from __future__ import annotations

from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

from jobmaster.model.states import BucketStatus, JobStatus
from jobmaster.model.worker import Grant, Predecessor, Registered
from jobmaster.ports.answers import HigherBoot
from jobmaster.rules.recovery import Testimony
from jobmaster.rules.storable import check_registration, cleaned
from jobmaster.stores.memory.rows import OPEN, BucketRow, JobRow, WorkerRow, envelope_of
from jobmaster.stores.memory.state import MasterState

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jobmaster.model.bucket import Bucket
    from jobmaster.model.ids import JobKey
    from jobmaster.model.job import Blame
    from jobmaster.model.worker import Command, Demand, Registration, Renewal

GRANTED = (BucketStatus.ACTIVE, BucketStatus.COMPLETING)
LOSABLE = (BucketStatus.ACTIVE, BucketStatus.COMPLETING, BucketStatus.DRAINING)


class Leases(MasterState):
    """The verbs about workers and leases."""

    async def register(self, registration: Registration) -> Registered:
        now = self._begin()
        check_registration(registration)
        old = self.workers.get(self.boots.get(registration.name, 0))
        if old is not None and old.registration.boot == registration.boot:
            return Registered(old.id, now)
        replaced = None if old is None else self._outdo(old, registration, now)
        worker = WorkerRow(
            id=self._next_id(),
            registration=registration,
            started_us=now,
            renewed_us=now,
            lease_until_us=now + self.rules.lease_us,
        )
        self.workers[worker.id] = worker
        self.boots[registration.name] = worker.id
        return Registered(worker.id, now, replaced)

    def _outdo(self, old: WorkerRow, new: Registration, now: int) -> Predecessor | None:
        """End the lease of an older boot, and answer it if it was alive; a late registration of one is refused."""
        if old.registration.boot > new.boot:
            raise HigherBoot(new.name, old.registration.boot)
        alive = not old.ended and old.lease_until_us > now
        self._end_lease(old, now)
        return Predecessor(old.id, old.registration.host, old.registration.pid, old.renewed_us) if alive else None

    def _end_lease(self, worker: WorkerRow, now: int) -> None:
        worker.ended = True
        worker.lease_until_us = min(worker.lease_until_us, now)

    async def renew(self, renewals: Sequence[Renewal]) -> list[Grant]:
        self._begin()
        await self._pause()
        now = self._begin()
        for renewal in renewals:
            worker = self.workers.get(renewal.worker)
            if worker is not None and not worker.ended and self._is_news(worker, renewal):
                self._renew(worker, renewal, now)
        return [self._grant(renewal, now) for renewal in renewals]

    def _is_news(self, worker: WorkerRow, renewal: Renewal) -> bool:
        return renewal.number >= worker.number

    def _renew(self, worker: WorkerRow, renewal: Renewal, now: int) -> None:
        worker.number = renewal.number
        worker.renewed_us = now
        worker.lease_until_us = now + self.rules.lease_us
        worker.stopping = renewal.stopping
        worker.stats = renewal.stats
        worker.demands = [] if renewal.stopping else list(renewal.demands)
        held = set(renewal.held)
        for bucket in self._granted(worker):
            bucket.depth = renewal.depths.get(bucket.id, bucket.depth)
            for row in self.jobs.in_bucket(bucket.id):
                if self._is_forgotten(row, renewal, held):
                    self._recover(row, now, living=worker.id)
        if not renewal.stopping:
            self._adopt(worker, renewal.adopt, now)

    def _is_forgotten(self, row: JobRow, renewal: Renewal, held: set[tuple[JobKey, int]]) -> bool:
        """R8: the worker counted after this row was written, and does not have it."""
        return (
            row.status in (JobStatus.QUEUED, JobStatus.PROCESSING)
            and row.touched_us < renewal.cut_us
            and (row.key, row.gen) not in held
        )

    def _adopt(self, worker: WorkerRow, limit: int, now: int) -> None:
        """R15': free buckets of the worker's agent and lanes get it as owner. Locked rows are skipped."""
        mine = worker.registration
        for bucket in list(self.buckets.values()) if limit > 0 else ():
            wanted = bucket.agent == mine.agent and bucket.lane in mine.lanes
            if not (wanted and is_free(bucket) and bucket.lock.free):
                continue
            bucket.owner = worker.id
            bucket.epoch = self._adopted_epoch(bucket)
            bucket.status = BucketStatus.ACTIVE
            bucket.adopted_us = bucket.changed_us = now
            limit -= 1
            if limit == 0:
                return

    def _adopted_epoch(self, bucket: BucketRow) -> int:
        return bucket.epoch + 1

    def _granted(self, worker: WorkerRow) -> list[BucketRow]:
        return [b for b in self.buckets.values() if b.owner == worker.id and b.status in GRANTED]

    def _grant(self, renewal: Renewal, now: int) -> Grant:
        worker = self.workers.get(renewal.worker)
        if worker is None or worker.ended:
            return Grant(number=renewal.number, now_us=now, cancels_upto=renewal.cancels_after, gone=True)
        cancels, upto = self._cancels_since(renewal.cancels_after)
        return Grant(
            number=renewal.number,
            now_us=now,
            buckets=[bucket.seen() for bucket in self._granted(worker)],
            cancels=cancels,
            cancels_upto=upto,
            commands=self._unanswered(worker.id),
            demands=self._demands_on(worker, now),
            workers=sum(not other.ended and other.lease_until_us >= now for other in self.workers.values()),
        )

    def _unanswered(self, worker: int) -> list[Command]:
        raise NotImplementedError

    def _demands_on(self, worker: WorkerRow, now: int) -> list[Demand]:
        """What hungry workers of the same agent would take from the lanes and priorities of this one."""
        offered = {(b.lane, b.priority) for b in self._granted(worker) if b.status is BucketStatus.ACTIVE}
        fresh = now - self.rules.lease_us // 2
        return [
            demand
            for other in self.workers.values()
            if other is not worker
            and not other.ended
            and other.renewed_us > fresh
            and other.registration.agent == worker.registration.agent
            for demand in other.demands
            if (demand.lane, demand.priority) in offered
        ]

    async def end_worker(self, worker: int, *, blame: Sequence[Blame] | None = None) -> None:
        now = self._begin()
        row = self.workers.get(worker)
        said = {} if blame is None else self._hear(worker, blame)
        if row is not None:
            self._end_lease(row, now)
        async with AsyncExitStack() as locks:
            for bucket in [b for b in self.buckets.values() if b.owner == worker and b.status in LOSABLE]:
                await locks.enter_async_context(bucket.lock.exclusive())
            lost = [b for b in self.buckets.values() if b.owner == worker and b.status in LOSABLE]
            for bucket in lost:
                lose(bucket, now)
            self._recover_named(worker, said, {bucket.id for bucket in lost})

    def _hear(self, worker: int, blame: Sequence[Blame]) -> dict[JobKey, str]:
        """Store a testimony: reasons for who is to blame, and an excuse for what ran beside them. All that it names."""
        said = {one.key: cleaned(one.reason) for one in blame}
        for running in self.jobs.in_processing(worker):
            said.setdefault(running.key, "")
        for key, reason in said.items():
            if (worker, key) not in self.blamed and self._may_be_blamed(worker, key):
                self.blamed.add((worker, key))
                self.blames[key] = Testimony(reason, worker, self._begin())
        return said

    def _recover_named(self, worker: int, said: dict[JobKey, str], buckets: set[int]) -> None:
        """Recover what the dead worker ran in these buckets, which it has just lost: nobody needs to adopt them."""
        now = self._begin()
        for key, reason in said.items():
            row = self.jobs.get(key) or (self._unnoted(key, worker, buckets) if reason else None)
            if row is None or row.worker != worker or row.bucket not in buckets:
                continue
            if row.status is JobStatus.PROCESSING or (row.status is JobStatus.QUEUED and reason):
                self._recover_lost(row, now)

    def _unnoted(self, key: JobKey, worker: int, buckets: set[int]) -> JobRow | None:
        """A run that had no row yet: the one that its worker would have written next."""
        for message in self._messages_of(key):
            envelope = envelope_of(message)
            if message.bucket in buckets and envelope is not None and not envelope.at_most_once:
                row = JobRow(key, envelope, message.payload, JobStatus.QUEUED, message.due_us)
                row.gen, row.bucket, row.worker = message.gen, message.bucket, worker
                return self.jobs.insert(row)
        return None

    def _may_be_blamed(self, worker: int, key: JobKey) -> bool:
        """Evidence that comes after the job was taken back is of a run that was counted then, if it was one."""
        row = self.jobs.get(key)
        return row is None or (row.status in OPEN and row.worker == worker)

    async def mark_lost(self, *, limit: int = 100, as_of_us: int | None = None) -> list[Bucket]:
        self._begin()
        lost: list[Bucket] = []
        for bucket in list(self.buckets.values()):
            if len(lost) < limit and self._lease_ended(bucket, as_of_us):
                async with bucket.lock.exclusive():
                    # Judged again by the clock that is read after the lock is held: the owner may have renewed.
                    if self._lease_ended(bucket, as_of_us):
                        lose(bucket, self._begin())
                        lost.append(bucket.seen())
        return lost

    def _lease_ended(self, bucket: BucketRow, as_of_us: int | None) -> bool:
        if bucket.owner is None or bucket.status not in LOSABLE or self.buckets.get(bucket.id) is not bucket:
            return False
        worker = self.workers.get(bucket.owner)
        now_us = self._begin()
        judged_us = now_us if as_of_us is None else min(now_us, as_of_us)
        return worker is None or worker.ended or worker.lease_until_us <= judged_us


def is_free(bucket: BucketRow) -> bool:
    """Lost, or waiting without an owner: a worker may adopt it."""
    return bucket.status is BucketStatus.LOST or (bucket.status is BucketStatus.ACTIVE and bucket.owner is None)


def lose(bucket: BucketRow, now: int) -> None:
    """The owner is gone: nobody's, at the next epoch, and not clean."""
    bucket.owner, bucket.status, bucket.epoch = None, BucketStatus.LOST, bucket.epoch + 1
    bucket.clean = False
    bucket.changed_us = now
