"""One engine: everything that one worker does in one process, on one event loop.

The top is `Engine.run`: register, start the duties, wait for the stop. Each duty is a file of its own (the package's
text lists them); duties.py makes them, and wires them to one another.
"""

from __future__ import annotations

import asyncio
import logging
import math
from typing import TYPE_CHECKING

import msgspec

from jobmaster.engine.draining import until_drained
from jobmaster.engine.duties import Calls, Duties
from jobmaster.engine.registering import register
from jobmaster.model.states import ClusterMode
from jobmaster.ports.answers import StoreReplaced
from jobmaster.ports.link import Report

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Sequence
    from typing import Any

    from jobmaster.engine.tuning import Tuning
    from jobmaster.model.schedule import Schedule
    from jobmaster.model.worker import Grant, Predecessor, Registration
    from jobmaster.ports.clock import Clock
    from jobmaster.ports.link import EngineLink
    from jobmaster.ports.master import MasterStore
    from jobmaster.ports.store import Store
    from jobmaster.ports.workload import Pool, Workload

logger = logging.getLogger("jobmaster.engine")

_BEAT_EVERY = 1.0
_BEFORE_THE_KILL = 3.0
"""A condemned engine ends by itself so many seconds before its supervisor would kill it."""


class Engine(Duties):
    """A worker's engine.

    Args:
        store: master and agent.
        link: to the keeper of the lease.
        clock: the process's clocks.
        workload: the user's tasks.
        async_pool: runs `async def` tasks on this loop.
        sync_pool: runs the others.
        apart_pool: runs each job in a process of its own, those that went down with too many; None: there is no such.
        tuning: numbers.
        registration: who this worker is.
        tasks: names of the tasks that this process knows.
        schedules: the static ones of this process's code.
        archive: where aged jobs move to, if anywhere.
        seed: for reproducible runs; None draws one.
    """

    def __init__(
        self,
        *,
        store: Store,
        link: EngineLink,
        clock: Clock,
        workload: Workload,
        async_pool: Pool,
        sync_pool: Pool,
        apart_pool: Pool | None = None,
        tuning: Tuning,
        registration: Registration,
        tasks: Callable[[], Sequence[str]] = lambda: (),
        schedules: Callable[[], Sequence[Schedule]] = lambda: (),
        archive: MasterStore | None = None,
        seed: int | None = None,
    ) -> None:
        super().__init__(
            Calls(self.stop, self.condemn, self.describe, self._heard, self._check_ready),
            store=store,
            link=link,
            clock=clock,
            workload=workload,
            async_pool=async_pool,
            sync_pool=sync_pool,
            apart_pool=apart_pool,
            tuning=tuning,
            worker_name=registration.name,
            tasks=tasks,
            schedules=schedules,
            archive=archive,
            seed=seed,
        )
        self._link = link
        self._registration = registration
        self._stopping: asyncio.Event = asyncio.Event()
        self._stop_by = math.inf
        self.ready = asyncio.Event()
        """Set when the first grant was taken in and, where jobs run, every bucket that this worker serves is open."""
        self.disowned = False
        """It stops because somebody else ended its lease; a new process may register again."""
        self.homeless = False
        """It stops because its database was replaced by another one; a new engine may go on with that."""
        self._replaced: Predecessor | None = None
        self._store_replaced = False
        self._worn = ""
        self.lease.make_report = self._report
        self.lease.granted.insert(0, self._granted)

    # ---------------------------------------------------------------- life of the engine

    async def run(self) -> None:
        """Register, work until `stop` is called, then stop gracefully."""
        registered = await register(self._store, self._registration, pause=self._pause("register"))
        self._replaced = registered.replaced
        self.lease.worker = registered.worker
        self.store_clock.learn(registered.now_us)
        topics = (f"worker:{self.lease.worker}", "workers")
        subscriptions = [self._store.subscribe(topic, lambda: self.lease.report(soon=True)) for topic in topics]
        try:
            async with asyncio.TaskGroup() as duties:
                tasks = [duties.create_task(duty) for duty in self._duties()]
                self.lease.report(soon=True)
                try:
                    await self._stopping.wait()
                    self._close()
                    await self.graceful_stop.run(lambda: self._stop_by)
                except asyncio.CancelledError:  # by the code of a job, or for a duty that has failed
                    self.runner.keep_evidence()
                    raise
                for task in tasks:
                    task.cancel()
        finally:
            for subscription in subscriptions:
                subscription.close()
            for pool in self.pools:
                await pool.close()

    def stop(self, grace: float) -> None:
        """Begin the graceful stop, of at most `grace` seconds from now. A later call can only bring its end nearer."""
        self._stop_by = min(self._stop_by, self._clock.monotonic() + min(grace, self._tuning.grace))
        self._stopping.set()

    def abort(self) -> None:
        """The second signal: what runs is cancelled and handed back at once."""
        self.graceful_stop.hurry = True
        self.stop(0)

    def describe(self) -> dict[str, object]:
        """What people want to know about this engine now."""
        return {
            "running": len(self.runner.running),
            "waiting": len(self.waiting),
            "slots": self.runner.slots,
            "paused": self.runner.paused,
            "buckets": len(self.lease.lives),
            "trusted": self.lease.trusted(),
            "clock_ahead": round((self._clock.now_us() - self.store_clock.now_us()) / 1e6, 1),
            **self.runner.counts,
            **({} if self._replaced is None else {"replaced": msgspec.to_builtins(self._replaced)}),
        }

    def _duties(self) -> list[Coroutine[Any, Any, None]]:
        mode, active = self._tuning.mode, self._tuning.cluster_mode is ClusterMode.ACTIVE
        duties = [self.commands.run(), self._beat()]
        if mode.runs_jobs and active:
            duties += [
                self.intake.run(),
                self.ownership.run(),
                self.sharing.run(),
                self.fetcher.run(),
                self.claimer.run(),
                self.starter.run(),
                self.runner.run(),
                self.watch.run(),
                self.releaser.run(),
                *(self.finisher.run() for _ in range(self._tuning.flushers)),
            ]
            if self._tuning.drain_once:
                duties.append(self._stop_when_drained())
        if mode.coordinates:
            duties += [self.coordinator.mark_lost(), self.coordinator.sweep(), self.janitor.run()]
        if mode.coordinates and active:
            duties += [self.planner.run(), self.planner.expire()]
        if active:
            duties.append(self.static_schedules.run())
        if mode.drains:
            duties.append(self.coordinator.drain())
        return duties

    def _close(self) -> None:
        self.runner.closed = self.fetcher.closed = self.claimer.closed = self.ownership.closed = True
        self.sharing.stopping = True
        self.lease.report(soon=True)

    async def _beat(self) -> None:
        while True:
            self._link.beat()
            self._look_at_store()
            self.restraint.look()
            self.runner.wake()  # trust may have come back, or a pause of the whole process may have ended
            await asyncio.sleep(_BEAT_EVERY)

    def _look_at_store(self) -> None:
        """While the lease lasts the old database may come back; afterwards nothing of it counts any more."""
        if self._store_replaced and not self.lease.trusted() and not self._stopping.is_set():
            logger.error("store_replaced name=%s: the engine ends, and another one begins with the new database",
                         self._registration.name)  # fmt: skip
            self.homeless = True
            self.abort()

    def _heard(self, error: Exception) -> None:
        self._store_replaced = self._store_replaced or isinstance(error, StoreReplaced)
        self.graceful_stop.homeless = self._store_replaced

    def wear_out(self, reason: str) -> None:
        """Ask for a successor though nothing is wrong (`engine/wear.py`), and work on until told to stop."""
        self._worn = reason
        self.lease.report(soon=True)

    def condemn(self, reason: str) -> None:
        """Start and take nothing more, ask for another process, and let the other runs end."""
        self.runner.closed = self.fetcher.closed = self.claimer.closed = True
        self._link.condemn(reason)
        self.stop(max(0.0, self._tuning.condemned_grace - _BEFORE_THE_KILL))

    async def _stop_when_drained(self) -> None:
        await until_drained(ready=self.ready, runner=self.runner, lease=self.lease, store_clock=self.store_clock)
        self.stop(self._tuning.grace)

    # ---------------------------------------------------------------- what its duties call it for

    def _granted(self, grant: Grant) -> None:
        if grant.gone and not self._stopping.is_set():
            logger.error("worker_ended name=%s: a newer boot or an operator ended this lease", self._registration.name)
            self.disowned = True
            self.stop(0)
        self._store_replaced = self.graceful_stop.homeless = False
        if grant.cancels:
            self.runner.cancel(grant.cancels)
        self._check_ready()
        self.runner.wake()
        self.fetcher.room()

    def _report(self) -> Report:
        return Report(
            worker=self.lease.worker,
            held=self.lease.held(),
            cut_us=self.lease.reported_cut(),
            adopt=self._adopt(),
            stopping=self._stopping.is_set(),
            depths=dict(self.sharing.depths),
            demands=self.sharing.demands(),
            cancels_after=self.lease.cancels_upto,
            stats=msgspec.json.encode(self.describe()),
            worn=self._worn,
        )

    def _adopt(self) -> int:
        active = self._tuning.cluster_mode is ClusterMode.ACTIVE
        wanted = self._tuning.mode.runs_jobs and active and not self._stopping.is_set() and self.intake.reachable
        return self._tuning.adopt_per_renewal if wanted else 0

    def _check_ready(self) -> None:
        open_places = {(life.bucket.lane, life.bucket.priority) for life in self.lease.open_lives()}
        active = self._tuning.mode.runs_jobs and self._tuning.cluster_mode is ClusterMode.ACTIVE
        served = [
            (lane, priority) for lane in self._tuning.lanes for priority, count in self._tuning.buckets.items() if count
        ]
        if not active or all(place in open_places for place in served):
            self.ready.set()
