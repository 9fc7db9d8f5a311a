"""The composition root: the only module that knows adapters and engine at once, and joins them for an app.

A supervisor opens its master here and needs nothing else, so that the rest is imported where it is used.
"""

from __future__ import annotations

import logging
import os
import random
import socket
import time
from typing import TYPE_CHECKING, cast

import msgspec

import jobmaster
from jobmaster import crash_points
from jobmaster.errors import ConfigurationError
from jobmaster.model.states import Priority, WorkerMode
from jobmaster.model.worker import Registration
from jobmaster.ports.master import MasterRules
from jobmaster.settings import STANDALONE_AGENT, Dsn, Settings, Survives, archive_faults, require_driver, require_store
from jobmaster.stores.sql.version import SCHEMA_VERSION
from jobmaster.worker_plan import WorkerPlan, plan_workers, unserved_lanes

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jobmaster.app import JobMaster
    from jobmaster.engine.pools.sent import PoolLaunch
    from jobmaster.engine.tuning import Tuning
    from jobmaster.engine.worker import Engine
    from jobmaster.execution import TaskWorkload
    from jobmaster.gateway import Connections
    from jobmaster.model.ids import JobKey
    from jobmaster.ports.clock import Clock
    from jobmaster.ports.link import EngineLink
    from jobmaster.ports.master import MasterStore
    from jobmaster.ports.query import QueryStore
    from jobmaster.ports.store import Store
    from jobmaster.ports.workload import Pool
    from jobmaster.rules.lease import LeaseTiming
    from jobmaster.stores.forward import MasterSide

__all__ = [
    "Archive",
    "SystemClock",
    "WorkerPlan",
    "build_engine",
    "lease_timing",
    "open_connections",
    "open_for_worker",
    "open_master",
    "plan_workers",
    "start_up",
    "unserved_lanes",
]

logger = logging.getLogger("jobmaster.worker")


# -------------------------------------------------------------------------------------------------------------- stores


async def open_connections(settings: Settings) -> Connections:
    """The stores of a cluster, open on the running loop, for a producer.

    Raises:
        ConfigurationError: there is no driver, or no store, for an address.
        StoreUnavailable: a store cannot be reached.
        SchemaError: the database's schema is another version's.
        ClusterMismatch: the master belongs to another cluster.
    """
    from jobmaster.stores.late_imports import importing

    with importing():
        from jobmaster.agreement import require_same_cluster

    connections = await _open(settings)
    try:
        await require_same_cluster(connections.store, settings)
    except BaseException:
        await connections.close()
        raise
    return connections


async def _open(settings: Settings) -> Connections:
    from jobmaster.stores.late_imports import importing

    with importing():
        from jobmaster.gateway import Connections

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
    require_store(dsn)
    require_driver(dsn)
    store = await _store_of(dsn, settings, standalone=standalone)
    crash_points.watch(store)
    return store


async def _store_of(dsn: Dsn, settings: Settings, *, standalone: bool) -> Store:
    from jobmaster.stores.late_imports import importing

    if dsn.kind == "sqlite":
        with importing():
            from jobmaster.stores.sql.sqlite.store import SqliteStore

        return await SqliteStore.open(
            dsn.path,
            rules=master_rules(settings),
            auto_provision=settings.auto_provision,
            standalone=standalone,
            timeout=settings.accept_timeout,
        )
    with importing():
        from jobmaster.stores.sql.postgresql.store import PostgresStore

    return await PostgresStore.open(
        dsn.url,
        rules=master_rules(settings),
        auto_provision=settings.auto_provision,
        standalone=standalone,
        timeout=settings.accept_timeout,
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
    processes: PoolLaunch | None = None,
) -> Engine:
    """An engine for the plan, with its pools. To be called on the loop that it will run on.

    Args:
        app: its tasks must be imported already.
        plan: which engine.
        store: master and agent of this engine, open on this loop.
        link: to the keeper of its lease.
        clock: the process's clocks.
        archive: where aged jobs move to; None: as the setting `archive_to` says.
        processes: what the processes of a pool run; needed for the pool "processes", and to run a job apart.
    """
    from jobmaster.engine.pools.loop import LoopPool
    from jobmaster.engine.worker import Engine

    settings = app.settings
    workload = workload_of(app, pool=plan.pool)
    return Engine(
        store=store,
        link=link,
        clock=clock,
        workload=workload,
        async_pool=LoopPool(workload),
        sync_pool=_sync_pool(workload, plan, processes),
        apart_pool=_apart_pool(processes),
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
            schema_version=SCHEMA_VERSION,
        ),
        tasks=lambda: [definition.name for definition in app.registry],
        schedules=app.static_schedules,
        archive=archive or archive_of(app),
    )


def tuning_of(settings: Settings, plan: WorkerPlan) -> Tuning:
    """The engine's numbers, from the settings and the plan."""
    from jobmaster.engine.tuning import Tuning

    return Tuning(
        slots=plan.slots,
        lease=settings.lease,
        max_recoveries=settings.max_recoveries,
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
        claims_per_second=float(settings.claims_per_second),
        drain_once=plan.once,
        time_zone=settings.time_zone,
        plan_ahead=settings.transient_threshold,
    )


def workload_of(app: JobMaster, *, pool: str = "processes") -> TaskWorkload:
    """The app's tasks, as an engine with this pool for sync tasks, or a process of the pool, runs them."""
    from jobmaster.execution import TaskWorkload

    return TaskWorkload(
        app.registry,
        codec=app.codec,
        settings=app.settings,
        injector=app.injector,
        in_threads=pool in {"threads", "solo"},
    )


def _sync_pool(workload: TaskWorkload, plan: WorkerPlan, processes: PoolLaunch | None) -> Pool:
    if plan.pool == "processes":
        from jobmaster.engine.pools.processes import ProcessPool

        if processes is None:
            raise ConfigurationError(
                "A worker inside your program has no pool of processes: nobody tells them where the app is. "
                "Use threads, or run `jobmaster worker -P processes`."
            )
        return ProcessPool(
            processes, size=plan.slots, max_tasks_per_child=plan.max_tasks_per_child, random=random.random
        )
    if plan.pool == "solo":
        from jobmaster.engine.pools.solo import SoloPool

        return SoloPool(workload)
    from jobmaster.engine.pools.threads import ThreadPool

    return ThreadPool(workload, size=plan.slots)


def _apart_pool(processes: PoolLaunch | None) -> Pool | None:
    if processes is None:
        return None
    from jobmaster.engine.pools.apart import ApartPool

    return ApartPool(processes, random=random.random)


async def start_up(app: JobMaster, connections: Connections) -> None:
    """What every worker does first: import the app's modules, agree with the cluster, tell it the definitions.

    Raises:
        ClusterMismatch: the cluster runs with other settings.
        ConfigurationError: a module of `include` cannot be imported.
    """
    from jobmaster.agreement import join_cluster

    app.load_tasks()
    await join_cluster(connections.store, connections.questions, settings=app.settings, registry=app.registry)
    durability = await connections.store.durability()
    if app.settings.survives is Survives.HOST and durability.survives != Survives.HOST.value:
        logger.warning(
            "weak_durability survives=%s expected=host evidence=%s", durability.survives, durability.evidence
        )


class Archive:
    """The master of an archived cluster, as far as a janitor needs it. Opened for each batch: there are few."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    async def import_aged(self, records: Sequence[bytes]) -> list[JobKey]:
        """See `ports.master.MasterStore.import_aged`."""
        store = await open_master(self._settings)
        try:
            return await store.import_aged(records)
        finally:
            await store.close_store()


def archive_of(app: JobMaster) -> MasterStore | None:
    """Where the app's aged jobs move to; None: they are deleted.

    Raises:
        ConfigurationError: no app of this program has the cluster's id, or that cluster is no archive.
    """
    name = app.settings.archive_to
    if name is None:
        return None
    target = app.cluster(name).settings
    faults = archive_faults(app.settings, target)
    if faults:
        raise ConfigurationError("\n".join(faults))
    return cast("MasterStore", Archive(target))


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
