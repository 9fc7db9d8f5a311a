"""The stores in memory with one guard removed, so that simulation and conformance suite can show that they notice.

`without(MemoryStore, ["no_fence"])` is the store without R12's fence. The rules are those of
docs/protocol.md. Each guard is a small override here and nowhere else: the plain store has no switches.
"""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from jobmaster.model.ids import JobKey
from jobmaster.model.states import JobStatus
from jobmaster.rules.recovery import Testimony
from jobmaster.stores.memory.buckets import Buckets
from jobmaster.stores.memory.cancels import Cancels
from jobmaster.stores.memory.claims import Claims
from jobmaster.stores.memory.leases import Leases
from jobmaster.stores.memory.messages import MemoryAgent
from jobmaster.stores.memory.rows import BucketRow, JobRow
from jobmaster.stores.memory.runs import WAITING, Runs
from jobmaster.stores.memory.state import MasterState
from jobmaster.stores.memory.store import MemoryStore
from jobmaster.stores.memory.upkeep import Settings
from jobmaster.stores.split import SplitStore

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Collection, Hashable, Iterable, Sequence

    from jobmaster.model.bucket import Bucket
    from jobmaster.model.definition import ClusterRecord
    from jobmaster.model.job import Fence, Message, NewJob, Outcome, Settled, Start
    from jobmaster.model.worker import Registration, Renewal
    from jobmaster.ports.master import ClaimRequest
    from jobmaster.stores.memory.messages import AgentRow
    from jobmaster.stores.memory.rows import WorkerRow


class NoEpoch(Runs):
    """R12 own(b): finish checks the row's assignment only."""

    def _owned_to_finish(self, fence: Fence) -> AbstractAsyncContextManager[BucketRow]:
        return self._unguarded(fence)

    @asynccontextmanager
    async def _unguarded(self, fence: Fence) -> AsyncIterator[BucketRow]:
        await self._pause()
        yield self.buckets.get(fence.bucket, BucketRow(fence.bucket, "", "", "", 3, None))


class NoRowGuard(Runs):
    """R12 mine(row): finish checks the bucket only."""

    def _mine_to_finish(self, row: JobRow, bucket: int, gen: int) -> bool:
        return True


class NoLock(Runs):
    """R12 shared lock: finish reads (owner, epoch), and the bucket may move on before it commits."""

    def _owned_to_finish(self, fence: Fence) -> AbstractAsyncContextManager[BucketRow]:
        return self._looked_at(fence)

    @asynccontextmanager
    async def _looked_at(self, fence: Fence) -> AsyncIterator[BucketRow]:
        bucket = self._bucket_of(fence)
        self._check_owner(bucket, fence)
        await self._pause()
        yield bucket


class EarlyAckSplit(SplitStore):
    """R13 finish first: the message is removed before the master knows."""

    async def settle(self, fence: Fence, outcomes: Sequence[Outcome]) -> list[Settled]:
        await self.remove(fence, [outcome.seq for outcome in outcomes if outcome.seq is not None])
        return await super().settle(fence, outcomes)


class EarlyAckWhole(MemoryStore):
    """R13 finish first, in one database: the removal is a transaction of its own, before the finish."""

    async def settle(self, fence: Fence, outcomes: Sequence[Outcome]) -> list[Settled]:
        await self.remove(fence, [outcome.seq for outcome in outcomes if outcome.seq is not None])
        return await super().settle(fence, outcomes)


class NoReconcile(Leases):
    """R8: renewals carry no held ids."""

    def _is_forgotten(self, row: JobRow, renewal: Renewal, held: set[tuple[JobKey, int]]) -> bool:
        return False


class NoCut(Leases):
    """R8 cut: rows written after the worker counted are taken back, too."""

    def _is_forgotten(self, row: JobRow, renewal: Renewal, held: set[tuple[JobKey, int]]) -> bool:
        late = msgspec.structs.replace(renewal, cut_us=self._begin() + 1)
        return super()._is_forgotten(row, late, held)


class LooseClose(MemoryAgent):
    """R1, R16: emptiness and closing are two steps, and an insert does not hold the bucket's row."""

    def _held_by_inserts(self, row: AgentRow) -> AbstractAsyncContextManager[None]:
        return nullcontext()

    async def close(self, fence: Fence) -> bool:
        row = self._row_to_close(fence)
        if row is None:
            return True
        empty = row.id not in self.queues
        if self._agent_pause is not None:
            await self._agent_pause()
        row.closing = empty
        return empty


class NaiveDrain(Buckets):
    """R16 mine(row): a drain takes every job back that is not final."""

    def _mine_to_drain(self, row: JobRow, bucket: int, gen: int) -> bool:
        return True


class KeyByJob(MemoryAgent):
    """Key (job, gen): a message's key is the job's id alone."""

    def _key(self, message: Message) -> Hashable:
        return message.key


class AckByJob(MemoryAgent):
    """R13 by message: removal takes every message of the job."""

    def _remove(self, bucket: int, seqs: Iterable[int]) -> None:
        keys = {m.key for m in self._first(bucket, 2**31) if m.seq in set(seqs)}
        for message in [m for key in keys for m in self._by_job.get(key, {}).values()]:
            self._drop(message.bucket, message.seq)


class NoRetire(Buckets):
    """R16 retire: rows that still point at a bucket stay behind when it is deleted."""

    def _take_back_all(self, bucket: BucketRow, now: int) -> None:
        pass


class RetireAny(Buckets):
    """R16, R24: a retirement that applies late deletes a bucket that was opened again."""

    def _check_closing(self, bucket: BucketRow) -> None:
        pass


class CountAll(MasterState):
    """Recover counts starts: here it counts every recovery, also of jobs that never started."""

    def _recover(self, row: JobRow, now: int, *, living: int | None = None) -> None:
        if row.status is not JobStatus.PROCESSING:
            self.blames.setdefault(row.key, Testimony("counted although nobody saw it run", row.worker or 0, now))
        super()._recover(row, now, living=living)


class NoNonce(Runs):
    """R10 nonce: a repeated take-over succeeds for every life of the same owner."""

    def _same_life(self, row: JobRow, start: Start) -> bool:
        return True


class ReleaseAll(Runs):
    """R21: a release also takes back rows that are Processing."""

    def _may_release(self, row: JobRow) -> bool:
        return row.status in (*WAITING, JobStatus.PROCESSING)


class BootOrder(Leases):
    """R4: any registration under a name ends the other boot's lease, late ones too."""

    def _outdo(self, old: WorkerRow, new: Registration, now: int) -> None:
        self._end_lease(old, now)


class BlindOpen(Buckets):
    """R5: a repeated opening succeeds although the bucket has moved on."""

    def _is_first_opening(self, bucket: BucketRow, worker: int) -> bool:
        return True


class DrainOnce(Buckets):
    """R15 same grant: a drain that is asked for again is another one."""

    def _drained_by(self, worker: int, agent: str) -> BucketRow | None:
        return None


class DeafRenewals(MasterState):
    """R6: renewals carry no cancellations."""

    def _cancels_since(self, number: int) -> tuple[list[JobKey], int]:
        return [], super()._cancels_since(number)[1]


class NoAgentFence(MemoryAgent):
    """R15'a 1: the agent does not learn the adopter's epoch."""

    def _take_epoch(self, row: AgentRow, epoch: int) -> None:
        row.epoch = row.epoch or epoch


class NoRecover(Buckets):
    """R15'a 2: the old owner's rows are left to reconciliation."""

    async def recover_before(self, fence: Fence, *, adopted_us: int, limit: int) -> int:
        return 0


class RecoverAll(Buckets):
    """R15'a `touched < adopted`: a recovery takes the adopter's own rows, too."""

    def _is_before(self, row: JobRow, adopted_us: int) -> bool:
        return row.status in (JobStatus.QUEUED, JobStatus.PROCESSING)


class AdoptEpoch(Leases):
    """R15' epoch + 1: an adoption keeps the epoch."""

    def _adopted_epoch(self, bucket: BucketRow) -> int:
        return bucket.epoch


class ClaimNoOwn(Claims):
    """R14' own(b): a claim does not ask whose bucket it is."""

    def _claiming(self, request: ClaimRequest) -> AbstractAsyncContextManager[BucketRow]:
        return self._seen(request)

    @asynccontextmanager
    async def _seen(self, request: ClaimRequest) -> AsyncIterator[BucketRow]:
        gone = BucketRow(request.fence.bucket, "", "", request.lane, request.priority, None)
        await self._pause()
        yield self.buckets.get(request.fence.bucket, gone)


class ClaimGen(Claims):
    """R14' gen + 1: a claim keeps the assignment number."""

    def _claimed_gen(self, row: JobRow) -> int:
        return row.gen


class DisownRows(Buckets):
    """R22' Queued to hold: a bucket is given up with its rows."""

    def _let_go(self, bucket: BucketRow, now: int) -> None:
        pass


class KeepMessages(Buckets):
    """R22' its message leaves with a row: a bucket is given up as clean with the messages of what was held."""

    def _let_go(self, bucket: BucketRow, now: int) -> None:
        for row in self.jobs.in_bucket(bucket.id):
            if row.status is JobStatus.QUEUED:
                self._hold(row, now, due_us=row.due_us)


class NoTombstone(Cancels):
    """R19: a cancel writes no tombstone."""

    def _bury_once(self, key: JobKey, now: int, *, certain: bool) -> None:
        pass


class RenewOrder(Leases):
    """R6 numbers: a renewal that arrives late is applied over a newer one."""

    def _is_news(self, worker: WorkerRow, renewal: Renewal) -> bool:
        return True


class LeaseEarly(Leases):
    """R15: the lease is judged before the lock is held."""

    _judged: frozenset[int] = frozenset()

    async def mark_lost(self, *, limit: int = 100, as_of_us: int | None = None) -> list[Bucket]:
        judge = super()._lease_ended
        self._judged = frozenset(bucket.id for bucket in self.buckets.values() if judge(bucket, as_of_us))
        return await super().mark_lost(limit=limit, as_of_us=as_of_us)

    def _lease_ended(self, bucket: BucketRow, as_of_us: int | None) -> bool:
        return bucket.id in self._judged and bucket.owner is not None


class OpenAlways(MemoryAgent):
    """R1: a closing bucket takes messages."""

    def _check_open(self, row: AgentRow) -> None:
        pass


class AnyVersion(Settings):
    """Cluster settings are replaced by whoever comes last."""

    def _follows(self, record: ClusterRecord) -> bool:
        return True


class HoldOver(Claims):
    """R2 conflict: an acceptance that is repeated replaces the job that is there."""

    def _insert_held(self, job: NewJob, reason: str, now: int) -> bool:
        if self.jobs.get(job.key) is not None:
            self.jobs.delete([job.key])
        return super()._insert_held(job, reason, now)


class KnownOrphans(Buckets):
    """R18: a bucket that the master knows is drained as an orphan."""

    async def unknown_buckets(self, ids: Sequence[int]) -> list[int]:
        return list(ids)


GUARDS: dict[str, tuple[type[Any], ...]] = {
    "no_fence": (NoEpoch, NoRowGuard),
    "no_lock": (NoLock,),
    "no_epoch": (NoEpoch,),
    "no_row_guard": (NoRowGuard,),
    "early_ack": (EarlyAckWhole, EarlyAckSplit),
    "no_reconcile": (NoReconcile,),
    "no_cut": (NoCut,),
    "loose_close": (LooseClose,),
    "naive_drain": (NaiveDrain,),
    "msgid_job": (KeyByJob,),
    "ack_by_job": (AckByJob,),
    "no_retire": (NoRetire,),
    "retire_any": (RetireAny,),
    "count_all": (CountAll,),
    "amo_no_nonce": (NoNonce,),
    "release_all": (ReleaseAll,),
    "boot_order": (BootOrder,),
    "blind_open": (BlindOpen,),
    "drain_once": (DrainOnce,),
    "deaf_renewals": (DeafRenewals,),
    "no_agent_fence": (NoAgentFence,),
    "no_recover": (NoRecover,),
    "no_recover_reconcile": (NoRecover, NoReconcile),
    "recover_all": (RecoverAll,),
    "adopt_epoch": (AdoptEpoch,),
    "claim_no_own": (ClaimNoOwn,),
    "claim_gen": (ClaimGen,),
    "disown_rows": (DisownRows,),
    "keep_messages": (KeepMessages,),
    "no_tombstone": (NoTombstone,),
    "renew_order": (RenewOrder,),
    "lease_early": (LeaseEarly,),
    "open_always": (OpenAlways,),
    "any_version": (AnyVersion,),
    "hold_over": (HoldOver,),
    "known_orphans": (KnownOrphans,),
}
"""Guard names and what takes them away."""


Kind = TypeVar("Kind")


def without(kind: type[Kind], guards: Collection[str]) -> type[Kind]:
    """`kind` without these guards: a memory store, one of its halves, or a SplitStore.

    A guard that belongs to the other half changes nothing here.

    Raises:
        KeyError: there is no guard of this name.
    """
    parts = dict.fromkeys(part for name in sorted(guards) for part in GUARDS[name])
    fitting = [part for part in parts if issubclass(kind, part.__bases__)]
    if not fitting:
        return kind
    return type(f"{kind.__name__}With{'And'.join(part.__name__ for part in fitting)}", (*fitting, kind), {})
