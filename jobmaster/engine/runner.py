"""Slots: which waiting job starts now, and who watches it.

A job becomes running in `_start`. Where a guard is needed (R10) the starter asks the master first; the job waits for
the answer without a slot, at most as many at once as there are free slots, and as start within some milliseconds.
"""

from __future__ import annotations

import asyncio
import logging
import math
from typing import TYPE_CHECKING

from jobmaster.engine.concluding import Conclusions
from jobmaster.engine.guarded_starts import GuardedStarts
from jobmaster.engine.isolation import PAROLE_S
from jobmaster.engine.life import Entry, Stage
from jobmaster.engine.limits import Limits
from jobmaster.engine.outcomes import returned
from jobmaster.engine.pools.ending import stopped
from jobmaster.engine.run_pools import Batch, RunPools
from jobmaster.model import reasons
from jobmaster.model.ids import key_text
from jobmaster.model.run import End, Halt, Run
from jobmaster.model.states import JobStatus
from jobmaster.rules.expiry import expiry_of

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Container

    from jobmaster.engine.finisher import Finisher
    from jobmaster.engine.isolation import Isolation
    from jobmaster.engine.lease import Lease
    from jobmaster.engine.life import Life
    from jobmaster.engine.starter import Starter
    from jobmaster.engine.store_clock import StoreClock
    from jobmaster.engine.tuning import Tuning
    from jobmaster.engine.waiting import Waiting
    from jobmaster.model.ids import JobKey
    from jobmaster.model.policy import TaskPolicy
    from jobmaster.model.run import Finished
    from jobmaster.ports.clock import Clock
    from jobmaster.ports.link import EngineLink
    from jobmaster.ports.workload import Pool, Workload

    _Take = Callable[[Container[JobKey], Callable[[Entry], bool]], Entry | None]

logger = logging.getLogger("jobmaster.engine")

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
        isolation: Isolation,
        worker_name: str,
        random: Callable[[], float],
    ) -> None:
        self._tuning = tuning
        self._clock = clock
        self._store_clock = store_clock
        self._lease = lease
        self._link = link
        self._ended_place = link.ended
        self._waiting = waiting
        self._finisher = finisher
        self._workload = workload
        self._isolation = isolation
        self._worker_name = worker_name
        self._wake = asyncio.Event()
        self._dropped = False
        self.slots = tuning.slots
        self.paused = False
        self.closed = False
        """No new start; set by the graceful stop and by a condemned process."""
        self.running: dict[JobKey, Entry] = {}
        """A job runs only once at a time in a process, also where there are two copies of it."""
        self._conclusions = Conclusions(tuning=tuning, store_clock=store_clock, finisher=finisher, random=random)
        self.guarded = GuardedStarts(
            running=self.running,
            starter=starter,
            isolation=isolation,
            clock=clock,
            hand_on=self._conclusions.hand_on,
            answered=self.wake,
        )
        self._ahead = self.guarded.ahead
        self.cancelled = self._conclusions.cancelled
        self.counts = self._conclusions.counts
        self.limits = Limits(clock=clock, early_after=tuning.early_row_after, halt=self.halt, early=starter.early)
        self.took: Callable[[], None] = lambda: None
        """Called when entries left `waiting`: there is room for more."""
        self._pools = RunPools(
            async_pool=async_pool,
            sync_pool=sync_pool,
            isolation=isolation,
            finished=self._finished,
            submitting=self._submitting,
        )

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
            if self._fill():
                await asyncio.sleep(0)
                continue
            await self._sleep()

    def idle(self) -> bool:
        """True when nothing runs, nothing is asked for, and no outcome is on its way."""
        return not self.running and not self.guarded and self._finisher.idle()

    def free(self) -> int:
        """How many slots nothing runs in, nor is about to."""
        if self.closed or self.paused:
            return 0
        return max(0, self.slots - len(self.running) - len(self.guarded))

    def ended(self) -> int:
        """How many runs have ended here so far."""
        return self.counts["started"] - len(self.running)

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
                    self._conclusions.unstarted(entry, JobStatus.CANCELLED, "")
        while len(self.cancelled) > _TOMBSTONES:
            del self.cancelled[next(iter(self.cancelled))]

    def claimed(self, entries: list[Entry]) -> None:
        """The master gave these jobs out: a tombstone of them was lifted since (a person lets the job run again)."""
        for entry in entries:
            self.cancelled.pop(entry.key, None)
        self.wake()

    def unreadable(self, entry: Entry) -> None:
        """A message that no envelope can be read from: its job ends as Failed, for people to see."""
        self._conclusions.unstarted(entry, JobStatus.FAILED, reasons.UNREADABLE)

    def halt(self, entry: Entry, why: Halt) -> None:
        """Stop a run. Soft limits raise inside it; the others end it."""
        if entry.stage is Stage.RUNNING:
            if why is not Halt.SOFT_LIMIT:
                entry.stopped_by = entry.stopped_by or why
            self._pools.halt(entry, why)

    def write_off(self, keys: list[JobKey]) -> None:
        """Runs that do not end inside this process, which is about to end itself: what stopped them is their end."""
        now = self._clock.monotonic()
        for entry in [self.running[key] for key in keys if key in self.running]:
            if entry.run is not None and entry.stopped_by is not None:
                self._finished([(entry.run, stopped(entry.stopped_by), now)])

    def keep_evidence(self) -> None:
        """This engine ends in disorder: whoever runs, or whose outcome is not written yet, stays noted as running."""
        self._ended_place = _keep
        for life in self._lease.lives.values():
            for entry in [entry for entry in life.entries.values() if entry.stage is Stage.ENDED]:
                self._link.running(entry.key)

    def dropped(self, life: Life) -> None:
        """The life is not ours any more: what waits is forgotten, what runs is stopped, outcomes count for nothing."""
        for entry in [entry for entry in self.running.values() if entry.life is life]:
            self.halt(entry, Halt.SHUTDOWN)
        self._dropped = True
        self.wake()

    # ---------------------------------------------------------------- starting

    def _fill(self) -> bool:
        """Start as many as there are slots, after one look at the clocks and at trust; True: there may be more."""
        slots, apart, guarded = self.slots, self._waiting.apart, self.guarded
        if apart or self._isolation:
            others = self._isolation.slots_for_others(slots, waiting=len(apart))
        elif len(self.running) < slots:
            others = slots
        else:
            return False
        if not self._lease.trusted():
            return False
        guarded.slots, guarded.others = slots, others
        batch = Batch(self._store_clock.now_us(), self._clock.monotonic())
        try:
            if guarded.ready or self._isolation.ready:
                self._start_granted(batch)
            elif guarded.asking and len(self.running) < slots:
                self._ahead.slots_waited()
            self._ahead.look(batch.now)
            begun = self._start_waiting(batch)
        finally:
            self._pools.submit(batch)
        return begun >= _YIELD_EVERY

    def _submitting(self, entries: list[Entry]) -> None:
        self.counts["started"] += len(entries)
        self.limits.watch(entries)

    def _start_granted(self, batch: Batch) -> None:
        """Granted ones start in a closed engine too: the master has them as Processing already."""
        isolation, others = self._isolation, self.guarded.others
        if self.guarded.ready:
            self._ahead.job_waited(batch.now - self.guarded.ready[0].granted_at)
        for ready in (isolation.ready, self.guarded.ready):
            for _ in range(len(ready)):
                count = len(self.running)
                if count >= others and not (ready is isolation.ready and isolation.has_slot(count)):
                    break
                entry = ready.popleft()
                if not entry.alive:
                    continue
                if entry.key in self.cancelled:
                    self._conclusions.unstarted(entry, JobStatus.CANCELLED, "")
                elif entry.key in self.running:
                    ready.append(entry)
                elif isolation.must(entry) and not isolation.may_begin(1):
                    self._conclusions.hand_on(entry)
                elif (policy := self._workload.policy(entry.envelope.task)) is None:
                    # The code was reloaded between the guarded start and now.
                    self._conclusions.unstarted(entry, JobStatus.HELD_ON_MASTER, reasons.UNROUTABLE)
                else:
                    self._start(entry, policy, batch)

    def _start_waiting(self, batch: Batch) -> int:
        """Begin entries in the order of their turns; how many were begun."""
        tuning = self._tuning
        if (
            self.closed
            or self.paused
            or self._finisher.is_behind(most=tuning.backlog_of_outcomes, most_bytes=tuning.backlog_of_results)
        ):
            return 0
        apart = self._begin(self._waiting.take_apart, math.inf, batch) if self._waiting.apart else 0
        begun = self._begin(self._waiting.take, self.guarded.others, batch)
        if apart or begun:
            self.took()
        return begun

    def _begin(self, take: _Take, most: float, batch: Batch) -> int:
        """Begin what is taken, until so many run; how many were begun."""
        running, cancelled, policy_of = self.running, self.cancelled, self._workload.policy
        fits = self.guarded.fits
        begun = 0
        while begun < _YIELD_EVERY and len(running) < most:
            entry = take(running, fits)
            if entry is None:
                break
            begun += 1
            entry.life.waiting -= 1
            envelope = entry.envelope
            if cancelled and entry.key in cancelled:
                self._conclusions.unstarted(entry, JobStatus.CANCELLED, "")
            elif (
                envelope.expires_us is not None
                and envelope.expires_us <= batch.now_us
                and (expiry := expiry_of(envelope, entry.attempts)) is not None
            ):
                self._conclusions.unstarted(entry, *expiry)
            elif (policy := policy_of(envelope.task)) is None:
                self._conclusions.unstarted(entry, JobStatus.HELD_ON_MASTER, reasons.UNROUTABLE)
            elif entry.guarded or entry.key in running:
                self.guarded.ask(entry)
            else:
                self._start(entry, policy, batch)
        return begun

    def _start(self, entry: Entry, policy: TaskPolicy, batch: Batch) -> None:
        """The line where a job becomes running."""
        if entry.stage is not Stage.READY:  # a guarded start has brought the attempt's number with its answer
            entry.attempts += 1
        entry.stage = Stage.RUNNING
        entry.policy = policy
        entry.started_us, entry.started_at = batch.now_us, batch.now
        starting = batch.coroutines if policy.is_async else batch.functions
        if entry.recoveries:
            logger.info("job_recovered job=%s attempt=%d recoveries=%d",
                        key_text(entry.key), entry.attempts, entry.recoveries)  # fmt: skip
        if entry.recoveries and self._isolation.must(entry):
            starting = self._set_apart(entry, starting, batch)
        entry.place = self._link.running(entry.key)
        self.running[entry.key] = entry
        envelope = entry.envelope
        timeout = policy.timeout if envelope.timeout is None else envelope.timeout or None
        soft = policy.soft_timeout if envelope.soft_timeout is None else envelope.soft_timeout or None
        entry.run = Run(
            entry.key,
            envelope,
            entry.payload,
            entry.attempts,
            entry.failures,
            policy.max_retries if envelope.max_retries is None else envelope.max_retries,
            envelope.scheduled_us,
            None if timeout is None else batch.now_us + int(timeout * 1e6),
            timeout,
            soft,
            self._worker_name,
            entry.checkpoint,
        )
        starting.append(entry)

    def _set_apart(self, entry: Entry, starting: list[Entry], batch: Batch) -> list[Entry]:
        """Where it starts. It is noted like all others: this process may die of it, too (its parent, its machine)."""
        self._isolation.began(entry, batch.now)
        asyncio.get_running_loop().call_later(PAROLE_S, self.wake)
        return starting if self._isolation.pool is None else batch.apart

    # ---------------------------------------------------------------- ending

    def _finished(self, finished: list[Finished]) -> None:
        """Executions are over: what that means is decided here, and the finisher writes it."""
        running, ended_place = self.running, self._ended_place
        store_us = self._store_clock.at
        succeeded = 0
        for run, ended, at in finished:
            entry = running.get(run.key)
            if entry is None or entry.run is not run:  # it was written off, and its pool has closed now
                continue
            del running[run.key]
            ended_place(entry.place)
            entry.stage = Stage.ENDED
            if self._isolation:
                self._isolation.ended(entry)
            if entry.gone or entry.life.dropped:
                continue
            if ended.end is End.RETURNED:
                succeeded += 1
                self._finisher.add(entry, returned(entry, ended, finished_us=store_us(at)))
            else:
                self._conclusions.after(entry, ended, store_us(at))
        self.counts["succeeded"] += succeeded
        self._finisher.flush()
        self._ahead.ended(len(finished), at)
        self.limits.tidy()
        # Free slots are taken at once; what needs a clean-up, the clock or the loop's turn, `run` does.
        if self._dropped or self._fill():
            self.wake()

    # ---------------------------------------------------------------- sleeping

    async def _sleep(self) -> None:
        handle = None
        due_us = self._waiting.next_due_us()
        if due_us is not None:
            until_due = max((due_us - self._store_clock.now_us()) / 1e6, 0.001)
            handle = asyncio.get_running_loop().call_later(until_due, self._wake.set)
        try:
            await self._wake.wait()
        finally:
            if handle is not None:
                handle.cancel()


def _keep(place: int) -> None:
    """In place of `EngineLink.ended`."""
