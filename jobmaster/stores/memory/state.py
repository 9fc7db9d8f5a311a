"""The master's tables in memory, and the words of the protocol: own(b), mine(row), hold(row), recover(row).

A verb is atomic because it never suspends between its first and its last change. With `late_commits` it suspends once,
after it has its row locks and before its first change: what a slow commit does in a database.
"""

from __future__ import annotations

import time
from bisect import bisect_right
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from jobmaster.errors import StoreUnavailable
from jobmaster.model.job import AttemptRecord
from jobmaster.model.reasons import TAKEN_BACK, WORKER_LOST
from jobmaster.model.states import JobStatus
from jobmaster.ports.answers import Fenced
from jobmaster.ports.master import MasterRules
from jobmaster.rules.recovery import Testimony, final_error, lost_error, recovered
from jobmaster.stores.memory.rows import BucketRow, CommandRow, JobRow, JobTable, Tombstone, WorkerRow
from jobmaster.stores.memory.schedule_rows import ScheduleTable
from jobmaster.stores.memory.signals import SignalHub

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from jobmaster.model.definition import ClusterRecord, Definition
    from jobmaster.model.ids import JobKey
    from jobmaster.model.job import ErrorInfo, Fence, Message
    from jobmaster.stores.memory.locks import Pause


def wall_us() -> int:
    """This host's clock, microseconds since the epoch."""
    return time.time_ns() // 1_000


class MasterState:
    """Tables of a master and the row changes that its verbs are made of."""

    def __init__(
        self,
        *,
        rules: MasterRules | None = None,
        clock: Callable[[], int] = wall_us,
        late_commits: Pause = None,
        hub: SignalHub | None = None,
    ) -> None:
        self.rules = rules or MasterRules()
        self.hub = hub or SignalHub()
        self._clock = clock
        self._late_commits = late_commits
        self._closed = False
        self.jobs = JobTable()
        self.schedules = ScheduleTable()
        self.attempts: dict[JobKey, dict[int, AttemptRecord]] = {}
        self.buckets: dict[int, BucketRow] = {}
        self.tokens: dict[str, int] = {}
        self.workers: dict[int, WorkerRow] = {}
        self.boots: dict[str, int] = {}
        self.tombstones: dict[JobKey, Tombstone] = {}
        self.cancel_log: list[tuple[int, JobKey]] = []
        self.blames: dict[JobKey, Testimony] = {}
        self.blamed: set[tuple[int, JobKey]] = set()
        self.definitions_by_name: dict[str, Definition] = {}
        self.cluster: ClusterRecord | None = None
        self.commands: dict[int, CommandRow] = {}
        self._last_id = 0

    def _begin(self) -> int:
        """The store's now; every verb starts with it."""
        if self._closed:
            raise StoreUnavailable("This store in memory was closed. Make a new one; what it held is gone.")
        return self._clock()

    async def _pause(self) -> None:
        if self._late_commits is not None:
            await self._late_commits()

    def _next_id(self) -> int:
        self._last_id += 1
        return self._last_id

    # -- who owns what

    @asynccontextmanager
    async def _owned(self, fence: Fence) -> AsyncIterator[BucketRow]:
        """own(b): the bucket's row, held shared, at the fence's owner and epoch; else Fenced."""
        bucket = self._bucket_of(fence)
        async with bucket.lock.shared():
            self._check_owner(bucket, fence)
            await self._pause()
            yield bucket

    @asynccontextmanager
    async def _owned_alone(self, fence: Fence) -> AsyncIterator[BucketRow]:
        """own(b) exclusively: no batch of any owner is under way meanwhile."""
        bucket = self._bucket_of(fence)
        async with bucket.lock.exclusive():
            self._check_owner(bucket, fence)
            await self._pause()
            yield bucket

    def _bucket_of(self, fence: Fence) -> BucketRow:
        self._begin()
        bucket = self.buckets.get(fence.bucket)
        if bucket is None:
            raise Fenced(f"bucket {fence.bucket} does not exist any more")
        return bucket

    def _check_owner(self, bucket: BucketRow, fence: Fence) -> None:
        if self.buckets.get(bucket.id) is not bucket or (bucket.owner, bucket.epoch) != (fence.owner, fence.epoch):
            raise Fenced(
                f"bucket {fence.bucket} is at epoch {bucket.epoch} with owner {bucket.owner}, "
                f"not at epoch {fence.epoch} with owner {fence.owner}"
            )

    def _mine(self, row: JobRow, bucket: int, gen: int) -> bool:
        return row.bucket == bucket and row.gen == gen

    # -- what becomes of a row

    def _hold(self, row: JobRow, now: int, *, due_us: int, reason: str = "", attempts: int | None = None) -> None:
        """hold(row): a tombstone ends it, else it waits on the master at a new assignment number."""
        cancelled = row.key in self.tombstones
        self.jobs.change(
            row,
            status=JobStatus.CANCELLED if cancelled else JobStatus.HELD_ON_MASTER,
            bucket=None,
            gen=row.gen + 1,
            due_us=due_us,
            nonce=0,
            touched_us=now,
            reason=reason,
            attempts=row.attempts if attempts is None else attempts,
            finished_us=now if cancelled else None,
        )
        self._tell(row)

    def _recover(self, row: JobRow, now: int, *, living: int | None = None) -> None:
        """recover(row): whoever held it is gone, or is the `living` worker that says it has it no more."""
        heard = self.blames.get(row.key)
        blame = self._blame_on(row, living)
        after = recovered(
            status=row.status,
            at_most_once=row.envelope.at_most_once,
            recoveries=row.recoveries,
            tombstone=row.key in self.tombstones,
            blame=blame,
            max_recoveries=self.rules.max_recoveries,
        )
        if row.status is JobStatus.PROCESSING:
            self._record_lost(row, now, blame, living)
        elif heard is not None and heard.reason:
            self._record_unnoted(row, heard)
        self.jobs.change(
            row,
            status=after.status,
            bucket=None,
            gen=row.gen + 1,
            nonce=0,
            touched_us=now,
            suspect=True,
            recoveries=after.recoveries,
            reason=after.reason,
            error=final_error(after, blame or "") or row.error,
            finished_us=now if after.status.is_final else None,
        )
        self._tell(row)

    def _recover_lost(self, row: JobRow, now: int, *, living: int | None = None) -> None:
        """recover(row) whose owner has lost its bucket: the message by which it came is nobody's any more, either."""
        came = self._came_by(row)
        self._recover(row, now, living=living)
        self._take_away(came)

    def _came_by(self, row: JobRow) -> list[Message]:
        """Messages of the same database by which the row came to its bucket."""
        return [one for one in self._messages_of(row.key) if (one.gen, one.bucket) == (row.gen, row.bucket)]

    def _blame_on(self, row: JobRow, living: int | None) -> str | None:
        """What was testified about the row's worker, which counts once. Of one that lives nobody has to testify."""
        heard = self.blames.pop(row.key, None)
        if heard is None:
            return "" if row.worker == living else None
        return heard.reason

    def _record_unnoted(self, row: JobRow, heard: Testimony) -> None:
        """A run that only its process knew of, and its supervisor: it was an attempt all the same."""
        self.jobs.change(row, attempts=row.attempts + 1, worker=heard.worker, started_us=None)
        self._record_lost(row, heard.at_us, heard.reason, None)

    def _record_lost(self, row: JobRow, now: int, blame: str | None, living: int | None) -> None:
        error = lost_error(blame) if blame else None
        reason = TAKEN_BACK if row.worker == living and not blame else WORKER_LOST
        self._record_attempt(row, JobStatus.FAILED, finished_us=now, error=error, reason=reason)

    def _record_attempt(
        self, row: JobRow, status: JobStatus, *, finished_us: int, error: ErrorInfo | None, reason: str
    ) -> None:
        self.attempts.setdefault(row.key, {})[row.attempts] = AttemptRecord(
            key=row.key,
            attempt=row.attempts,
            status=status,
            worker=row.worker,
            bucket=row.bucket,
            started_us=row.started_us,
            finished_us=finished_us,
            error=error,
            reason=reason,
        )

    def _tell(self, row: JobRow) -> None:
        """Signal who waits for what the row has become."""
        if row.status is JobStatus.HELD_ON_MASTER:
            self.hub.send(("held",))
        elif row.status.is_final and row.envelope.reply_to:
            self.hub.send((f"client:{row.envelope.reply_to}",))

    # -- tombstones

    def _bury(self, key: JobKey, now: int, *, certain: bool) -> None:
        number = self._next_id()
        self.tombstones[key] = Tombstone(number, now, certain)
        self.cancel_log.append((number, key))

    def _cancels_since(self, number: int) -> tuple[list[JobKey], int]:
        """Tombstones stored after `number`, and where to go on."""
        found = self.cancel_log[bisect_right(self.cancel_log, number, key=lambda entry: entry[0]) :]
        keys = [key for at, key in found if key in self.tombstones and self.tombstones[key].number == at]
        return keys, found[-1][0] if found else number

    # -- messages of the same database; a master by itself has none

    def _messages_of(self, key: JobKey) -> list[Message]:
        return []

    def _all_messages(self) -> list[Message]:
        return []

    def _take_away(self, messages: list[Message]) -> None:
        """Remove messages of the same database."""

    def _move_due(self, message: Message, due_us: int) -> None:
        """Give an unread message of the same database a new due time."""
