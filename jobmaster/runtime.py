"""The composition root: the only module that knows adapters and engine at once, and joins them for an app."""

from __future__ import annotations

import os
import random
import re
import socket
import threading
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Final, cast

import msgspec

import jobmaster
from jobmaster.agreement import join_cluster
from jobmaster.errors import ConfigurationError
from jobmaster.execution import TaskWorkload
from jobmaster.gateway import Connections
from jobmaster.model.states import Priority, WorkerMode
from jobmaster.model.worker import Registration
from jobmaster.ports.master import MasterRules
from jobmaster.settings import STANDALONE_AGENT, Dsn, Settings, Worker, require_driver
from jobmaster.settings.declarations import SLOTS

if TYPE_CHECKING:
    import asyncio

    from jobmaster.app import JobMaster
    from jobmaster.engine.tuning import Tuning
    from jobmaster.engine.worker import Engine
    from jobmaster.ports.clock import Clock
    from jobmaster.ports.link import EngineLink
    from jobmaster.ports.master import MasterStore
    from jobmaster.ports.query import QueryStore
    from jobmaster.ports.store import Store
    from jobmaster.ports.workload import Pool
    from jobmaster.rules.lease import LeaseTiming
    from jobmaster.stores.forward import MasterSide

POOLS: Final = ("threads", "processes", "asyncio", "solo")
LONGEST_HOST: Final = 40


class WorkerPlan(msgspec.Struct, frozen=True):
    """One engine that is to run: everything that its process must be told beside the app itself. Plain data."""

    name: str
    agent: str = STANDALONE_AGENT
    lanes: tuple[str, ...] = ("",)
    mode: str = "FULL"
    slots: int = SLOTS
    pool: str = "threads"
    buckets: dict[int, int] = {}
    grace: float = 25.0
    once: bool = False
    max_tasks_per_child: int | None = None


# ------------------------------------------------------------------------------------------------------------- workers


def plan_workers(
    app: JobMaster,
    *,
    agent: str | None = None,
    lanes: Sequence[str] = (),
    name: str | None = None,
    identity: str | None = None,
    mode: WorkerMode | None = None,
    pool: str = "threads",
    concurrency: int | None = None,
    engines: int = 1,
    grace: float | None = None,
    once: bool = False,
    max_tasks_per_child: int | None = None,
) -> list[WorkerPlan]:
    """The engines that the app's declared workers make, or those of them that `agent` and `lanes` select.

    Args:
        app: its tasks must be imported already.
        agent: only workers of this agent.
        lanes: serve these lanes (as stored); empty: as declared, else the default lane and every lane of a task.
        name: the worker's name; None: as declared, else `identity`.
        identity: None: made of host and process.
        mode: instead of the declared one.
        pool: where sync tasks run: "threads", "processes", "asyncio" (nowhere) or "solo".
        concurrency: slots of each engine; None: as declared, for "processes" the number of cores.
        engines: engine processes of each worker.
        grace: seconds; None: the setting.
        once: end when nothing is left to do.
        max_tasks_per_child: a child process of the pool "processes" ends after so many runs.

    Raises:
        ConfigurationError: nothing is left to run, a name is unknown, or the pool cannot run the app's tasks.
    """
    settings = app.settings
    if pool not in POOLS:
        raise ConfigurationError(f"There is no pool {pool!r}. Pools are {', '.join(POOLS)}.")
    _check_pool(app, pool)
    declared = _selected(settings, agent)
    plans = []
    for number, worker in enumerate(declared):
        worker_mode = mode or worker.mode
        if worker_mode.runs_jobs and not len(app.registry):
            raise ConfigurationError(
                f"App {app.cluster_id!r} has no task and no handler, so a worker could run nothing. Decorate a "
                "function with @jm.task, import the modules that do (include=[...]), or name the right app."
            )
        chosen = name or worker.name or identity or default_worker_name()
        several = len(declared) > 1 and (name is not None or worker.name is None)
        for engine in range(engines):
            suffix = (f".{number + 1}" if several else "") + (f".{engine + 1}" if engines > 1 else "")
            plans.append(
                WorkerPlan(
                    name=chosen + suffix,
                    agent=worker.agent or (STANDALONE_AGENT if settings.is_standalone else settings.agents[0].name),
                    lanes=_lanes(app, worker, lanes),
                    mode=worker_mode.name,
                    slots=concurrency or _slots(worker, pool),
                    pool=pool,
                    buckets={int(key): count for key, count in settings.buckets_of(worker).items()},
                    grace=settings.grace if grace is None else grace,
                    once=once,
                    max_tasks_per_child=max_tasks_per_child,
                )
            )
    return plans


def default_worker_name() -> str:
    """Host and process: unique while the process lives, so that two workers of one host never share a name."""
    host = re.sub(r"[^A-Za-z0-9]+", "-", socket.gethostname()).strip("-")[:LONGEST_HOST].strip("-") or "worker"
    return f"{host}.{os.getpid()}"


def unserved_lanes(app: JobMaster, plans: Sequence[WorkerPlan]) -> list[str]:
    """Lanes that a task of the app names and no engine of these serves, as people write them."""
    served = {lane for plan in plans if WorkerMode[plan.mode].runs_jobs for lane in plan.lanes}
    return sorted(lane or "default" for lane in app.registry.lanes() - served)


def _selected(settings: Settings, agent: str | None) -> Sequence[Worker]:
    if agent is not None and agent not in {known.name for known in settings.agents}:
        known = ", ".join(declared.name for declared in settings.agents) or "none: the cluster is standalone"
        raise ConfigurationError(f"There is no agent {agent!r}. Declared agents: {known}.")
    if not settings.workers:
        names = [known.name for known in settings.agents if agent in {None, known.name}]
        return [Worker(agent=known) for known in names] or [Worker()]
    chosen = [worker for worker in settings.workers if agent is None or worker.agent == agent]
    if not chosen:
        raise ConfigurationError(f"No declared worker uses agent {agent!r}. Declare Worker(agent={agent!r}).")
    return chosen


def _lanes(app: JobMaster, worker: Worker, lanes: Sequence[str]) -> tuple[str, ...]:
    if lanes:
        return tuple(lanes)
    if worker.lanes:
        return worker.lanes
    return tuple(sorted({"", *app.registry.lanes()}))


def _slots(worker: Worker, pool: str) -> int:
    if pool == "solo":
        return 1
    if pool == "processes" and worker.concurrency is None:
        return os.cpu_count() or 1
    return worker.slots


def _check_pool(app: JobMaster, pool: str) -> None:
    if pool != "asyncio":
        return
    sync = sorted(definition.name for definition in app.registry if not definition.is_async)
    if sync:
        raise ConfigurationError(
            f"The pool asyncio runs async tasks only, and {sync[0]!r}{' and others are' if sync[1:] else ' is'} not "
            "async. Use the pool threads, which runs both, or write async def."
        )


# -------------------------------------------------------------------------------------------------------------- stores


async def open_connections(settings: Settings) -> Connections:
    """The stores of a cluster, open on the running loop, for a producer.

    Raises:
        ConfigurationError: there is no driver, or no store, for an address.
        StoreUnavailable: a store cannot be reached.
        SchemaError: the database's schema is another version's.
    """
    if settings.is_standalone:
        store = await open_database(settings.master, settings, standalone=True)
        return Connections(
            store=store,
            agents={STANDALONE_AGENT: store},
            home=STANDALONE_AGENT,
            questions=cast("QueryStore", store),
            close=store.close_store,
        )
    from jobmaster.stores.split import SplitStore

    master = await open_database(settings.master, settings, standalone=False)
    agents = {agent.name: await open_database(agent.dsn, settings, standalone=False) for agent in settings.agents}
    split = SplitStore(master=cast("MasterSide", master), agents=agents)
    return Connections(store=split, agents=agents, home=None, questions=split, close=split.close_store)


async def open_for_worker(settings: Settings, agent: str) -> Connections:
    """The stores of one engine: the master and the one agent that its worker is bound to."""
    if settings.is_standalone:
        return await open_connections(settings)
    only = msgspec.structs.replace(settings, agents=(settings.agent(agent),))
    return await open_connections(only)


async def open_master(settings: Settings) -> Store:
    """The master by itself, on a connection of its own: for the keeper of leases."""
    return await open_database(settings.master, settings, standalone=settings.is_standalone)


async def open_database(dsn: Dsn, settings: Settings, *, standalone: bool) -> Store:
    """The store that an address names.

    Raises:
        As `open_connections`.
    """
    require_driver(dsn)
    if dsn.kind == "sqlite":
        from jobmaster.stores.sql.sqlite.store import SqliteStore

        return await SqliteStore.open(
            dsn.path,
            rules=master_rules(settings),
            auto_provision=settings.auto_provision,
            standalone=standalone,
            timeout=settings.accept_timeout,
        )
    raise ConfigurationError(
        f"{dsn} names a {dsn.kind} store, and this version of JobMaster has a store for SQLite only. "
        "Use sqlite:///jobmaster.db."
    )


def master_rules(settings: Settings) -> MasterRules:
    """What the master's statements need of the settings."""
    return MasterRules(lease_us=_us(settings.lease), max_recoveries=settings.max_recoveries)


def lease_timing(settings: Settings) -> LeaseTiming:
    """What a lease keeper needs of the settings."""
    from jobmaster.rules.lease import LeaseTiming

    return LeaseTiming(lease=settings.lease, renew_every=settings.renew_every)


def _us(seconds: float) -> int:
    return round(seconds * 1_000_000)


# ------------------------------------------------------------------------------------------------------------- engines


def build_engine(
    app: JobMaster,
    plan: WorkerPlan,
    *,
    store: Store,
    link: EngineLink,
    clock: Clock,
    archive: MasterStore | None = None,
) -> Engine:
    """An engine for the plan, with its pools. To be called on the loop that it will run on.

    Args:
        app: its tasks must be imported already.
        plan: which engine.
        store: master and agent of this engine, open on this loop.
        link: to the keeper of its lease.
        clock: the process's clocks.
        archive: where aged jobs move to.
    """
    from jobmaster.engine.pools.loop import LoopPool
    from jobmaster.engine.worker import Engine

    settings = app.settings
    workload = TaskWorkload(app.registry, codec=app.codec, settings=settings, injector=app.injector)
    return Engine(
        store=store,
        link=link,
        clock=clock,
        workload=workload,
        async_pool=LoopPool(workload),
        sync_pool=_sync_pool(workload, plan),
        tuning=tuning_of(settings, plan),
        registration=Registration(
            name=plan.name,
            boot=time.time_ns() // 1_000_000,
            agent=plan.agent,
            lanes=plan.lanes,
            mode=WorkerMode[plan.mode],
            host=socket.gethostname(),
            pid=os.getpid(),
            slots=plan.slots,
            version=jobmaster.__version__,
        ),
        tasks=lambda: [definition.name for definition in app.registry],
        archive=archive,
    )


def tuning_of(settings: Settings, plan: WorkerPlan) -> Tuning:
    """The engine's numbers, from the settings and the plan."""
    from jobmaster.engine.tuning import Tuning

    return Tuning(
        slots=plan.slots,
        mode=WorkerMode[plan.mode],
        cluster_mode=settings.cluster_mode,
        lanes=plan.lanes,
        buckets=plan.buckets or {int(priority): 1 for priority in Priority},
        agent=plan.agent,
        onboarding_window=settings.onboarding_window,
        buffer_per_bucket=settings.buffer_per_bucket,
        early_row_after=settings.early_row_after,
        early_rows_per_second=float(settings.early_rows_per_second),
        finish_max=settings.finish_flush,
        retention=settings.retention,
        grace=plan.grace,
        default_timeout=settings.default_timeout,
        drain_once=plan.once,
    )


def _sync_pool(workload: TaskWorkload, plan: WorkerPlan) -> Pool:
    if plan.pool == "solo":
        from jobmaster.engine.pools.solo import SoloPool

        return SoloPool(workload)
    from jobmaster.engine.pools.threads import ThreadPool

    return ThreadPool(workload, size=plan.slots)


async def start_up(app: JobMaster, connections: Connections) -> None:
    """What every worker does first: import the app's modules, agree with the cluster, tell it the definitions.

    Raises:
        ClusterMismatch: the cluster runs with other settings.
        ConfigurationError: a module of `include` cannot be imported.
    """
    app.load_tasks()
    await join_cluster(connections.store, connections.questions, settings=app.settings, registry=app.registry)


class SystemClock:
    """The clocks of this machine (ports.clock.Clock)."""

    def __init__(self) -> None:
        # CLOCK_BOOTTIME goes on while the machine sleeps, as a lease does (I7); elsewhere the next best is used.
        self._trust: int | None = getattr(time, "CLOCK_BOOTTIME", None)

    def now_us(self) -> int:
        """See `Clock.now_us`."""
        return time.time_ns() // 1_000

    def trust_ns(self) -> int:
        """See `Clock.trust_ns`."""
        return time.monotonic_ns() if self._trust is None else time.clock_gettime_ns(self._trust)

    def monotonic(self) -> float:
        """See `Clock.monotonic`."""
        return time.monotonic()


# -------------------------------------------------------------------------------------------------- in-process workers


class InProcessWorkers:
    """The app's declared workers on an event loop in a thread of this process; other threads keep their leases."""

    def __init__(self, app: JobMaster) -> None:
        self._app = app
        self._ready = threading.Event()
        self._failure: BaseException | None = None
        self._engines: list[Engine] = []
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread = threading.Thread(target=self._main, name="jobmaster-workers", daemon=True)

    def start(self) -> None:
        """Start them; returns when each has its first grant. Raises what stops them from starting."""
        self._thread.start()
        self._ready.wait()
        if self._failure is not None:
            self._thread.join()
            raise self._failure

    def stop(self) -> None:
        """Stop gracefully and wait for the end."""
        if self._loop is not None and self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._stop_engines)
        self._thread.join()

    def _stop_engines(self) -> None:
        for engine in self._engines:
            engine.stop(self._app.settings.grace)

    def _main(self) -> None:
        import asyncio

        try:
            asyncio.run(self._run())
        except BaseException as error:  # noqa: BLE001 - handed to the thread that waits in `start`
            self._failure = _first_cause(error)
        finally:
            self._ready.set()

    async def _run(self) -> None:
        import asyncio

        self._loop = asyncio.get_running_loop()
        self._app.load_tasks()
        plans = plan_workers(self._app)
        first = await open_for_worker(self._app.settings, plans[0].agent)
        try:
            await start_up(self._app, first)
        finally:
            await first.close()
        made = [asyncio.Event() for _ in plans]
        async with asyncio.TaskGroup() as group:
            for plan, event in zip(plans, made, strict=True):
                group.create_task(self._run_one(plan, event))
            for event in made:
                await event.wait()
            self._ready.set()

    async def _run_one(self, plan: WorkerPlan, started: asyncio.Event) -> None:
        import asyncio

        from jobmaster.engine.links.threads import KeeperThread, ThreadLink

        settings, clock = self._app.settings, SystemClock()
        connections = await open_for_worker(settings, plan.agent)
        try:
            link = ThreadLink(
                stop=lambda now: engine.abort() if now else engine.stop(plan.grace),
                on_condemned=lambda _reason: engine.stop(plan.grace),
            )
            engine = build_engine(self._app, plan, store=connections.store, link=link, clock=clock)
            keeper = KeeperThread(
                link,
                open_store=cast("Callable[[], Awaitable[Store]]", lambda: open_master(settings)),
                close_store=lambda store: cast("Store", store).close_store(),
                clock=clock,
                timing=lease_timing(settings),
                random=random.random,
            )
            await _in_thread(keeper.start)
            try:
                self._engines.append(engine)
                telling = asyncio.create_task(_tell(engine.ready, started))
                try:
                    await engine.run()
                finally:
                    telling.cancel()
            finally:
                link.exited("exit 0")
                await _in_thread(keeper.stop)
        finally:
            await connections.close()


async def _tell(one: asyncio.Event, other: asyncio.Event) -> None:
    await one.wait()
    other.set()


async def _in_thread(call: Callable[[], None]) -> None:
    import asyncio

    await asyncio.to_thread(call)


def _first_cause(error: BaseException) -> BaseException:
    """The error inside of a task group's bundle."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
