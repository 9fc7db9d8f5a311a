"""Slots: which waiting job starts now, who watches it, and what its end means.

A job becomes running in `_start`. Where a guard is needed (R10) the starter asks the master first; the job waits for
the answer without a slot, at most as many at once as there are slots.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING

from jobmaster.engine.life import Entry, Stage
from jobmaster.engine.limits import Limits
from jobmaster.engine.pools.ending import stopped
from jobmaster.model import reasons
from jobmaster.model.job import Outcome
from jobmaster.model.run import End, Ended, Halt, Run
from jobmaster.model.states import JobStatus
from jobmaster.rules import retry

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from jobmaster.engine.finisher import Finisher
    from jobmaster.engine.lease import Lease
    from jobmaster.engine.life import Life
    from jobmaster.engine.starter import Starter
    from jobmaster.engine.store_clock import StoreClock
    from jobmaster.engine.tuning import Tuning
    from jobmaster.engine.waiting import Waiting
    from jobmaster.model.ids import JobKey
    from jobmaster.model.policy import TaskPolicy
    from jobmaster.ports.clock import Clock
    from jobmaster.ports.link import EngineLink
    from jobmaster.ports.workload import Pool, Workload

_TOMBSTONES = 100_000
_YIELD_EVERY = 128
"""Starts without giving the loop back: reading, flushing and the lease's grant get their turn."""


class Runner:
    """Takes entries from `waiting` into slots, and hands their outcomes to the finisher."""

    def __init__(
        self,
        *,
        tuning: Tuning,
        clock: Clock,
        store_clock: StoreClock,
        lease: Lease,
        link: EngineLink,
        waiting: Waiting,
        starter: Starter,
        finisher: Finisher,
        workload: Workload,
        async_pool: Pool,
        sync_pool: Pool,
        worker_name: str,
        random: Callable[[], float],
    ) -> None:
        self._tuning = tuning
        self._clock = clock
        self._store_clock = store_clock
        self._lease = lease
        self._link = link
        self._waiting = waiting
        self._starter = starter
        self._finisher = finisher
        self._workload = workload
        self._pools = {True: async_pool, False: sync_pool}
        self._worker_name = worker_name
        self._random = random
        self._wake = asyncio.Event()
        self._granted: deque[Entry] = deque()
        self._asking = 0
        self._suspects: set[Entry] = set()
        self._asked_suspects: set[Entry] = set()
        self._dropped = False
        self.slots = tuning.slots
        self.paused = False
        self.closed = False
        """No new start; set by the graceful stop and by a condemned process."""
        self.running: dict[JobKey, Entry] = {}
        """A job runs only once at a time in a process, also where there are two copies of it."""
        self.cancelled: dict[JobKey, None] = {}
        """Tombstones that this worker was told of."""
        self.counts = {"started": 0, "succeeded": 0, "failed": 0, "retried": 0, "cancelled": 0}
        self.limits = Limits(clock=clock, early_after=tuning.early_row_after, halt=self.halt, early=starter.early)
        starter.answered = self._answered

    # ---------------------------------------------------------------- what others call

    def wake(self) -> None:
        """Something changed: entries came, a slot is free, trust is back."""
        self._wake.set()

    async def run(self) -> None:
        """Start what may start, until cancelled."""
        while True:
            self._wake.clear()
            if self._dropped:  # once for all lives that were dropped together
                self._dropped = False
                self._waiting.drop_dead()
            self._waiting.promote(self._store_clock.now_us())
            self._start_granted()
            started = self._start_waiting()
            if started >= _YIELD_EVERY:
                await asyncio.sleep(0)
                continue
            await self._sleep()

    def idle(self) -> bool:
        """True when nothing runs, nothing is asked for, and no outcome is on its way."""
        return not self.running and not self._asking and not self._granted and self._finisher.idle()

    def holds(self, keys: Collection[JobKey]) -> list[JobKey]:
        """Those of the keys whose jobs wait or run here."""
        lives = self._lease.lives.values()
        return [entry.key for life in lives for entry in life.entries.values() if entry.key in keys]

    def cancel(self, keys: list[JobKey]) -> None:
        """Tombstones (R19): what waits ends as Cancelled, what runs is stopped."""
        for key in keys:
            self.cancelled[key] = None
        marked = dict.fromkeys(keys)
        for life in list(self._lease.lives.values()):
            for entry in [entry for entry in life.entries.values() if entry.key in marked]:
                if entry.stage is Stage.RUNNING:
                    self.halt(entry, Halt.CANCEL)
                elif entry.stage is Stage.WAITING:
                    life.waiting -= 1
                    self._end_unstarted(entry, JobStatus.CANCELLED, "")
        while len(self.cancelled) > _TOMBSTONES:
            del self.cancelled[next(iter(self.cancelled))]

    def claimed(self, entries: list[Entry]) -> None:
        """The master gave these jobs out: a tombstone of them was lifted since (a person lets the job run again)."""
        for entry in entries:
            self.cancelled.pop(entry.key, None)
        self.wake()

    def unreadable(self, entry: Entry) -> None:
        """A message that no envelope can be read from: its job ends as Failed, for people to see."""
        self._end_unstarted(entry, JobStatus.FAILED, reasons.UNREADABLE)

    def halt(self, entry: Entry, why: Halt) -> None:
        """Stop a run. Soft limits raise inside it; the others end it."""
        if entry.stage is Stage.RUNNING:
            if why is not Halt.SOFT_LIMIT:
                entry.halting = True
                entry.stopped_by = entry.stopped_by or why
            self._pool_of(entry).halt(entry.key, why)

    def write_off(self, keys: list[JobKey]) -> None:
        """Runs that do not end inside this process, which is about to end itself: what stopped them is their end."""
        for entry in [self.running[key] for key in keys if key in self.running]:
            policy = self._workload.policy(entry.envelope.task)
            if policy is not None and entry.stopped_by is not None:
                self._ended(entry, policy, stopped(entry.stopped_by))

    def dropped(self, life: Life) -> None:
        """The life is not ours any more: what waits is forgotten, what runs is stopped, outcomes count for nothing."""
        for entry in [entry for entry in self.running.values() if entry.life is life]:
            self.halt(entry, Halt.SHUTDOWN)
        self._dropped = True
        self.wake()

    # ---------------------------------------------------------------- starting

    def _may_start(self, *, granted: bool = False) -> bool:
        """Granted ones start in a closed engine too: the master has them as Processing already."""
        return (
            (granted or not (self.closed or self.paused))
            and len(self.running) < self.slots
            and self._finisher.pending() < self._tuning.backlog_of_outcomes
            and self._lease.trusted()
        )

    def _start_granted(self) -> None:
        for _ in range(len(self._granted)):
            if not self._may_start(granted=True):
                return
            entry = self._granted.popleft()
            if not entry.alive:
                continue
            if entry.key in self.cancelled:
                self._end_unstarted(entry, JobStatus.CANCELLED, "")
                continue
            if entry.key in self.running:
                self._granted.append(entry)
            elif entry.suspect and self._suspects:
                self._hand_on(entry)
            else:
                self._start(entry)

    def _hand_on(self, entry: Entry) -> None:
        """Its answer made it a suspect, and one runs here: as Processing it would be blamed for that one's crash."""
        entry.stage = Stage.ENDED
        self._finisher.hand_back(entry, self._outcome(entry, JobStatus.HELD_ON_MASTER))

    def _start_waiting(self) -> int:
        started = 0
        while started < _YIELD_EVERY and self._may_start():
            entry = self._waiting.take(self._fits)
            if entry is None:
                break
            entry.life.waiting -= 1
            started += 1
            self._begin(entry)
        return started

    def _fits(self, entry: Entry) -> bool:
        if not self._needs_guard(entry):
            return True
        return self._asking + len(self._granted) < self.slots and not (entry.suspect and self._has_suspect())

    def _has_suspect(self) -> bool:
        """One runs, or is about to: what is asked about stands as Processing in the master, and would be blamed."""
        return bool(self._suspects or self._asked_suspects) or any(entry.suspect for entry in self._granted)

    def _begin(self, entry: Entry) -> None:
        """Decide what becomes of an entry whose turn has come."""
        envelope = entry.envelope
        if entry.key in self.cancelled:
            self._end_unstarted(entry, JobStatus.CANCELLED, "")
        elif envelope.expires_us is not None and envelope.expires_us <= self._store_clock.now_us():
            self._end_unstarted(entry, JobStatus.FAILED, reasons.EXPIRED)
        elif self._workload.policy(envelope.task) is None:
            self._end_unstarted(entry, JobStatus.HELD_ON_MASTER, reasons.UNROUTABLE)
        elif self._needs_guard(entry):
            entry.stage = Stage.ASKING
            self._asking += 1
            if entry.suspect:
                self._asked_suspects.add(entry)
            self._starter.ask(entry)
        else:
            self._start(entry)

    def _needs_guard(self, entry: Entry) -> bool:
        # Of a job that runs here already this is a second copy: the master knows whether it still counts.
        return entry.guarded or entry.recoveries > 0 or entry.envelope.at_most_once or entry.key in self.running

    def _answered(self, entry: Entry, *, yes: bool) -> None:
        self._asking -= 1
        self._asked_suspects.discard(entry)
        if yes and entry.alive:
            entry.stage = Stage.READY
            self._granted.append(entry)
        self.wake()

    def _start(self, entry: Entry) -> None:
        """The line where a job becomes running."""
        policy = self._workload.policy(entry.envelope.task)
        if policy is None:  # the code was reloaded between the guarded start and now
            self._end_unstarted(entry, JobStatus.HELD_ON_MASTER, reasons.UNROUTABLE)
            return
        if entry.stage is not Stage.READY:  # a guarded start has brought the attempt's number with its answer
            entry.attempts += 1
        entry.stage = Stage.RUNNING
        entry.started_us = self._store_clock.now_us()
        entry.started_at = self._clock.monotonic()
        entry.place = self._link.running(entry.key, suspect=entry.suspect)
        if entry.suspect:
            self._suspects.add(entry)
        self.running[entry.key] = entry
        self.counts["started"] += 1
        run = self._describe(entry, policy)
        self.limits.watch(entry, timeout=run.timeout, soft_timeout=run.soft_timeout)
        self._pools[policy.is_async].submit(run, lambda ended: self._ended(entry, policy, ended))

    def _describe(self, entry: Entry, policy: TaskPolicy) -> Run:
        envelope = entry.envelope
        timeout = policy.timeout if envelope.timeout is None else envelope.timeout or None
        soft = policy.soft_timeout if envelope.soft_timeout is None else envelope.soft_timeout or None
        return Run(
            key=entry.key,
            envelope=envelope,
            payload=entry.payload,
            attempt=entry.attempts,
            failures=entry.failures,
            max_retries=_max_retries(entry, policy),
            scheduled_us=envelope.scheduled_us,
            deadline_us=None if timeout is None else entry.started_us + round(timeout * 1e6),
            timeout=timeout,
            soft_timeout=soft,
            worker=self._worker_name,
            checkpoint=entry.checkpoint,
            cancelled=lambda: entry.halting,
        )

    # ---------------------------------------------------------------- ending

    def _ended(self, entry: Entry, policy: TaskPolicy, ended: Ended) -> None:
        """An execution is over; decide what that means, and let the finisher write it."""
        if entry.stage is not Stage.RUNNING:  # it was written off, and its pool has closed now
            return
        self.running.pop(entry.key, None)
        self.limits.forget(entry)
        self._link.ended(entry.place)
        self._suspects.discard(entry)
        self.wake()
        if not entry.alive:
            return
        entry.stage = Stage.ENDED
        if ended.end is End.INTERRUPTED and entry.envelope.at_most_once:
            ended = Ended(End.RAISED, reason="interrupted by a shutdown", retryable=False)
        if ended.end is End.INTERRUPTED:
            self._finisher.hand_back(entry, self._outcome(entry, JobStatus.HELD_ON_MASTER))
            return
        if ended.end is End.CANCELLED and entry.key not in self.cancelled:
            ended = Ended(End.RAISED, error=ended.error, reason=ended.reason or reasons.INTERRUPTED)
        decision = retry.after(
            ended,
            failures=entry.failures,
            max_retries=_max_retries(entry, policy),
            backoff=policy.backoff,
            random=self._random,
        )
        self._count(decision.status)
        self._finisher.add(
            entry,
            self._outcome(
                entry,
                decision.status,
                failures=decision.failures,
                delay_us=decision.delay_us,
                reason=decision.reason,
                ended=ended,
            ),
        )

    def _end_unstarted(self, entry: Entry, status: JobStatus, reason: str) -> None:
        entry.stage = Stage.ENDED
        self._count(status)
        self._finisher.add(entry, self._outcome(entry, status, failures=entry.failures, reason=reason))

    def _outcome(
        self,
        entry: Entry,
        status: JobStatus,
        *,
        failures: int | None = None,
        delay_us: int = 0,
        reason: str = "",
        ended: Ended | None = None,
    ) -> Outcome:
        return Outcome(
            key=entry.key,
            gen=entry.gen,
            envelope=entry.envelope,
            payload=entry.payload,
            due_us=entry.due_us,
            status=status,
            attempt=entry.attempts,
            seq=entry.seq,
            failures=entry.failures if failures is None else failures,
            started_us=entry.started_us or None,
            finished_us=self._store_clock.now_us(),
            delay_us=delay_us,
            result=ended.result if ended else None,
            error=ended.error if ended else None,
            reason=reason,
            checkpoint=(ended.checkpoint if ended else None) or entry.checkpoint,
        )

    def _count(self, status: JobStatus) -> None:
        name = _COUNTED.get(status)
        if name:
            self.counts[name] += 1

    def _pool_of(self, entry: Entry) -> Pool:
        policy = self._workload.policy(entry.envelope.task)
        return self._pools[policy.is_async if policy else False]

    # ---------------------------------------------------------------- sleeping

    async def _sleep(self) -> None:
        due_us = self._waiting.next_due_us()
        until_due = None if due_us is None else (due_us - self._store_clock.now_us()) / 1e6
        if until_due is not None and until_due <= 0:
            until_due = 0.001
        handle = None
        if until_due is not None:
            handle = asyncio.get_running_loop().call_later(until_due, self._wake.set)
        try:
            await self._wake.wait()
        finally:
            if handle is not None:
                handle.cancel()


_COUNTED = {
    JobStatus.SUCCEEDED: "succeeded",
    JobStatus.FAILED: "failed",
    JobStatus.HELD_ON_MASTER: "retried",
    JobStatus.CANCELLED: "cancelled",
}


def _max_retries(entry: Entry, policy: TaskPolicy) -> int:
    return policy.max_retries if entry.envelope.max_retries is None else entry.envelope.max_retries
