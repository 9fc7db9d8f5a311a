"""The verbs of a split store that are the master's alone: passed on as they are."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Protocol

from jobmaster.model.bucket import Bucket
from jobmaster.model.definition import ClusterRecord, Definition
from jobmaster.model.ids import JobKey
from jobmaster.model.job import (
    AttemptRecord,
    Blame,
    CancelReply,
    Fence,
    JobRecord,
    JobState,
    Message,
    NewJob,
    Outcome,
    Settled,
    Start,
    Verdict,
)
from jobmaster.model.states import JobStatus
from jobmaster.model.worker import Command, CommandReply, Registered, Registration, WorkerRecord
from jobmaster.ports.agent import Subscription
from jobmaster.ports.master import Claimed, ClaimRequest, MasterStore
from jobmaster.ports.query import JobPage, JobQuery, QueryStore
from jobmaster.stores.forward_schedules import ScheduleForward


class MasterSide(MasterStore, QueryStore, Protocol):
    """What a split store needs of its master: the truth, people's questions, and the signals of workers and clients."""

    def subscribe(self, topic: str, callback: Callable[[], None]) -> Subscription:
        """As `ports.agent.Agent.subscribe`."""
        ...

    async def signal(self, topics: Collection[str]) -> None:
        """As `ports.agent.Agent.signal`."""
        ...


class MasterForward(ScheduleForward):
    """Every verb of the master, passed on."""

    master: MasterSide

    def __init__(self, master: MasterSide) -> None:
        self.master = master

    async def now_us(self) -> int:
        return await self.master.now_us()

    async def identity(self) -> str:
        return await self.master.identity()

    async def load_cluster(self) -> ClusterRecord | None:
        return await self.master.load_cluster()

    async def save_cluster(self, record: ClusterRecord) -> bool:
        return await self.master.save_cluster(record)

    async def save_definitions(self, definitions: Sequence[Definition]) -> None:
        await self.master.save_definitions(definitions)

    async def definitions(self, names: Sequence[str] | None = None) -> list[Definition]:
        return await self.master.definitions(names)

    async def hold(self, jobs: Sequence[NewJob], *, reason: str = "") -> list[bool]:
        return await self.master.hold(jobs, reason=reason)

    async def look_up(self, keys: Sequence[JobKey]) -> list[JobState | None]:
        return await self.master.look_up(keys)

    async def cancel(self, key: JobKey) -> CancelReply:
        return await self.master.cancel(key)

    async def reschedule(self, key: JobKey, due_us: int) -> bool:
        return await self.master.reschedule(key, due_us)

    async def requeue(self, key: JobKey, *, due_us: int | None = None) -> bool:
        return await self.master.requeue(key, due_us=due_us)

    async def register(self, registration: Registration) -> Registered:
        return await self.master.register(registration)

    async def end_worker(self, worker: int, *, blame: Sequence[Blame] | None = None) -> None:
        await self.master.end_worker(worker, blame=blame)

    async def recover_before(self, fence: Fence, *, adopted_us: int, limit: int) -> int:
        return await self.master.recover_before(fence, adopted_us=adopted_us, limit=limit)

    async def give_up(self, fence: Fence) -> None:
        await self.master.give_up(fence)

    async def complete(self, fence: Fence) -> None:
        await self.master.complete(fence)

    async def reopen(self, fence: Fence) -> None:
        await self.master.reopen(fence)

    async def retire(self, fence: Fence) -> None:
        await self.master.retire(fence)

    async def return_bucket(self, fence: Fence) -> None:
        await self.master.return_bucket(fence)

    async def drain_in(self, fence: Fence, messages: Sequence[Message]) -> None:
        await self.master.drain_in(fence, messages)

    async def unknown_buckets(self, ids: Sequence[int]) -> list[int]:
        return await self.master.unknown_buckets(ids)

    async def claim(self, requests: Sequence[ClaimRequest], *, window_us: int) -> Claimed:
        return await self.master.claim(requests, window_us=window_us)

    async def start(self, fence: Fence, starts: Sequence[Start]) -> list[Verdict]:
        return await self.master.start(fence, starts)

    async def finish(self, fence: Fence, outcomes: Sequence[Outcome]) -> list[Settled]:
        return await self.master.finish(fence, outcomes)

    async def release(self, fence: Fence, jobs: Sequence[Outcome]) -> None:
        await self.master.release(fence, jobs)

    async def hand_back(self, fence: Fence, jobs: Sequence[Outcome]) -> None:
        await self.master.hand_back(fence, jobs)

    async def sweep(self, *, overdue_us: int, limit: int) -> int:
        return await self.master.sweep(overdue_us=overdue_us, limit=limit)

    async def route(self, tasks: Sequence[str]) -> int:
        return await self.master.route(tasks)

    async def purge(self, *, before_us: int, limit: int) -> int:
        return await self.master.purge(before_us=before_us, limit=limit)

    async def forget_results(self, *, limit: int) -> int:
        return await self.master.forget_results(limit=limit)

    async def aged(self, *, before_us: int, limit: int) -> list[bytes]:
        return await self.master.aged(before_us=before_us, limit=limit)

    async def import_aged(self, records: Sequence[bytes]) -> list[JobKey]:
        return await self.master.import_aged(records)

    async def delete_final(self, keys: Sequence[JobKey]) -> int:
        return await self.master.delete_final(keys)

    async def send_command(self, workers: Sequence[int], verb: str, args: bytes) -> list[int]:
        return await self.master.send_command(workers, verb, args)

    async def take_commands(self, worker: int) -> list[Command]:
        return await self.master.take_commands(worker)

    async def answer_command(self, command: int, reply: bytes) -> None:
        await self.master.answer_command(command, reply)

    async def command_replies(self, commands: Sequence[int]) -> list[CommandReply]:
        return await self.master.command_replies(commands)

    async def list_jobs(self, query: JobQuery, *, limit: int = 50, after: str | None = None) -> JobPage:
        return await self.master.list_jobs(query, limit=limit, after=after)

    async def get_job(self, key: JobKey) -> JobRecord | None:
        return await self.master.get_job(key)

    async def count_jobs(self, query: JobQuery) -> dict[JobStatus, int]:
        return await self.master.count_jobs(query)

    async def job_attempts(self, key: JobKey) -> list[AttemptRecord]:
        return await self.master.job_attempts(key)

    async def list_workers(self) -> list[WorkerRecord]:
        return await self.master.list_workers()

    async def list_buckets(self) -> list[Bucket]:
        return await self.master.list_buckets()

    async def workers_by_id(self, ids: Sequence[int]) -> list[WorkerRecord]:
        return await self.master.workers_by_id(ids)
