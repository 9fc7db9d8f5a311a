"""`jobmaster worker`: a supervisor that imports no user code, and engine processes that do (architecture.md 6 and 9).

Three programs meet here. The supervisor (`serve`) asks a scout (`python -m jobmaster.serving`), which imports the app,
what is to be run; then it starts engine processes, each of which enters at `engine_entry`.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import pkgutil
import random
import signal
import subprocess
import sys
import traceback
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from jobmaster.errors import (
    ClusterMismatch,
    ConfigurationError,
    JobMasterError,
    NotRegistered,
    SchemaError,
    StoreUnavailable,
)
from jobmaster.model.states import WorkerMode
from jobmaster.runtime import (
    SystemClock,
    WorkerPlan,
    build_engine,
    default_worker_name,
    lease_timing,
    open_for_worker,
    open_master,
    plan_workers,
    start_up,
    unserved_lanes,
)
from jobmaster.settings import Settings

if TYPE_CHECKING:
    from jobmaster.app import JobMaster
    from jobmaster.engine.supervisor import Supervisor
    from jobmaster.engine.worker import Engine
    from jobmaster.ports.link import EngineLink

ENGINE_ENTRY = "jobmaster.serving:engine_entry"
_ERRORS = {
    kind.__name__: kind for kind in (ClusterMismatch, ConfigurationError, NotRegistered, SchemaError, StoreUnavailable)
}


class WorkerOrder(msgspec.Struct, frozen=True):
    """What a person asked for: which app, and which of its workers, how. Plain data, as it goes to other processes.

    `place` and `folder` find the app (`locating.find_app`). `command_line` are settings by dotted name. The others are
    those of `runtime.plan_workers`. `before` names a function ("module:function") that every engine process calls with
    this order before it imports the app: it sets up logging.
    """

    place: str
    folder: str | None = None
    command_line: dict[str, Any] = {}
    agent: str | None = None
    lanes: tuple[str, ...] = ()
    name: str | None = None
    mode: str | None = None
    pool: str = "threads"
    concurrency: int | None = None
    engines: int = 1
    grace: float | None = None
    once: bool = False
    max_tasks_per_child: int | None = None
    before: str = ""
    before_arguments: dict[str, Any] = {}


class TaskLine(msgspec.Struct, frozen=True):
    """A task of the app, for the banner."""

    name: str
    lane: str
    is_async: bool
    is_handler: bool


class Briefing(msgspec.Struct, frozen=True):
    """What the scout found: the settings, the tasks, and the engines to run."""

    settings: Settings
    plans: list[WorkerPlan]
    tasks: list[TaskLine]
    unserved: list[str] = []
    warnings: list[str] = []


class EngineOrder(msgspec.Struct, frozen=True):
    """What one engine process is told."""

    order: WorkerOrder
    plan: WorkerPlan


# ---------------------------------------------------------------------------------------------------------- supervisor


def serve(
    order: WorkerOrder,
    *,
    announce: Callable[[Briefing], None] = lambda _briefing: None,
    beside: Callable[[Supervisor, Briefing], Awaitable[None]] | None = None,
) -> int:
    """Run workers until a signal or their own end, and return the exit code.

    Args:
        order: what to run.
        announce: told what was found, before anything starts: prints the banner.
        beside: runs beside the supervisor and is cancelled at its end: health endpoints.

    Raises:
        ConfigurationError: the app cannot be found, has no tasks, or its settings cannot work.
        StoreUnavailable: the master cannot be reached.
    """
    briefing = scout(order, worker_name=default_worker_name())
    announce(briefing)
    return asyncio.run(_supervise(order, briefing, beside))


def scout(order: WorkerOrder, *, worker_name: str) -> Briefing:
    """Have another process import the app and say what is to be run: this one must not import users' code.

    Raises:
        As `serve`; an exception of the user's own module is a ConfigurationError with its traceback.
    """
    answer, writing = os.pipe()
    try:
        process = subprocess.Popen(
            [sys.executable, "-m", "jobmaster.serving", str(writing), worker_name],
            stdin=subprocess.PIPE,
            pass_fds=(writing,),
        )
    finally:
        os.close(writing)
    with contextlib.suppress(BrokenPipeError):  # it ended at once: its answer says why
        process.communicate(msgspec.json.encode(order))
    with os.fdopen(answer, "rb") as pipe:
        told = pipe.read()
    if not told:
        raise ConfigurationError(
            f"The app {order.place!r} ended the process that imported it (exit code {process.returncode}). Keep calls "
            "that end the program, such as sys.exit(), under `if __name__ == '__main__':`."
        )
    kind, _, content = told.partition(b"\n")
    if kind == b"briefing":
        return msgspec.msgpack.decode(content, type=Briefing)
    raise _ERRORS.get(kind.decode(), ConfigurationError)(content.decode())


async def _supervise(
    order: WorkerOrder, briefing: Briefing, beside: Callable[[Supervisor, Briefing], Awaitable[None]] | None
) -> int:
    from jobmaster.engine.lease_keeper import LeaseKeeper
    from jobmaster.engine.links.processes import Launch, ProcessSpawner
    from jobmaster.engine.supervisor import Patience, Supervisor

    settings, plans, clock = briefing.settings, briefing.plans, SystemClock()
    store = await open_master(settings)
    try:
        keeper = LeaseKeeper(store=store, clock=clock, timing=lease_timing(settings), random=random.random)
        spawner = ProcessSpawner(
            lambda number: Launch(
                entry=ENGINE_ENTRY,
                arguments=msgspec.msgpack.encode(EngineOrder(order, plans[number])),
                grace=plans[number].grace,
            )
        )
        supervisor = Supervisor(
            spawner=spawner,
            keeper=keeper,
            store=store,
            clock=clock,
            engines=len(plans),
            patience=Patience(max_block=settings.max_block, grace=max(plan.grace for plan in plans)),
            random=random.random,
        )
        spawner.on_news, spawner.on_hurry = supervisor.wake, keeper.hurry
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, supervisor.stop)
        code = await _run_beside(supervisor, briefing, beside)
        if supervisor.failure is not None:
            raise ConfigurationError(supervisor.failure)
        return code
    finally:
        await store.close_store()


async def _run_beside(
    supervisor: Supervisor, briefing: Briefing, beside: Callable[[Supervisor, Briefing], Awaitable[None]] | None
) -> int:
    if beside is None:
        return await supervisor.run()
    other = asyncio.ensure_future(beside(supervisor, briefing))
    try:
        return await supervisor.run()
    finally:
        other.cancel()
        await asyncio.gather(other, return_exceptions=True)


# -------------------------------------------------------------------------------------------------------------- engine


def engine_entry(arguments: bytes) -> Callable[[EngineLink, Callable[[Engine], None]], Awaitable[None]]:
    """Where an engine process enters: imports the app, and returns what runs the engine on the event loop."""
    told = msgspec.msgpack.decode(arguments, type=EngineOrder)
    if told.order.before:
        pkgutil.resolve_name(told.order.before)(told.order)
    app = _app_of(told.order)

    async def run(link: EngineLink, ready: Callable[[Engine], None]) -> None:
        connections = await open_for_worker(app.settings, told.plan.agent)
        try:
            await start_up(app, connections)
            engine = build_engine(app, told.plan, store=connections.store, link=link, clock=SystemClock())
            ready(engine)
            await engine.run()
        finally:
            await connections.close()

    return run


def _app_of(order: WorkerOrder) -> JobMaster:
    from jobmaster.locating import find_app

    app = find_app(order.place, folder=order.folder)
    if order.command_line:
        app.configure(order.command_line)
    app.load_tasks()
    return app


# --------------------------------------------------------------------------------------------------------------- scout


def brief(order: WorkerOrder, *, worker_name: str) -> Briefing:
    """Import the app and say what is to be run.

    Raises:
        ConfigurationError: as `serve`.
    """
    app = _app_of(order)
    plans = plan_workers(
        app,
        agent=order.agent,
        lanes=order.lanes,
        name=order.name,
        fallback_name=worker_name,
        mode=None if order.mode is None else WorkerMode[order.mode.upper()],
        pool=order.pool,
        concurrency=order.concurrency,
        engines=order.engines,
        grace=order.grace,
        once=order.once,
        max_tasks_per_child=order.max_tasks_per_child,
    )
    tasks = [
        TaskLine(known.name, known.target.lane or "default", known.is_async, known.handler is not None)
        for known in sorted(app.registry, key=lambda known: known.name)
    ]
    return Briefing(
        settings=app.settings,
        plans=plans,
        tasks=tasks,
        unserved=unserved_lanes(app, plans),
        warnings=list(app.resolved.warnings),
    )


def main(arguments: Sequence[str]) -> None:
    """The scout's program: the order on its input, the answer into the descriptor that it was given."""
    descriptor, worker_name = int(arguments[0]), arguments[1]
    os.set_inheritable(descriptor, False)
    order = msgspec.json.decode(sys.stdin.buffer.read(), type=WorkerOrder)
    try:
        told = b"briefing\n" + msgspec.msgpack.encode(brief(order, worker_name=worker_name))
    except JobMasterError as error:
        told = f"{type(error).__name__}\n{error}".encode(errors="replace")
    except Exception as error:  # noqa: BLE001 - whatever the user's module raises is shown as it is
        told = f"ConfigurationError\n{''.join(traceback.format_exception(error))}".encode(errors="replace")
    with os.fdopen(descriptor, "wb") as pipe:
        pipe.write(told)


if __name__ == "__main__":
    main(sys.argv[1:])
    # Threads that the user's module started must not keep the scout: nothing of it is needed any more.
    sys.stdout.flush()
    os._exit(0)
