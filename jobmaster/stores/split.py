"""A master and separate agents as one store: the master's step first, then the agent's (R10, R12, R13, R16, R21).

A message leaves its agent only after the master durably knows the job at least as well (I2). When the master says
Fenced, nothing is removed. When the agent does not answer, the call fails, and repeating all of it is safe: the master
recognises what it has settled.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from jobmaster.errors import ConfigurationError, JobMasterError
from jobmaster.model.job import Fence
from jobmaster.ports.agent import Agent, Cursor, Durability, Read, Reread, Subscription, Takeover
from jobmaster.ports.answers import Fenced, Refused
from jobmaster.rules.orphans import held_again
from jobmaster.stores.forward import MasterForward, MasterSide

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence

    from jobmaster.model.bucket import Bucket, NewBucket
    from jobmaster.model.job import Message, NewJob, Outcome, Settled, Start, Verdict
    from jobmaster.model.worker import Grant, Renewal
    from jobmaster.ports.query import QueryStore
    from jobmaster.ports.store import Store


HIGHEST_EPOCH = 2**31 - 1
"""No owner's fence is above it: bucket ids are never used again, so an orphan may be shut for ever."""

STRENGTH = {"process": 1, "host": 2}


class AgentSide(Agent, Protocol):
    """What a split store needs of an agent."""

    async def close_store(self) -> None:
        """Flush and close. Every verb afterwards raises StoreUnavailable."""
        ...


class SplitStore(MasterForward):
    """Master and agents as a `ports.store.Store`, also a `QueryStore`.

    Args:
        master: the cluster's truth; it also carries the signals that are not about a bucket's messages.
        agents: agents by their names in the cluster (`Bucket.agent`).
    """

    def __init__(self, master: MasterSide, agents: Mapping[str, AgentSide]) -> None:
        if not agents:
            raise ConfigurationError("A store needs at least one agent. Name one, or use the master standalone.")
        super().__init__(master)
        self._agents = dict(agents)
        self._agent_of: dict[int, str] = {}

    @property
    def standalone(self) -> bool:
        """Rows and messages are two databases."""
        return False

    # -- steps that touch both

    async def settle(self, fence: Fence, outcomes: Sequence[Outcome]) -> list[Settled]:
        settled = await self.master.finish(fence, outcomes)
        await self.remove(fence, [outcome.seq for outcome in outcomes if outcome.seq is not None])
        return settled

    async def take_over(self, fence: Fence, starts: Sequence[Start]) -> list[Verdict]:
        verdicts = await self.master.start(fence, starts)
        pairs = zip(starts, verdicts, strict=True)
        await self.remove(fence, [s.seq for s, v in pairs if s.seq is not None and (s.take_over or not v.yes)])
        return verdicts

    async def set_free(self, fence: Fence, jobs: Sequence[Outcome], *, ended: bool) -> None:
        if ended:
            await self.master.hand_back(fence, jobs)
        else:
            await self.master.release(fence, jobs)
        await self.remove(fence, [job.seq for job in jobs if job.seq is not None])

    async def drain(self, fence: Fence, *, limit: int) -> bool:
        messages = await self.drain_read(fence.bucket, fence.epoch, limit=limit)
        # Asked of the master even when nothing was read: whoever lost the drain must hear it.
        await self.master.drain_in(fence, messages)
        await self.remove(fence, [message.seq for message in messages])
        return len(messages) < limit

    async def drain_orphan(self, bucket: int, *, limit: int) -> bool:
        if not await self.master.unknown_buckets([bucket]):
            raise Refused(f"bucket {bucket} is known to the master: it is drained by its drainer only")
        messages = await self.drain_read(bucket, HIGHEST_EPOCH, limit=limit)
        now = await self.master.now_us()
        await self.master.hold([held_again(message, now) for message in messages])
        fence = Fence(bucket, HIGHEST_EPOCH, 0)
        await self.remove(fence, [message.seq for message in messages])
        return len(messages) < limit and await self.close(fence)

    # -- buckets: their agents are remembered as they pass by

    async def open_buckets(self) -> list[Bucket]:
        return self._learn(await self.master.open_buckets())

    async def offer_bucket(self, bucket: NewBucket) -> Bucket:
        offered = await self.master.offer_bucket(bucket)
        self._learn([offered])
        if offered.owner is None:
            await self._show_to_agent(offered)
        return offered

    async def _show_to_agent(self, bucket: Bucket) -> None:
        """Nobody's bucket has nobody who would make its row in the agent."""
        try:
            await self.fence(Fence(bucket.id, bucket.epoch, 0))
        except Fenced:
            return  # an adopter was faster: the row is there, at a higher epoch

    async def create_buckets(self, worker: int, buckets: Sequence[NewBucket]) -> list[Bucket]:
        return self._learn(await self.master.create_buckets(worker, buckets))

    async def renew(self, renewals: Sequence[Renewal]) -> list[Grant]:
        grants = await self.master.renew(renewals)
        for grant in grants:
            self._learn(grant.buckets)
        return grants

    async def mark_lost(self, *, limit: int = 100, as_of_us: int | None = None) -> list[Bucket]:
        return self._learn(await self.master.mark_lost(limit=limit, as_of_us=as_of_us))

    async def claim_drain(self, worker: int, *, agent: str, older_us: int) -> Bucket | None:
        bucket = await self.master.claim_drain(worker, agent=agent, older_us=older_us)
        self._learn([bucket] if bucket is not None else [])
        return bucket

    def _learn(self, buckets: list[Bucket]) -> list[Bucket]:
        self._agent_of.update((bucket.id, bucket.agent) for bucket in buckets)
        return buckets

    async def _agent(self, bucket: int) -> AgentSide:
        """The agent of a bucket; Fenced where nobody knows it."""
        if len(self._agents) == 1:
            return next(iter(self._agents.values()))
        if bucket not in self._agent_of:
            self._learn(await self.master.list_buckets())
        name = self._agent_of.get(bucket)
        if name not in self._agents:
            raise Fenced(f"bucket {bucket} is in none of the agents {', '.join(self._agents)}")
        return self._agents[name]

    # -- agent

    @property
    def gapless(self) -> bool:
        return all(agent.gapless for agent in self._agents.values())

    async def push(self, bucket: int, jobs: Sequence[NewJob]) -> None:
        await (await self._agent(bucket)).push(bucket, jobs)

    async def read(self, fence: Fence, cursor: Cursor | None, *, limit: int, window_us: int) -> Read:
        return await (await self._agent(fence.bucket)).read(fence, cursor, limit=limit, window_us=window_us)

    async def reread(
        self, fence: Fence, cursor: Cursor, *, known: Collection[int], limit: int, window_us: int, full: bool = False
    ) -> Reread:
        agent = await self._agent(fence.bucket)
        return await agent.reread(fence, cursor, known=known, limit=limit, window_us=window_us, full=full)

    async def remove(self, fence: Fence, seqs: Sequence[int]) -> None:
        if seqs:
            await (await self._agent(fence.bucket)).remove(fence, seqs)

    async def fence(self, fence: Fence) -> Takeover:
        return await (await self._agent(fence.bucket)).fence(fence)

    async def close(self, fence: Fence) -> bool:
        return await (await self._agent(fence.bucket)).close(fence)

    async def hand_over(
        self, fence: Fence, to: int, *, cursor: Cursor, high_mark: int, limit: int, window_us: int
    ) -> int:
        agent = await self._agent(fence.bucket)
        if agent is not await self._agent(to):
            return 0  # messages move inside one agent only
        return await agent.hand_over(fence, to, cursor=cursor, high_mark=high_mark, limit=limit, window_us=window_us)

    async def depths(self, buckets: Sequence[int]) -> dict[int, int]:
        found: dict[int, int] = {}
        for bucket in buckets:
            found.update(await (await self._agent(bucket)).depths([bucket]))
        return found

    async def orphans(self, known: Collection[int]) -> list[int]:
        found: list[int] = []
        for name, agent in self._agents.items():
            buckets = await agent.orphans(known)
            self._agent_of.update((bucket, name) for bucket in buckets)
            found += buckets
        return found

    async def drain_read(self, bucket: int, epoch: int, *, limit: int) -> list[Message]:
        return await (await self._agent(bucket)).drain_read(bucket, epoch, limit=limit)

    async def durability(self) -> Durability:
        """The weakest of all agents: nobody knows which one takes the next job."""
        answers = [await agent.durability() for agent in self._agents.values()]
        return min(answers, key=lambda answer: STRENGTH.get(answer.survives, 0))

    def subscribe(self, topic: str, callback: Callable[[], None]) -> Subscription:
        carrier = self._carrier(topic)
        if carrier is None:
            raise Fenced(f"topic {topic!r}: this bucket is in none of the agents that are known here")
        return carrier.subscribe(topic, callback)

    async def signal(self, topics: Collection[str]) -> None:
        for topic in topics:
            carrier = self._carrier(topic)
            if carrier is not None:
                await carrier.signal((topic,))

    def _carrier(self, topic: str) -> MasterSide | AgentSide | None:
        kind, _, bucket = topic.partition(":")
        if kind != "bucket":
            return self.master
        if len(self._agents) == 1:
            return next(iter(self._agents.values()))
        return self._agents.get(self._agent_of.get(int(bucket), ""))

    async def close_store(self) -> None:
        errors: list[JobMasterError] = []
        closers = [self.master.close_store, *(agent.close_store for agent in self._agents.values())]
        for close in closers:
            try:
                await close()
            except JobMasterError as error:
                errors.append(error)
        if errors:
            raise errors[0]


if TYPE_CHECKING:

    class Whole(Store, QueryStore, Protocol):
        """What an engine and a client get."""

    def whole(store: SplitStore) -> Whole:
        """Held true by the type checker: a split store is a whole one."""
        return store
