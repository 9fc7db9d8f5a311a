"""The rows of the master's tables, and the job table with its indexes."""

from __future__ import annotations

from bisect import bisect_left, insort
from typing import TYPE_CHECKING

import msgspec

from jobmaster.model.bucket import Bucket
from jobmaster.model.ids import JobKey
from jobmaster.model.job import Envelope, ErrorInfo, Message, decode_envelope
from jobmaster.model.reasons import UNROUTABLE
from jobmaster.model.states import BucketStatus, JobStatus
from jobmaster.model.worker import Demand, Registration
from jobmaster.stores.memory.locks import RowLock

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

OPEN = (JobStatus.ASSIGNED_TO_BUCKET, JobStatus.QUEUED, JobStatus.PROCESSING)
"""Statuses of a row that belongs to a bucket and has not ended."""


class JobRow(msgspec.Struct):
    """A job's row. Change it by `JobTable.change` only: the indexes hang on it."""

    key: JobKey
    envelope: Envelope
    payload: bytes
    status: JobStatus
    due_us: int
    gen: int = 0
    bucket: int | None = None
    worker: int | None = None
    nonce: int = 0
    touched_us: int = 0
    suspect: bool = False
    attempts: int = 0
    failures: int = 0
    recoveries: int = 0
    started_us: int | None = None
    finished_us: int | None = None
    result: bytes | None = None
    error: ErrorInfo | None = None
    reason: str = ""
    checkpoint: bytes | None = None


class BucketRow(msgspec.Struct):
    """A bucket's row in the master, with its row lock."""

    id: int
    token: str
    agent: str
    lane: str
    priority: int
    owner: int | None
    epoch: int = 1
    status: BucketStatus = BucketStatus.ACTIVE
    adopted_us: int = 0
    changed_us: int = 0
    depth: int = 0
    clean: bool = True
    lock: RowLock = msgspec.field(default_factory=RowLock)

    def seen(self) -> Bucket:
        """The row as a value."""
        return Bucket(
            id=self.id,
            agent=self.agent,
            lane=self.lane,
            priority=self.priority,
            epoch=self.epoch,
            status=self.status,
            owner=self.owner,
            adopted_us=self.adopted_us,
            depth=self.depth,
            clean=self.clean,
        )


class WorkerRow(msgspec.Struct):
    """One boot of a worker."""

    id: int
    registration: Registration
    started_us: int
    renewed_us: int
    lease_until_us: int
    number: int = 0
    ended: bool = False
    stopping: bool = False
    demands: list[Demand] = []
    stats: bytes = b"{}"


class Tombstone(msgspec.Struct):
    """A cancel's mark. `number` orders them for renewals; `certain` is what the first cancel answered."""

    number: int
    at_us: int
    certain: bool


class CommandRow(msgspec.Struct):
    """An order to a worker and its answer."""

    id: int
    worker: int
    verb: str
    args: bytes
    sent_us: int
    answered_us: int | None = None
    reply: bytes = b"{}"


class JobTable:
    """Job rows by key; open ones by bucket; held ones by lane, priority and due time."""

    def __init__(self) -> None:
        self._rows: dict[JobKey, JobRow] = {}
        self._in_bucket: dict[int, dict[JobKey, JobRow]] = {}
        self._held: dict[tuple[str, int], list[tuple[int, JobKey]]] = {}

    def get(self, key: JobKey) -> JobRow | None:
        """The row of a key."""
        return self._rows.get(key)

    def __iter__(self) -> Iterator[JobRow]:
        return iter(list(self._rows.values()))

    def insert(self, row: JobRow) -> JobRow:
        """Store a new row."""
        self._rows[row.key] = row
        self._index(row)
        return row

    def change(self, row: JobRow, **fields: object) -> None:
        """Set fields of a row and keep the indexes true."""
        self._unindex(row)
        for name, value in fields.items():
            setattr(row, name, value)
        self._index(row)

    def delete(self, keys: Iterable[JobKey]) -> None:
        """Forget rows."""
        for key in keys:
            self._unindex(self._rows.pop(key))

    def in_bucket(self, bucket: int) -> list[JobRow]:
        """Open rows that point at the bucket."""
        return list(self._in_bucket.get(bucket, {}).values())

    def in_processing(self, worker: int) -> list[JobRow]:
        """Rows of the worker that are Processing."""
        rows = (row for rows in self._in_bucket.values() for row in rows.values())
        return [row for row in rows if row.status is JobStatus.PROCESSING and row.worker == worker]

    def buckets(self) -> list[int]:
        """Buckets that open rows point at."""
        return list(self._in_bucket)

    def held(self, lane: str, priority: int) -> Iterator[JobRow]:
        """Held rows that a claim may take, earliest due first. Change no row while reading on."""
        return (self._rows[key] for _, key in self._held.get((lane, priority), ()))

    def _index(self, row: JobRow) -> None:
        if row.status in OPEN and row.bucket is not None:
            self._in_bucket.setdefault(row.bucket, {})[row.key] = row
        elif _claimable(row):
            insort(self._held.setdefault((row.envelope.lane, row.envelope.priority), []), (row.due_us, row.key))

    def _unindex(self, row: JobRow) -> None:
        if row.status in OPEN and row.bucket is not None:
            rows = self._in_bucket[row.bucket]
            del rows[row.key]
            if not rows:
                del self._in_bucket[row.bucket]
        elif _claimable(row):
            waiting = self._held[row.envelope.lane, row.envelope.priority]
            del waiting[bisect_left(waiting, (row.due_us, row.key))]


def envelope_of(message: Message) -> Envelope | None:
    """What the message says, or None: it is somebody else's, or damaged."""
    try:
        return decode_envelope(message.payload)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None


def _claimable(row: JobRow) -> bool:
    return row.status is JobStatus.HELD_ON_MASTER and row.reason != UNROUTABLE
