"""Judges a history. It sees every start, end, row change and removal, and asks the protocol nothing.

The names of the violations are the checker's language; `README.md` says which promise each one stands for.
"""

from __future__ import annotations

import collections
import traceback
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from jobmaster.model.run import End, Ended, Run
from jobmaster.model.states import JOB_MOVES, CancelOutcome, JobStatus

if TYPE_CHECKING:
    from jobmaster.model.ids import JobKey
    from tests.simulation.network import Call
    from tests.simulation.virtual_loop import Process
    from tests.simulation.workload import Plan
    from tests.simulation.world import World

EARLIEST = 1.0
"""Seconds that a job may start before its due time (P6)."""


class RowView(NamedTuple):
    """A job's row as the checker sees it."""

    status: JobStatus
    gen: int
    bucket: int | None
    due_us: int
    failures: int
    recoveries: int
    reason: str
    nonce: int


class BucketView(NamedTuple):
    """A bucket's row in the master as the checker sees it."""

    owner: int | None
    epoch: int


class Assignment(NamedTuple):
    """Under what a process started a job."""

    worker: int
    bucket: int
    epoch: int
    gen: int
    guarded: bool


@dataclass
class _Seen:
    """What the checker knows of one job."""

    plan: Plan
    accepted: float | None = None
    refused: bool = False
    producer_died: bool = False
    doubts: int = 0
    """Acceptances whose outcome is unknown, and calls that the network doubled."""
    cancelled: tuple[float, CancelOutcome] | None = None
    cancel_doubts: int = 0
    due_us: int = 0
    starts: list[tuple[float, Process, Assignment, int]] = field(default_factory=list)
    ends: int = 0
    handed_back: int = 0
    recorded: set[tuple[int, int]] = field(default_factory=set)
    """(gen, nonce) of the starts that its row has seen before they happened."""
    unrecorded: int = 0
    """Starts that only their process has seen."""
    finals: int = 0
    excuses: int = 0
    """Reasons for another start that came up since the last one."""
    unexplained: int = 0
    lost_at: float | None = None


class Checker:
    """See the module's text. `violations` holds the first of each kind."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.violations: dict[str, str] = {}
        self.until: frozenset[str] = frozenset()
        """A violation of one of these kinds ends the simulation."""
        self.jobs: dict[JobKey, _Seen] = {}
        self.rows: dict[JobKey, RowView] = {}
        self.running: dict[Process, dict[JobKey, Assignment]] = collections.defaultdict(dict)
        self.recovery_times: list[float] = []
        self.last_final = 0.0

    # -- saying what is wrong

    def bad(self, kind: str, subject: object) -> None:
        """A promise was broken."""
        name = self._name(subject)
        self.violations.setdefault(kind, f"{name} at {self._world.loop.virtual:.3f}")
        self._world.trace(subject, f"!!! {kind}")
        if kind in self.until:
            self._world.loop.stop()

    def _name(self, subject: object) -> str:
        if isinstance(subject, bytes) and subject in self.jobs:
            return self.jobs[subject].plan.name
        return str(subject)

    # -- clients

    def offered(self, plan: Plan, due_us: int) -> None:
        """A producer is about to enqueue it, not to start before `due_us`."""
        self.jobs[plan.key] = _Seen(plan, due_us=due_us)

    def accepted(self, key: JobKey) -> None:
        """A store has acknowledged it."""
        self.jobs[key].accepted = self._world.loop.virtual
        self._world.trace(key, "accepted")

    def doubtful(self, key: JobKey) -> None:
        """One more copy of it may exist: an acceptance has an unknown outcome, or a call was doubled."""
        if key in self.jobs:
            self.jobs[key].doubts += 1

    def refused(self, key: JobKey) -> None:
        """The producer was told for certain that nothing was stored, and gave up."""
        self.jobs[key].refused = True

    def producer_died(self, key: JobKey) -> None:
        """Its producer died while it enqueued."""
        if self.jobs[key].accepted is None:
            self.jobs[key].producer_died = True

    def cancel_answered(self, key: JobKey, outcome: CancelOutcome) -> None:
        """A client was told what becomes of its cancel."""
        self._world.trace(key, f"cancel: {outcome.value}")
        self._world.stats[f"cancel {outcome.value}"] += 1
        seen = self.jobs[key]
        if outcome is not CancelOutcome.TOO_LATE and seen.cancelled is None and not seen.cancel_doubts:
            seen.cancelled = (self._world.loop.virtual, outcome)

    def cancel_doubtful(self, key: JobKey) -> None:
        """A cancel's answer was lost: what a repeated one promises is not certain."""
        self.jobs[key].cancel_doubts += 1

    # -- processes

    def started(self, process: Process, run: Run) -> None:
        """The user's code of a job starts in a process."""
        now, key = self._world.loop.virtual, run.key
        assignment = self._world.assignment(process, key)
        self._world.trace(key, f"start attempt {run.attempt} in {process} under {assignment}")
        self._world.stats["starts"] += 1
        seen = self.jobs.get(key)
        if seen is None:
            self.bad("phantom", key)
            return
        if assignment is None:
            self.bad("start of what is not in memory", key)
            return
        row = self.rows.get(key)
        self._check_lease(key, process, assignment)
        self._check_repetition(seen, process, assignment, row)
        self._check_cancel(seen, now)
        if self._world.store_us() < seen.due_us - EARLIEST * 1e6:
            self.bad("early run", key)
        if row is not None and row.status.is_final:
            # A cancel that was answered with REQUESTED is bounded, not strict: the owner may not have heard of it yet.
            cancelled = row.status is JobStatus.CANCELLED
            self._world.stats["starts after cancel" if cancelled else "starts after final"] += 1
            if assignment.guarded or seen.plan.at_most_once:
                self.bad("guarded start of a final job", key)
        if seen.lost_at is not None:
            self.recovery_times.append(now - seen.lost_at)
            seen.lost_at = None
        self._world.stats["repeated starts" if seen.starts else "jobs started"] += 1
        if row is None or (row.status, row.gen) != (JobStatus.PROCESSING, assignment.gen):
            seen.unrecorded += 1
        seen.excuses = 0
        seen.starts.append((now, process, assignment, run.attempt))
        self.running[process][key] = assignment

    def _check_lease(self, key: JobKey, process: Process, assignment: Assignment) -> None:
        bucket = self._world.ledger.bucket(assignment.bucket)
        if bucket is None or (bucket.owner, bucket.epoch) != (assignment.worker, assignment.epoch):
            self.bad("start without lease", key)

    def _check_repetition(self, seen: _Seen, process: Process, assignment: Assignment, row: RowView | None) -> None:
        key = seen.plan.key
        if seen.plan.at_most_once:
            failures = row.failures if row else 0
            if len(seen.starts) > failures + seen.handed_back:
                self.bad("at-most-once twice", key)
        if not seen.starts:
            return
        same = sum(1 for _, by, under, _ in seen.starts if by is process and under[:4] == assignment[:4])
        if same > seen.doubts:
            self.bad("same assignment started twice", key)
        if not seen.excuses:
            seen.unexplained += 1
            if seen.unexplained > seen.doubts:
                self.bad("unexplained extra start", key)

    def _check_cancel(self, seen: _Seen, now: float) -> None:
        if seen.cancelled is None:
            return
        at, outcome = seen.cancelled
        if outcome is CancelOutcome.CANCELLED and now > at and not seen.doubts:
            self.bad("start after a certain cancel", seen.plan.key)
        if now > at + self._world.config.lease + 1.0 and not seen.doubts:
            self.bad("start a lease after a cancel", seen.plan.key)

    def ended(self, process: Process, run: Run, ended: Ended) -> None:
        """The user's code has come to an end."""
        self._world.trace(run.key, f"end {ended.end.name.lower()} in {process}")
        self.running[process].pop(run.key, None)
        seen = self.jobs[run.key]
        if ended.end is End.RETURNED:
            seen.ends += 1
        if ended.end is End.RAISED:
            self._world.stats["failures by plan"] += 1
        if ended.end is End.INTERRUPTED:
            seen.handed_back += 1
            seen.excuses += 1
        if ended.end in {End.CANCELLED, End.TIMED_OUT, End.CRASHED}:
            seen.excuses += 1

    def died(self, process: Process) -> None:
        """A process is dead: what ran in it may run again."""
        for key in self.running.pop(process, {}):
            self.jobs[key].lost_at = self._world.loop.virtual
        for seen in self.jobs.values():
            if seen.starts and seen.starts[-1][1] is process:
                seen.excuses += 1

    def crashed(self, process: Process, error: BaseException) -> None:
        """The program itself failed: never allowed (I8)."""
        if self._world.loop.is_closed():
            return  # the simulation has ended
        while isinstance(error, BaseExceptionGroup):
            error = error.exceptions[0]
        where = traceback.extract_tb(error.__traceback__)[-1]
        place = f"{Path(where.filename).name}:{where.lineno}"
        self.bad("crash", f"{process}: {type(error).__name__}: {error} ({place} {where.name})")

    # -- stores

    def bucket_changed(self, bucket: int, old: BucketView | None, new: BucketView | None) -> None:
        """Its row in the master has another owner or epoch."""
        if old is not None and old.owner is not None and (new is None or new.epoch != old.epoch):
            for seen in self.jobs.values():
                if seen.starts and seen.starts[-1][2].bucket == bucket:
                    seen.excuses += 1

    def row_changed(self, key: JobKey, old: RowView | None, new: RowView | None, call: Call) -> None:
        """A job's row differs after a call was carried out."""
        if new is None:
            self.bad("row vanished", key)
            return
        self.rows[key] = new
        self._world.trace(
            key,
            f"row {old.status if old else 'absent'} -> {new.status} gen {new.gen} bucket {new.bucket}"
            f" failures {new.failures} recoveries {new.recoveries} {new.reason!r} by {call.verb} of {call.process}",
        )
        seen = self.jobs.get(key)
        if seen is None:
            self.bad("phantom row", key)
            return
        was = old.status if old else JobStatus.SAVE_PENDING
        if old is not None and was.is_final:
            self.bad("final state changed", key)
        elif was is not new.status and new.status not in JOB_MOVES[was]:
            self.bad(f"illegal move {was} -> {new.status}", key)
        if new.status is JobStatus.HELD_ON_MASTER:
            seen.excuses += 1
            if old is not None:
                seen.due_us = new.due_us
            self._check_taken(key, old, call)
        if new.status is JobStatus.PROCESSING and not self._runs(key, new.gen):
            seen.recorded.add((new.gen, new.nonce))
        if new.status.is_final and not was.is_final:
            self._became_final(seen, old, new, call)

    def dropped(self, key: JobKey, old: RowView | None) -> None:
        """Its schedule was ended or changed before it began."""
        if old is None or old.status is not JobStatus.HELD_ON_MASTER or self.jobs[key].starts:
            self.bad("dropped after it began", key)
        del self.jobs[key], self.rows[key]

    def _runs(self, key: JobKey, gen: int) -> bool:
        """This very assignment of the job runs in some process already."""
        return any(under.gen == gen for running in self.running.values() if (under := running.get(key)))

    def _became_final(self, seen: _Seen, old: RowView | None, new: RowView, call: Call) -> None:
        key = seen.plan.key
        seen.finals += 1
        self.last_final = self._world.loop.virtual
        if new.status is JobStatus.SUCCEEDED and not seen.ends:
            self.bad("success without a run", key)
        if new.status is JobStatus.CANCELLED and seen.plan.cancel_after is None:
            self.bad("cancelled unasked", key)
        if new.status is JobStatus.FAILED:
            self._check_failure(seen, new)
            self._check_taken(key, old, call)

    def _check_failure(self, seen: _Seen, new: RowView) -> None:
        key, plan = seen.plan.key, seen.plan
        if new.reason == "quarantined":
            self._world.stats["quarantined"] += 1
            if plan.task != "killer":
                self.bad("innocent quarantined", key)
            if len(seen.recorded) + seen.unrecorded < self._world.config.max_recoveries:
                self.bad("quarantined without enough starts", key)
        elif new.reason == "worker lost":
            self._world.stats["failed as worker lost"] += 1
            if not plan.at_most_once:
                self.bad("at-least-once job failed as worker lost", key)
        elif new.reason == "timed out" and plan.task != "deaf":
            self.bad("timed out without a limit", key)
        elif not new.reason and plan.failures <= new.failures - 1 and plan.task != "deaf":
            self.bad("failed more often than its code", key)

    def finish_changed(self, key: JobKey, old: RowView | None, fence: tuple[int, int, int], gen: int) -> None:
        """An owner's outcome was written; `fence` is (bucket, epoch, owner) that it came with, `gen` its assignment."""
        bucket, epoch, owner = fence
        now = self._world.ledger.bucket(bucket)
        if now is None or (now.owner, now.epoch) != (owner, epoch):
            self.bad("zombie outcome (bucket)", key)
        if old is not None and (old.bucket, old.gen) != (bucket, gen):
            self.bad("zombie outcome (assignment)", key)

    def _check_taken(self, key: JobKey, old: RowView | None, call: Call) -> None:
        """A row that its living owner runs was taken away by the repair of lost rows."""
        if old is None or old.bucket is None or call.verb not in _REPAIRS:
            return
        owner = self._world.ledger.bucket(old.bucket)
        if owner is None:
            return
        for process, running in self.running.items():
            under = running.get(key)
            if under and process.alive and under[:4] == (owner.owner, old.bucket, owner.epoch, old.gen):
                self.bad("taken from its runner", key)

    def drained(self, key: JobKey, old: RowView | None, bucket: int) -> None:
        """A drainer's batch changed a row."""
        if old is not None and old.bucket is not None and old.bucket != bucket:
            self.bad("taken from another owner", key)

    def removed(self, key: JobKey, gen: int, *, moved: bool) -> None:
        """A message has left an agent."""
        self._world.trace(key, f"message gen {gen} {'moved' if moved else 'removed'}")
        row = self.rows.get(key)
        if not moved and (row is None or (not row.status.is_final and row.gen < gen)):
            self.bad("removed before the master knew", key)

    # -- the end

    def open_jobs(self, stored: set[JobKey]) -> list[JobKey]:
        """Jobs that somebody still owes an end: accepted, or with a row or a message."""
        return [
            key
            for key, seen in self.jobs.items()
            if (seen.accepted is not None or key in self.rows or key in stored)
            and not (key in self.rows and self.rows[key].status.is_final)
        ]

    def verdict(self, stored: set[JobKey], overdue: set[JobKey]) -> None:
        """Called when nothing may be under way any more."""
        for key in self.open_jobs(stored):
            self.bad("stuck" if key in self.rows or key in stored else "LOST", key)
        for key, seen in self.jobs.items():
            known = key in self.rows or bool(seen.starts)
            if known and seen.refused and not seen.doubts and not seen.producer_died:
                self.bad("ran although refused", key)
            if seen.finals > 1:
                self.bad("terminal twice", key)
        for key in sorted(overdue):
            if key in self.rows and self.rows[key].status.is_final:
                self.bad("message left behind", key)


_REPAIRS = frozenset({"renew", "recover_before", "retire", "sweep"})
