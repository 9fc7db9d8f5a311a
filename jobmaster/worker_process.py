"""The parts of `jobmaster worker` that import the user's code: an engine process, and the probe before it.

The supervisor imports none of it. It asks a probe (`python -m jobmaster.worker_process FD`) what the app is, and then
starts engine processes whose entry is `engine` (see `engine.child`).
"""

from __future__ import annotations

import os
import socket
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from jobmaster.context import running_job
from jobmaster.engine.pools.processes import PoolLaunch
from jobmaster.errors import ConfigurationError, JobMasterError, StoreUnavailable
from jobmaster.locating import find_app
from jobmaster.model.states import WorkerMode
from jobmaster.observe.debug_log import start_debug_log
from jobmaster.observe.logs import configure_logs
from jobmaster.runtime import (
    SystemClock,
    WorkerPlan,
    build_engine,
    open_for_worker,
    plan_workers,
    start_up,
    unserved_lanes,
    workload_of,
)
from jobmaster.settings import Settings, check_lane

if TYPE_CHECKING:
    from jobmaster.app import JobMaster
    from jobmaster.engine.child import Prepared, Stoppable
    from jobmaster.gateway import Connections
    from jobmaster.ports.link import EngineLink
    from jobmaster.ports.workload import Workload

ENTRY = "jobmaster.worker_process:engine"
POOL_ENTRY = "jobmaster.worker_process:pool_workload"


class WorkerOrder(msgspec.Struct, frozen=True, kw_only=True):
    """What `jobmaster worker` was told. Plain data; None: as the app and its settings say.

    `place` and `folder` say where the app is; `identity` names this worker where nothing else does; `settings` are
    settings of the command line by dotted name; `lanes` as people write them; `grace` in seconds.
    """

    place: str
    folder: str
    identity: str
    settings: dict[str, Any] = {}
    agent: str | None = None
    lanes: tuple[str, ...] = ()
    name: str | None = None
    mode: str | None = None
    pool: str = "threads"
    concurrency: int | None = None
    engines: int = 1
    once: bool = False
    max_tasks_per_child: int | None = None
    log_level: str = "info"
    log_format: str = "text"


class EngineOrder(msgspec.Struct, frozen=True):
    """What one engine process is told."""

    order: WorkerOrder
    plan: WorkerPlan


class FoundTask(msgspec.Struct, frozen=True):
    """A task or handler of the app."""

    name: str
    lane: str
    is_async: bool


class Found(msgspec.Struct, frozen=True, kw_only=True):
    """What the probe found: the app, its settings, tasks, and the engines that are to run.

    `files` are the app's own source files; `settings` hold passwords, and go from one process to its parent only.
    """

    settings: Settings
    plans: list[WorkerPlan]
    tasks: list[FoundTask]
    unserved: list[str] = []
    warnings: list[str] = []
    files: list[str] = []


class Unusable(msgspec.Struct, frozen=True):
    """Why there is no app to run: a sentence, and the traceback of the user's own code."""

    message: str
    details: str = ""


class Answer(msgspec.Struct, frozen=True):
    """The probe's answer: one of the two."""

    found: Found | None = None
    unusable: Unusable | None = None


def engine(arguments: bytes) -> Prepared:
    """The entry of an engine process: import the app, then answer what runs its engine."""
    told = msgspec.msgpack.decode(arguments, type=EngineOrder)
    configure_logs(level=told.order.log_level, format=told.order.log_format, current=running_job)
    app = _open_app(told.order)
    if app.settings.debug_log:
        start_debug_log(app.settings.debug_log, app.cluster_id)

    async def run(link: EngineLink, ready: Callable[[Stoppable], None]) -> None:
        connections = await open_for_worker(app.settings, told.plan.agent)
        try:
            await start_up(app, connections)
            made = build_engine(
                app,
                told.plan,
                store=connections.store,
                link=link,
                clock=SystemClock(),
                processes=PoolLaunch(POOL_ENTRY, arguments),
            )
            ready(made)
            await made.run()
            if made.disowned and not await _has_successor(connections, told.plan.name, made.lease.worker):
                raise StoreUnavailable("somebody ended this worker's lease; a new process registers anew")
        finally:
            await connections.close()

    return run


async def _has_successor(connections: Connections, name: str, worker: int) -> bool:
    """Another worker of this name lives: of two, the newer one stays (R4), and this one ends for good."""
    workers = await connections.questions.list_workers()
    return any(other.name == name and other.id != worker and other.status.lives for other in workers)


def pool_workload(arguments: bytes) -> Workload:
    """The entry of a process of the pool "processes": import the app, then answer its tasks."""
    told = msgspec.msgpack.decode(arguments, type=EngineOrder)
    configure_logs(level=told.order.log_level, format=told.order.log_format, current=running_job)
    return workload_of(_open_app(told.order))


def look(order: WorkerOrder) -> Answer:
    """Import the app and describe it. No store is opened."""
    try:
        return Answer(found=_describe(_open_app(order), order))
    except JobMasterError as error:
        return Answer(unusable=Unusable(message=str(error), details=getattr(error, "details", "")))
    except Exception as error:  # noqa: BLE001 - told to the parent, which shows it
        return Answer(unusable=Unusable(message=f"{type(error).__name__}: {error}", details=traceback.format_exc()))


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
        max_tasks_per_child=order.max_tasks_per_child,
    )
    tasks = [FoundTask(name=known.name, lane=known.target.lane, is_async=known.is_async) for known in app.registry]
    return Found(
        settings=msgspec.structs.replace(app.settings, workers=()),
        plans=plans,
        tasks=sorted(tasks, key=lambda task: task.name),
        unserved=unserved_lanes(app, plans),
        warnings=list(app.resolved.warnings),
        files=_own_files(order.folder),
    )


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
    own = []
    for module in list(sys.modules.values()):
        file = getattr(module, "__file__", None)
        if file and file.endswith(".py") and "site-packages" not in file and Path(folder) in Path(file).parents:
            own.append(file)
    return sorted(own)


def main(arguments: list[str]) -> None:
    """The probe: read an order from the descriptor, write the answer to it."""
    with socket.socket(fileno=int(arguments[0])) as peer:
        os.set_inheritable(peer.fileno(), False)
        order = msgspec.msgpack.decode(_read_all(peer), type=WorkerOrder)
        # What the app logs while it is imported comes as it will come from the engine.
        configure_logs(level=order.log_level, format=order.log_format)
        peer.sendall(msgspec.msgpack.encode(look(order)))
    sys.stdout.flush()
    os._exit(0)  # threads that the app's modules started must not keep the probe


def _read_all(peer: socket.socket) -> bytes:
    parts = []
    while part := peer.recv(65_536):
        parts.append(part)
    return b"".join(parts)


if __name__ == "__main__":
    main(sys.argv[1:])
