"""The duties of one engine: each is a file of its own, and what they tell one another is here and nowhere else."""

from __future__ import annotations

import random as random_module
from typing import TYPE_CHECKING, NamedTuple

from jobmaster.engine.claimer import Claimer
from jobmaster.engine.commands import Commands
from jobmaster.engine.coordinator import Coordinator
from jobmaster.engine.fetcher import Fetcher
from jobmaster.engine.finisher import Finisher
from jobmaster.engine.intake import Intake
from jobmaster.engine.isolation import Isolation
from jobmaster.engine.janitor import Janitor
from jobmaster.engine.lease import Lease
from jobmaster.engine.life import Stage
from jobmaster.engine.ownership import Ownership
from jobmaster.engine.persistence import Backoff
from jobmaster.engine.planner import Planner
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

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from jobmaster.engine.life import Entry, Life
    from jobmaster.engine.tuning import Tuning
    from jobmaster.model.job import Message
    from jobmaster.model.schedule import Schedule
    from jobmaster.ports.clock import Clock
    from jobmaster.ports.link import EngineLink
    from jobmaster.ports.master import MasterStore
    from jobmaster.ports.store import Store
    from jobmaster.ports.workload import Pool, Workload


class Calls(NamedTuple):
    """What the duties call their engine for.

    Attributes:
        stop: a person tells it to, within so many seconds.
        condemn: this process has to be replaced, for that reason.
        describe: what people want to know.
        heard: a duty's call to the store has failed.
        opened: a bucket was taken in.
    """

    stop: Callable[[float], None]
    condemn: Callable[[str], None]
    describe: Callable[[], dict[str, object]]
    heard: Callable[[Exception], None]
    opened: Callable[[], None]


class Duties:
    """All of them, wired to one another. Who has them runs them (`engine/worker.py`)."""

    def __init__(
        self,
        calls: Calls,
        *,
        store: Store,
        link: EngineLink,
        clock: Clock,
        workload: Workload,
        async_pool: Pool,
        sync_pool: Pool,
        apart_pool: Pool | None,
        tuning: Tuning,
        worker_name: str,
        tasks: Callable[[], Sequence[str]],
        schedules: Callable[[], Sequence[Schedule]],
        archive: MasterStore | None,
        seed: int | None,
    ) -> None:
        self._calls = calls
        self._store = store
        self._clock = clock
        self._tuning = tuning
        self._random = random_module.Random(seed)  # noqa: S311 - jitter and nonces, no secrets
        self.pools = (async_pool, sync_pool, *(() if apart_pool is None else (apart_pool,)))
        self.store_clock = StoreClock(self._clock)
        self.lease = Lease(link=link, clock=self._clock, store_clock=self.store_clock)
        self.waiting = Waiting()
        self.starter = Starter(
            store=self._store,
            lease=self.lease,
            store_clock=self.store_clock,
            draw_nonce=lambda: self._random.getrandbits(62) | 1,
            pause=self._pause("start"),
        )
        self.finisher = Finisher(
            store=self._store, lease=self.lease, batch=self._tuning.finish_max, pause=self._pause("finish")
        )
        self.isolation = Isolation(pool=apart_pool, max_recoveries=self._tuning.max_recoveries, clock=self._clock)
        self.runner = Runner(
            tuning=self._tuning,
            clock=self._clock,
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
            worker_name=worker_name,
            random=self._random.random,
        )
        self._make_readers()
        self._make_chores(tasks, schedules, archive)
        self._make_orders(calls)
        self._wire()

    def _make_readers(self) -> None:
        """What brings jobs into memory, and buckets."""
        self.fetcher = Fetcher(
            tuning=self._tuning,
            store=self._store,
            clock=self._clock,
            store_clock=self.store_clock,
            lease=self.lease,
            waiting=self.waiting,
            pause=self._pause("read"),
        )
        self.restraint = Restraint(
            clock=self._clock, free=self.runner.free, ended=self.runner.ended, alone=lambda: self.lease.workers == 1
        )
        self.claimer = Claimer(
            tuning=self._tuning,
            store=self._store,
            store_clock=self.store_clock,
            lease=self.lease,
            waiting=self.waiting,
            restraint=self.restraint,
            pause=self._pause("claim"),
        )
        self.intake = Intake(
            tuning=self._tuning,
            store=self._store,
            clock=self._clock,
            lease=self.lease,
            pause=self._pause("take_in"),
            opened=self._opened,
        )
        self.ownership = Ownership(
            tuning=self._tuning,
            store=self._store,
            lease=self.lease,
            pause=self._pause("ownership"),
            draw_token=lambda: f"{self._random.getrandbits(128):032x}",
        )
        self.sharing = Sharing(
            tuning=self._tuning,
            store=self._store,
            lease=self.lease,
            pause=self._pause("sharing"),
            slots=lambda: 0 if self.runner.paused else self.runner.slots,
            ended=self.runner.ended,
            forgotten=self.waiting.drop_dead,
        )

    def _make_chores(
        self,
        tasks: Callable[[], Sequence[str]],
        schedules: Callable[[], Sequence[Schedule]],
        archive: MasterStore | None,
    ) -> None:
        """What any worker does for the cluster."""
        self.coordinator = Coordinator(
            tuning=self._tuning,
            store=self._store,
            clock=self._clock,
            store_clock=self.store_clock,
            lease=self.lease,
            tasks=tasks,
            random=self._random.random,
            pauses=self._pause,
        )
        self.planner = Planner(
            tuning=self._tuning,
            store=self._store,
            clock=self._clock,
            store_clock=self.store_clock,
            lease=self.lease,
            random=self._random.random,
            pauses=self._pause,
        )
        self.static_schedules = StaticSchedules(
            tuning=self._tuning,
            store=self._store,
            schedules=schedules,
            random=self._random.random,
            pause=self._pause("static_schedules"),
        )
        self.releaser = Releaser(store=self._store, pause=self._pause("release"))
        self.janitor = Janitor(
            tuning=self._tuning,
            store=self._store,
            store_clock=self.store_clock,
            archive=archive,
            random=self._random.random,
            pause=self._pause("janitor"),
        )

    def _make_orders(self, calls: Calls) -> None:
        """What watches the others, and stops them."""
        self.commands = Commands(
            store=self._store,
            runner=self.runner,
            pause=self._pause("command"),
            stop=lambda: calls.stop(self._tuning.grace),
            describe=calls.describe,
        )
        self.watch = Watch(
            tuning=self._tuning,
            store=self._store,
            clock=self._clock,
            lease=self.lease,
            runner=self.runner,
            starter=self.starter,
            pools=self.pools,
            condemn=calls.condemn,
        )
        self.graceful_stop = GracefulStop(
            tuning=self._tuning,
            store=self._store,
            clock=self._clock,
            lease=self.lease,
            runner=self.runner,
            starter=self.starter,
            stuck=self.watch.stuck,
            taking_in=lambda: self.intake.reachable,
            pause=self._pause("stop"),
        )

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
        self.lease.on_new = self.intake.add
        self.lease.on_dropped = self._dropped
        self.lease.granted += [self.ownership.granted, self.sharing.granted, self.commands.granted]
        self.lease.granted += [self.coordinator.granted, self.isolation.granted]

    def _opened(self, life: Life) -> None:
        self._calls.opened()
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
        return Backoff(duty=duty, random=self._random.random, heard=self._calls.heard)
