"""One simulated cluster: stores, network, hosts, producers, nemesis and checker, from one seed."""

from __future__ import annotations

import asyncio
import collections
import logging
import random
import signal
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

from jobmaster.engine.tuning import Tuning
from jobmaster.model.ids import JobKey
from jobmaster.ports.master import MasterRules
from tests.simulation import clocks
from tests.simulation.checker import Assignment, Checker
from tests.simulation.hosts import Host
from tests.simulation.ledger import Ledger
from tests.simulation.nemesis import Nemesis
from tests.simulation.network import LATEST, NO_FAULTS, FaultRates, Network, RemoteStore, Server
from tests.simulation.producers import Producer
from tests.simulation.stores import build_stores, join
from tests.simulation.virtual_loop import Deadlock, Process, Spinning, VirtualLoop
from tests.simulation.workload import Plan

if TYPE_CHECKING:
    from jobmaster.model.schedule import Schedule
    from jobmaster.ports.store import Store

LONGEST_SEED = 20.0
"""Seconds of a processor; a usual seed takes half a second."""
LANES = ("", "mail")


@dataclass(frozen=True)
class Config:
    """Size and temper of a scenario. Durations are (virtual) seconds."""

    name: str
    agents: tuple[str, ...] = ("standalone",)
    hosts: int = 3
    engines: int = 1
    common_lanes: int = 2
    """How many of the workers serve all lanes; the others serve the first one."""
    jobs: int = 40
    pause: float = 0.35
    """Mean pause between two enqueued jobs."""
    tempo: float = 2.0
    """Mean pause between two acts of the nemesis."""
    faults_last: float = 22.0
    settle: float = 60.0
    lease: float = 6.0
    renew: float = 1.8
    slots: int = 3
    grace: float = 6.0
    drain_after: float = 6.0
    """After so long without an adopter a bucket is drained."""
    buffer: int = 3
    """Waiting jobs of one bucket in memory."""
    most_buckets: int = 2
    """Buckets of one lane and priority above which an owner closes empty ones."""
    priorities: tuple[int, ...] = (3, 5)
    plan_ahead: float = 4.0
    """Occurrences of schedules become jobs so long before they come: short, so that planners have much to do."""
    max_recoveries: int = 3
    slow_commits: float = 0.01
    """Chance that a commit takes long."""
    rates: FaultRates = field(default_factory=FaultRates)

    @property
    def standalone(self) -> bool:
        """Master and agent in one database."""
        return self.agents == ("standalone",)

    def tuning(self, *, agent: str, lanes: tuple[str, ...]) -> Tuning:
        """An engine's numbers: small buffers, so that hand-over and reading on happen; quick chores."""
        return Tuning(
            slots=self.slots,
            lease=self.lease,
            lanes=lanes,
            buckets=dict.fromkeys(self.priorities, 1),
            agent=agent,
            onboarding_window=3.0,
            buffer_per_bucket=self.buffer,
            read_limit=2,
            claim_limit=3,
            claim_every=1.0,
            sweep_every=3.0,
            overdue_after=5.0,
            drain_after=self.drain_after,
            janitor_every=4.0,
            unreachable_after=3.0,
            max_buckets_per_priority=self.most_buckets,
            adopt_per_renewal=4,
            grace=self.grace,
            hand_back_before_grace_ends=2.0,
            plan_ahead=self.plan_ahead,
            plan_every=2.0,
            plan_claim=2.0,
            static_kept_every=5.0,
            static_idle_after=15.0,
        )


CONFIGS = {
    config.name: config
    for config in (
        Config("standalone"),
        Config("split", agents=("fast",)),
        Config(
            "lanes",
            agents=("fast",),
            common_lanes=1,
            tempo=1.6,
            most_buckets=1,
            drain_after=2.0,
            slow_commits=0.04,
            rates=FaultRates(fail=0.02, lose_reply=0.05, late=0.05, double=0.03, slow=0.06),
        ),
        Config("engines", agents=("fast",), hosts=2, engines=2),
        Config("backlog", agents=("fast",), priorities=(3,), jobs=60, pause=0.12, slots=2, faults_last=26.0),
        Config("two-agents", agents=("fast", "near"), hosts=4),
        Config(
            "harsh",
            agents=("fast",),
            tempo=1.2,
            slow_commits=0.04,
            rates=FaultRates(fail=0.03, lose_reply=0.04, late=0.05, double=0.03, slow=0.06),
        ),
        Config("calm", agents=("fast",), tempo=0.0, rates=NO_FAULTS),
    )
}
CAMPAIGN = ("standalone", "split", "two-agents", "harsh", "lanes", "backlog", "engines")
"""What a seed runs: the configurations take turns."""


class World:
    """See the module's text."""

    def __init__(self, seed: int, config: Config, *, watched: str | None = None, guards_off: frozenset[str]) -> None:
        self.seed, self.config, self.watched = seed, config, watched
        self.guards_off = guards_off
        self.rng = random.Random(f"{seed}/{config.name}")
        self.loop = VirtualLoop()
        self.stats: collections.Counter[str] = collections.Counter()
        self.lines: list[str] = []
        self.network = Network(self.loop, self.rng, self.stats, config.rates)
        self.checker = Checker(self)
        self.rules = MasterRules(
            lease_us=round(config.lease * 1e6), max_recoveries=config.max_recoveries, window_us=3_000_000
        )
        self.plans: dict[JobKey, Plan] = {}
        self.static_schedules: list[Schedule] = []
        """Of the code of every worker."""
        self.ledger = Ledger(self)
        self.servers: dict[str, Server] = build_stores(self, guards_off)
        self.network.ended = self.ledger.call_ended
        self.network.refused = self.ledger.refused
        self.network.doubted = self.ledger.doubted
        self.hosts: list[Host] = []
        self.clients: list[Process] = []
        self.producer: Producer | None = None
        self._queue: Iterator[Plan] = iter(())
        self._handles: dict[Process, dict[str, Store]] = {}
        self.settled = 0.0

    # -- what the parts ask

    def store_us(self) -> int:
        """The stores' clock."""
        return clocks.store_now_us(self.loop)

    def after(self, delay: float, callback: Callable[..., object], *args: object) -> None:
        """Call it in the world outside of all processes."""
        self.network.later(delay, callback, *args)

    def strike(self, kind: str) -> None:
        """Count a fault."""
        self.stats["fault: " + kind] += 1

    def trace(self, subject: object, text: str) -> None:
        """A line of the trace, if somebody watches that job (or all)."""
        if self.watched is None:
            return
        name = self.checker._name(subject) if subject is not None else "-"
        if subject is None or self.watched == "all" or name in self.watched.split(","):
            self.lines.append(f"{self.loop.virtual:9.4f} {name:8} {text}")

    def stores_of(self, process: Process) -> dict[str, Store]:
        """The process's own connections: one store object per agent."""
        if process not in self._handles:
            remotes = self.remotes_of(process)
            self._handles[process] = {agent: join(self, remotes, agent) for agent in self.config.agents}
        return self._handles[process]

    def remotes_of(self, process: Process) -> dict[str, RemoteStore]:
        """Handles on the servers, the master first."""
        return {name: RemoteStore(self.network, process, server) for name, server in self.servers.items()}

    def assignment(self, process: Process, key: JobKey) -> Assignment | None:
        """Under which bucket, epoch and assignment number an engine starts this job: read from its memory."""
        return next(host.assignment(process, key) for host in self.hosts if process in host.engines)

    def processes(self) -> list[Process]:
        """All living processes."""
        living = [process for host in self.hosts for process in host.processes()]
        return living + [client for client in self.clients if client.alive]

    def add_host(self, name: str, *, lanes: tuple[str, ...] = LANES) -> Host:
        """A machine that boots now."""
        host = Host(self, name, agent=self.config.agents[len(self.hosts) % len(self.config.agents)], lanes=lanes)
        self.hosts.append(host)
        host.boot()
        return host

    def enqueue(self, name: str, **fields: Any) -> Plan:
        """A short job of the first lane, or what `fields` say, enqueued now by a client process of its own."""
        values: dict[str, Any] = {"task": "short", "lane": "", "priority": 3, "lasts": 0.1} | fields
        plan = Plan(key=JobKey(self.rng.randbytes(16)), name=name, **values)
        self.plans[plan.key] = plan
        process = Process(self.loop, f"client of {name}")
        self.clients.append(process)
        process.spawn(Producer(self, process)._enqueue(plan))
        return plan

    def planned(self, key: JobKey, due_us: int) -> None:
        """A planner has made the job of an occurrence: nobody else knows it, and it is accepted by that."""
        name = f"occurrence {key.hex()}"  # it may be cancelled with its schedule
        plan = Plan(key=key, name=name, task="short", lane="", priority=3, lasts=0.05, cancel_after=0.0)
        self.plans[key] = plan
        self.checker.offered(plan, due_us)
        self.checker.accepted(key)

    def kill_producer(self) -> None:
        """kill -9 of the enqueuing process; another one goes on with the rest."""
        assert self.producer is not None
        for key in self.producer.under_way:
            self.checker.producer_died(JobKey(key))
        self.producer.process.kill()
        self._start_producer()

    def _start_producer(self) -> None:
        process = Process(self.loop, "producer")
        self.clients.append(process)
        self.producer = Producer(self, process)
        process.spawn(self.producer.produce(self._queue, self.config.pause))

    # -- plans

    def _make_plans(self) -> Iterator[Plan]:
        rng = self.rng
        for number in range(self.config.jobs):
            task = rng.choices(("short", "long", "once", "failing", "killer", "deaf"), (40, 18, 22, 14, 2, 0.5))[0]
            plan = Plan(
                key=JobKey(rng.randbytes(16)),
                name=f"j{number}",
                task=task,
                lane=rng.choice(LANES),
                priority=rng.choice(self.config.priorities),
                lasts=rng.uniform(2, 6) if task == "long" or rng.random() < 0.1 else rng.uniform(0.05, 1.0),
                failures=rng.choice((1, 1, 2, 4)) if task == "failing" or rng.random() < 0.05 else 0,
                delay=rng.choice((0.0, 0.0, 0.0, rng.uniform(0.5, 6.0), rng.uniform(5, 25))),
                hold=rng.random() < 0.2,
                cancel_after=rng.expovariate(0.6) if rng.random() < 0.15 else None,
            )
            self.plans[plan.key] = plan
            yield plan

    # -- the story

    async def story(self) -> None:
        """Producers and hosts start, the nemesis strikes, everything is mended, and what is left must end."""
        config, rng = self.config, self.rng
        self._queue = self._make_plans()
        self._start_producer()
        for number in range(config.hosts):
            # Not every worker serves every lane, so that a lane may be without a worker for a while.
            lanes = LANES if number < config.common_lanes else LANES[:1]
            host = Host(self, f"w{number}", agent=config.agents[number % len(config.agents)], lanes=lanes)
            self.hosts.append(host)
            late = rng.uniform(2.0, 8.0) if rng.random() < 0.15 else rng.uniform(0.0, 1.0)
            if late > 1.0:
                self.strike("late boot")
            self.after(late, host.boot)
        if config.tempo:
            await Nemesis(self).run(config.faults_last)
        await asyncio.sleep(max(0.0, config.faults_last - self.loop.virtual))
        self._mend()
        await self._settle()
        self.ledger.describe()
        self.checker.verdict(self.ledger.stored(), self.ledger.overdue())

    def _mend(self) -> None:
        self.network.on = False
        for process in self.processes():
            process.cut.clear()
            process.go_on()

    async def _settle(self) -> None:
        """Wait until nothing is open, at most the bound; then for a while in which nothing may change."""
        mended = self.loop.virtual
        while self.loop.virtual < mended + self.config.settle:
            await asyncio.sleep(1.0)
            for host in self.hosts:
                host.boot_if_down()
            for process in self.processes():
                process.cut.clear()
                process.go_on()
            if self.checker.open_jobs(self.ledger.stored()) or self.producer.under_way:  # type: ignore[union-attr]
                self.settled = self.loop.virtual - mended
            elif self.loop.virtual - mended > max(self.settled + 4.0, LATEST):
                return


class Hang(KeyboardInterrupt):
    """Some code runs for ever without giving the loop back."""


def _hangs(_number: int, frame: FrameType | None) -> None:
    code = frame.f_code if frame else None
    where = f" in {Path(code.co_filename).name} {code.co_name}" if code else ""
    raise Hang(f"a seed took {LONGEST_SEED:g} s of a processor{where}")


def run_world(world: World, story: Coroutine[Any, Any, None] | None = None) -> None:
    """Run the story, the world's own or another one, to its end. Equal seeds give equal stories."""
    state = random.getstate()
    random.seed(world.seed)
    silent = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    asyncio.set_event_loop(world.loop)
    world.loop.set_exception_handler(lambda _loop, context: _unhandled(world, context))
    signal.signal(signal.SIGVTALRM, _hangs)
    signal.setitimer(signal.ITIMER_VIRTUAL, LONGEST_SEED)
    try:
        main = world.loop.create_task(story or world.story(), context=world.network.world)
        world.loop.run_until_complete(main)
    except (Spinning, Deadlock, Hang) as problem:
        world.checker.bad("no progress", str(problem))
    except RuntimeError:
        if world.checker.until.isdisjoint(world.checker.violations):  # else it was stopped
            raise
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        world.loop.set_exception_handler(lambda _loop, _context: None)
        for task in asyncio.all_tasks(world.loop):
            task._log_destroy_pending = False  # type: ignore[attr-defined]
        asyncio.set_event_loop(None)
        world.loop.close()
        logging.disable(silent)
        random.setstate(state)


def _unhandled(world: World, context: dict[str, Any]) -> None:
    error = context.get("exception")
    world.checker.bad("crash", f"{context.get('message')}: {error!r}")
