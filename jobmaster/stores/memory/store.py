"""The memory store as one database (`MemoryStore`), and its master half by itself (`MemoryMaster`)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import msgspec

from jobmaster.ports.answers import Fenced, Refused
from jobmaster.stores.memory.buckets import Buckets
from jobmaster.stores.memory.leases import Leases
from jobmaster.stores.memory.messages import LAST, AgentRow, MemoryAgent
from jobmaster.stores.memory.queries import Queries
from jobmaster.stores.memory.runs import Runs
from jobmaster.stores.memory.state import wall_us
from jobmaster.stores.memory.upkeep import Commands, Retention, Settings

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

    from jobmaster.model.ids import JobKey
    from jobmaster.model.job import Fence, Message, Outcome, Settled, Start, Verdict
    from jobmaster.ports.agent import Subscription
    from jobmaster.ports.master import MasterRules
    from jobmaster.ports.query import JobQuery, QueryStore
    from jobmaster.ports.store import Store
    from jobmaster.stores.forward import MasterSide
    from jobmaster.stores.memory.locks import Pause
    from jobmaster.stores.memory.rows import BucketRow, JobRow
    from jobmaster.stores.memory.signals import SignalHub
    from jobmaster.stores.split import AgentSide


class MemoryMaster(Commands, Settings, Retention, Leases, Buckets, Runs, Queries):
    """A master in memory: MasterStore and QueryStore.

    Args:
        rules: the cluster's settings that statements need.
        clock: the store's clock, microseconds since the epoch.
        late_commits: awaited by a transaction between its row locks and its first change. None: a verb is one step.
        hub: where signals go; an agent in the same process may share it.
    """

    def subscribe(self, topic: str, callback: Callable[[], None]) -> Subscription:
        """Call `callback` on the running loop after signals for the topic."""
        return self.hub.subscribe(topic, callback)

    async def signal(self, topics: Collection[str]) -> None:
        """Send hints by hand."""
        self._begin()
        self.hub.send(topics)

    async def close_store(self) -> None:
        self._closed = True


class MemoryStore(MemoryMaster, MemoryAgent):
    """Standalone: master and agent are one database, and what touches both is one transaction. See `MemoryMaster`."""

    def __init__(
        self,
        *,
        rules: MasterRules | None = None,
        clock: Callable[[], int] = wall_us,
        late_commits: Pause = None,
        hub: SignalHub | None = None,
    ) -> None:
        MemoryMaster.__init__(self, rules=rules, clock=clock, late_commits=late_commits, hub=hub)
        MemoryAgent.__init__(self, clock=clock, late_commits=late_commits, hub=self.hub)

    @property
    def standalone(self) -> bool:
        """Rows and messages are one database."""
        return True

    # -- both halves in one transaction

    def _left_in(self, bucket: BucketRow) -> int:
        queue = self.queues.get(bucket.id)
        return 0 if queue is None else len(queue.order)

    def _is_left_clean(self, bucket: BucketRow, rows: Sequence[JobRow]) -> bool:
        """The messages of those that went back to the master have left; one that is empty has no others either."""
        return all(row.bucket is None for row in rows) and (bucket.clean or not self._left_in(bucket))

    async def settle(self, fence: Fence, outcomes: Sequence[Outcome]) -> list[Settled]:
        async with self._owned_to_finish(fence):
            settled = self._finish_all(fence, outcomes)
            self._remove(fence.bucket, (o.seq for o in outcomes if o.seq is not None))
            return settled

    async def take_over(self, fence: Fence, starts: Sequence[Start]) -> list[Verdict]:
        async with self._owned(fence):
            verdicts = self._start_all(fence, starts)
            pairs = zip(starts, verdicts, strict=True)
            self._remove(fence.bucket, [s.seq for s, v in pairs if s.seq is not None and (s.take_over or not v.yes)])
            return verdicts

    async def set_free(self, fence: Fence, jobs: Sequence[Outcome], *, ended: bool) -> None:
        async with self._owned(fence):
            if ended:
                self._hand_back_all(fence, jobs)
            else:
                self._release_all(fence, jobs)
            self._remove(fence.bucket, (job.seq for job in jobs if job.seq is not None))

    async def drain(self, fence: Fence, *, limit: int) -> bool:
        row = self._row_to_fence(fence)
        async with self._draining(fence), row.lock.exclusive():
            self._check_newer(row, fence)
            row.epoch, row.closing = fence.epoch, True
            messages = self._first(fence.bucket, limit)
            self._drain_in(fence, messages)
            self._remove(fence.bucket, [message.seq for message in messages])
            return fence.bucket not in self.queues

    async def drain_orphan(self, bucket: int, *, limit: int) -> bool:
        self._begin()
        if bucket in self.buckets:
            raise Refused(f"bucket {bucket} is known to the master: it is drained by its drainer only")
        return True  # a bucket is deleted with what is in it

    # -- the agent's rows are the master's buckets

    def _row_to_push(self, bucket: int) -> AgentRow:
        if bucket not in self.buckets:
            raise Refused(f"bucket {bucket} does not exist")
        return self.rows.setdefault(bucket, AgentRow(bucket))

    def _check_open(self, row: AgentRow) -> None:
        if row.id not in self.buckets:
            raise Refused(f"bucket {row.id} does not exist any more")
        super()._check_open(row)

    def _check_reader(self, fence: Fence) -> None:
        self._check_known(fence)
        super()._check_reader(fence)

    def _row_to_fence(self, fence: Fence) -> AgentRow:
        self._check_known(fence)
        return self.rows.setdefault(fence.bucket, AgentRow(fence.bucket))

    def _check_known(self, fence: Fence) -> None:
        if fence.bucket not in self.buckets:
            raise Fenced(f"bucket {fence.bucket} does not exist any more")

    def _rows_to_move(self, fence: Fence, to: int) -> list[AgentRow]:
        if to in self.buckets:
            self.rows.setdefault(to, AgentRow(to))
        return super()._rows_to_move(fence, to)

    def _row_to_close(self, fence: Fence) -> AgentRow | None:
        """A bucket that the agent never saw is shut all the same."""
        if fence.bucket not in self.buckets:
            return None
        return self.rows.setdefault(fence.bucket, AgentRow(fence.bucket, self.buckets[fence.bucket].epoch))

    def _close(self, row: AgentRow) -> bool:
        """An empty bucket stays shut until it is retired, or fenced by its next owner."""
        row.closing = row.id not in self.queues
        return row.closing

    async def retire(self, fence: Fence) -> None:
        row = self._row_to_fence(fence)
        async with self._owned_alone(fence) as bucket, row.lock.exclusive():
            self._check_closing(bucket)
            left = self._first(bucket.id, limit=LAST)
            self._drain_in(fence, left)
            self._remove(bucket.id, [message.seq for message in left])
            self._retire(bucket)
            del self.rows[bucket.id]

    async def orphans(self, known: Collection[int]) -> list[int]:
        self._begin()
        return []

    def _window(self, asked_us: int) -> int:
        return min(asked_us, self.rules.window_us)

    def _messages_of(self, key: JobKey) -> list[Message]:
        return list(self._by_job.get(key, {}).values())

    def _all_messages(self) -> list[Message]:
        return [queue.by_seq[seq] for queue in self.queues.values() for seq in queue.order]

    def _take_away(self, messages: list[Message]) -> None:
        for message in messages:
            self._drop(message.bucket, message.seq)

    def _move_due(self, message: Message, due_us: int) -> None:
        """Numbered anew: the owner's cursor may have passed the old number."""
        self._drop(message.bucket, message.seq)
        self._last_seq += 1
        self._show(msgspec.structs.replace(message, seq=self._last_seq, due_us=due_us))
        self.hub.send((f"bucket:{message.bucket}",))

    def _unlisted(self, query: JobQuery) -> int:
        return 0

    async def close_store(self) -> None:
        self._closed = self._agent_closed = True


if TYPE_CHECKING:

    class Whole(Store, QueryStore, Protocol):
        """What an engine and a client get."""

    def whole(store: MemoryStore) -> Whole:
        """Held true by the type checker: a memory store is a whole one."""
        return store

    def halves(master: MemoryMaster, agent: MemoryAgent) -> tuple[MasterSide, AgentSide]:
        """Held true by the type checker: the halves fit into a split store."""
        return master, agent
