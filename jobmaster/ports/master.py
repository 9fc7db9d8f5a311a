"""The master: long-term truth about jobs, workers, buckets and settings.

Promises common to all verbs: see `jobmaster.ports.agent`. In particular every verb is one transaction and safe to
repeat; `Fenced` means that the caller lost the bucket and nothing was changed.

Words (docs/protocol.md): *own(b)*: the bucket's row is held shared and (owner, epoch) are the fence's. *mine(row)*:
`row.bucket = bucket and row.gen = gen`. *hold(row)*: a tombstone exists ? Cancelled : HeldOnMaster, no bucket, gen + 1.
*recover(row)*: Processing and at-most-once: Failed (reason "worker lost"); else hold, due when it was (so that what had
its turn goes before what waits behind it), suspect; only if it was Processing (and not excused) or is blamed
`recoveries + 1`, and when `rules.recovery` convicts it Failed (reason "quarantined"). A recovery of a Processing row
also counts its attempt (`attempts` stands) and leaves an attempt record with reason "worker lost", whose error has the
blame.

Rows that a recovery, a hold or a cancel ends lose their bucket and get gen + 1; rows that `finish` ends keep them, so
that a repeated outcome is recognised. `attempts` is the present attempt's number while a row is Processing, else how
many there have been.

Data that not every database keeps (NUL, lone surrogates, moments outside of 1970 to 9999, keys that are not 16 bytes)
raises SerializationError before anything is written, in every store; the words of outcomes and evidence are cleaned
instead (`jobmaster.rules.storable`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import msgspec

from jobmaster.model.bucket import Bucket, NewBucket
from jobmaster.model.definition import ClusterRecord, Definition
from jobmaster.model.ids import JobKey
from jobmaster.model.job import (
    Blame,
    CancelReply,
    ClaimedJob,
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
from jobmaster.ports.schedules import ScheduleStore


class MasterRules(msgspec.Struct, frozen=True):
    """The cluster's settings that the master's own statements need."""

    lease_us: int = 10_000_000
    max_recoveries: int = 3
    tombstone_us: int = 86_400_000_000
    window_us: int = 15_000_000
    """How far ahead of its due time a message may be read where master and agent are one database."""


class ClaimRequest(msgspec.Struct, frozen=True):
    """How many held jobs the owner of a bucket would take; lane and priority are the bucket's."""

    fence: Fence
    lane: str
    priority: int
    limit: int


class Claimed(msgspec.Struct, frozen=True):
    """Answer of a claim. `next_due_us`: the earliest due time left for the lanes and priorities asked, or None."""

    jobs: list[ClaimedJob]
    now_us: int
    taken_us: int = 0
    """No row was taken before this moment of the store's clock: their `touched` is not below it."""
    next_due_us: int | None = None
    fenced: list[int] = []
    """Buckets whose fence did not hold: nothing was claimed for them. One that is Completing gets nothing, too."""


class MasterStore(ScheduleStore, Protocol):
    """The cluster's truth. See the module's text for the promises common to all verbs."""

    # -- cluster, definitions

    async def now_us(self) -> int:
        """The store's clock."""
        ...

    async def identity(self) -> str:
        """Which database this is. Two addresses of one database give the same text, two databases never do."""
        ...

    async def load_cluster(self) -> ClusterRecord | None:
        """The cluster's stored settings, or None before the first start."""
        ...

    async def save_cluster(self, record: ClusterRecord) -> bool:
        """Store settings as version `record.version` if the stored version is one less (or none, and it is 1)."""
        ...

    async def save_definitions(self, definitions: Sequence[Definition]) -> None:
        """Insert or replace definitions by name."""
        ...

    async def definitions(self, names: Sequence[str] | None = None) -> list[Definition]:
        """The stored definitions, all or those named."""
        ...

    # -- producers

    async def hold(self, jobs: Sequence[NewJob], *, reason: str = "") -> list[bool]:
        """R2: insert HeldOnMaster rows of gen 0, all in one transaction; an id that is there stays as it is.

        Rows of jobs with `verify` are suspect: their first start is guarded.

        Returns:
            Per job True if its row was inserted, False if the key was there already.
        """
        ...

    async def open_buckets(self) -> list[Bucket]:
        """Buckets that producers may push to: Active ones and Lost ones (R14' keeps them open)."""
        ...

    async def offer_bucket(self, bucket: NewBucket) -> Bucket:
        """A bucket for a producer that found none: the first open one of that agent, lane and priority, owned or not.

        Where there is none, a new one: Active, without owner, epoch 1, clean.
        """
        ...

    async def look_up(self, keys: Sequence[JobKey]) -> list[JobState | None]:
        """Status and outcome by key; None where no row is known.

        In standalone a message without a row is SavePending.
        """
        ...

    async def cancel(self, key: JobKey) -> CancelReply:
        """R19: tombstone, and in the same transaction HeldOnMaster, AssignedToBucket and Queued rows become Cancelled.

        A Queued or AssignedToBucket row at-least-once, a Processing row, or no row gives REQUESTED; final gives
        TOO_LATE. A repeat answers what the first call did. CANCELLED is certain: it will not start. In standalone a
        message becomes a Cancelled row where nobody can have read it (its bucket is clean and has no owner, or it is
        due beyond `MasterRules.window_us`) or its start is guarded anyway (at-most-once, verify).
        """
        ...

    async def reschedule(self, key: JobKey, due_us: int) -> bool:
        """Give a HeldOnMaster job (in standalone also an unread message) a new due time.

        An occurrence that would expire before is not bound to that any more.

        False: it is too late for that.
        """
        ...

    async def requeue(self, key: JobKey, *, due_us: int | None = None) -> bool:
        """Explicit "retry" of a final job by a person: HeldOnMaster, due now (or then), failures and recoveries 0.

        Its tombstone goes, so that it is not cancelled again, and its `expires` where that has passed by then. False:
        the job has not ended, or nobody knows it.
        """
        ...

    # -- workers and leases

    async def register(self, registration: Registration) -> Registered:
        """R4: a new boot of a name; ends the lease of an older boot. A repeat of the same boot gives the same answer.

        The older boot's buckets become Lost by the next `mark_lost`.

        Raises:
            HigherBoot: a higher boot of this name is registered.
        """
        ...

    async def renew(self, renewals: Sequence[Renewal]) -> list[Grant]:
        """R6, R8, R15': prolong leases, reconcile, adopt, and answer what is owned. One transaction for a process tree.

        A renewal with a lower number than the last applied changes nothing and answers what is owned now; one with the
        same number is applied again, because its sender measures its trust anew. Granted are Active and Completing
        buckets; a Draining one starts no jobs. Demands are those of other workers, half a lease old at most, for lanes
        and priorities of which this worker owns an Active bucket. Per worker, in this order:
        lease = now + lease_us; rows of its buckets in (Queued, Processing) with `touched < cut_us` and not in `held`
        are recovered; up to `adopt` buckets of its agent and lanes that are Lost, or Active without owner, get it as
        owner (epoch + 1, Active, adopted = now), not while it stops. A worker that was ended gets `gone`.
        """
        ...

    async def end_worker(self, worker: int, *, blame: Sequence[Blame] | None = None) -> None:
        """End a lease at once: a stopped worker's own word, or a supervisor's about a dead child.

        Its Active, Completing and Draining buckets become Lost in the same transaction (owner NULL, epoch + 1).

        `blame` is a supervisor's testimony about a dead child; None: nobody saw anything. It is stored, once per worker
        and key and only for jobs that are still the worker's (or have no row), until the job's next recovery or guarded
        start, which counts it and keeps the reason. Processing rows of the worker that a testimony does not blame, also
        an empty one, are excused: their recovery is not counted. In the same transaction those rows of the buckets that
        are lost by this call are recovered, and Queued ones that are blamed; so is, where messages are in the same
        database, a blamed job that only its message knew. So others claim what ran before anybody adopts a bucket.
        """
        ...

    async def mark_lost(self, *, limit: int = 100, as_of_us: int | None = None) -> list[Bucket]:
        """R15: Active, Completing and Draining buckets whose owner's lease has ended: owner NULL, epoch + 1, Lost.

        Args:
            limit: how many at most.
            as_of_us: leases that ran out later are not judged, because their owners may not have been able to renew
                them: the store may not have answered since (this call may have waited for that, too). None: now.
                A worker that was ended, or whose process is known to be gone, has lost its buckets in any case.
        """
        ...

    # -- buckets

    async def create_buckets(self, worker: int, buckets: Sequence[NewBucket]) -> list[Bucket]:
        """R5: Active, epoch 1, owned by the worker.

        A repeat by token succeeds while (owner, epoch) is still (worker, 1).

        Raises:
            Fenced: the worker was ended, or a repeated token's bucket has moved on.
        """
        ...

    async def recover_before(self, fence: Fence, *, adopted_us: int, limit: int) -> int:
        """R15'a 2: own(b). Recover up to `limit` rows of the bucket, Queued or Processing, touched before `adopted_us`.

        Where messages are in the same database, those by which these rows came are removed.

        Returns how many there were.
        """
        ...

    async def give_up(self, fence: Fence) -> None:
        """R22': own(b), exclusively. The bucket's Queued rows: hold (not suspect by it); owner NULL, Active, epoch + 1.

        It stays clean if it was, and if no row pointed at it. Where its messages are here, too, those by which the rows
        came that are held now leave with them, so that only a row that still points at it makes it unclean; one in
        which no message is left is clean again; and its depth is what they are now: nobody publishes one until somebody
        owns it. A repeat is Fenced: it is done.
        """
        ...

    async def complete(self, fence: Fence) -> None:
        """R24: own(b), exclusively: Completing, so that producers go elsewhere."""
        ...

    async def reopen(self, fence: Fence) -> None:
        """R24, when the agent was not empty: Completing back to Active."""
        ...

    async def retire(self, fence: Fence) -> None:
        """R16: own(b), exclusively (owner, or drainer), and Completing or Draining: it was not opened again.

        Recover every row that points at the bucket; delete the bucket. Messages that are left in the same database
        come to the master as in a drain. A repeat is Fenced: it is done.
        """
        ...

    async def claim_drain(self, worker: int, *, agent: str, older_us: int) -> Bucket | None:
        """R16: one Lost or ownerless bucket that nobody adopted for `older_us`, as Draining with the worker as owner.

        Asked again it gives the one that the worker drains already. The bucket's epoch grows on the first grant.

        Raises:
            Fenced: the worker was ended.
        """
        ...

    async def return_bucket(self, fence: Fence) -> None:
        """A drainer (R16) or an adopter that can't reach the agent gives the bucket back: Lost, no owner, epoch + 1."""
        ...

    async def drain_in(self, fence: Fence, messages: Sequence[Message]) -> None:
        """R16: own(b) (Draining).

        Per message: no row: insert HeldOnMaster, suspect (one that is no envelope: Failed, reason "unreadable"); not
        final and mine: recover; else leave.
        """
        ...

    async def unknown_buckets(self, ids: Sequence[int]) -> list[int]:
        """R18: those of the agent's buckets that have no row here (asked after the agent was listed)."""
        ...

    # -- jobs of an owner

    async def claim(self, requests: Sequence[ClaimRequest], *, window_us: int) -> Claimed:
        """R14': held jobs due within the window, by (lane, priority, due), as Queued with bucket and gen + 1.

        Rows that somebody else holds locked are skipped. Those with reason "unroutable" are left: no worker that asked
        so far knows their task.
        """
        ...

    async def start(self, fence: Fence, starts: Sequence[Start]) -> list[Verdict]:
        """R10, R11: own(b); per job, in one transaction:

        absent: tombstone ? insert Cancelled, no : insert `status` with nonce, yes (stored blame: with recoveries 1);
        mine and (AssignedToBucket or Queued): becomes `status` with nonce, yes (a tombstone: Cancelled, no);
        Processing with my nonce: yes; mine and Processing with another nonce: at-most-once: Failed, no; else
        recoveries + 1, new nonce, yes, or at `max_recoveries` Failed (quarantined), no. Anything else: no.
        """
        ...

    async def finish(self, fence: Fence, outcomes: Sequence[Outcome]) -> list[Settled]:
        """R12: own(b); per job: absent: insert the outcome; mine and not final: update; else stale.

        A retry is hold(row) with its due time. An outcome that is there already by the same (job, gen, attempt, bucket)
        counts as done. Failed and repeated attempts get an attempt record. One job may come only once in a batch.
        """
        ...

    async def release(self, fence: Fence, jobs: Sequence[Outcome]) -> None:
        """R21: own(b).

        Absent: insert held; AssignedToBucket or Queued and mine: hold; Processing and others: untouched.

        Uses key, gen, envelope, payload, due_us and failures of each `Outcome`; nothing is spent.
        """
        ...

    async def hand_back(self, fence: Fence, jobs: Sequence[Outcome]) -> None:
        """The graceful stop: own(b). No row: insert held; mine and not final (Processing too): hold, due now.

        Not suspect: only for runs that have really ended. No attempt, failure or recovery is counted.
        """
        ...

    # -- coordinator

    async def sweep(self, *, overdue_us: int, limit: int) -> int:
        """R17' and I5: rows in a bucket status whose bucket is gone, untouched for `overdue_us`: recover.

        Held rows past `expires`: Failed, "expired".
        """
        ...

    async def route(self, tasks: Sequence[str]) -> int:
        """HeldOnMaster rows with reason "unroutable" of these task names lose the reason and are due now; how many."""
        ...

    async def purge(self, *, before_us: int, limit: int) -> int:
        """Retention: delete final jobs that finished before, with their attempts.

        Old tombstones, commands and dead workers go, too; at most `limit` of each. Returns how many jobs there were.
        """
        ...

    async def forget_results(self, *, limit: int) -> int:
        """Clear the results of final jobs whose envelope's `keep_result` has passed, those first that it passed first.

        A Succeeded job gets the reason "result expired". Returns how many were cleared.
        """
        ...

    async def aged(self, *, before_us: int, limit: int) -> list[bytes]:
        """Final jobs that finished before, each as one opaque record for `import_aged` of another cluster's store."""
        ...

    async def import_aged(self, records: Sequence[bytes]) -> list[JobKey]:
        """Store records of `aged` (existing keys stay as they are) and say which keys are safe here now."""
        ...

    async def delete_final(self, keys: Sequence[JobKey]) -> int:
        """Delete these jobs where they are final (after they were moved to an archive)."""
        ...

    # -- commands

    async def send_command(self, workers: Sequence[int], verb: str, args: bytes) -> list[int]:
        """Store one command per worker and signal them. Returns the commands' ids in order."""
        ...

    async def take_commands(self, worker: int) -> list[Command]:
        """Commands that the worker has not answered yet (a repeat gives them again)."""
        ...

    async def answer_command(self, command: int, reply: bytes) -> None:
        """Store a command's reply (JSON). The first answer stays."""
        ...

    async def command_replies(self, commands: Sequence[int]) -> list[CommandReply]:
        """The commands' present state."""
        ...

    async def close_store(self) -> None:
        """Flush, stop threads, close connections. Every verb afterwards raises StoreUnavailable."""
        ...
