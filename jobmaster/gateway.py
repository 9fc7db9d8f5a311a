"""One event loop's connection to a cluster: the stores, what is on its way into them, and what is waited for."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Final, NamedTuple

import msgspec

from jobmaster.accept import Acceptor, Delivery
from jobmaster.errors import OutcomeUnknown, SerializationError, StoreUnavailable
from jobmaster.model.ids import key_text
from jobmaster.ports.answers import Refused
from jobmaster.ports.direct import DirectAgent
from jobmaster.waiting import Waiters

if TYPE_CHECKING:
    from jobmaster.model.bucket import Bucket
    from jobmaster.model.ids import JobKey
    from jobmaster.model.job import JobState, NewJob
    from jobmaster.model.states import CancelOutcome
    from jobmaster.ports.agent import Agent
    from jobmaster.ports.query import QueryStore
    from jobmaster.ports.store import Store

MOST_FLIGHTS: Final = 2
"""Batches of one way that are under way at once; what comes meanwhile travels together in the next."""
WORTH_A_TRY: Final = 0.25
"""Seconds that must be left to ask again where a store has said for certain that it stored nothing."""
SHORT_WAIT: Final = 0.1
MOST_JOBS: Final = 1_000
"""Jobs in one call to a store."""
CLOCK_SAMPLES: Final = 3
"""How often the store is asked for its time, once in a process's life."""


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


class Route(NamedTuple):
    """A way that jobs go. `hold`: to the master, and not into a bucket."""

    lane: str
    priority: int
    hold: bool


class Parcel:
    """Jobs of one caller for one route. Subclasses say where the answer goes.

    Attributes:
        deadline: until when a store may be asked, by `time.monotonic()`.
        placed: it has been in the line of its route. It never gets there twice.
    """

    __slots__ = ("deadline", "doubtful", "gateway", "jobs", "offered", "placed", "route", "sent")

    def __init__(self, jobs: Sequence[NewJob], route: Route, deadline: float) -> None:
        self.jobs = jobs
        self.route = route
        self.deadline = deadline
        self.placed = False
        self.sent = False
        self.gateway: Gateway | None = None
        self.offered: Bucket | None = None
        self.doubtful = False

    def done(self, error: Exception | None) -> None:
        """Called once, on the loop's or a store's thread; None means that the jobs are stored."""
        raise NotImplementedError

    def in_time(self, left: float = 0.0) -> bool:
        """Whether a store may still be asked, with more than so many seconds left."""
        return time.monotonic() + left < self.deadline

    @property
    def bucket(self) -> int:
        """See `ports.direct.Handed`: into which bucket it was handed."""
        return -1 if self.offered is None else self.offered.id

    def answered(self, error: Exception | None) -> None:
        """See `ports.direct.Handed`: what has become of it."""
        if error is None or self.gateway is None:
            self.done(error)
        else:
            self.gateway.take_over(self, error)


class Line:
    """The parcels of one route that wait, and how many batches of it are under way."""

    __slots__ = ("flying", "parcels")

    def __init__(self) -> None:
        self.parcels: deque[Parcel] = deque()
        self.flying = 0

    def load(self) -> list[Parcel]:
        """The next batch: at least one parcel, not too many jobs, no job twice, and those in doubt alone."""
        batch: list[Parcel] = []
        keys: set[JobKey] = set()
        while self.parcels:
            parcel = self.parcels[0]
            own = {job.key for job in parcel.jobs}
            if batch and (parcel.doubtful or len(keys) + len(own) > MOST_JOBS or not keys.isdisjoint(own)):
                break
            self.parcels.popleft()
            parcel.sent = True
            batch.append(parcel)
            keys |= own
            if parcel.doubtful:
                break
        return batch


class Gateway:
    """Made on the loop that it serves. Only `send`, `put`, `take_over` and `withdraw` may be called elsewhere."""

    def __init__(self, connections: Connections, *, token: str, only_master: bool) -> None:
        self.store = connections.store
        self.questions = connections.questions
        self._connections = connections
        self._loop = asyncio.get_running_loop()
        self._acceptor = Acceptor(
            connections.store, connections.agents, home=connections.home, jobs_first_on_master=only_master
        )
        self._direct: dict[str, DirectAgent] = {
            name: agent for name, agent in connections.agents.items() if isinstance(agent, DirectAgent)
        }
        self._waiters = Waiters(connections.store, topic=f"client:{token}")
        # A signal's handler that enqueues may come while its own thread holds it: what it does there harms nothing.
        self._lock = threading.RLock()
        self._lines: dict[Route, Line] = {}
        self._awake = False
        self._closed = False
        self._flights: set[asyncio.Task[None]] = set()
        self._clock_ahead_us: int | None = None
        self._identity: str | None = None

    # -- accept

    def send(self, parcel: Parcel) -> None:
        """Send a parcel from a thread that will wait: straight into a store that takes it, else as `put`."""
        route = parcel.route
        bucket = None if route.hold or not self._direct else self._acceptor.at_hand(route.lane, route.priority)
        agent = None if bucket is None else self._direct.get(bucket.agent)
        if agent is None:
            self.put(parcel)
            return
        parcel.gateway, parcel.offered = self, bucket
        try:
            agent.hand(parcel)
        except (SerializationError, StoreUnavailable) as error:
            self.take_over(parcel, error)

    def put(self, parcel: Parcel, *, here: bool = False) -> None:
        """Send a parcel: calls that come together wake the loop once and travel together.

        Args:
            parcel: what to send.
            here: the caller is on the gateway's loop; else it may be any thread.
        """
        with self._lock:
            closed = self._closed
            if not closed:
                line = self._lines.get(parcel.route) or self._lines.setdefault(parcel.route, Line())
                if not parcel.placed and (parcel.gateway is None or parcel not in line.parcels):
                    line.parcels.append(parcel)
                parcel.placed = True
                # Where enough is under way the end of a flight takes it along.
                if not self._awake and line.flying < MOST_FLIGHTS:
                    # Noted last: a thread that is interrupted here leaves nothing that others wait for.
                    (self._loop.call_soon if here else self._loop.call_soon_threadsafe)(self._depart)
                    self._awake = True
        if closed:
            parcel.done(_closed(parcel))

    def take_over(self, parcel: Parcel, error: Exception) -> None:
        """What a store did not simply take goes the ordinary way, with what is known of it. From any thread.

        Whoever calls may be interrupted, and call again: a parcel goes once.
        """
        if isinstance(error, OutcomeUnknown):
            parcel.doubtful = True
            self.put(parcel)
        elif (
            parcel.placed
            or isinstance(error, Refused)
            or (isinstance(error, StoreUnavailable) and parcel.in_time(WORTH_A_TRY))
        ):
            parcel.offered = None
            self.put(parcel)
        else:
            parcel.done(error)

    def withdraw(self, parcel: Parcel) -> bool:
        """Take a parcel back. True: it has not been sent, so nothing was stored."""
        if parcel.offered is not None:
            agent = self._direct[parcel.offered.agent]
            if agent.take_back(parcel):
                return True
        with self._lock:
            line = self._lines.get(parcel.route)
            if parcel.sent or parcel.doubtful or line is None or parcel not in line.parcels:
                return False
            line.parcels.remove(parcel)
            return True

    def _depart(self) -> None:
        batches: list[tuple[Line, list[Parcel]]] = []
        with self._lock:
            self._awake = False
            for line in self._lines.values():
                while line.parcels and line.flying < MOST_FLIGHTS:
                    line.flying += 1
                    batches.append((line, line.load()))
        for line, batch in batches:
            flight = self._loop.create_task(self._fly(line, batch), name="jobmaster-accept")
            self._flights.add(flight)
            flight.add_done_callback(self._flights.discard)

    async def _fly(self, line: Line, waiting: list[Parcel]) -> None:
        try:
            await self._deliver(waiting)
        except asyncio.CancelledError:
            for parcel in waiting:
                parcel.done(OutcomeUnknown("The app was closed while a store was asked.", job_id=_first_id(parcel)))
            raise
        finally:
            line.flying -= 1
            if line.parcels:
                self._depart()

    async def _deliver(self, waiting: list[Parcel]) -> None:
        """Store a batch and answer its parcels, which leaves `waiting` empty. Each has its own deadline and fault."""
        delivery = _delivery(waiting)
        error = await self._store(delivery)
        while isinstance(error, StoreUnavailable):
            late = [parcel for parcel in waiting if not parcel.in_time()]
            if not late or len(late) == len(waiting):
                break
            # Those who came later have time left, and what is unknown of the batch is unknown of their jobs, too.
            waiting[:] = [parcel for parcel in waiting if parcel not in late]
            for parcel in late:
                _answer(parcel, error)
            delivery = delivery.part(_jobs_of(waiting), deadline=min(parcel.deadline for parcel in waiting))
            error = await self._store(delivery)
        if error is not None and not isinstance(error, StoreUnavailable) and len(waiting) > 1:
            # One parcel's data may be at fault; the others must not suffer from it.
            while waiting:
                parcel = waiting[0]
                error = await self._store(delivery.part(parcel.jobs, deadline=parcel.deadline))
                _answer(waiting.pop(0), error)
        while waiting:
            _answer(waiting.pop(), error)

    async def _store(self, delivery: Delivery) -> Exception | None:
        try:
            await self._acceptor.accept(delivery)
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

    async def identity(self) -> str:
        """Which database the master is."""
        if self._identity is None:
            self._identity = await self.store.identity()
        return self._identity

    async def clock_ahead_us(self) -> int:
        """How far the store's clock is ahead of this process's."""
        if self._clock_ahead_us is None:
            # The quickest answer is the most exact one; on a busy machine one of them may take seconds.
            _, self._clock_ahead_us = min([await self._sample_clock() for _ in range(CLOCK_SAMPLES)])
        return self._clock_ahead_us

    async def _sample_clock(self) -> tuple[int, int]:
        """Nanoseconds that the store's time took to come, and how far it is ahead, in microseconds."""
        before = time.time_ns()
        now_us = await self.store.now_us()
        after = time.time_ns()
        return after - before, now_us - (before + after) // 2_000

    async def close(self) -> None:
        """Let what is under way arrive, then close the stores."""
        with self._lock:
            self._closed = True
            left = [parcel for line in self._lines.values() for parcel in line.parcels]
            self._lines.clear()
        for parcel in left:
            parcel.done(_closed(parcel))
        if self._flights:
            await asyncio.gather(*self._flights, return_exceptions=True)
        await self._waiters.close()
        await self._acceptor.close()
        await self._connections.close()


def _closed(parcel: Parcel) -> StoreUnavailable:
    if parcel.doubtful:
        return OutcomeUnknown("The app was closed while a store was asked.", job_id=_first_id(parcel))
    return StoreUnavailable("The app was closed meanwhile, and nothing was stored. The next call opens it again.")


def new_token() -> str:
    """A name for this process's signals."""
    return f"{os.getpid():x}-{os.urandom(6).hex()}"


def _jobs_of(parcels: Sequence[Parcel]) -> Sequence[NewJob]:
    return parcels[0].jobs if len(parcels) == 1 else [job for parcel in parcels for job in parcel.jobs]


def _delivery(parcels: Sequence[Parcel]) -> Delivery:
    first = parcels[0]
    delivery = Delivery(
        _jobs_of(parcels),
        lane=first.route.lane,
        priority=first.route.priority,
        deadline=min(parcel.deadline for parcel in parcels),
        to_master=first.route.hold,
    )
    if first.doubtful:  # then it is alone
        delivery.bucket = first.offered
        delivery.doubt()
    return delivery


def _answer(parcel: Parcel, error: Exception | None) -> None:
    """Answer with an error of its own: one exception that several threads raise would tell several stories."""
    own = error
    if isinstance(error, OutcomeUnknown):
        job_id = _first_id(parcel)
        advice = f" Repeat with options(job_id={job_id!r}): the same id is the same job." if job_id else ""
        own = OutcomeUnknown(f"{error}{advice}", job_id=job_id)
    elif isinstance(error, StoreUnavailable):
        own = StoreUnavailable(str(error))
    if own is not None and own is not error:
        own.__cause__ = error
    parcel.done(own)


def _first_id(parcel: Parcel) -> str | None:
    """The id to repeat with, where the parcel is one job."""
    if len(parcel.jobs) != 1:
        return None
    job = parcel.jobs[0]
    return job.envelope.custom_id or key_text(job.key)
