"""One engine: everything that one worker does in one process, on one event loop.

The top is `Engine.run`: register, start the duties, wait for the stop. Each duty is a file of its own (the package's
text lists them); the wiring between them is here and nowhere else.
"""

from __future__ import annotations

import asyncio
import logging
import math
import random as random_module
from typing import TYPE_CHECKING

import msgspec

from jobmaster.engine.claimer import Claimer
from jobmaster.engine.commands import Commands
from jobmaster.engine.coordinator import Coordinator
from jobmaster.engine.draining import until_drained
from jobmaster.engine.fetcher import Fetcher
from jobmaster.engine.finisher import Finisher
from jobmaster.engine.intake import Intake
from jobmaster.engine.isolation import Isolation
from jobmaster.engine.janitor import Janitor
from jobmaster.engine.lease import Lease
from jobmaster.engine.life import Entry, Life, Stage
from jobmaster.engine.ownership import Ownership
from jobmaster.engine.persistence import Backoff
from jobmaster.engine.planner import Planner
from jobmaster.engine.registering import register
from jobmaster.engine.releaser import Releaser
from jobmaster.engine.restraint import Restraint
from jobmaster.engine.runner import Runner
from jobmaster.engine.sharing import Sharing
from jobmaster.engine.starter import Starter
from jobmaster.engine.static_schedules import StaticSchedules
from jobmaster.engine.stopping import GracefulStop
from jobmaster.engine.store_clock import StoreClock
from jobmaster.engine.waiting import Waiting
from jobmaster.engine.watch import Watch
from jobmaster.model.states import ClusterMode
from jobmaster.ports.answers import StoreReplaced
from jobmaster.ports.link import Report

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Sequence
    from typing import Any

    from jobmaster.engine.tuning import Tuning
    from jobmaster.model.job import Message
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


class Engine:
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
        self._store = store
        self._link = link
        self._clock = clock
        self._tuning = tuning
        self._registration = registration
        self.pools = (async_pool, sync_pool, *(() if apart_pool is None else (apart_pool,)))
        self._random = random_module.Random(seed)  # noqa: S311 - jitter and nonces, no secrets
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

        self.store_clock = StoreClock(clock)
        self.lease = Lease(link=link, clock=clock, store_clock=self.store_clock)
        self.waiting = Waiting()
        self.starter = Starter(
            store=store,
            lease=self.lease,
            store_clock=self.store_clock,
            draw_nonce=lambda: self._random.getrandbits(62) | 1,
            pause=self._pause("start"),
        )
        self.finisher = Finisher(store=store, lease=self.lease, batch=tuning.finish_max, pause=self._pause("finish"))
        self.isolation = Isolation(pool=apart_pool, max_recoveries=tuning.max_recoveries, clock=clock)
        self.runner = Runner(
            tuning=tuning,
            clock=clock,
            store_clock=self.store_clock,
            lease=self.lease,
            link=link,
            waiting=self.waiting,
            starter=self.starter,
            finisher=self.finisher,
            workload=workload,
            async_pool=async_pool,
            sync_pool=sync_pool,
            isolation=self.isolation,
            worker_name=registration.name,
            random=self._random.random,
        )
        self.fetcher = Fetcher(
            tuning=tuning,
            store=store,
            clock=clock,
            store_clock=self.store_clock,
            lease=self.lease,
            waiting=self.waiting,
            pause=self._pause("read"),
        )
        self.restraint = Restraint(
            clock=clock, free=self.runner.free, ended=self.runner.ended, alone=lambda: self.lease.workers == 1
        )
        self.claimer = Claimer(
            tuning=tuning,
            store=store,
            store_clock=self.store_clock,
            lease=self.lease,
            waiting=self.waiting,
            restraint=self.restraint,
            pause=self._pause("claim"),
        )
        self.intake = Intake(
            tuning=tuning,
            store=store,
            clock=clock,
            lease=self.lease,
            pause=self._pause("take_in"),
            opened=self._opened,
        )
        self.ownership = Ownership(
            tuning=tuning,
            store=store,
            lease=self.lease,
            pause=self._pause("ownership"),
            draw_token=lambda: f"{self._random.getrandbits(128):032x}",
        )
        self.sharing = Sharing(
            tuning=tuning,
            store=store,
            lease=self.lease,
            pause=self._pause("sharing"),
            slots=lambda: 0 if self.runner.paused else self.runner.slots,
            ended=self.runner.ended,
            forgotten=self.waiting.drop_dead,
        )
        self.coordinator = Coordinator(
            tuning=tuning,
            store=store,
            clock=clock,
            store_clock=self.store_clock,
            lease=self.lease,
            tasks=tasks,
            random=self._random.random,
            pauses=self._pause,
        )
        self.planner = Planner(
            tuning=tuning,
            store=store,
            clock=clock,
            store_clock=self.store_clock,
            lease=self.lease,
            random=self._random.random,
            pauses=self._pause,
        )
        self.static_schedules = StaticSchedules(
            tuning=tuning,
            store=store,
            schedules=schedules,
            random=self._random.random,
            pause=self._pause("static_schedules"),
        )
        self.releaser = Releaser(store=store, pause=self._pause("release"))
        self.janitor = Janitor(
            tuning=tuning,
            store=store,
            store_clock=self.store_clock,
            archive=archive,
            random=self._random.random,
            pause=self._pause("janitor"),
        )
        self.commands = Commands(
            store=store,
            runner=self.runner,
            pause=self._pause("command"),
            stop=lambda: self.stop(tuning.grace),
            describe=self.describe,
        )
        self.watch = Watch(
            tuning=tuning,
            store=store,
            clock=clock,
            lease=self.lease,
            runner=self.runner,
            starter=self.starter,
            pools=self.pools,
            condemn=self.condemn,
        )
        self.graceful_stop = GracefulStop(
            tuning=tuning,
            store=store,
            clock=clock,
            lease=self.lease,
            runner=self.runner,
            starter=self.starter,
            stuck=self.watch.stuck,
            taking_in=lambda: self.intake.reachable,
            pause=self._pause("stop"),
        )
        self._wire()

    def _wire(self) -> None:
        self.starter.halt = self.runner.halt
        self.starter.settled = self._refused_start
        self.starter.begun = self.releaser.begun
        self.runner.took = self._took
        self.finisher.settled = self._settled
        self.fetcher.arrived = self._arrived
        self.claimer.arrived = self.runner.claimed
        self.claimer.runs_apart = self.isolation.must
        self.fetcher.unreadable = self.claimer.unreadable = self.runner.unreadable
        self.lease.make_report = self._report
        self.lease.on_new = self.intake.add
        self.lease.on_dropped = self._dropped
        self.lease.granted += [self._granted, self.ownership.granted, self.sharing.granted, self.commands.granted]
        self.lease.granted += [self.coordinator.granted, self.isolation.granted]

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

    # ---------------------------------------------------------------- wiring

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

    def _opened(self, life: Life) -> None:
        self._check_ready()
        if life.high_mark:
            # What was interrupted for certain is held by now, and takes the free slots before what may have been.
            life.held_back = True
            self.claimer.after_claim(lambda: self.fetcher.release(life))
        self.fetcher.opened(life)
        self.claimer.wake()

    def _dropped(self, life: Life) -> None:
        self.fetcher.dropped(life)
        self.runner.dropped(life)

    def _arrived(self, _entries: list[Entry]) -> None:
        self.runner.wake()

    def _settled(self, life: Life, twins: list[Message]) -> None:
        if twins and not life.dropped:
            self.fetcher.take(life, twins, guarded=True)
        self.releaser.look()
        self._took()
        self.runner.wake()

    def _took(self) -> None:
        self.fetcher.room()
        self.claimer.room()

    def _refused_start(self, entry: Entry) -> None:
        if entry.stage is Stage.WAITING:
            entry.life.waiting -= 1
        self._settled(entry.life, entry.life.forget([entry]))

    def _pause(self, duty: str) -> Backoff:
        return Backoff(duty=duty, random=self._random.random, heard=self._heard)
