"""Owners and producers that do everything to one database at once, at random, and what must be true afterwards."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import Awaitable
from typing import Any, TypeVar

from jobmaster.model.bucket import Bucket, NewBucket
from jobmaster.model.ids import JobKey, new_job_key
from jobmaster.model.job import (
    Blame,
    ClaimedJob,
    Envelope,
    Message,
    NewJob,
    Outcome,
    Start,
    decode_envelope,
    encode_envelope,
)
from jobmaster.model.states import JobStatus, WorkerMode
from jobmaster.model.worker import Grant, Registration, Renewal
from jobmaster.ports.answers import Refused
from jobmaster.ports.master import ClaimRequest

AGENT = "here"
LONGEST = 60.0
"""Seconds."""
Answer = TypeVar("Answer")


class Storm:
    """What all that take part share.

    Args:
        verbs: the storm rages until each of them was answered, where the machine is slow: at most `LONGEST`.
        seconds: it lasts so long at least.

    Attributes:
        accepted: the keys that a store has taken.
        answered: how often each verb was answered; "refused" counts, too.
    """

    def __init__(self, verbs: set[str], *, seconds: float) -> None:
        self._verbs = verbs
        self._begun, self._seconds = time.monotonic(), seconds
        self.accepted: list[JobKey] = []
        self.answered: Counter[str] = Counter()

    @property
    def rages(self) -> bool:
        lasted = time.monotonic() - self._begun
        return lasted < self._seconds or (lasted < LONGEST and not self._verbs <= self.answered.keys())

    async def ask(self, verb: str, answer: Awaitable[Answer]) -> Answer | None:
        """The answer, or None where the store said no. Anything else that it raises ends the storm."""
        try:
            found = await answer
        except Refused:
            self.answered["refused"] += 1
            return None
        self.answered[verb] += 1
        return found


class Owner:
    """A worker that takes buckets, works in them, and leaves them in every way there is."""

    def __init__(self, storm: Storm, store: Any, name: str, draw: random.Random) -> None:
        self._storm = storm
        self._store = store
        self._name = name
        self._draw = draw
        self._worker: int | None = None
        self._grant: Grant | None = None
        self._numbers = 0

    async def run(self) -> None:
        while self._storm.rages:
            if self._worker is None:
                await self._register()
            elif grant := await self._renew(self._worker):
                await asyncio.gather(*map(self._work_in, grant.buckets))
                await self._sometimes(self._worker)

    async def _register(self) -> None:
        new = Registration(self._name, time.time_ns(), AGENT, ("",), WorkerMode.FULL)
        registered = await self._storm.ask("register", self._store.register(new))
        self._worker, self._grant, self._numbers = registered and registered.worker, None, 0

    async def _renew(self, worker: int) -> Grant | None:
        self._numbers += 1
        last = self._grant
        renewal = Renewal(
            worker,
            self._numbers,
            adopt=2,
            depths={bucket.id: self._draw.randrange(5) for bucket in last.buckets} if last else {},
            cut_us=last.now_us - 300_000 if last else 0,
            cancels_after=last.cancels_upto if last else 0,
        )
        grants: list[Grant] = await self._store.renew([renewal])
        (grant,) = grants
        if grant.gone:
            self._worker = None
            return None
        self._grant = grant
        if len(grant.buckets) < 2:
            new = NewBucket(f"{worker}-{self._numbers}", AGENT, "", 3)
            await self._storm.ask("create_buckets", self._store.create_buckets(worker, [new]))
        return grant

    async def _work_in(self, bucket: Bucket) -> None:
        storm, store, fence = self._storm, self._store, bucket.fence
        if await storm.ask("fence", store.fence(fence)) is None:
            return
        await storm.ask("recover_before", store.recover_before(fence, adopted_us=bucket.adopted_us, limit=50))
        claimed = await storm.ask("claim", store.claim([ClaimRequest(fence, "", 3, 20)], window_us=0))
        read = await storm.ask("read", store.read(fence, None, limit=30, window_us=0))
        found: list[Message | ClaimedJob] = [*(claimed.jobs if claimed else ()), *(read.messages if read else ())]
        jobs = list({job.key: job for job in found}.values())
        if starts := [self._start(job) for job in jobs if self._draw.random() < 0.6]:
            await storm.ask("take_over", store.take_over(fence, starts))
        if outcomes := [self._outcome(job) for job in jobs if self._draw.random() < 0.6]:
            await storm.ask("settle", store.settle(fence, outcomes))
        await self._leave(bucket)

    def _start(self, job: Message | ClaimedJob) -> Start:
        return Start(
            key=job.key,
            gen=job.gen,
            nonce=self._draw.getrandbits(60),
            envelope=decode_envelope(job.payload),
            payload=job.payload,
            due_us=job.due_us,
            seq=_seq(job),
            started_us=1,
            take_over=self._draw.random() < 0.5,
        )

    def _outcome(self, job: Message | ClaimedJob) -> Outcome:
        return Outcome(
            key=job.key,
            gen=job.gen,
            envelope=decode_envelope(job.payload),
            payload=job.payload,
            due_us=job.due_us,
            status=self._draw.choice([*[JobStatus.SUCCEEDED] * 4, JobStatus.HELD_ON_MASTER]),
            attempt=1,
            seq=_seq(job),
            started_us=1,
            finished_us=2,
        )

    async def _leave(self, bucket: Bucket) -> None:
        storm, store, fence = self._storm, self._store, bucket.fence
        way = self._draw.random()
        if way < 0.1:
            await storm.ask("give_up", store.give_up(fence))
        elif way < 0.2:
            await storm.ask("complete", store.complete(fence))
            if await storm.ask("close", store.close(fence)):
                await storm.ask("retire", store.retire(fence))
            else:
                await storm.ask("reopen", store.reopen(fence))
        elif way < 0.25:
            await storm.ask("return_bucket", store.return_bucket(fence))

    async def _sometimes(self, worker: int) -> None:
        storm, store, draw = self._storm, self._store, self._draw
        if draw.random() < 0.2:
            await storm.ask("mark_lost", store.mark_lost())
        if draw.random() < 0.05 and storm.accepted:
            blame = [Blame(draw.choice(storm.accepted[-50:]), "killed")]
            await storm.ask("end_worker", store.end_worker(worker, blame=blame))
        if draw.random() < 0.2:
            draining = await storm.ask("claim_drain", store.claim_drain(worker, agent=AGENT, older_us=100))
            if draining is not None:
                while await storm.ask("drain", store.drain(draining.fence, limit=20)) is False:
                    continue
                await storm.ask("retire", store.retire(draining.fence))
        if draw.random() < 0.1:
            await asyncio.sleep(0.8)  # longer than the lease


class Producer:
    """Pushes where it can, holds, cancels, and plays coordinator."""

    def __init__(self, storm: Storm, store: Any, draw: random.Random) -> None:
        self._storm = storm
        self._store = store
        self._draw = draw

    async def run(self) -> None:
        storm, store, draw = self._storm, self._store, self._draw
        while storm.rages:
            buckets = await store.open_buckets()
            new = NewBucket(f"p{draw.random()}", AGENT, "", 3)
            bucket = draw.choice(buckets) if buckets else await store.offer_bucket(new)
            jobs = [self._job() for _ in range(draw.randrange(1, 8))]
            if await storm.ask("push", self._push(bucket, jobs)):
                storm.accepted += [job.key for job in jobs]
            if draw.random() < 0.1:
                jobs = [self._job() for _ in range(5)]
                await store.hold(jobs)
                storm.accepted += [job.key for job in jobs]
            if draw.random() < 0.3 and storm.accepted:
                await storm.ask("cancel", store.cancel(draw.choice(storm.accepted[-50:])))
            if draw.random() < 0.1:
                await storm.ask("sweep", store.sweep(overdue_us=100_000, limit=50))
            await asyncio.sleep(0.01)

    async def _push(self, bucket: Bucket, jobs: list[NewJob]) -> bool:
        await self._store.push(bucket.id, jobs)
        return True

    def _job(self) -> NewJob:
        now_us = time.time_ns() // 1_000
        envelope = Envelope("t", b"[]", now_us, now_us, at_most_once=self._draw.random() < 0.2)
        return NewJob(new_job_key(), envelope, encode_envelope(envelope))


def _seq(job: Message | ClaimedJob) -> int | None:
    return job.seq if isinstance(job, Message) else None
