"""Workers inside the user's own process: `with jm:`, `jm.start()`, `jm.lifespan`."""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import logging
import os
import random
import threading
import time
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, cast

from jobmaster.engine.persistence import Backoff
from jobmaster.errors import StoreUnavailable
from jobmaster.event_loop import new_event_loop, run_to_the_end
from jobmaster.observe.debug_log import start_debug_log, stop_debug_log
from jobmaster.rules.restart import Restarts
from jobmaster.runtime import (
    SystemClock,
    WorkerPlan,
    build_engine,
    lease_timing,
    open_for_worker,
    open_master,
    plan_workers,
    start_up,
    unserved_lanes,
)

if TYPE_CHECKING:
    from jobmaster.app import JobMaster
    from jobmaster.engine.worker import Engine
    from jobmaster.ports.store import Store


logger = logging.getLogger("jobmaster.worker")

CONDEMNED_GRACE = 10.0
"""Seconds that the other runs get when one cannot be ended and the engine around it is replaced."""


class InProcessWorkers:
    """The app's declared workers on an event loop in a thread of this process; other threads keep their leases."""

    def __init__(self, app: JobMaster) -> None:
        self._app = app
        self._pid = os.getpid()
        self._ready = threading.Event()
        self._failure: BaseException | None = None
        self._engines: dict[str, Engine] = {}
        self._asked = threading.Event()
        """They are to stop."""
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread = threading.Thread(target=self._main, name="jobmaster-workers", daemon=True)

    def start(self) -> None:
        """Start them; returns when each has its first grant. Raises what stops them from starting."""
        self._thread.start()
        self._ready.wait()
        if self._failure is not None:
            self._thread.join()
            raise self._failure
        # A program that forgets stop() ends its workers gracefully all the same.
        atexit.register(self.stop)

    def running(self) -> bool:
        """Whether they run, in this process: a forked child has none of its parent's threads."""
        return self._thread.is_alive() and self._pid == os.getpid()

    def stop(self) -> None:
        """Stop gracefully and wait for the end."""
        atexit.unregister(self.stop)
        self._asked.set()
        if self._loop is not None and self.running():
            with contextlib.suppress(RuntimeError):  # it has ended by itself just now
                self._loop.call_soon_threadsafe(self._stop_engines)
        self._thread.join()

    def _stop_engines(self) -> None:
        for engine in self._engines.values():
            engine.stop(self._app.settings.grace)

    @property
    def _stopping(self) -> bool:
        return self._asked.is_set()

    def _main(self) -> None:
        restarts = Restarts()
        while True:
            began = time.monotonic()
            try:
                with asyncio.Runner(loop_factory=new_event_loop) as runner:
                    loop = runner.get_loop()
                    run_to_the_end(loop, loop.create_task(self._run()))
                return
            except BaseException as error:
                if not self._ready.is_set():  # who called `start` waits for it
                    self._failure = _first_cause(error)
                    self._ready.set()
                    return
                now = time.monotonic()
                restarts.ended(now, lived=now - began, with_jobs=True)
                wait = restarts.delay(random=1.0)
                logger.exception("workers_ended_by_error cluster=%s begin_again_after=%.1f", self._app.cluster_id, wait)
                self._engines.clear()
                if self._asked.wait(wait):
                    return

    async def _run(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._app.load_tasks()
        folder = self._app.settings.debug_log
        debug_log = start_debug_log(folder, self._app.cluster_id) if folder else None
        try:
            await self._run_plans()
        finally:
            if debug_log is not None:
                stop_debug_log(debug_log)

    async def _run_plans(self) -> None:
        plans = plan_workers(self._app)
        self._app.static_schedules()  # those that cannot work are told before anything runs
        for told in self._app.resolved.warnings:
            logger.warning("setting_ignored text=%s", told)
        for told in self._app.schedule_warnings():
            logger.warning("schedule_never_fires text=%s", told)
        for lane in unserved_lanes(self._app, plans):
            logger.warning("lane_without_worker lane=%s", lane)
        first = await open_for_worker(self._app.settings, plans[0].agent)
        try:
            await start_up(self._app, first)
        finally:
            await first.close()
        ready = [asyncio.Event() for _ in plans]
        async with asyncio.TaskGroup() as group:
            for plan, event in zip(plans, ready, strict=True):
                group.create_task(self._keep_running(plan, event))
            for event in ready:
                await event.wait()
            self._ready.set()

    async def _keep_running(self, plan: WorkerPlan, ready: asyncio.Event) -> None:
        """Run an engine, and another one where it had to be given up (see `_run_one`), as soon as its store answers."""
        reason: str | None = ""
        pause = Backoff(duty="replace_engine", random=random.random)
        while True:
            try:
                reason = await self._run_next(plan, ready, is_first=not reason)
            except StoreUnavailable as error:
                if not ready.is_set():  # who called `start` waits for it
                    raise
                reason = str(error)
                await pause.wait_after(error)
            else:
                pause.succeeded()
                if reason is not None and not self._stopping:
                    logger.error("engine_replaced name=%s reason=%s", plan.name, reason)
            if reason is None or self._stopping:
                ready.set()  # stopped before it was: nobody is to wait for that any longer
                return

    async def _run_next(self, plan: WorkerPlan, ready: asyncio.Event, *, is_first: bool) -> str | None:
        connections = await open_for_worker(self._app.settings, plan.agent)
        try:
            if not is_first:  # it may be another database
                await start_up(self._app, connections)
            return await self._run_one(plan, connections.store, ready)
        finally:
            await connections.close()

    async def _run_one(self, plan: WorkerPlan, store: Store, ready: asyncio.Event) -> str | None:
        """Run one engine to its end; the answer is why it was given up, or None.

        A run in it could not be ended or held its event loop up, or its database was replaced by another one.
        """
        from jobmaster.engine.links.threads import KeeperThread, ThreadLink
        from jobmaster.engine.loop_watch import LoopWatch

        settings, clock = self._app.settings, SystemClock()
        link = ThreadLink(
            stop=lambda now: engine.abort() if now else engine.stop(plan.grace),
            on_condemned=lambda _reason: engine.stop(CONDEMNED_GRACE),
        )
        engine = build_engine(self._app, plan, store=store, link=link, clock=clock)
        keeper = KeeperThread(
            link,
            open_store=cast("Callable[[], Awaitable[Store]]", lambda: open_master(settings)),
            close_store=lambda opened: cast("Store", opened).close_store(),
            clock=clock,
            timing=lease_timing(settings),
            random=random.random,
        )
        await asyncio.to_thread(keeper.start)
        watch = LoopWatch(
            beats=link.beats,
            max_block=settings.max_block,
            on_limit=lambda block: keeper.give_up(block, reason=f"event loop blocked for {settings.max_block:g} s"),
        )
        telling = asyncio.create_task(_tell(engine.ready, ready))
        self._engines[plan.name] = engine
        if self._stopping:
            engine.stop(plan.grace)
        try:
            await engine.run()
        finally:
            watch.stop()
            telling.cancel()
            link.exited("exit 0")
            keeper.stop()  # not in another thread: at the end of the interpreter none can be started
        return "its database was replaced" if engine.homeless else link.forsaken or link.condemned()


async def _tell(one: asyncio.Event, other: asyncio.Event) -> None:
    await one.wait()
    other.set()


def _first_cause(error: BaseException) -> BaseException:
    """The error inside of a task group's bundle."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
