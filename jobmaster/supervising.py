"""The supervisor's process of `jobmaster worker`: it looks at the app by a probe, then keeps its engine processes.

No user code is imported here, so that none can keep it from renewing leases: what this process must know of the app
comes from the probe.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import msgspec

from jobmaster.engine.lease_keeper import LeaseKeeper
from jobmaster.engine.links.processes import Launch, ProcessSpawner
from jobmaster.engine.supervisor import Patience, Supervisor
from jobmaster.errors import ConfigurationError, StoreUnavailable
from jobmaster.model.states import ClusterMode, WorkerMode
from jobmaster.runtime import SystemClock, default_worker_name, lease_timing, open_connections, open_master
from jobmaster.worker_process import ENTRY, Answer, EngineOrder, Found, Unusable, WorkerOrder

if TYPE_CHECKING:
    from jobmaster.engine.links.processes import ProcessChild
    from jobmaster.ports.store import Store

logger = logging.getLogger("jobmaster.supervisor")

__all__ = [
    "AppUnusable", "Crew", "EngineState", "Found", "Promise", "WorkerOrder", "default_worker_name", "look_at_app",
    "open_store", "promises",
]  # fmt: skip

LOOK_EVERY = 0.05
"""Seconds between two looks at the engines while none is ready; afterwards nobody looks."""
PROBE_WITHIN = 300.0


class AppUnusable(ConfigurationError):  # noqa: N818 - as the tree of errors names them
    """There is no app to run, or it cannot be imported.

    Attributes:
        details: the traceback of the user's own code, may be empty.
    """

    def __init__(self, unusable: Unusable) -> None:
        super().__init__(unusable.message)
        self.details = unusable.details


async def look_at_app(order: WorkerOrder) -> Found:
    """Have a process of its own import the app and say what it is.

    Raises:
        AppUnusable: it cannot be used; the text says why.
    """
    ours, theirs = socket.socketpair()
    with ours:
        try:
            process = subprocess.Popen(  # noqa: ASYNC220 - some milliseconds, once
                [sys.executable, "-m", "jobmaster.worker_process", str(theirs.fileno())],
                stdin=subprocess.DEVNULL,
                pass_fds=(theirs.fileno(),),
            )
        finally:
            theirs.close()
        try:
            answer = await _exchange(ours, msgspec.msgpack.encode(order))
        finally:
            process.kill()
            code = process.wait()
    if not answer:
        why = f"it ended with exit code {code}" if code >= 0 else f"it was ended by {signal.Signals(-code).name}"
        raise AppUnusable(
            Unusable(
                message=f"The app {order.place!r} cannot be imported: the process that tried gave no answer ({why}). "
                "Does a module end the program when it is imported?"
            )
        )
    told = msgspec.msgpack.decode(answer, type=Answer)
    if told.found is None:
        raise AppUnusable(told.unusable or Unusable(message="The app cannot be used."))
    return told.found


async def _exchange(peer: socket.socket, order: bytes) -> bytes:
    reader, writer = await asyncio.open_connection(sock=peer)
    try:
        async with asyncio.timeout(PROBE_WITHIN):
            writer.write(order)
            writer.write_eof()
            return await reader.read()
    except TimeoutError:
        raise AppUnusable(
            Unusable(
                message=f"Importing the app took longer than {PROBE_WITHIN:g} s. A module must not run the program, or "
                "wait for something, when it is imported."
            )
        ) from None
    except ConnectionError:
        return b""
    finally:
        writer.close()


class Crew:
    """The engine processes of one state of the app's code, from their start to their end.

    Args:
        order: what the worker was told.
        found: what the probe found.
        store: the master, for leases.
        on_ready: called once, when the first engine could run a job.
    """

    def __init__(self, order: WorkerOrder, found: Found, store: Store, *, on_ready: Callable[[], None]) -> None:
        self._order = order
        self._found = found
        self._store = store
        self._on_ready = on_ready
        self._clock = SystemClock()
        self._spawner = _Spawner(self._launch)
        settings = found.settings
        keeper = LeaseKeeper(store=store, clock=self._clock, timing=lease_timing(settings), random=random.random)
        self._supervisor = Supervisor(
            spawner=self._spawner,
            keeper=keeper,
            store=store,
            clock=self._clock,
            engines=len(found.plans),
            patience=Patience(max_block=settings.max_block, grace=found.plans[0].grace),
            random=random.random,
        )
        self._spawner.on_news = self._supervisor.wake
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
        return [child for child in self._spawner.children.values() if child.exit_reason() is None]

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

    async def _announce(self) -> None:
        # No event: the report is what the link last received, and nobody is called when it comes.
        while not any(engine.buckets or self._needs_no_bucket(engine) for engine in self.engines()):  # noqa: ASYNC110
            await asyncio.sleep(LOOK_EVERY)
        self._on_ready()

    def _needs_no_bucket(self, engine: EngineState) -> bool:
        return engine.granted_us > 0 and not self.runs_jobs

    def _launch(self, engine: int) -> Launch:
        plan = self._found.plans[engine]
        arguments = msgspec.msgpack.encode(EngineOrder(order=self._order, plan=plan))
        return Launch(entry=ENTRY, arguments=arguments, grace=plan.grace)


class Promise(msgspec.Struct, frozen=True):
    """What an acceptance by a store survives: "process", "host", or "unknown", and how that was found out."""

    store: str
    survives: str
    evidence: str


class EngineState(msgspec.Struct, frozen=True):
    """What is known of an engine here.

    `beats` is its liveness counter; `granted_us` the store's time of the last grant that it took in, 0 before the
    first; `buckets` how many it owns.
    """

    pid: int
    beats: int
    granted_us: int
    buckets: int


def _state(child: ProcessChild) -> EngineState:
    report = child.reports()
    if report is None:
        return EngineState(pid=child.pid, beats=child.beats(), granted_us=0, buckets=0)
    owned = msgspec.json.decode(report.stats, type=_Stats).buckets
    return EngineState(pid=child.pid, beats=child.beats(), granted_us=report.cut_us, buckets=owned)


class _Stats(msgspec.Struct):
    """What is read here of what an engine says of itself."""

    buckets: int = 0


class _Spawner(ProcessSpawner):
    """Remembers the newest process of each engine."""

    def __init__(self, launch: Callable[[int], Launch]) -> None:
        super().__init__(launch)
        self.children: dict[int, ProcessChild] = {}

    async def spawn(self, engine: int) -> ProcessChild:
        child = await super().spawn(engine)
        self.children[engine] = child
        return child


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


@asynccontextmanager
async def open_store(found: Found) -> AsyncIterator[Store]:
    """The master on a connection of the supervisor's own.

    Raises:
        ConfigurationError: there is no driver, or no store, for its address.
        StoreUnavailable: it cannot be reached.
        SchemaError: its schema is another version's.
    """
    store = await open_master(found.settings)
    try:
        yield store
    finally:
        with contextlib.suppress(OSError):
            await store.close_store()
