"""What engine processes of `jobmaster worker` run (see `engine.child`): these import the user's code.

The supervisor imports none of it. Its first engine process (entry `first_engine`) tells it what the app is, and becomes
engine 0; the others, and all later ones, are told their plan (entry `engine`).
"""

from __future__ import annotations

import asyncio
import logging
import os
import sys
import traceback
from collections.abc import Callable
from typing import TYPE_CHECKING

import msgspec

from jobmaster.context import running_job
from jobmaster.engine.entry import Introduction
from jobmaster.engine.loop_watch import LoopWatch
from jobmaster.engine.pools.apart import ApartPool
from jobmaster.engine.pools.processes import ProcessPool
from jobmaster.engine.pools.sent import PoolLaunch
from jobmaster.engine.wear import Wear
from jobmaster.errors import ConfigurationError, JobMasterError, StoreUnavailable
from jobmaster.findings import Answer, EngineOrder, Found, FoundTask, Unusable
from jobmaster.locating import find_app
from jobmaster.model.states import WorkerMode
from jobmaster.observe.debug_log import start_debug_log
from jobmaster.observe.logs import configure_logs, name_worker
from jobmaster.runtime import (
    SystemClock,
    build_engine,
    open_for_worker,
    plan_workers,
    start_up,
    unserved_lanes,
    workload_of,
)
from jobmaster.settings import check_lane
from jobmaster.worker_order import WorkerOrder

if TYPE_CHECKING:
    from jobmaster.app import JobMaster
    from jobmaster.engine.entry import Prepared, Stoppable
    from jobmaster.engine.links.child_end import ProcessEngineLink
    from jobmaster.engine.worker import Engine
    from jobmaster.gateway import Connections
    from jobmaster.ports.workload import Workload
    from jobmaster.worker_plan import WorkerPlan

logger = logging.getLogger("jobmaster.worker")

POOL_ENTRY = "jobmaster.worker_process:pool_workload"


def first_engine(arguments: bytes) -> Introduction:
    """The entry of the first engine process: import the app and say what it is; then be engine 0."""
    order = msgspec.msgpack.decode(arguments, type=WorkerOrder)
    configure_logs(level=order.log_level, format=order.log_format, current=running_job)
    answer, app = look(order)
    encoded = msgspec.msgpack.encode(answer)
    if answer.found is None or app is None:
        return Introduction(encoded, None)
    plan = answer.found.plans[0]
    return Introduction(encoded, _prepared(app, EngineOrder(order, plan)), grace=plan.grace)


def engine(arguments: bytes) -> Prepared:
    """The entry of every other engine process: import the app, then answer what runs its engine."""
    told = msgspec.msgpack.decode(arguments, type=EngineOrder)
    configure_logs(level=told.order.log_level, format=told.order.log_format, current=running_job)
    return _prepared(_open_app(told.order), told)


def _prepared(app: JobMaster, told: EngineOrder) -> Prepared:
    name_worker(told.plan.name)

    async def run(link: ProcessEngineLink, ready: Callable[[Stoppable], None]) -> None:
        if app.settings.debug_log:
            start_debug_log(app.settings.debug_log, app.cluster_id)
        connections = await open_for_worker(app.settings, told.plan.agent)
        try:
            await start_up(app, connections)
            made = build_engine(
                app,
                told.plan,
                store=connections.store,
                link=link,
                clock=SystemClock(),
                processes=PoolLaunch(POOL_ENTRY, msgspec.msgpack.encode(told)),
            )
            ready(made)
            watch = LoopWatch(
                beats=link.beats,
                max_block=app.settings.max_block,
                on_block=lambda block: link.accuse(block.key, block.what),
                on_limit=lambda block: link.accuse(block.key, block.what),
                on_turn=link.acquit,
            )
            wearing = asyncio.create_task(_wear(made, told.plan).run())
            try:
                await made.run()
            finally:
                wearing.cancel()
                watch.stop()
            if made.homeless:
                raise StoreUnavailable("this worker's database was replaced; a new process goes on with the new one")
            if made.disowned:
                await _leave_to_successor(connections, told.plan.name, made.lease.worker)
        finally:
            await connections.close()

    return run


def _wear(made: Engine, plan: WorkerPlan) -> Wear:
    pools = [pool for pool in made.pools if isinstance(pool, (ProcessPool, ApartPool))]
    counts = made.runner.counts
    return Wear(
        made,
        max_tasks=plan.max_tasks_per_child,
        max_memory=plan.max_memory_per_child,
        runs=lambda: counts["started"] - sum(pool.begun for pool in pools),
        pools=pools,
    )


async def _leave_to_successor(connections: Connections, name: str, worker: int) -> None:
    """Of two workers of one name the newer one stays (R4), and this one ends for good.

    Raises:
        StoreUnavailable: there is none, so that this worker's place is free; a new process may take it.
    """
    workers = await connections.questions.list_workers()
    newer = [other for other in workers if other.name == name and other.id != worker and other.status.lives]
    if not newer:
        raise StoreUnavailable("somebody ended this worker's lease; a new process registers anew")
    logger.error(
        "worker_replaced name=%s by_host=%s by_pid=%d: a newer process has this name, so this one ends. "
        "Two workers need two names: give one of them another --name",
        name, newer[0].host, newer[0].pid,
    )  # fmt: skip


def pool_workload(arguments: bytes) -> Workload:
    """The entry of a process of the pool "processes": import the app, then answer its tasks."""
    told = msgspec.msgpack.decode(arguments, type=EngineOrder)
    configure_logs(level=told.order.log_level, format=told.order.log_format, current=running_job)
    name_worker(told.plan.name)
    return workload_of(_open_app(told.order))


def look(order: WorkerOrder) -> tuple[Answer, JobMaster | None]:
    """Import the app and describe it; the second answer is the app. No store is opened."""
    try:
        app = _open_app(order)
        return Answer(found=_describe(app, order)), app
    except JobMasterError as error:
        return Answer(unusable=Unusable(message=str(error), details=getattr(error, "details", ""))), None
    except Exception as error:  # noqa: BLE001 - told to the parent, which shows it
        message = f"{type(error).__name__}: {error}"
        return Answer(unusable=Unusable(message=message, details=traceback.format_exc())), None


def _open_app(order: WorkerOrder) -> JobMaster:
    app = find_app(order.place, folder=order.folder)
    if order.settings:
        app.configure(order.settings)
    app.load_tasks()
    return app


def _describe(app: JobMaster, order: WorkerOrder) -> Found:
    mode = None if order.mode is None else WorkerMode[order.mode.upper()]
    _require_tasks(app, order, mode)
    plans = plan_workers(
        app,
        agent=order.agent,
        lanes=tuple(dict.fromkeys(check_lane(lane) for lane in order.lanes)),
        name=order.name,
        identity=order.identity,
        mode=mode,
        pool=order.pool,
        concurrency=order.concurrency,
        engines=order.engines,
        once=order.once,
        max_tasks_per_child=_first(order.max_tasks_per_child, app.settings.max_tasks_per_child),
        max_memory_per_child=_first(order.max_memory_per_child, app.settings.max_memory_per_child),
    )
    schedules = app.static_schedules()  # those that cannot work are told before anything runs
    tasks = [FoundTask(name=known.name, lane=known.target.lane, is_async=known.is_async) for known in app.registry]
    return Found(
        settings=msgspec.structs.replace(app.settings, workers=()),
        plans=plans,
        tasks=sorted(tasks, key=lambda task: task.name),
        schedules=sorted(schedule.name for schedule in schedules),
        unserved=unserved_lanes(app, plans),
        warnings=[*app.resolved.warnings, *app.schedule_warnings()],
        files=_own_files(order.folder),
        testing=app.testing,
    )


def _first(of_the_command: int | None, of_the_settings: int | None) -> int | None:
    return of_the_settings if of_the_command is None else of_the_command


def _require_tasks(app: JobMaster, order: WorkerOrder, mode: WorkerMode | None) -> None:
    """A worker without tasks would wait for ever, and nobody would know why."""
    modes = [mode] if mode else [worker.mode for worker in app.settings.workers] or [WorkerMode.FULL]
    if len(app.registry) or not any(wanted.runs_jobs for wanted in modes):
        return
    module = order.place.partition(":")[0]
    included = ", ".join(app.settings.include)
    looked = f"{module}, and what it imports" + (f", and include: {included}" if included else "")
    raise ConfigurationError(
        f"0 tasks found in app {app.cluster_id!r} (looked in {looked}). A worker without tasks runs nothing. "
        "Put @jm.task on a function there, or name the modules that have tasks: "
        f'JobMaster({app.cluster_id!r}, include=["{module}.tasks"]), or jm.autodiscover("{module}").'
    )


def _own_files(folder: str) -> list[str]:
    """The source files of modules that belong to the user's project, not to an installation."""
    below = folder.rstrip(os.sep) + os.sep
    files = (getattr(module, "__file__", None) for module in list(sys.modules.values()))
    return sorted(
        file
        for file in files
        if file and file.startswith(below) and file.endswith(".py") and "site-packages" not in file
    )
