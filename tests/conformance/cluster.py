"""One cluster under test: a store, a clock that the test moves, and the steps that every engine takes."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import msgspec

from jobmaster.model.bucket import Bucket, NewBucket
from jobmaster.model.ids import JobKey, new_job_key
from jobmaster.model.job import (
    ClaimedJob,
    Envelope,
    Fence,
    Message,
    NewJob,
    Outcome,
    Start,
    decode_envelope,
    encode_envelope,
)
from jobmaster.model.states import BucketStatus, JobStatus, WorkerMode
from jobmaster.model.worker import Grant, Registration, Renewal
from jobmaster.ports.master import Claimed, ClaimRequest, MasterRules
from jobmaster.rules.recovery import PATIENCE
from tests.conformance.adapters import AGENT, Adapter, Place

HOPELESS = MasterRules().max_recoveries * PATIENCE
"""After so many recoveries a job is given up that nobody saw crash alone."""
SECOND = 1_000_000
NOON = 1_790_000_000 * SECOND


class Cluster:
    """A store with its clock. Everything is made with names and numbers that a reader of a test can predict."""

    def __init__(
        self, adapter: Adapter, folder: Path, removed: frozenset[str] = frozenset(), *, gated: bool = False
    ) -> None:
        self.adapter = adapter
        self.now_us = NOON
        self.rules = MasterRules()
        self._place = Place(folder, lambda: self.now_us, self.rules, removed, gated=gated)
        self.commits = adapter.commits(self._place)
        self._tokens = itertools.count(1)
        self._numbers: dict[int, itertools.count[int]] = {}
        self._opened: list[Any] = []
        self.store: Any = None

    @property
    def standalone(self) -> bool:
        return self.adapter.standalone

    # -- the test's life

    async def carry_out(self, case: Callable[..., Awaitable[None]], **arguments: object) -> None:
        """Open the store, run the case, close everything."""
        async with asyncio.timeout(60), self._running():
            await case(self, **arguments)

    @contextlib.asynccontextmanager
    async def _running(self) -> AsyncIterator[None]:
        self.store = await self.other()
        try:
            yield
        finally:
            await self.commits.close()
            for store in self._opened:
                await store.close_store()
            self._place.closing.close()

    async def other(self) -> Any:
        """One more connection to the same cluster, as another process would have it."""
        store = await self._adapter_open()
        self._opened.append(store)
        return store

    async def _adapter_open(self) -> Any:
        return await self.adapter.open(self._place)

    def later(self, seconds: float) -> None:
        """Move the store's clock."""
        self.now_us += round(seconds * SECOND)

    # -- workers and buckets

    async def worker(
        self, name: str = "w", *, boot: int = 1, lanes: tuple[str, ...] = ("",), agent: str = AGENT
    ) -> int:
        registered = await self.store.register(Registration(name, boot, agent, lanes, WorkerMode.FULL))
        worker: int = registered.worker
        return worker

    async def bucket(self, worker: int, *, lane: str = "", priority: int = 3) -> Bucket:
        """A new bucket of the worker, known to the master and the agent."""
        new = self.new_bucket(lane=lane, priority=priority)
        bucket: Bucket = (await self.store.create_buckets(worker, [new]))[0]
        await self.store.fence(bucket.fence)
        return bucket

    def new_bucket(self, *, lane: str = "", priority: int = 3) -> NewBucket:
        return NewBucket(f"token-{next(self._tokens)}", AGENT, lane, priority)

    async def owned(self, name: str = "w") -> Bucket:
        """A bucket with a living owner."""
        return await self.bucket(await self.worker(name))

    async def renew(self, worker: int, *, number: int | None = None, **fields: Any) -> Grant:
        count = self._numbers.setdefault(worker, itertools.count(1))
        grants = await self.store.renew([Renewal(worker, next(count) if number is None else number, **fields)])
        grant: Grant = grants[0]
        return grant

    async def lose(self, bucket: Bucket) -> Bucket:
        """Let the owner's lease end and mark its buckets lost."""
        self.later(11)
        await self.store.mark_lost()
        return await self.bucket_now(bucket)

    async def adopted(self, bucket: Bucket, name: str = "heir") -> Bucket:
        """The bucket after another worker has adopted it and taken it in at the agent."""
        if (await self.bucket_now(bucket)).owner is not None:
            await self.lose(bucket)
        heir = await self.worker(name, lanes=(bucket.lane,))
        await self.renew(heir, adopt=10)
        adopted = await self.bucket_now(bucket)
        assert adopted.owner == heir
        await self.store.fence(adopted.fence)
        return adopted

    async def bucket_now(self, bucket: Bucket) -> Bucket:
        found = [one for one in await self.store.list_buckets() if one.id == bucket.id]
        assert found, f"bucket {bucket.id} is gone"
        return found[0]

    async def draining(self, bucket: Bucket, name: str = "drainer") -> Bucket:
        """The bucket after its owner was lost and a drainer has claimed it."""
        await self.lose(bucket)
        drained = await self.store.claim_drain(await self.worker(name), agent=AGENT, older_us=0)
        assert drained is not None
        assert (drained.id, drained.status) == (bucket.id, BucketStatus.DRAINING)
        claimed: Bucket = drained
        return claimed

    # -- jobs

    def job(self, task: str = "greet", *, key: JobKey | None = None, verify: bool = False, **fields: Any) -> NewJob:
        """A job of the given envelope fields; `due_in` seconds or `due_us` say when."""
        due_in, due_us = fields.pop("due_in", 0), fields.pop("due_us", None)
        usual = {"task": task, "call": b"[]", "created_us": self.now_us, "scheduled_us": self.now_us}
        envelope = Envelope(**{**usual, **fields})
        delay_us = round(due_in * SECOND)
        return NewJob(
            key or new_job_key(), envelope, encode_envelope(envelope), due_us=due_us, delay_us=delay_us, verify=verify
        )

    async def pushed(self, bucket: Bucket, count: int = 1, **fields: Any) -> list[Message]:
        """Messages as their owner has read them."""
        jobs = [self.job(**fields) for _ in range(count)]
        await self.store.push(bucket.id, jobs)
        keys = {job.key for job in jobs}
        return [message for message in await self.messages(bucket) if message.key in keys]

    async def message(self, bucket: Bucket, **fields: Any) -> Message:
        return (await self.pushed(bucket, 1, **fields))[0]

    async def messages(self, bucket: Bucket) -> list[Message]:
        """All messages of the bucket that are due, as its present owner reads them."""
        now = await self.bucket_now(bucket)
        fence = Fence(now.id, now.epoch, now.owner or 0)
        read = await self.store.read(fence, None, limit=10_000, window_us=15 * SECOND)
        found: list[Message] = read.messages
        return found

    async def held(self, count: int = 1, **fields: Any) -> list[NewJob]:
        jobs = [self.job(**fields) for _ in range(count)]
        assert await self.store.hold(jobs) == [True] * count
        return jobs

    async def claim(self, bucket: Bucket, *, limit: int = 100, window: float = 0) -> Claimed:
        request = ClaimRequest(bucket.fence, bucket.lane, bucket.priority, limit)
        claimed: Claimed = await self.store.claim([request], window_us=round(window * SECOND))
        return claimed

    async def claimed(self, bucket: Bucket, **fields: Any) -> ClaimedJob:
        """A held job in the memory of the bucket's owner: a Queued row."""
        (job,) = await self.held(lane=bucket.lane, priority=bucket.priority, **fields)
        found = [one for one in (await self.claim(bucket)).jobs if one.key == job.key]
        assert len(found) == 1
        return found[0]

    async def running(self, bucket: Bucket, *, nonce: int = 1, **fields: Any) -> Message:
        """A message whose run is recorded: a Processing row. The message is still there."""
        message = await self.message(bucket, **fields)
        (verdict,) = await self.store.start(bucket.fence, [start_of(message, nonce=nonce)])
        assert verdict.yes
        return message

    async def finished(self, bucket: Bucket, status: JobStatus = JobStatus.SUCCEEDED, **fields: Any) -> Message:
        """A message whose job has ended and that has left the agent."""
        message = await self.message(bucket)
        await self.store.settle(bucket.fence, [outcome_of(message, status, **fields)])
        return message

    async def row(self, key: JobKey) -> Any:
        """The job as people see it."""
        record = await self.store.get_job(key)
        assert record is not None, "nobody knows the job"
        return record

    async def status(self, key: JobKey) -> JobStatus | None:
        (state,) = await self.store.look_up([key])
        return None if state is None else state.status


def start_of(job: Message | ClaimedJob, *, nonce: int = 1, **fields: Any) -> Start:
    """A guarded start of a message or a claimed job."""
    start = Start(
        key=job.key,
        gen=job.gen,
        nonce=nonce,
        envelope=decode_envelope(job.payload),
        payload=job.payload,
        due_us=job.due_us,
        seq=job.seq if isinstance(job, Message) else None,
        started_us=NOON,
    )
    return msgspec.structs.replace(start, **fields)


def outcome_of(job: Message | ClaimedJob, status: JobStatus = JobStatus.SUCCEEDED, **fields: Any) -> Outcome:
    """How attempt 1 of a message or a claimed job ended."""
    outcome = Outcome(
        key=job.key,
        gen=job.gen,
        envelope=decode_envelope(job.payload),
        payload=job.payload,
        due_us=job.due_us,
        status=status,
        attempt=1,
        seq=job.seq if isinstance(job, Message) else None,
        started_us=NOON,
        finished_us=NOON + SECOND,
    )
    return msgspec.structs.replace(outcome, **fields)
