"""Random histories of the job verbs: SQLite, where all is serial, and PostgreSQL give the same answers and rows.

What the contract leaves open is not drawn: which of several jobs of one due time is claimed or recovered first.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from jobmaster.model.bucket import Bucket
from jobmaster.model.ids import JobKey
from jobmaster.model.job import Blame, ErrorInfo, Fence, NewJob, Outcome, Start
from jobmaster.model.states import JobStatus
from jobmaster.ports.answers import Fenced
from tests.conformance.adapters import ADAPTERS
from tests.conformance.cluster import SECOND, Cluster
from tests.conformance.looking import Looking

STEPS = 120
ENDS = [JobStatus.SUCCEEDED] * 4 + [JobStatus.FAILED, JobStatus.CANCELLED, JobStatus.HELD_ON_MASTER]


class Known(NamedTuple):
    """A job as some owner of a bucket knew it at some time."""

    bucket: int
    job: NewJob
    gen: int


class History:
    """Draws verbs and calls them. The same number draws the same ones as long as the answers are the same."""

    def __init__(self, cluster: Cluster, seed: int) -> None:
        self._cluster = cluster
        self._store = cluster.store
        self._draw = random.Random(seed)
        self._buckets: list[Bucket] = []
        self._jobs: dict[JobKey, NewJob] = {}
        self._known: list[Known] = []
        self.answers: list[tuple[str, object]] = []

    async def play(self) -> None:
        self._buckets = [await self._cluster.owned(name) for name in ("w0", "w1")]
        verbs = [self._push, self._hold, self._claim, self._cancel, self._requeue, self._lose, self._recover]
        often = [self._start, self._start, self._settle, self._settle, self._settle, self._set_free]
        for _ in range(STEPS):
            self._cluster.now_us += self._draw.randrange(1, 2 * SECOND)
            verb: Callable[[], Any] = self._draw.choice([*verbs, *often])
            try:
                answer = await verb()
            except Fenced:
                answer = Fenced
            self.answers.append((verb.__name__, answer))

    # -- jobs come in

    async def _push(self) -> None:
        number, bucket = await self._a_bucket()
        jobs = self._new_jobs()
        await self._store.push(bucket.id, jobs)
        self._known += [Known(number, job, 0) for job in jobs]

    async def _hold(self) -> object:
        return await self._store.hold(self._new_jobs())

    def _new_jobs(self) -> list[NewJob]:
        jobs = []
        for _ in range(self._draw.randrange(1, 4)):
            number = len(self._jobs) + 1
            job = self._cluster.job(
                key=JobKey(number.to_bytes(16, "big")),
                due_us=self._cluster.now_us - 1000 + number,
                at_most_once=self._draw.random() < 0.3,
                keep_result=self._draw.choice([None, None, 2.5]),
                custom_id=self._draw.choice([None, None, f"order {number}"]),
                expires_us=self._draw.choice([None, self._cluster.now_us + 1000 * SECOND]),
            )
            self._jobs[job.key] = job
            jobs.append(job)
        return jobs

    async def _claim(self) -> object:
        number, bucket = await self._a_bucket()
        claimed = await self._cluster.claim(bucket, limit=1000)
        jobs = sorted(claimed.jobs, key=lambda job: job.key)
        self._known += [Known(number, self._jobs[job.key], job.gen) for job in jobs]
        return jobs, claimed.next_due_us, claimed.fenced

    # -- what owners do

    async def _start(self) -> object:
        fence, known, seqs = await self._a_batch()
        starts = []
        for one in known:
            status = self._draw.choice([JobStatus.PROCESSING, JobStatus.PROCESSING, JobStatus.QUEUED])
            start = Start(
                key=one.job.key,
                gen=one.gen,
                nonce=self._draw.choice([1, 2, 2**63 + 5]),
                envelope=one.job.envelope,
                payload=one.job.payload,
                due_us=one.job.due_us or 0,
                status=status,
                seq=seqs.get(one.job.key),
                started_us=self._cluster.now_us,
                attempt=self._draw.choice([1, 1, 2]),
                take_over=one.job.envelope.at_most_once and status is JobStatus.PROCESSING,
            )
            starts.append(start)
        return await self._store.take_over(fence, starts)

    async def _settle(self) -> object:
        fence, known, seqs = await self._a_batch()
        outcomes = [self._outcome(one, seqs, self._draw.choice(ENDS)) for one in known]
        answers = [await self._store.settle(fence, outcomes)]
        if self._draw.random() < 0.2:
            answers.append(await self._store.settle(fence, outcomes))
        return answers

    async def _set_free(self) -> object:
        fence, known, seqs = await self._a_batch()
        jobs = [self._outcome(one, seqs, JobStatus.HELD_ON_MASTER) for one in known]
        return await self._store.set_free(fence, jobs, ended=self._draw.random() < 0.5)

    def _outcome(self, one: Known, seqs: dict[JobKey, int], status: JobStatus) -> Outcome:
        now_us = self._cluster.now_us
        return Outcome(
            key=one.job.key,
            gen=one.gen,
            envelope=one.job.envelope,
            payload=one.job.payload,
            due_us=one.job.due_us or 0,
            status=status,
            attempt=self._draw.choice([1, 1, 2, 3]),
            seq=seqs.get(one.job.key),
            failures=self._draw.randrange(3),
            started_us=self._draw.choice([None, now_us]),
            finished_us=self._draw.choice([now_us + 5, now_us + 5, 0]),
            delay_us=self._draw.randrange(SECOND),
            result=self._draw.choice([None, b"result"]),
            error=self._draw.choice([None, ErrorInfo("E", "text")]),
            reason=self._draw.choice(["", "why"]),
            checkpoint=self._draw.choice([None, None, b"checkpoint"]),
        )

    async def _a_batch(self) -> tuple[Fence, Sequence[Known], dict[JobKey, int]]:
        """Some jobs that were this bucket's once, perhaps under another assignment or epoch by now."""
        number, bucket = await self._a_bucket()
        ours = [one for one in self._known if one.bucket == number]
        chosen = self._draw.sample(ours, min(len(ours), self._draw.randrange(1, 7)))
        batch = {one.job.key: one for one in chosen}
        if self._draw.random() < 0.1:
            batch = {key: one._replace(gen=one.gen + 1) for key, one in batch.items()}
        seqs = {message.key: message.seq for message in await self._cluster.messages(bucket)}
        epoch = bucket.epoch - (self._draw.random() < 0.05)
        return Fence(bucket.id, epoch, bucket.owner or 0), list(batch.values()), seqs

    # -- what others do

    async def _cancel(self) -> object:
        return (await self._store.cancel(self._a_key())).outcome if self._jobs else None

    async def _requeue(self) -> object:
        return await self._store.requeue(self._a_key()) if self._jobs else None

    async def _lose(self) -> None:
        """The owner dies, with or without a testimony, and another one comes."""
        number, bucket = await self._a_bucket()
        accused = [Blame(self._a_key(), "SIGKILL")] if self._jobs else []
        await self._store.end_worker(bucket.owner or 0, blame=self._draw.choice([None, [], accused]))
        self._buckets[number] = await self._cluster.adopted(bucket, f"heir {len(self.answers)}")

    async def _recover(self) -> object:
        _, bucket = await self._a_bucket()
        before_us = self._cluster.now_us - self._draw.randrange(SECOND)
        return await self._store.recover_before(bucket.fence, adopted_us=before_us, limit=1000)

    async def _a_bucket(self) -> tuple[int, Bucket]:
        number = self._draw.randrange(len(self._buckets))
        return number, await self._cluster.bucket_now(self._buckets[number])

    def _a_key(self) -> JobKey:
        return self._draw.choice(list(self._jobs))


@pytest.mark.parametrize("split", ["", "-split"], ids=["standalone", "split"])
@pytest.mark.parametrize("seed", range(6))
def test_two_databases_agree_on_a_history(
    seed: int, split: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    request.getfixturevalue("postgres_databases")
    seen: list[tuple[list[tuple[str, object]], object, dict[str, list[Any]]]] = []

    async def case(cluster: Any) -> None:
        history = History(cluster, seed)
        await history.play()
        left = [[message.key for message in await cluster.messages(bucket)] for bucket in history._buckets]
        seen.append((history.answers, left, await cluster.stored()))

    for name in ("sqlite", "postgresql"):
        (tmp_path / name).mkdir()
        asyncio.run(Looking(ADAPTERS[name + split], tmp_path / name).carry_out(case))
    (answers, left, stored), other = seen
    assert sum(verb == "_settle" and answer is not Fenced for verb, answer in answers) > 10
    assert len(stored["jm_job"]) > 10
    assert other == (answers, left, stored)
