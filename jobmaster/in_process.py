"""Workers inside the user's own process: `with jm:`, `jm.start()`, `jm.lifespan`."""

from __future__ import annotations

import asyncio
import random
import threading
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, cast

from jobmaster.observe.debug_log import start_debug_log
from jobmaster.runtime import (
    SystemClock,
    WorkerPlan,
    build_engine,
    lease_timing,
    open_for_worker,
    open_master,
    plan_workers,
    start_up,
)

if TYPE_CHECKING:
    from jobmaster.app import JobMaster
    from jobmaster.engine.worker import Engine
    from jobmaster.ports.store import Store


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
        try:
            asyncio.run(self._run())
        except BaseException as error:  # noqa: BLE001 - handed to the thread that waits in `start`
            self._failure = _first_cause(error)
        finally:
            self._ready.set()

    async def _run(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._app.load_tasks()
        if self._app.settings.debug_log:
            start_debug_log(self._app.settings.debug_log, self._app.cluster_id)
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
    await asyncio.to_thread(call)


def _first_cause(error: BaseException) -> BaseException:
    """The error inside of a task group's bundle."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
