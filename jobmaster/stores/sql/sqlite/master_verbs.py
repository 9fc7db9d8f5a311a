"""The verbs of a master (ports.master), one line each: which function, in which thread."""

from __future__ import annotations

from typing import TYPE_CHECKING

from jobmaster.rules.storable import (
    check_bucket,
    check_cluster,
    check_definition,
    check_jobs,
    check_key,
    check_moment,
    check_registration,
    check_text,
)
from jobmaster.stores.sql.sqlite import (
    accept,
    buckets,
    cancel,
    claim,
    cluster,
    commands,
    finish,
    leases,
    look_up,
    start,
    upkeep,
)
from jobmaster.stores.sql.sqlite.handle import Handle

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jobmaster.model.bucket import Bucket, NewBucket
    from jobmaster.model.definition import ClusterRecord, Definition
    from jobmaster.model.ids import JobKey
    from jobmaster.model.job import (
        Blame,
        CancelReply,
        Fence,
        JobState,
        Message,
        NewJob,
        Outcome,
        Settled,
        Start,
        Verdict,
    )
    from jobmaster.model.worker import Command, CommandReply, Grant, Registered, Registration, Renewal
    from jobmaster.ports.master import Claimed, ClaimRequest


class MasterVerbs(Handle):
    """MasterStore on SQLite."""

    # -- cluster, definitions

    async def now_us(self) -> int:
        return self._now()

    async def identity(self) -> str:
        return self._path

    async def load_cluster(self) -> ClusterRecord | None:
        return await self._read(cluster.load_cluster)

    async def save_cluster(self, record: ClusterRecord) -> bool:
        check_cluster(record)
        return await self._write(lambda tx: cluster.save_cluster(tx, record))

    async def save_definitions(self, definitions: Sequence[Definition]) -> None:
        for definition in definitions:
            check_definition(definition)
        await self._write(lambda tx: cluster.save_definitions(tx, definitions))

    async def definitions(self, names: Sequence[str] | None = None) -> list[Definition]:
        return await self._read(lambda tx: cluster.definitions(tx, names))

    async def route(self, tasks: Sequence[str]) -> int:
        return await self._write(lambda tx: claim.route(tx, tasks))

    # -- producers

    async def hold(self, jobs: Sequence[NewJob], *, reason: str = "") -> list[bool]:
        check_jobs(jobs, self._now())
        check_text(reason, "reason")
        return await self._write(lambda tx: accept.hold(tx, jobs, reason))

    async def open_buckets(self) -> list[Bucket]:
        return await self._read(buckets.open_buckets)

    async def offer_bucket(self, bucket: NewBucket) -> Bucket:
        check_bucket(bucket)
        return await self._write(lambda tx: buckets.offer_bucket(tx, bucket))

    async def look_up(self, keys: Sequence[JobKey]) -> list[JobState | None]:
        return await self._read(lambda tx: look_up.look_up(tx, keys))

    async def cancel(self, key: JobKey) -> CancelReply:
        check_key(key)
        return await self._write(lambda tx: cancel.cancel(tx, key))

    async def reschedule(self, key: JobKey, due_us: int) -> bool:
        check_key(key)
        check_moment(due_us, "due time")
        return await self._write(lambda tx: cancel.reschedule(tx, key, due_us))

    async def requeue(self, key: JobKey, *, due_us: int | None = None) -> bool:
        check_key(key)
        if due_us is not None:
            check_moment(due_us, "due time")
        return await self._write(lambda tx: cancel.requeue(tx, key, due_us))

    # -- workers and leases

    async def register(self, registration: Registration) -> Registered:
        check_registration(registration)
        registered = await self._write(lambda tx: leases.register(tx, registration))
        self.hold_presence(registered.worker)
        return registered

    async def renew(self, renewals: Sequence[Renewal]) -> list[Grant]:
        return await self._write(lambda tx: leases.renew(tx, renewals))

    async def end_worker(self, worker: int, *, blame: Sequence[Blame] | None = None) -> None:
        await self._write(lambda tx: leases.end_worker(tx, worker, blame))
        self._forget_presence(worker)

    async def mark_lost(self, *, limit: int = 100, as_of_us: int | None = None) -> list[Bucket]:
        if not await self._read(lambda tx: leases.lost_owners(tx, as_of_us)):
            return []
        lost, gone = await self._write(lambda tx: leases.mark_lost(tx, limit, as_of_us))
        for worker in gone:
            self._forget_presence(worker)
        return lost

    # -- buckets

    async def create_buckets(self, worker: int, new: Sequence[NewBucket]) -> list[Bucket]:
        for bucket in new:
            check_bucket(bucket)
        return await self._write(lambda tx: buckets.create_buckets(tx, worker, new))

    async def recover_before(self, fence: Fence, *, adopted_us: int, limit: int) -> int:
        return await self._write(lambda tx: buckets.recover_before(tx, fence, adopted_us, limit))

    async def give_up(self, fence: Fence) -> None:
        await self._write(lambda tx: buckets.give_up(tx, fence))

    async def complete(self, fence: Fence) -> None:
        await self._write(lambda tx: buckets.complete(tx, fence))

    async def reopen(self, fence: Fence) -> None:
        await self._write(lambda tx: buckets.reopen(tx, fence))

    async def retire(self, fence: Fence) -> None:
        await self._write(lambda tx: buckets.retire(tx, fence))

    async def claim_drain(self, worker: int, *, agent: str, older_us: int) -> Bucket | None:
        return await self._write(lambda tx: buckets.claim_drain(tx, worker, agent, older_us))

    async def return_bucket(self, fence: Fence) -> None:
        await self._write(lambda tx: buckets.return_bucket(tx, fence))

    async def drain_in(self, fence: Fence, messages: Sequence[Message]) -> None:
        await self._write(lambda tx: buckets.drain_in(tx, fence, messages))

    async def unknown_buckets(self, ids: Sequence[int]) -> list[int]:
        return await self._read(lambda tx: buckets.unknown_buckets(tx, ids))

    # -- jobs of an owner

    async def claim(self, requests: Sequence[ClaimRequest], *, window_us: int) -> Claimed:
        return await self._write(lambda tx: claim.claim(tx, requests, window_us))

    async def start(self, fence: Fence, starts: Sequence[Start]) -> list[Verdict]:
        return await self._write(lambda tx: start.start(tx, fence, starts))

    async def finish(self, fence: Fence, outcomes: Sequence[Outcome]) -> list[Settled]:
        return await self._write(lambda tx: finish.finish(tx, fence, outcomes))

    async def release(self, fence: Fence, jobs: Sequence[Outcome]) -> None:
        await self._write(lambda tx: finish.release(tx, fence, jobs))

    async def hand_back(self, fence: Fence, jobs: Sequence[Outcome]) -> None:
        await self._write(lambda tx: finish.hand_back(tx, fence, jobs))

    # -- coordinator

    async def sweep(self, *, overdue_us: int, limit: int) -> int:
        return await self._write(lambda tx: upkeep.sweep(tx, overdue_us, limit))

    async def purge(self, *, before_us: int, limit: int) -> int:
        return await self._write(lambda tx: upkeep.purge(tx, before_us, limit))

    async def forget_results(self, *, limit: int) -> int:
        return await self._write(lambda tx: upkeep.forget_results(tx, limit))

    async def aged(self, *, before_us: int, limit: int) -> list[bytes]:
        return await self._read(lambda tx: upkeep.aged(tx, before_us, limit))

    async def import_aged(self, records: Sequence[bytes]) -> list[JobKey]:
        return await self._write(lambda tx: upkeep.import_aged(tx, records))

    async def delete_final(self, keys: Sequence[JobKey]) -> int:
        return await self._write(lambda tx: upkeep.delete_final(tx, keys))

    # -- commands

    async def send_command(self, workers: Sequence[int], verb: str, args: bytes) -> list[int]:
        check_text(verb, "command")
        return await self._write(lambda tx: commands.send_command(tx, workers, verb, args))

    async def take_commands(self, worker: int) -> list[Command]:
        return await self._read(lambda tx: commands.unanswered(tx, worker))

    async def answer_command(self, command: int, reply: bytes) -> None:
        await self._write(lambda tx: commands.answer_command(tx, command, reply))

    async def command_replies(self, sent: Sequence[int]) -> list[CommandReply]:
        return await self._read(lambda tx: commands.command_replies(tx, sent))
