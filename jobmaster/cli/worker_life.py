"""The life of `jobmaster worker`: hear of the app, keep its engines, obey signals, and start anew when files change."""

from __future__ import annotations

import asyncio
import contextlib
import faulthandler
import logging
import signal
import sys
from typing import TYPE_CHECKING

import click

from jobmaster.cli.banner import banner_facts, show_banner, warn_of_found, warn_of_promises, warn_of_replaced
from jobmaster.cli.failures import FAILED, Failure, log_failure
from jobmaster.cli.output import printable, show_json
from jobmaster.cli.reload import Watcher
from jobmaster.cli.service_manager import ServiceManager
from jobmaster.cli.worker_health import WorkerHealth
from jobmaster.early_start import start_first_engine
from jobmaster.errors import JobMasterError
from jobmaster.first_engine import AppUnusable, FirstEngine
from jobmaster.observe.debug_log import start_debug_log
from jobmaster.observe.logs import JSON, configure_logs, name_worker
from jobmaster.supervising import Crew, open_store, promises, reaping_orphans

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from jobmaster.early_start import StartedEngine
    from jobmaster.findings import Found
    from jobmaster.supervising import Promise
    from jobmaster.worker_order import WorkerOrder

logger = logging.getLogger("jobmaster.supervisor")

SIGNALS = [getattr(signal, name) for name in ("SIGTERM", "SIGINT", "SIGHUP") if hasattr(signal, name)]
RELOAD_WITHIN = 2.0
"""Seconds that running jobs get when files have changed."""
RELOAD_BY_FORCE = 0.5
"""Seconds after which engines that did not end by themselves are killed."""


class WorkerLife:
    """One run of the command.

    Args:
        order: what was asked for.
        first: the first engine process, started with this order.
        reload: start anew when files change.
        health_port: where to answer probes, or None.
        as_json: the banner is one JSON object.
        service: variables of the environment that a service manager has set (`service_manager.VARIABLES`).
    """

    def __init__(
        self,
        order: WorkerOrder,
        first: StartedEngine,
        *,
        reload: bool,
        health_port: int | None,
        as_json: bool,
        service: Mapping[str, str],
    ) -> None:
        self._order = order
        self._first = first
        self._reload = reload
        self._health_port = health_port
        self._as_json = as_json
        self._crew: Crew | None = None
        self._moved = False
        self._signals = 0
        self._service = ServiceManager.of(service)
        self._health = WorkerHealth()
        self._asked = asyncio.Event()

    def run(self) -> int:
        """Run to the end; the answer is the exit code.

        Raises:
            ConfigurationError: the app cannot be run.
            StoreUnavailable: the master cannot be reached.
            Failure: the engines could not start.
        """
        configure_logs(level=self._order.log_level, format=self._order.log_format)
        name_worker(self._order.name or self._order.identity)
        if sys.__stderr__ is not None:  # as in its engines; without a handler it would end the worker
            faulthandler.register(signal.SIGUSR1, sys.__stderr__, all_threads=True)
        # A signal that comes while the loop is made waits until somebody is there to hear it.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
        return asyncio.run(self._run(before))

    async def _run(self, mask: set[signal.Signals] | set[int]) -> int:
        loop = asyncio.get_running_loop()
        for number in SIGNALS:
            if signal.getsignal(number) is not signal.SIG_IGN:  # nohup: the end of the terminal does not matter
                loop.add_signal_handler(number, self._signalled, number)
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        async with contextlib.AsyncExitStack() as stack:
            # One that comes while the interpreter ends, when nobody hears it any more, must not make a kill of the end.
            stack.callback(signal.pthread_sigmask, signal.SIG_BLOCK, SIGNALS)
            health = self._health
            stack.enter_context(reaping_orphans())
            attending = asyncio.create_task(self._service.attend(alive=lambda: health.alive().ok, status=self._status))
            stack.callback(attending.cancel)
            if self._health_port is not None:
                port = await health.start(self._health_port)
                stack.push_async_callback(health.close)
                logger.info("health_answers url=http://127.0.0.1:%d/healthz", port)
            first = FirstEngine(self._order, self._first)
            found = await self._first_look(first)
            if found is None:
                return 0
            if found.settings.debug_log:
                start_debug_log(found.settings.debug_log, found.settings.cluster_id)
            run = self._run_and_reload if self._reload else self._run_and_move
            return await run(found, first, health)

    def _signalled(self, number: signal.Signals) -> None:
        self._signals += 1
        self._service.stopping()
        self._health.stop()
        self._asked.set()
        if self._crew is not None:
            self._crew.stop()
        logger.info("signal name=%s times=%d", number.name, self._signals)

    def _status(self) -> str:
        """A line for whoever asks the service manager."""
        engines = [] if self._crew is None else self._crew.engines()
        if not engines:
            return "Starting"
        running, waiting = sum(engine.running for engine in engines), sum(engine.waiting for engine in engines)
        state = "Stopping" if self._signals else "Running"
        return f"{state}: {len(engines)} engine{'s' * (len(engines) > 1)}, {running} jobs run, {waiting} wait here"

    async def _first_look(self, first: FirstEngine) -> Found | None:
        """The app, or None where a signal came first."""
        looking = asyncio.create_task(first.look())
        asked = asyncio.create_task(self._asked.wait())
        try:
            await asyncio.wait({looking, asked}, return_when=asyncio.FIRST_COMPLETED)
            return None if self._signals else await looking
        finally:
            for task in (looking, asked):
                task.cancel()
            await asyncio.wait({looking, asked})

    # ---------------------------------------------------------------- one state of the code

    async def _run_and_move(self, found: Found, first: FirstEngine, health: WorkerHealth) -> int:
        while True:
            code = await self._run_crew(found, first, health)
            if not self._moved or self._signals:
                return code
            found, first = await self._begin_anew()

    async def _begin_anew(self) -> tuple[Found, FirstEngine]:
        """The app once more, for a database in the place of the old one."""
        first = FirstEngine(self._order, start_first_engine(self._order))
        return await first.look(), first

    async def _run_crew(
        self, found: Found, first: FirstEngine, health: WorkerHealth, *, watcher: Watcher | None = None
    ) -> int:
        """Run engines until they end, are told to, or `watcher` finds a change that works."""
        first.go_on()
        async with contextlib.AsyncExitStack() as stack:
            stack.push_async_callback(first.dismiss)
            warn_of_found(found, self._warn)
            store = await stack.enter_async_context(open_store(found))
            promised = await promises(found, store)
            warn_of_promises(found, promised, self._warn)
            crew = Crew(self._order, found, first, store, on_ready=lambda: self._ready(found, promised, crew))
            self._crew = crew
            health.watch(crew, found)
            if self._signals:
                crew.stop()
            stopping = None if watcher is None else asyncio.create_task(self._stop_when_changed(crew, watcher))
            try:
                code = await crew.run()
            finally:
                self._crew = None
                self._moved = crew.moved
                health.watch(None, None)
                if stopping is not None:
                    stopping.cancel()
                    await asyncio.wait({stopping})
        if crew.failure is not None:
            raise Failure(f"The worker cannot start. {crew.failure}")
        return code

    def _ready(self, found: Found, promised: Sequence[Promise], crew: Crew) -> None:
        names = ",".join(plan.name for plan in found.plans)
        logger.info("worker_ready name=%s tasks=%d", names, len(found.tasks))
        self._service.status(self._status())
        if not self._signals:
            self._service.ready()
        with contextlib.suppress(OSError):  # nobody reads our output any more: no reason to stop
            if self._as_json:
                show_json(banner_facts(self._order, found, promised))
            elif self._order.log_format != JSON:
                show_banner(self._order, found, promised)
                warn_of_replaced(crew.engines(), self._warn)
            sys.stdout.flush()

    # ---------------------------------------------------------------- --reload

    async def _run_and_reload(self, found: Found, first: FirstEngine, health: WorkerHealth) -> int:
        watcher = Watcher(self._order.folder, found.files)
        current = (found, first)
        try:
            while True:
                try:
                    code = await self._run_crew(*current, health, watcher=watcher)
                except (JobMasterError, Failure) as error:
                    # In development the next save may repair it.
                    code = FAILED
                    self._tell(error)
                    if not self._signals:
                        await self._until_changed(watcher)
                if self._signals or (watcher.found is None and not self._moved):
                    return code
                current, watcher.found = watcher.found or await self._begin_anew(), None
        finally:
            if watcher.found is not None:
                await watcher.found[1].dismiss()

    async def _stop_when_changed(self, crew: Crew, watcher: Watcher) -> None:
        """Wait for code that works, then stop the engines of the old one within two seconds."""
        await self._find_change(watcher)
        self._service.reloading()
        crew.stop()
        await asyncio.sleep(RELOAD_WITHIN)
        crew.stop()
        # A thread that sleeps in C cannot be told to end; its job runs again in the new process.
        await asyncio.sleep(RELOAD_BY_FORCE)
        crew.stop()

    async def _until_changed(self, watcher: Watcher) -> None:
        changing = asyncio.create_task(self._find_change(watcher))
        asked = asyncio.create_task(self._asked.wait())
        await asyncio.wait({changing, asked}, return_when=asyncio.FIRST_COMPLETED)
        for task in (changing, asked):
            task.cancel()
        await asyncio.wait({changing, asked})

    async def _find_change(self, watcher: Watcher) -> None:
        while True:
            changed = await watcher.changed()
            logger.info("files_changed first=%s", changed[0])
            first = FirstEngine(self._order, start_first_engine(self._order))
            try:
                found = await first.look()
            except AppUnusable as error:
                self._tell(error)
                self._warn("The change cannot run; the worker goes on with the code of before.")
            else:
                watcher.found = (found, first)
                watcher.follow(found.files)
                logger.info("reloading")
                return

    def _warn(self, text: str) -> None:
        if self._order.log_format == JSON:
            logger.warning("worker_warns: %s", text)
        else:
            click.secho(f"Warning: {printable(text)}", fg="yellow", err=True)

    def _tell(self, error: Exception) -> None:
        if self._order.log_format == JSON:
            log_failure(error)
            return
        details = getattr(error, "details", "")
        if details:
            click.echo(printable(details, keep_lines=True), err=True, nl=False)
        click.secho(f"Error: {printable(str(error), keep_lines=True)}", fg="red", err=True)
