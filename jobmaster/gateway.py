"""One event loop's connection to a cluster: the stores, what is on its way into them, and what is waited for."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Final

import msgspec

from jobmaster.accept import Acceptor, Delivery
from jobmaster.errors import OutcomeUnknown, StoreUnavailable
from jobmaster.model.ids import key_text
from jobmaster.waiting import Waiters

if TYPE_CHECKING:
    from jobmaster.model.ids import JobKey
    from jobmaster.model.job import JobState, NewJob
    from jobmaster.model.states import CancelOutcome
    from jobmaster.ports.agent import Agent
    from jobmaster.ports.query import QueryStore
    from jobmaster.ports.store import Store

MOST_FLIGHTS: Final = 4
"""Batches of one process that are under way at once; what comes meanwhile travels together in the next."""
SHORT_WAIT: Final = 0.1
MOST_JOBS: Final = 1_000
"""Jobs in one call to a store."""


class Connections(msgspec.Struct, frozen=True):
    """Open stores of one event loop.

    `store` is master and home agent together. `agents` are all agents by name. `home` is the agent that is the
    master's own database, or None. `questions` answers people.
    """

    store: Store
    agents: Mapping[str, Agent]
    home: str | None
    questions: QueryStore
    close: Callable[[], Awaitable[None]]


class Parcel:
    """Jobs of one caller for one lane and priority, and where the answer goes.

    `done(error)` is called once, on the loop's thread; None means that they are stored.
    """

    __slots__ = ("deadline", "done", "hold", "jobs", "lane", "priority", "sent")

    def __init__(
        self,
        jobs: Sequence[NewJob],
        *,
        lane: str,
        priority: int,
        hold: bool,
        deadline: float,
        done: Callable[[Exception | None], None],
    ) -> None:
        self.jobs = jobs
        self.lane = lane
        self.priority = priority
        self.hold = hold
        self.deadline = deadline
        self.done = done
        self.sent = False


class Gateway:
    """Made on the loop that it serves. Only `put` and `withdraw` may be called from other threads."""

    def __init__(self, connections: Connections, *, token: str, only_master: bool) -> None:
        self.store = connections.store
        self.questions = connections.questions
        self._connections = connections
        self._loop = asyncio.get_running_loop()
        self._acceptor = Acceptor(
            connections.store, connections.agents, home=connections.home, jobs_first_on_master=only_master
        )
        self._waiters = Waiters(connections.store, topic=f"client:{token}")
        self._lock = threading.Lock()
        self._queue: list[Parcel] = []
        self._awake = False
        self._closed = False
        self._flights: set[asyncio.Task[None]] = set()
        self._clock_ahead_us: int | None = None

    # -- accept

    def put(self, parcel: Parcel) -> None:
        """Send a parcel. From any thread: calls that come together wake the loop once and travel together."""
        with self._lock:
            closed = self._closed
            if not closed:
                self._queue.append(parcel)
                wake, self._awake = not self._awake, True
        if closed:
            parcel.done(_closed())
        elif wake:
            self._loop.call_soon_threadsafe(self._depart)

    def withdraw(self, parcel: Parcel) -> bool:
        """Take a parcel back. True: it has not been sent, so nothing was stored."""
        with self._lock:
            if parcel.sent or parcel not in self._queue:
                return False
            self._queue.remove(parcel)
            return True

    def _depart(self) -> None:
        if len(self._flights) >= MOST_FLIGHTS:
            return  # the end of a flight comes here again
        with self._lock:
            parcels, self._queue, self._awake = self._queue, [], False
            for parcel in parcels:
                parcel.sent = True
        for group in _grouped(parcels):
            flight = self._loop.create_task(self._fly(group), name="jobmaster-accept")
            self._flights.add(flight)
            flight.add_done_callback(self._landed)

    def _landed(self, flight: asyncio.Task[None]) -> None:
        self._flights.discard(flight)
        if self._awake:
            self._depart()

    async def _fly(self, parcels: Sequence[Parcel]) -> None:
        try:
            error = await self._store(parcels)
        except asyncio.CancelledError:
            for parcel in parcels:
                parcel.done(OutcomeUnknown("The app was closed while a store was asked.", job_id=_first_id(parcel)))
            raise
        if error is not None and len(parcels) > 1 and not isinstance(error, StoreUnavailable):
            # One parcel's data may be at fault; the others must not suffer from it.
            for parcel in parcels:
                _answer(parcel, await self._store([parcel]))
            return
        for parcel in parcels:
            _answer(parcel, error)

    async def _store(self, parcels: Sequence[Parcel]) -> Exception | None:
        first = parcels[0]
        jobs = first.jobs if len(parcels) == 1 else [job for parcel in parcels for job in parcel.jobs]
        deadline = min(parcel.deadline for parcel in parcels)
        delivery = Delivery(jobs, lane=first.lane, priority=first.priority, deadline=deadline)
        try:
            await (self._acceptor.hold(delivery) if first.hold else self._acceptor.accept(delivery))
        except Exception as error:  # noqa: BLE001 - whatever a store raises is the caller's answer
            return error
        return None

    # -- questions

    async def look_up(self, key: JobKey) -> JobState | None:
        """Status and outcome of one job, or None."""
        return (await self.store.look_up([key]))[0]

    async def wait_for(self, key: JobKey, timeout: float | None) -> JobState | None:
        """The final state of a job; None: it has not ended within `timeout` seconds."""
        if timeout is not None and timeout < SHORT_WAIT:
            # Too short for the shared question: a job that has ended must be found even without any time to wait.
            state = await self.look_up(key)
            if state is not None and state.status.is_final:
                return state
        return await self._waiters.wait(key, timeout)

    async def cancel(self, key: JobKey) -> CancelOutcome:
        """R19. The store signals the owner where there is one."""
        return (await self.store.cancel(key)).outcome

    async def clock_ahead_us(self) -> int:
        """How far the store's clock is ahead of this process's."""
        if self._clock_ahead_us is None:
            before = time.time_ns()
            now_us = await self.store.now_us()
            self._clock_ahead_us = now_us - (before + time.time_ns()) // 2_000
        return self._clock_ahead_us

    async def close(self) -> None:
        """Let what is under way arrive, then close the stores."""
        with self._lock:
            self._closed = True
            parcels, self._queue = self._queue, []
        for parcel in parcels:
            parcel.done(_closed())
        if self._flights:
            await asyncio.gather(*self._flights, return_exceptions=True)
        await self._waiters.close()
        await self._acceptor.close()
        await self._connections.close()


def _closed() -> StoreUnavailable:
    return StoreUnavailable("The app was closed meanwhile, and nothing was stored. The next call opens it again.")


def new_token() -> str:
    """A name for this process's signals."""
    return f"{os.getpid():x}-{os.urandom(6).hex()}"


def _grouped(parcels: Sequence[Parcel]) -> list[list[Parcel]]:
    """Parcels that can travel in one call: same way, and not too many jobs. A job comes once in a group."""
    open_groups: dict[tuple[str, int, bool], list[Parcel]] = {}
    sizes: dict[tuple[str, int, bool], int] = {}
    keys: dict[tuple[str, int, bool], set[JobKey]] = {}
    groups: list[list[Parcel]] = []
    for parcel in parcels:
        route = (parcel.lane, parcel.priority, parcel.hold)
        group = open_groups.get(route)
        seen = keys.get(route, set())
        full = sizes.get(route, 0) + len(parcel.jobs) > MOST_JOBS
        if group is None or full or any(job.key in seen for job in parcel.jobs):
            group = open_groups[route] = []
            groups.append(group)
            sizes[route] = 0
            seen = keys[route] = set()
        group.append(parcel)
        sizes[route] += len(parcel.jobs)
        seen.update(job.key for job in parcel.jobs)
    return groups


def _answer(parcel: Parcel, error: Exception | None) -> None:
    if isinstance(error, OutcomeUnknown):
        job_id = _first_id(parcel)
        advice = f" Repeat with options(job_id={job_id!r}): the same id is the same job." if job_id else ""
        unknown = OutcomeUnknown(f"{error}{advice}", job_id=job_id)
        unknown.__cause__ = error
        parcel.done(unknown)
        return
    parcel.done(error)


def _first_id(parcel: Parcel) -> str | None:
    """The id to repeat with, where the parcel is one job."""
    if len(parcel.jobs) != 1:
        return None
    job = parcel.jobs[0]
    return job.envelope.custom_id or key_text(job.key)
