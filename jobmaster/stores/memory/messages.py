"""The agent in memory: messages of buckets, numbered before they are visible."""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from typing import TYPE_CHECKING

import msgspec

from jobmaster.errors import StoreUnavailable
from jobmaster.model.ids import JobKey
from jobmaster.model.job import Fence, Message
from jobmaster.ports.agent import Cursor, Durability, Read, Reread, Takeover
from jobmaster.ports.answers import Fenced, Refused
from jobmaster.rules.storable import check_jobs, due_of
from jobmaster.stores.memory.locks import RowLock
from jobmaster.stores.memory.signals import SignalHub
from jobmaster.stores.memory.state import wall_us

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Hashable, Iterable, Sequence

    from jobmaster.model.job import NewJob
    from jobmaster.ports.agent import Subscription
    from jobmaster.stores.memory.locks import Pause


class AgentRow(msgspec.Struct):
    """A bucket's row in the agent: the epoch below which nobody reads, and whether it takes messages."""

    id: int
    epoch: int = 0
    closing: bool = False
    lock: RowLock = msgspec.field(default_factory=RowLock)


class Queue:
    """The messages of one bucket, by number and by due time."""

    def __init__(self) -> None:
        self.by_seq: dict[int, Message] = {}
        self.order: list[int] = []
        self.due: list[tuple[int, int]] = []

    def add(self, message: Message) -> None:
        """Make a message visible."""
        self.by_seq[message.seq] = message
        insort(self.order, message.seq)
        insort(self.due, (message.due_us, message.seq))

    def remove(self, seq: int) -> Message | None:
        """Take a message out, if it is there."""
        message = self.by_seq.pop(seq, None)
        if message is not None:
            del self.order[bisect_left(self.order, seq)]
            del self.due[bisect_left(self.due, (message.due_us, seq))]
        return message

    def became_due(self, cursor: Cursor, horizon: int) -> list[Message]:
        """Messages that the cursor passed before they were due, and that are due up to the horizon."""
        first = bisect_right(self.due, (cursor.due_us, cursor.due_seq))
        last = bisect_right(self.due, (horizon, LAST))
        return [self.by_seq[seq] for _, seq in self.due[first:last] if seq <= cursor.seq]

    def arrived(self, cursor: Cursor, horizon: int) -> list[Message]:
        """Messages beyond the cursor that are due up to the horizon, in order of arrival."""
        beyond = (self.by_seq[seq] for seq in self.order[bisect_right(self.order, cursor.seq) :])
        return [message for message in beyond if message.due_us <= horizon]

    def next_due(self, horizon: int) -> int | None:
        """The earliest due time beyond the horizon."""
        place = bisect_right(self.due, (horizon, LAST))
        return self.due[place][0] if place < len(self.due) else None


LAST = 2**63 - 1
_EMPTY = Queue()


class MemoryAgent:
    """An agent in memory. The port's text holds the promises.

    Args:
        clock: the store's clock, microseconds since the epoch.
        late_commits: awaited by a push between the numbering of its messages and their becoming visible, while it holds
            the bucket's row shared; gaps below a cursor then exist. None: a push is one step.
        hub: where signals go; a master in the same process may share it.
    """

    def __init__(
        self, *, clock: Callable[[], int] = wall_us, late_commits: Pause = None, hub: SignalHub | None = None
    ) -> None:
        self.hub = hub or SignalHub()
        self.rows: dict[int, AgentRow] = {}
        self.queues: dict[int, Queue] = {}
        self._keys: dict[Hashable, int] = {}
        self._by_job: dict[JobKey, dict[int, Message]] = {}
        self._last_seq = 0
        self._uncommitted: dict[int, list[int]] = {}
        """First numbers of the inserts of a bucket that are not visible yet."""
        self._agent_clock = clock
        self._agent_pause = late_commits
        self._agent_closed = False

    def _enter(self) -> int:
        """The store's now; every verb starts with it."""
        if self._agent_closed:
            raise StoreUnavailable("This agent in memory was closed. Make a new one; what it held is gone.")
        return self._agent_clock()

    @property
    def gapless(self) -> bool:
        return self._agent_pause is None

    # -- producers

    async def push(self, bucket: int, jobs: Sequence[NewJob]) -> None:
        now = self._enter()
        check_jobs(jobs, now)
        row = self._row_to_push(bucket)
        async with self._held_by_inserts(row):
            self._check_open(row)
            first = self._last_seq + 1
            messages = [self._number(bucket, job, now) for job in jobs]
            if self._agent_pause is not None:
                under_way = self._uncommitted.setdefault(bucket, [])
                under_way.append(first)
                try:
                    await self._agent_pause()
                finally:
                    under_way.remove(first)
            for message in messages:
                self._show(message)
        self.hub.send((f"bucket:{bucket}",))

    def _row_to_push(self, bucket: int) -> AgentRow:
        row = self.rows.get(bucket)
        if row is None:
            raise Refused(f"bucket {bucket} is not in this agent")
        return row

    def _held_by_inserts(self, row: AgentRow) -> AbstractAsyncContextManager[None]:
        return row.lock.shared()

    def _check_open(self, row: AgentRow) -> None:
        if row.closing or self.rows.get(row.id) is not row:
            raise Refused(f"bucket {row.id} is closed")

    def _number(self, bucket: int, job: NewJob, now: int) -> Message:
        self._last_seq += 1
        return Message(
            seq=self._last_seq,
            bucket=bucket,
            key=job.key,
            gen=0,
            due_us=due_of(job, now),
            payload=job.payload,
            verify=job.verify,
        )

    def _key(self, message: Message) -> Hashable:
        """What may be in a bucket only once."""
        return message.bucket, message.key, message.gen

    def _show(self, message: Message) -> None:
        if self._key(message) in self._keys:
            return
        self._keys[self._key(message)] = message.seq
        self._by_job.setdefault(message.key, {})[message.seq] = message
        self.queues.setdefault(message.bucket, Queue()).add(message)

    def _drop(self, bucket: int, seq: int) -> Message | None:
        queue = self.queues.get(bucket)
        message = queue.remove(seq) if queue is not None else None
        if message is None:
            return None
        if queue is not None and not queue.order:
            del self.queues[bucket]
        self._keys.pop(self._key(message), None)
        copies = self._by_job[message.key]
        del copies[seq]
        if not copies:
            del self._by_job[message.key]
        return message

    # -- the owner

    async def read(self, fence: Fence, cursor: Cursor | None, *, limit: int, window_us: int) -> Read:
        now = self._enter()
        self._check_reader(fence)
        return self._read(fence.bucket, cursor or Cursor(), now, limit, self._window(window_us))

    def _check_reader(self, fence: Fence) -> None:
        row = self.rows.get(fence.bucket)
        if row is not None and row.epoch > fence.epoch:
            raise Fenced(f"bucket {fence.bucket} is at epoch {row.epoch} in its agent, not at {fence.epoch}")

    def _window(self, asked_us: int) -> int:
        """How far ahead a read looks."""
        return asked_us

    def _read(self, bucket: int, cursor: Cursor, now: int, limit: int, window_us: int) -> Read:
        """First what has become due below the cursor; only when that is complete, what arrived beyond it."""
        queue = self.queues.get(bucket, _EMPTY)
        horizon = now + window_us
        found = queue.became_due(cursor, horizon)
        if len(found) > limit:
            found = found[:limit]
            place = Cursor(cursor.seq, found[-1].due_us, found[-1].seq) if found else cursor
            return Read(_in_order(found), place, now, more=True, unsettled=self._unsettled(bucket, place))
        fresh = queue.arrived(cursor, horizon)
        taken = fresh[: limit - len(found)]
        more = len(taken) < len(fresh)
        upto = (taken[-1].seq if taken else cursor.seq) if more else self._passed(cursor)
        reached = Cursor(upto, max(horizon, cursor.due_us))
        unsettled = self._unsettled(bucket, reached)
        next_due = queue.next_due(horizon)
        return Read(_in_order(found + taken), reached, now, more=more, next_due_us=next_due, unsettled=unsettled)

    def _passed(self, cursor: Cursor) -> int:
        """How far the numbers go that this read has seen all of."""
        return max(self._last_seq, cursor.seq)

    def _unsettled(self, bucket: int, cursor: Cursor) -> bool:
        """A message may still become visible at or below the cursor."""
        return any(first <= cursor.seq for first in self._uncommitted.get(bucket, ()))

    async def reread(
        self, fence: Fence, cursor: Cursor, *, known: Collection[int], limit: int, window_us: int, full: bool = False
    ) -> Reread:
        now = self._enter()
        self._check_reader(fence)
        horizon = now + self._window(window_us)
        queue = self.queues.get(fence.bucket, _EMPTY)
        below = queue.order[: bisect_right(queue.order, cursor.seq)]
        missed = (queue.by_seq[seq] for seq in below if seq not in known)
        found = [message for message in missed if message.due_us <= horizon]
        return Reread(found[:limit], self._unsettled(fence.bucket, cursor))

    async def remove(self, fence: Fence, seqs: Sequence[int]) -> None:
        self._enter()
        self._remove(fence.bucket, seqs)

    def _remove(self, bucket: int, seqs: Iterable[int]) -> None:
        for seq in seqs:
            self._drop(bucket, seq)

    # -- ownership

    async def fence(self, fence: Fence) -> Takeover:
        self._enter()
        row = self._row_to_fence(fence)
        async with row.lock.exclusive():
            self._check_newer(row, fence)
            self._take_epoch(row, fence.epoch)
            row.closing = False
            return Takeover(self._last_seq)

    def _row_to_fence(self, fence: Fence) -> AgentRow:
        return self.rows.setdefault(fence.bucket, AgentRow(fence.bucket))

    def _check_newer(self, row: AgentRow, fence: Fence) -> None:
        if self.rows.get(row.id) is not row or row.epoch > fence.epoch:
            raise Fenced(f"bucket {fence.bucket} is at epoch {row.epoch} in its agent, not at {fence.epoch}")

    def _check_same(self, row: AgentRow, fence: Fence) -> None:
        if row.epoch != fence.epoch:
            raise Fenced(f"bucket {fence.bucket} is at epoch {row.epoch} in its agent, not at {fence.epoch}")

    def _take_epoch(self, row: AgentRow, epoch: int) -> None:
        row.epoch = epoch

    async def close(self, fence: Fence) -> bool:
        self._enter()
        row = self._row_to_close(fence)
        if row is None:
            return fence.bucket not in self.queues
        async with row.lock.exclusive():
            if self.rows.get(row.id) is not row:
                return True
            self._check_same(row, fence)
            return self._close(row)

    def _row_to_close(self, fence: Fence) -> AgentRow | None:
        return self.rows.get(fence.bucket)

    def _close(self, row: AgentRow) -> bool:
        row.closing = False
        if row.id in self.queues:
            return False
        del self.rows[row.id]
        return True

    async def hand_over(
        self, fence: Fence, to: int, *, cursor: Cursor, high_mark: int, limit: int, window_us: int
    ) -> int:
        now = self._enter()
        async with AsyncExitStack() as locks:
            rows = self._rows_to_move(fence, to)
            for row in sorted(rows, key=lambda row: row.id):
                await locks.enter_async_context(row.lock.shared())
            rows = self._rows_to_move(fence, to)
            if len(rows) != len({fence.bucket, to}) or fence.bucket == to:
                return 0
            moved = self._unread(fence.bucket, cursor, now + self._window(window_us), limit)
            for message in moved:
                self._move(message, to, verify=message.verify or message.seq <= high_mark)
        if moved:
            self.hub.send((f"bucket:{to}",))
        return len(moved)

    def _rows_to_move(self, fence: Fence, to: int) -> list[AgentRow]:
        """The rows of both buckets that may take part; Fenced if the owner's is at another epoch."""
        mine, other = self.rows.get(fence.bucket), self.rows.get(to)
        if mine is None:
            raise Fenced(f"bucket {fence.bucket} is not in this agent")
        self._check_same(mine, fence)
        return [mine] if other is None or other.closing else [mine, other]

    def _unread(self, bucket: int, cursor: Cursor, horizon: int, limit: int) -> list[Message]:
        queue = self.queues.get(bucket, _EMPTY)
        unread = queue.became_due(cursor, horizon) + queue.arrived(cursor, horizon)
        first = [message for message in _in_order(unread) if message.gen == 0]
        return first[-limit:] if limit > 0 else []

    def _move(self, message: Message, to: int, *, verify: bool) -> None:
        """Number it anew: the cursor of its new owner may have passed the old number."""
        self._drop(message.bucket, message.seq)
        self._last_seq += 1
        self._show(msgspec.structs.replace(message, bucket=to, seq=self._last_seq, verify=verify))

    # -- coordinators

    async def depths(self, buckets: Sequence[int]) -> dict[int, int]:
        self._enter()
        return {bucket: len(self.queues.get(bucket, _EMPTY).order) for bucket in buckets}

    async def orphans(self, known: Collection[int]) -> list[int]:
        self._enter()
        return sorted({*self.rows, *self.queues}.difference(known))

    async def drain_read(self, bucket: int, epoch: int, *, limit: int) -> list[Message]:
        self._enter()
        row = self._row_to_fence(Fence(bucket, epoch, 0))
        async with row.lock.exclusive():
            self._check_newer(row, Fence(bucket, epoch, 0))
            row.epoch, row.closing = epoch, True
            return self._first(bucket, limit)

    def _first(self, bucket: int, limit: int) -> list[Message]:
        queue = self.queues.get(bucket, _EMPTY)
        return [queue.by_seq[seq] for seq in queue.order[:limit]]

    async def durability(self) -> Durability:
        self._enter()
        return Durability("nothing", "messages are kept in this process's memory only")

    # -- signals

    def subscribe(self, topic: str, callback: Callable[[], None]) -> Subscription:
        return self.hub.subscribe(topic, callback)

    async def signal(self, topics: Collection[str]) -> None:
        self._enter()
        self.hub.send(topics)

    async def close_store(self) -> None:
        """Every verb afterwards raises StoreUnavailable."""
        self._agent_closed = True


def _in_order(messages: list[Message]) -> list[Message]:
    return sorted(messages, key=lambda message: message.seq)
