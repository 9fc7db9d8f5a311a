"""The supervisor's process of `jobmaster worker`: hears from its first engine what the app is, then keeps its engines.

No user code is imported here, so that none can keep it from renewing leases.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import os
import random
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Final

import msgspec

from jobmaster import crash_points
from jobmaster.engine.engine_life import Patience
from jobmaster.engine.lease_keeper import LeaseKeeper
from jobmaster.engine.links.processes import ProcessChild, ProcessSpawner
from jobmaster.engine.links.reaping import OrphanReaper, gets_orphans
from jobmaster.engine.links.starting import Launch
from jobmaster.engine.supervisor import Supervisor
from jobmaster.errors import StoreUnavailable
from jobmaster.findings import EngineOrder, Found
from jobmaster.first_engine import FirstEngine
from jobmaster.model.states import ClusterMode, WorkerMode
from jobmaster.model.worker import Predecessor
from jobmaster.ports.answers import StoreReplaced
from jobmaster.ports.link import EXIT_UNREACHABLE
from jobmaster.runtime import SystemClock, lease_timing, open_connections, open_master

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jobmaster.model.job import Blame
    from jobmaster.model.worker import Grant, Renewal
    from jobmaster.ports.store import Store
    from jobmaster.worker_order import WorkerOrder
    from jobmaster.worker_plan import WorkerPlan

logger = logging.getLogger("jobmaster.supervisor")

ENTRY: Final = "jobmaster.worker_process:engine"
LOOK_EVERY: Final = 0.05
"""Seconds between two looks at the engines while none is ready; afterwards nobody looks."""


class Crew:
    """The engine processes of one state of the app's code and one database, from their start to their end.

    Args:
        order: what the worker was told.
        found: what the first engine found.
        first: that engine; it has been told to go on, and belongs to the crew from now on.
        store: the master, for leases.
        on_ready: called once, when the first engine could run a job.

    Attributes:
        moved: it ended because the master's database was replaced: another crew may go on with the new one.
    """

    def __init__(
        self, order: WorkerOrder, found: Found, first: FirstEngine, store: Store, *, on_ready: Callable[[], None]
    ) -> None:
        self._order = order
        self._found = found
        self._store = store
        self._on_ready = on_ready
        self._clock = SystemClock()
        self.moved = False
        self._spawner = _Spawner(self._launch, first.child)
        settings = found.settings
        self._master = _Master(store, lease=settings.lease, replaced=self._move)
        keeper = LeaseKeeper(store=self._master, clock=self._clock, timing=lease_timing(settings), random=random.random)
        self._supervisor = Supervisor(
            spawner=self._spawner,
            keeper=keeper,
            store=self._master,
            clock=self._clock,
            engines=len(found.plans),
            patience=Patience(max_block=settings.max_block, grace=found.plans[0].grace),
            random=random.random,
        )
        self._spawner.on_news = self._hear
        self._spawner.on_hurry = keeper.hurry

    @property
    def failure(self) -> str | None:
        """Why `run` ended with 1 though nobody asked it to stop."""
        return self._supervisor.failure

    @property
    def runs_jobs(self) -> bool:
        """Whether any of the engines would own buckets."""
        active = self._found.settings.cluster_mode is ClusterMode.ACTIVE
        return active and any(WorkerMode[plan.mode].runs_jobs for plan in self._found.plans)

    @property
    def children(self) -> list[ProcessChild]:
        """The engine processes that live."""
        return self._spawner.living()

    async def run(self) -> int:
        """Supervise until the end; the answer is the exit code."""
        async with asyncio.TaskGroup() as group:
            announcing = group.create_task(self._announce())
            code = await self._supervisor.run()
            announcing.cancel()
        return code

    def stop(self) -> None:
        """As a signal: the first time gracefully, then at once, then by force."""
        self._supervisor.stop()

    def engines(self) -> list[EngineState]:
        """What each living engine last said."""
        return [_state(child) for child in self.children]

    async def now_us(self) -> int:
        """The store's clock: proves that the store answers."""
        return await self._store.now_us()

    def _hear(self) -> None:
        """Something changed at an engine."""
        reasons = [child.exit_reason() for child in self._spawner.newest.values()]
        if self._master.is_replaced and f"exit {EXIT_UNREACHABLE}" in reasons:
            self._move()
        self._supervisor.wake()

    def _move(self) -> None:
        """The leases that this crew keeps are of a database that is gone."""
        if not self.moved:
            self.moved = True
            logger.error("store_replaced: the engines end, and new ones begin with the new database")
            self._supervisor.stop()
            self._supervisor.stop()

    async def _announce(self) -> None:
        # No event: the report is what the link last received, and nobody is called when it comes.
        while not any(engine.buckets or self._needs_no_bucket(engine) for engine in self.engines()):  # noqa: ASYNC110
            await asyncio.sleep(LOOK_EVERY)
        self._on_ready()

    def _needs_no_bucket(self, engine: EngineState) -> bool:
        return engine.granted_us > 0 and not self.runs_jobs

    def _launch(self, engine: int) -> Launch:
        plan = self._named(self._found.plans[engine], engine)
        arguments = msgspec.msgpack.encode(EngineOrder(order=self._order, plan=plan))
        return Launch(entry=ENTRY, arguments=arguments, grace=plan.grace)

    def _named(self, plan: WorkerPlan, engine: int) -> WorkerPlan:
        """The plan under a name that no living engine has: registering a name ends the lease of who had it (R4)."""
        number = self._spawner.free_number(engine)
        return plan if number == 1 else msgspec.structs.replace(plan, name=f"{plan.name}~{number}")


class Promise(msgspec.Struct, frozen=True):
    """What an acceptance by a store survives: "process", "host", or "unknown", and how that was found out."""

    store: str
    survives: str
    evidence: str


class EngineState(msgspec.Struct, frozen=True):
    """What is known of an engine here.

    `beats` is its liveness counter; `granted_us` the store's time of the last grant that it took in, 0 before the
    first; `buckets` how many it owns, `running` and `waiting` how many jobs it has; `replaced` the worker of its name
    whose living lease it has ended; `paused` it was told to start nothing.
    """

    pid: int
    beats: int
    granted_us: int
    buckets: int
    replaced: Predecessor | None = None
    paused: bool = False
    running: int = 0
    waiting: int = 0


def _state(child: ProcessChild) -> EngineState:
    report = child.reports()
    if report is None:
        return EngineState(pid=child.pid, beats=child.beats(), granted_us=0, buckets=0)
    stats = msgspec.json.decode(report.stats, type=_Stats)
    return EngineState(
        child.pid,
        child.beats(),
        report.cut_us,
        stats.buckets,
        stats.replaced,
        stats.paused,
        stats.running,
        stats.waiting,
    )


class _Stats(msgspec.Struct):
    """What is read here of what an engine says of itself."""

    buckets: int = 0
    replaced: Predecessor | None = None
    paused: bool = False
    running: int = 0
    waiting: int = 0


class _Master:
    """The master, for the keeper of leases and the supervisor: says when its database was replaced for good.

    Args:
        store: the master.
        lease: after so many seconds nobody trusts a lease of the old database any more.
        replaced: called then.

    Attributes:
        is_replaced: so said the last renewal.
    """

    def __init__(self, store: Store, *, lease: float, replaced: Callable[[], None]) -> None:
        self._store = store
        self._lease = lease
        self._replaced = replaced
        self._since = 0.0
        self.is_replaced = False

    async def renew(self, renewals: Sequence[Renewal]) -> list[Grant]:
        """See `MasterStore.renew`."""
        try:
            grants = await self._store.renew(renewals)
        except StoreReplaced:
            now = time.monotonic()
            self._since = self._since if self.is_replaced else now
            self.is_replaced = True
            if now - self._since >= self._lease:
                self._replaced()
            raise
        self.is_replaced = False
        return grants

    async def end_worker(self, worker: int, *, blame: Sequence[Blame] = ()) -> None:
        """See `MasterStore.end_worker`. In a database that is gone there is no lease to end."""
        with contextlib.suppress(StoreReplaced):
            await self._store.end_worker(worker, blame=blame)


class _Spawner(ProcessSpawner):
    """Remembers the processes of each engine; the first process of engine 0 is there already.

    Attributes:
        newest: of each engine.
    """

    def __init__(self, launch: Callable[[int], Launch], first: ProcessChild) -> None:
        super().__init__(launch)
        self.newest: dict[int, ProcessChild] = {}
        self._first: ProcessChild | None = first
        self._numbers: dict[ProcessChild, tuple[int, int]] = {}

    async def spawn(self, engine: int) -> ProcessChild:
        number = self.free_number(engine)
        if engine == 0 and self._first is not None:
            child, self._first = self._first, None
            self.adopt(child)
        else:
            child = await super().spawn(engine)
        self._numbers = {known: told for known, told in self._numbers.items() if known.exit_reason() is None}
        self._numbers[child] = (engine, number)
        self.newest[engine] = child
        return child

    def living(self) -> list[ProcessChild]:
        """All that have not ended: while one is replaced an engine has two."""
        return [child for child in self._numbers if child.exit_reason() is None]

    def free_number(self, engine: int) -> int:
        """The smallest that no living process of this engine has, from 1 on."""
        living = self.living()
        taken = {number for child, (of, number) in self._numbers.items() if of == engine and child in living}
        return next(number for number in itertools.count(1) if number not in taken)


async def promises(found: Found, store: Store) -> list[Promise]:
    """What an acceptance survives in each store that accepts jobs.

    Raises:
        StoreUnavailable: the master cannot be reached.
    """
    if found.settings.is_standalone:
        told = await store.durability()
        return [Promise("master", told.survives, told.evidence)]
    try:
        connections = await open_connections(found.settings)
    except StoreUnavailable as error:
        # An agent that is away for now is no reason not to start: the engines wait for it.
        return [Promise("agents", "unknown", str(error))]
    try:
        answers = [(name, await agent.durability()) for name, agent in connections.agents.items()]
    finally:
        await connections.close()
    return [Promise(name, told.survives, told.evidence) for name, told in answers]


@contextmanager
def reaping_orphans() -> Iterator[None]:
    """Meanwhile fetch the ends of orphans, where they become children of this process: in process 1 of a container."""
    reaper = OrphanReaper() if gets_orphans() else None
    try:
        yield
    finally:
        if reaper is not None:
            reaper.close()


@asynccontextmanager
async def open_store(found: Found) -> AsyncIterator[Store]:
    """The master on a connection of the supervisor's own.

    Raises:
        ConfigurationError: there is no driver, or no store, for its address.
        StoreUnavailable: it cannot be reached.
        SchemaError: its schema is another version's.
    """
    crash_points.arm(os.environ, testing=found.testing, app=found.settings.cluster_id)
    store = await open_master(found.settings)
    try:
        yield store
    finally:
        with contextlib.suppress(OSError):
            await store.close_store()
