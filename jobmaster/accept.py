"""How a job gets into a store (docs/protocol.md, R1 to R3): bucket, other bucket, master, and what is never done.

Another store is asked only after a certain refusal. After an unknown outcome the same message is repeated to the same
bucket, marked, until it is answered or the time is over.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Container, Sequence
from typing import TYPE_CHECKING, Final, TypeVar

import msgspec

from jobmaster.errors import OutcomeUnknown, StoreUnavailable
from jobmaster.model.bucket import NewBucket
from jobmaster.ports.answers import Refused, StoreOutdated
from jobmaster.rules.placement import candidates, choose

if TYPE_CHECKING:
    from collections.abc import Mapping

    from jobmaster.model.bucket import Bucket
    from jobmaster.model.job import NewJob
    from jobmaster.ports.agent import Agent
    from jobmaster.ports.master import MasterStore

T = TypeVar("T")

FRESH_FOR: Final = 2.0
"""Seconds for which a list of buckets counts as fresh; an older one is used, and renewed beside it."""
MOST_BUCKETS_TRIED: Final = 5
FIRST_PAUSE: Final = 0.05
LONGEST_PAUSE: Final = 1.0


class Buckets:
    """The open buckets, as the master listed them. Refusals and age make it ask again."""

    def __init__(self, master: MasterStore, agents: Container[str], *, now: Callable[[], float]) -> None:
        self._master = master
        self._now = now
        self._agents = agents
        self._buckets: list[Bucket] = []
        self._by_route: dict[tuple[str, int], list[Bucket]] = {}
        self._read_at = float("-inf")
        self._reading: asyncio.Task[None] | None = None

    def known(self, lane: str, priority: int) -> list[Bucket]:
        """What the last list has for this lane and priority. Renews an old list in the background."""
        if self._now() - self._read_at > FRESH_FOR:
            self._renew()
        return self._of_route(lane, priority)

    def at_hand(self, lane: str, priority: int) -> Bucket | None:
        """One of a fresh list; None where somebody must ask. From any thread."""
        if self._now() - self._read_at > FRESH_FOR:
            return None
        return choose(self._of_route(lane, priority), _draw)

    async def read(self) -> None:
        """Ask the master now. Raises what the master raises."""
        self._set(await self._master.open_buckets())

    def add(self, bucket: Bucket) -> None:
        """A bucket that this process made."""
        self._set([*(known for known in self._buckets if known.id != bucket.id), bucket])

    def forget(self, bucket: Bucket) -> None:
        """It refused: do not offer it until the master lists it again."""
        self._set([known for known in self._buckets if known.id != bucket.id])
        self._read_at = float("-inf")

    async def close(self) -> None:
        """End a reading that goes on."""
        if self._reading is not None:
            self._reading.cancel()
            await asyncio.gather(self._reading, return_exceptions=True)

    def _of_route(self, lane: str, priority: int) -> list[Bucket]:
        routes = self._by_route  # before the list, and `_set` the other way round: no old list among new routes
        found = routes.get((lane, priority))
        if found is None:
            known = candidates(self._buckets, lane=lane, priority=priority)
            found = routes[lane, priority] = [bucket for bucket in known if bucket.agent in self._agents]
        return found

    def _set(self, buckets: list[Bucket]) -> None:
        self._buckets = buckets
        self._by_route = {}
        self._read_at = self._now()

    def _renew(self) -> None:
        if self._reading is None or self._reading.done():
            self._reading = asyncio.create_task(self._read_quietly(), name="jobmaster-buckets")

    async def _read_quietly(self) -> None:
        try:
            await self.read()
        except StoreUnavailable:
            # The list of before is still the best that is known; the next call asks again.
            self._read_at = self._now()


class Delivery:
    """Jobs of one lane and priority on their way.

    Attributes:
        deadline: until when stores are asked, by `time.monotonic()`.
        bucket: the bucket that was asked last; None: none was, or it refused.
        to_master: the master is asked from now on.
        doubtful: the bucket, or the master, may have them already.
    """

    __slots__ = ("bucket", "deadline", "doubtful", "jobs", "lane", "priority", "to_master")

    def __init__(
        self, jobs: Sequence[NewJob], *, lane: str, priority: int, deadline: float, to_master: bool = False
    ) -> None:
        self.jobs = jobs
        self.lane = lane
        self.priority = priority
        self.deadline = deadline
        self.to_master = to_master
        self.bucket: Bucket | None = None
        self.doubtful = False

    def doubt(self) -> None:
        """An outcome is unknown: from now on every copy is marked, so that its owner asks the master first (R3)."""
        if not self.doubtful:
            self.doubtful = True
            self.jobs = [msgspec.structs.replace(job, verify=True) for job in self.jobs]

    def part(self, jobs: Sequence[NewJob], *, deadline: float) -> Delivery:
        """Some of its jobs, which go on from where all of them are: what is doubtful of all is of each."""
        part = Delivery(jobs, lane=self.lane, priority=self.priority, deadline=deadline, to_master=self.to_master)
        part.bucket = self.bucket
        if self.doubtful:
            part.doubt()
        return part


class Acceptor:
    """Puts jobs into stores. Used on one event loop only.

    Args:
        master: the master.
        agents: the agents by name.
        home: the agent whose store is the master's own database, where ownerless buckets can be made; or None.
        jobs_first_on_master: nothing goes to an agent (the cluster is passive).
        now: the clock of deadlines.
    """

    def __init__(
        self,
        master: MasterStore,
        agents: Mapping[str, Agent],
        *,
        home: str | None,
        jobs_first_on_master: bool,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._now = now
        self._master = master
        self._agents = agents
        self._home = home
        self._only_master = jobs_first_on_master
        self._buckets = Buckets(master, agents, now=now)

    def at_hand(self, lane: str, priority: int) -> Bucket | None:
        """A bucket that can be pushed to without a question; None: go the ordinary way. From any thread."""
        return None if self._only_master else self._buckets.at_hand(lane, priority)

    async def accept(self, delivery: Delivery) -> None:
        """Store the jobs in a bucket, or where that is not possible on the master.

        Raises:
            StoreUnavailable: no store answered until the deadline. Nothing was stored.
            OutcomeUnknown: a store may have them.
        """
        if not self._only_master and not delivery.to_master:
            for _ in range(MOST_BUCKETS_TRIED):
                bucket = delivery.bucket = await self._next_bucket(delivery)
                if bucket is None:
                    break
                try:
                    await self._push(bucket, delivery)
                except Refused:
                    self._buckets.forget(bucket)
                    delivery.bucket = None
                except StoreUnavailable:
                    self._buckets.forget(bucket)
                    if self._home is not None or delivery.doubtful:
                        raise
                    break
                else:
                    return
        delivery.to_master = True
        await self._hold(delivery)

    async def _hold(self, delivery: Delivery) -> None:
        # Repeats until the deadline, because an id that is there stays as it is.
        await self._within(delivery, lambda: self._master.hold(delivery.jobs), is_write=True)

    async def close(self) -> None:
        """End what runs in the background."""
        await self._buckets.close()

    async def _next_bucket(self, delivery: Delivery) -> Bucket | None:
        if delivery.bucket is not None:
            return delivery.bucket
        lane, priority = delivery.lane, delivery.priority
        found = choose(self._buckets.known(lane, priority), _draw)
        if found is not None:
            return found
        return await self._within(delivery, lambda: self._bucket(lane, priority), is_write=False)

    async def _bucket(self, lane: str, priority: int) -> Bucket | None:
        await self._buckets.read()
        found = choose(self._buckets.known(lane, priority), _draw)
        if found is not None or self._home is None:
            return found
        token = f"offer:{self._home}:{lane}:{priority}"
        made = await self._master.offer_bucket(NewBucket(token=token, agent=self._home, lane=lane, priority=priority))
        self._buckets.add(made)
        return made

    async def _push(self, bucket: Bucket, delivery: Delivery) -> None:
        agent = self._agents[bucket.agent]
        if self._home is not None or delivery.doubtful:
            # The master is this very store, so there is no other to ask: keep asking this one.
            await self._within(delivery, lambda: agent.push(bucket.id, delivery.jobs), is_write=True)
            return
        try:
            async with asyncio.timeout_at(delivery.deadline):
                await agent.push(bucket.id, delivery.jobs)
        except (OutcomeUnknown, TimeoutError):
            delivery.doubt()
            await self._within(delivery, lambda: agent.push(bucket.id, delivery.jobs), is_write=True)

    async def _within(self, delivery: Delivery, step: Callable[[], Awaitable[T]], *, is_write: bool) -> T:
        """Do the step, again where the store was away or did not answer, until the deadline."""
        pause = FIRST_PAUSE
        now = self._now
        reason: Exception = TimeoutError("the time was over before it could be asked")
        while now() < delivery.deadline:
            try:
                async with asyncio.timeout_at(delivery.deadline):
                    return await step()
            except (OutcomeUnknown, TimeoutError) as error:
                if is_write:
                    delivery.doubt()
                if str(error) or not isinstance(reason, StoreUnavailable):
                    reason = error  # else the time was over while it was asked again: what it said before is the cause
            except StoreOutdated as error:  # asked again, it says the same
                if delivery.doubtful:
                    raise _given_up(delivery, error) from error
                raise
            except StoreUnavailable as error:
                reason = error
            jitter = random.uniform(0.5, 1.0)  # noqa: S311 - a waiting time, no secret
            await asyncio.sleep(min(pause * jitter, max(0.0, delivery.deadline - now())))
            pause = min(pause * 2, LONGEST_PAUSE)
        raise _given_up(delivery, reason) from reason


def _draw(count: int) -> int:
    return int(random.random() * count)  # noqa: S311 - no secret; a fifth of the time of randrange


def _given_up(delivery: Delivery, reason: Exception) -> StoreUnavailable:
    detail = str(reason) or "no answer in time"
    if delivery.doubtful:
        return OutcomeUnknown(f"The store did not answer, and may have stored the job: {detail}")
    return StoreUnavailable(f"No store took the job, and nothing was stored: {detail}")
