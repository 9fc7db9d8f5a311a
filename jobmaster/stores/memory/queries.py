"""What people ask: rows, and in standalone the messages that have no row yet, as one list."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from jobmaster.model.job import JobRecord, unreadable_envelope
from jobmaster.model.schedule import Trigger
from jobmaster.model.states import JobStatus
from jobmaster.model.worker import WorkerRecord, WorkerStatus
from jobmaster.ports.query import JobPage
from jobmaster.rules.paging import place_of, read_page, written
from jobmaster.stores.memory.rows import JobRow, WorkerRow, envelope_of
from jobmaster.stores.memory.state import MasterState

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from jobmaster.model.bucket import Bucket
    from jobmaster.model.ids import JobKey
    from jobmaster.model.job import AttemptRecord, Message
    from jobmaster.ports.query import JobQuery

_PLANNED = frozenset({JobStatus.HELD_ON_MASTER, JobStatus.QUEUED})
"""Where an occurrence is before it begins: with the master, then with the worker that will run it."""


class Queries(MasterState):
    """The questions of people."""

    async def list_jobs(self, query: JobQuery, *, limit: int = 50, after: str | None = None) -> JobPage:
        self._begin()
        place = read_page(limit, after)
        found = sorted((place_of(record), record) for record in self._found(query))
        found = [entry for entry in reversed(found) if place is None or entry[0] < place]
        page = [record for _, record in found[:limit]]
        more = len(found) > limit
        return JobPage(page, written(place_of(page[-1])) if more else None, self._unlisted(query))

    def _found(self, query: JobQuery) -> list[JobRecord]:
        return [record for record in self._records(query) if _fits(record, query)]

    def _records(self, query: JobQuery) -> Iterator[JobRecord]:
        for row in self.jobs:
            if not _is_ahead(row, query.not_ahead_of_us):
                yield record_of(row)
        listed: set[JobKey] = set()
        for message in self._all_messages():
            if self.jobs.get(message.key) is None and message.key not in listed:
                listed.add(message.key)
                yield waiting_record(message)

    def _unlisted(self, query: JobQuery) -> int:
        """Waiting messages of separate agents, as their owners published them."""
        if query.statuses is not None and JobStatus.SAVE_PENDING not in query.statuses:
            return 0
        lanes = (b for b in self.buckets.values() if query.lane is None or b.lane == query.lane)
        return sum(b.depth for b in lanes if query.priority is None or b.priority == query.priority)

    async def get_job(self, key: JobKey) -> JobRecord | None:
        self._begin()
        row = self.jobs.get(key)
        if row is not None:
            return record_of(row, whole=True)
        messages = self._messages_of(key)
        return waiting_record(messages[0], whole=True) if messages else None

    async def count_jobs(self, query: JobQuery) -> dict[JobStatus, int]:
        self._begin()
        return dict(Counter(record.status for record in self._found(query)))

    async def job_attempts(self, key: JobKey) -> list[AttemptRecord]:
        self._begin()
        return [attempt for _, attempt in sorted(self.attempts.get(key, {}).items())]

    async def list_workers(self) -> list[WorkerRecord]:
        workers = [self._worker(row, self._begin()) for row in self.workers.values()]
        return sorted(workers, key=lambda worker: (worker.status is WorkerStatus.DEAD, worker.name, -worker.boot))

    async def workers_by_id(self, ids: Sequence[int]) -> list[WorkerRecord]:
        now = self._begin()
        return [self._worker(self.workers[worker], now) for worker in dict.fromkeys(ids) if worker in self.workers]

    def _worker(self, row: WorkerRow, now: int) -> WorkerRecord:
        dead = row.ended or row.lease_until_us <= now
        living = WorkerStatus.STOPPING if row.stopping else WorkerStatus.ACTIVE
        mine = row.registration
        return WorkerRecord(
            id=row.id,
            name=mine.name,
            boot=mine.boot,
            agent=mine.agent,
            lanes=mine.lanes,
            mode=mine.mode,
            status=WorkerStatus.DEAD if dead else living,
            host=mine.host,
            pid=mine.pid,
            slots=mine.slots,
            version=mine.version,
            started_us=row.started_us,
            renewed_us=row.renewed_us,
            lease_until_us=row.lease_until_us,
            stats=row.stats,
            schema_version=mine.schema_version,
        )

    async def list_buckets(self) -> list[Bucket]:
        self._begin()
        return [bucket.seen() for bucket in self.buckets.values()]


def _is_ahead(row: JobRow, moment_us: int | None) -> bool:
    """Whether a schedule has planned it for later than this moment (None: nothing is)."""
    if moment_us is None or row.due_us <= moment_us or row.envelope.scheduled_us <= moment_us:
        return False
    return row.status in _PLANNED and row.envelope.trigger == Trigger.SCHEDULE


def record_of(row: JobRow, *, whole: bool = False) -> JobRecord:
    """The row as people see it; `whole` with its envelope."""
    envelope = row.envelope
    return JobRecord(
        key=row.key,
        status=row.status,
        task=envelope.task,
        lane=envelope.lane,
        priority=envelope.priority,
        created_us=envelope.created_us,
        scheduled_us=envelope.scheduled_us,
        due_us=row.due_us,
        envelope=envelope if whole else None,
        custom_id=envelope.custom_id,
        gen=row.gen,
        bucket=row.bucket,
        worker=row.worker,
        started_us=row.started_us,
        finished_us=row.finished_us,
        attempts=row.attempts,
        failures=row.failures,
        recoveries=row.recoveries,
        result=row.result,
        error=row.error,
        reason=row.reason,
    )


def waiting_record(message: Message, *, whole: bool = False) -> JobRecord:
    """A message without a row, as people see it."""
    envelope = envelope_of(message) or unreadable_envelope(message.due_us)
    return JobRecord(
        key=message.key,
        status=JobStatus.SAVE_PENDING,
        task=envelope.task,
        lane=envelope.lane,
        priority=envelope.priority,
        created_us=envelope.created_us,
        scheduled_us=envelope.scheduled_us,
        due_us=message.due_us,
        envelope=envelope if whole else None,
        custom_id=envelope.custom_id,
        gen=message.gen,
        bucket=message.bucket,
        in_master=False,
    )


def _fits(record: JobRecord, query: JobQuery) -> bool:
    return (
        (query.statuses is None or record.status in query.statuses)
        and (query.task is None or record.task == query.task)
        and (query.lane is None or record.lane == query.lane)
        and (query.priority is None or record.priority == query.priority)
        and (query.worker is None or record.worker == query.worker)
        and (query.reason is None or record.reason == query.reason)
        and (query.created_from_us is None or record.created_us >= query.created_from_us)
        and (query.created_to_us is None or record.created_us <= query.created_to_us)
        and (query.text is None or _says(record, query.text))
    )


def _says(record: JobRecord, text: str) -> bool:
    wanted = text.lower()
    if wanted in record.task.lower() or wanted in (record.custom_id or "").lower():
        return True
    digits = wanted.replace("-", "")
    return bool(digits) and digits in record.key.hex()
