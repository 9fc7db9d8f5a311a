"""Random lives of schedules: every store answers what the store in memory answers, and holds what it holds."""

from __future__ import annotations

import random
from typing import Any

import msgspec
import pytest

from jobmaster.errors import ConfigurationError
from jobmaster.model.bucket import Bucket
from jobmaster.model.ids import JobKey
from jobmaster.model.job import ClaimedJob
from jobmaster.model.schedule import Overlap, Rule, Schedule, ScheduleStatus, Trigger
from jobmaster.model.states import JobStatus, WorkerMode
from jobmaster.model.worker import Registration
from jobmaster.ports.master import ClaimRequest
from jobmaster.ports.schedules import ScheduleChange, ScheduleQuery
from jobmaster.stores.memory import MemoryStore
from tests.conformance.adapters import ADAPTERS, AGENT
from tests.conformance.cluster import SECOND, Cluster, outcome_of, start_of
from tests.conformance.conftest import made as cluster_of
from tests.conformance.schedule_cases import MINUTE, key_of, made, plan_of, run, static

STEPS = 60
NAMES = ("a", "b", "c", "d")


@pytest.fixture(params=[name for name in ADAPTERS if not name.startswith("memory")])
def cluster(request: pytest.FixtureRequest, tmp_path: Any) -> Cluster:
    return cluster_of(request, tmp_path, gated=False)


class Side:
    """One of the two stores, with a worker and what that has in memory."""

    def __init__(self, store: Any, bucket: Bucket) -> None:
        self.store = store
        self.bucket = bucket
        self.claimed: dict[JobKey, ClaimedJob] = {}
        self.running: dict[JobKey, ClaimedJob] = {}

    @classmethod
    async def of(cls, cluster: Cluster, store: Any) -> Side:
        worker = (await store.register(Registration("w", 1, AGENT, ("mail",), WorkerMode.FULL))).worker
        bucket = (await store.create_buckets(worker, [cluster.new_bucket(lane="mail", priority=4)]))[0]
        await store.fence(bucket.fence)
        return cls(store, bucket)

    async def claim(self) -> set[JobKey]:
        request = ClaimRequest(self.bucket.fence, "mail", 4, 1_000)
        found = (await self.store.claim([request], window_us=15 * SECOND)).jobs
        self.claimed.update((job.key, job) for job in found)
        return {job.key for job in found}

    async def start(self, key: JobKey) -> bool:
        job = self.claimed.pop(key)
        (verdict,) = await self.store.take_over(self.bucket.fence, [start_of(job)])
        if verdict.yes:
            self.running[key] = job
        return bool(verdict.yes)

    async def finish(self, key: JobKey, status: JobStatus) -> bool:
        outcome = outcome_of(self.running.pop(key), status, delay_us=MINUTE, attempt=1)
        (settled,) = await self.store.settle(self.bucket.fence, [outcome])
        return bool(settled.done)

    async def schedules(self) -> list[Schedule]:
        found: list[Schedule] = (await self.store.list_schedules(ScheduleQuery(), limit=100)).schedules
        return found

    async def everything(self) -> Any:
        schedules = await self.schedules()
        occurrences = [await self.store.schedule_occurrences(key_of(name), limit=1_000) for name in NAMES]
        keys = [record.key for some in occurrences for record in some]
        rows = [await self.store.get_job(key) for key in keys]
        seen = [
            None
            if row is None
            else (row.status, row.gen, row.due_us, row.reason, row.attempts, row.finished_us, row.bucket is None)
            for row in rows
        ]
        return schedules, occurrences, seen


class Life:
    """Random steps, the same on both sides."""

    def __init__(self, cluster: Cluster, sides: list[Side], seed: int) -> None:
        self.cluster = cluster
        self.sides = sides
        self.random = random.Random(seed)

    def name(self) -> str:
        return self.random.choice(NAMES)

    def rule(self) -> Rule:
        return Rule("Cron", self.random.choice(["* * * * *", "0 * * * *"]), overlap=self.random.choice(list(Overlap)))

    def wanted(self) -> dict[str, Any]:
        return {"rule": self.rule(), "task": self.random.choice(["send", "print"]), "name": self.random.choice(NAMES)}

    async def both(self, verb: str, *values: Any, **options: Any) -> Any:
        answers = []
        for side in self.sides:
            try:
                answers.append(await getattr(side.store, verb)(*values, **options))
            except ConfigurationError as error:
                answers.append(str(error))
        assert answers[0] == answers[1], f"{verb}: {answers}"
        return answers[0]

    async def known(self) -> Schedule | None:
        schedules = await self.sides[0].schedules()
        return self.random.choice(schedules) if schedules else None

    async def step(self) -> str:
        acts = {
            "add": 2, "ensure": 2, "keep": 1, "expire": 1, "due": 2, "plan": 8, "stale": 1, "change": 4, "run": 2,
            "claim": 4, "start": 8, "finish": 6, "release": 4, "cancel": 1, "sweep": 1, "purge": 1, "later": 4,
        }  # fmt: skip
        act: str = self.random.choices(list(acts), list(acts.values()))[0]
        await getattr(self, f"_{act}")()
        return act

    async def _add(self) -> None:
        await self.both("add_schedule", made(self.name(), **self.wanted()))

    async def _ensure(self) -> None:
        names = self.random.sample(NAMES, self.random.randint(1, 3))
        await self.both("ensure_schedules", [static(name, **self.wanted()) for name in names])

    async def _keep(self) -> None:
        wanted = [static(name, **self.wanted()) for name in self.random.sample(NAMES, 2)]
        await self.both("keep_schedules", wanted, fresh_us=MINUTE, lost_us=2 * MINUTE)

    async def _expire(self) -> None:
        await self.both("expire_schedules", idle_us=3 * MINUTE, limit=10)

    async def _due(self) -> None:
        answers = [
            await side.store.due_schedules(limit=10, claim_us=5 * SECOND, idle_us=2 * MINUTE) for side in self.sides
        ]
        assert answers[0].schedules == answers[1].schedules
        assert answers[0].next_us == answers[1].next_us

    async def _plan(self) -> None:
        schedule = await self.known()
        if schedule is not None:
            first = self.cluster.now_us + self.random.randint(-5, 30) * SECOND
            moments = [first + number * SECOND * 7 for number in range(self.random.randint(0, 3))]
            expires = {"expires_us": first + 20 * SECOND} if self.random.random() < 0.3 else {}
            plan = plan_of(
                schedule,
                *moments,
                occurrences=[run(schedule, at_us, **expires) for at_us in moments],
                status=self.random.choice([ScheduleStatus.ACTIVE] * 9 + [ScheduleStatus.COMPLETED]),
                error="broken" if self.random.random() < 0.05 else "",
            )
            await self.both("plan_schedules", [plan], as_of_us=self.cluster.now_us, max_age_us=30 * SECOND)

    async def _stale(self) -> None:
        schedule = await self.known()
        if schedule is not None:
            wrong = msgspec.structs.replace(schedule, version=schedule.version + self.random.choice([-1, 1]))
            plan = plan_of(wrong, self.cluster.now_us + SECOND)
            await self.both("plan_schedules", [plan], as_of_us=self.cluster.now_us, max_age_us=0)

    async def _change(self) -> None:
        change = self.random.choice(
            [
                ScheduleChange(paused=True),
                ScheduleChange(paused=False),
                ScheduleChange(rule=self.rule()),
                ScheduleChange(template=self.random.randbytes(3), clear_error=True),
                ScheduleChange(name=self.name()),
                ScheduleChange(status=ScheduleStatus.ACTIVE),
                ScheduleChange(status=ScheduleStatus.CANCELED),
                ScheduleChange(clear_error=True),
            ]
        )
        version = self.random.choice([None, None, 1, 2])
        planned_us = self.random.choice([None, None, self.cluster.now_us, self.cluster.now_us - 1])
        await self.both("change_schedule", key_of(self.name()), change, version=version, planned_us=planned_us)

    async def _run(self) -> None:
        schedule = await self.known()
        if schedule is not None:
            trigger = self.random.choice([Trigger.RUN_NOW, Trigger.BACKFILL])
            at_us = self.cluster.now_us - self.random.randint(0, 3) * SECOND
            await self.both("add_occurrences", schedule.key, [run(schedule, at_us, trigger=trigger)])

    async def _claim(self) -> None:
        answers = [await side.claim() for side in self.sides]
        assert answers[0] == answers[1]

    async def _start(self) -> None:
        now = [key for key, job in self.sides[0].claimed.items() if job.due_us <= self.cluster.now_us]
        if now:
            key = self.random.choice(sorted(now))
            answers = [await side.start(key) for side in self.sides]
            assert answers[0] == answers[1]

    async def _finish(self) -> None:
        if self.sides[0].running:
            key = self.random.choice(sorted(self.sides[0].running))
            status = self.random.choice([JobStatus.SUCCEEDED, JobStatus.SUCCEEDED, JobStatus.HELD_ON_MASTER])
            answers = [await side.finish(key, status) for side in self.sides]
            assert answers[0] == answers[1]

    async def _release(self) -> None:
        schedule = await self.known()
        if schedule is not None and schedule.current_job is not None:
            await self.both("release_occurrence", schedule.key, schedule.current_job)

    async def _cancel(self) -> None:
        schedule = await self.known()
        found = await self.sides[0].store.schedule_occurrences(schedule.key, limit=5) if schedule else []
        if found:
            key = self.random.choice(found).key
            answers = [await side.store.cancel(key) for side in self.sides]
            assert answers[0].outcome == answers[1].outcome

    async def _sweep(self) -> None:
        await self.both("sweep", overdue_us=3_600 * SECOND, limit=100)

    async def _purge(self) -> None:
        await self.both(
            "purge_schedules", before_us=self.cluster.now_us - 5 * MINUTE, limit=self.random.choice([1, 100])
        )

    async def _later(self) -> None:
        self.cluster.later(self.random.choice([0.001, 1, 5, 31, 90]))


@pytest.mark.parametrize("seed", range(6))
async def test_a_random_life_is_the_same_on_every_store(cluster: Cluster, seed: int) -> None:
    reference = MemoryStore(rules=cluster.rules, clock=lambda: cluster.now_us)
    life = Life(cluster, [await Side.of(cluster, store) for store in (reference, cluster.store)], seed)
    acts = []
    for _ in range(STEPS):
        acts.append(await life.step())
        expected, found = [await side.everything() for side in life.sides]
        assert found == expected, f"after {', '.join(acts)}"
