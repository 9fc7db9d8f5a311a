"""The producer's side of an app: from a call to a stored job, from sync code and from event loops, in every process.

Sync code shares one background event loop per process, made on first use and made anew after a fork. Async code uses
stores on its own running loop. Both collect what comes together into one call to the store.
"""

from __future__ import annotations

import asyncio
import atexit
import os
import threading
import time
import weakref
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any, Final, TypeVar

import msgspec

from jobmaster.context import running_job
from jobmaster.errors import (
    ClusterArchived,
    ConfigurationError,
    MessageTooLarge,
    OutcomeUnknown,
    StoreUnavailable,
)
from jobmaster.gateway import MOST_JOBS, Connections, Gateway, Parcel, new_token
from jobmaster.loops import Background, Tenancy
from jobmaster.model.ids import key_text
from jobmaster.model.job import Envelope, NewJob, encode_envelope
from jobmaster.model.states import ClusterMode, Priority

if TYPE_CHECKING:
    from jobmaster.options import CallPlan
    from jobmaster.registry import Target
    from jobmaster.settings import Settings
    from jobmaster.wire.codec import Codec

T = TypeVar("T")

WAVE: Final = 8
"""Batches of one call that are sent before their answers are waited for: each wave has its own accept_timeout."""
ANSWER_SLACK: Final = 2.0
"""Seconds that a sync caller gives the loop beyond the deadline before it stops believing in an answer."""

Opener = Callable[[], Awaitable[Connections]]


class Order(msgspec.Struct, frozen=True):
    """One job that is ready to be stored, and where it goes."""

    job: NewJob
    id: str
    lane: str
    priority: int
    hold: bool


class Ticket:
    """A sync caller's place to wait: a bare lock, the cheapest thing that a thread can wait for."""

    __slots__ = ("_lock", "error")

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._lock.acquire()
        self.error: Exception | None = None

    def done(self, error: Exception | None) -> None:
        """Answer it."""
        self.error = error
        self._lock.release()

    def wait(self, timeout: float) -> bool:
        """Wait for the answer; False: there is none yet."""
        return self._lock.acquire(timeout=max(0.0, timeout))


class Client:
    """Enqueues jobs and asks about them.

    Args:
        settings: the cluster's settings.
        codec: writes arguments, reads results.
        opener: opens the stores on the running loop.
    """

    def __init__(self, settings: Callable[[], Settings], *, codec: Codec, opener: Opener) -> None:
        self.codec = codec
        self._settings = settings
        self._opener = opener
        self._lock = threading.RLock()
        self._background: Background | None = None
        self._tenancies: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, Tenancy] = weakref.WeakKeyDictionary()
        self._token = new_token()
        _clients.add(self)

    # -- enqueue

    def order(self, target: Target, call: bytes, plan: CallPlan, *, clock_ahead_us: int = 0) -> Order:
        """A job for the target, sized, addressed and ready to be stored.

        Args:
            target: the task.
            call: the encoded arguments.
            plan: the options of the call.
            clock_ahead_us: how far the store's clock is ahead; only `expires` after a time needs it.

        Raises:
            ClusterArchived: the cluster takes no work.
            ConfigurationError: the cluster has switched this priority off.
            MessageTooLarge: the job is above `max_message_bytes`.
        """
        settings = self._settings()
        self.require_writable()
        lane = target.lane if plan.lane is None else plan.lane
        priority = target.priority if plan.priority is None else plan.priority
        if settings.is_disabled(Priority(priority)):
            raise ConfigurationError(
                f"The priority {Priority(priority).name.lower()} is switched off in cluster {settings.cluster_id!r} "
                "(setting buckets). Use another one, or give it buckets again."
            )
        now_us = time.time_ns() // 1_000
        key = plan.job_key()
        expires_us = plan.expires_us
        if plan.expires_after_us is not None:
            expires_us = now_us + clock_ahead_us + plan.expires_after_us
        envelope = Envelope(
            task=target.name,
            call=call,
            created_us=now_us,
            scheduled_us=now_us + plan.delay_us if plan.due_us is None else plan.due_us,
            lane=lane,
            priority=priority,
            at_most_once=target.at_most_once,
            metadata={**target.metadata, **plan.metadata} if plan.metadata else target.metadata,
            expires_us=expires_us,
            timeout=plan.timeout,
            soft_timeout=plan.soft_timeout,
            max_retries=plan.max_retries,
            keep_result=settings.keep_result if target.keep_result is None else target.keep_result,
            reply_to=self._token,
            custom_id=plan.custom_id,
            is_data=target.is_data,
        )
        payload = encode_envelope(envelope)
        if len(payload) > settings.max_message_bytes:
            raise MessageTooLarge(
                f"The job for {target.name} has {len(payload):,} bytes, and max_message_bytes is "
                f"{settings.max_message_bytes:,}. Nothing was stored. Keep the data elsewhere and pass its key, "
                "or raise max_message_bytes."
            )
        job = NewJob(
            key=key,
            envelope=envelope,
            payload=payload,
            due_us=plan.due_us,
            delay_us=plan.delay_us,
            verify=plan.key is not None,
        )
        durability = plan.durability or target.durability or settings.durability.value
        ahead_us = plan.delay_us if plan.due_us is None else plan.due_us - now_us
        hold = durability == "master" or ahead_us > settings.transient_threshold * 1_000_000
        return Order(job=job, id=plan.custom_id or key_text(key), lane=lane, priority=priority, hold=hold)

    def require_writable(self) -> None:
        """Refuse to change anything in an archive.

        Raises:
            ClusterArchived: the cluster can be read only.
        """
        settings = self._settings()
        if settings.cluster_mode is ClusterMode.ARCHIVED:
            raise ClusterArchived(
                f"Cluster {settings.cluster_id!r} is archived: it can be read, takes no work, and its jobs stay as "
                "they are. Use another cluster, or set its cluster_mode to active."
            )

    def accept(self, orders: Sequence[Order]) -> None:
        """Store the jobs; returns when stores have acknowledged all of them.

        Raises:
            StoreUnavailable, OutcomeUnknown: see `accept.Acceptor`. Of several batches some may be stored.
        """
        background = self._running()
        routes = _routes(orders)
        for start in range(0, len(routes), WAVE):
            self._accept_wave(background, routes[start : start + WAVE])

    def _accept_wave(self, background: Background, routes: Sequence[dict[str, Any]]) -> None:
        deadline = self._deadline()
        tickets: list[tuple[Ticket, Parcel]] = []
        for route in routes:
            ticket = Ticket()
            tickets.append((ticket, Parcel(deadline=deadline, done=ticket.done, **route)))
        for _, parcel in tickets:
            background.gateway.put(parcel)
        for ticket, parcel in tickets:
            if not ticket.wait(deadline - time.monotonic()):
                self._overdue(background, ticket, parcel)
        for ticket, _ in tickets:
            if ticket.error is not None:
                raise ticket.error

    async def aaccept(self, orders: Sequence[Order]) -> None:
        """`accept` on the running loop."""
        gateway = await self._gateway()
        routes = _routes(orders)
        for start in range(0, len(routes), WAVE):
            await self._aaccept_wave(gateway, routes[start : start + WAVE])

    async def _aaccept_wave(self, gateway: Gateway, routes: Sequence[dict[str, Any]]) -> None:
        deadline = self._deadline()
        loop = asyncio.get_running_loop()
        answers: list[asyncio.Future[Exception | None]] = []
        for route in routes:
            answer: asyncio.Future[Exception | None] = loop.create_future()
            answers.append(answer)
            gateway.put(Parcel(deadline=deadline, done=_setter(answer), **route))
        for error in await asyncio.gather(*answers):
            if error is not None:
                raise error

    # -- ask

    def ask(self, question: Callable[[Gateway], Awaitable[T]], *, may_take_long: bool = False) -> T:
        """Ask a question from sync code and wait for the answer.

        Raises:
            StoreUnavailable: no answer in time. A question that `may_take_long` has no time limit here.
        """
        background = self._running()

        async def answer() -> T:
            limit = None if may_take_long else self._settings().accept_timeout
            async with asyncio.timeout(limit):
                return await question(background.gateway)

        future = asyncio.run_coroutine_threadsafe(answer(), background.loop)
        try:
            return future.result()
        except TimeoutError as error:
            if future.done() and not may_take_long and type(error) is TimeoutError:
                raise StoreUnavailable("The store did not answer within accept_timeout. Ask again.") from error
            raise
        except BaseException:
            future.cancel()
            raise

    async def aask(self, question: Callable[[Gateway], Awaitable[T]]) -> T:
        """Ask a question on the running loop."""
        return await question(await self._gateway())

    def refuse_to_block(self, what: str, *, instead: str) -> None:
        """Refuse to wait where the wait would stop the very thing that it waits for.

        Raises:
            ConfigurationError: an event loop runs in this thread, or this is a job that occupies a slot.
        """
        if running_job() is not None:
            raise ConfigurationError(
                f"{what} inside a job waits in a slot for another job that may need that slot, and can wait for ever. "
                "Let the other job go on with the work (enqueue the next step from it), or keep its id and look later."
            )
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            return
        raise ConfigurationError(
            f"{what} on a running event loop would stop the loop until the job has ended. Write: {instead}"
        )

    # -- life

    def close(self) -> None:
        """Close what this process has open. The next call opens it again."""
        with self._lock:
            background, self._background = self._background, None
        if background is not None:
            background.stop()

    async def aclose(self) -> None:
        """Close what the running loop has open, and the background loop of sync code."""
        tenancy = self._tenancies.pop(asyncio.get_running_loop(), None)
        if tenancy is not None:
            await tenancy.end()
        await asyncio.to_thread(self.close)

    def after_fork(self) -> None:
        """In a forked child: forget the parent's loops and stores without touching them."""
        # They are kept alive, because closing a copied connection would end the parent's.
        _inherited.append((self._background, list(self._tenancies.values())))
        self._lock = threading.RLock()
        self._background = None
        self._tenancies = weakref.WeakKeyDictionary()
        self._token = new_token()

    async def open_gateway(self) -> Gateway:
        """A gateway on the running loop."""
        only_master = self._settings().cluster_mode is ClusterMode.PASSIVE
        return Gateway(await self._opener(), token=self._token, only_master=only_master)

    def _running(self) -> Background:
        background = self._background
        if background is not None and background.alive():
            return background
        with self._lock:
            if self._background is None or not self._background.alive():
                self._background = Background(self.open_gateway)
            return self._background

    async def _gateway(self) -> Gateway:
        loop = asyncio.get_running_loop()
        tenancy = self._tenancies.get(loop)
        if tenancy is None or tenancy.failed():
            tenancy = self._tenancies[loop] = Tenancy(self.open_gateway)
        return await tenancy.gateway()

    def _deadline(self) -> float:
        # asyncio's loops and time.monotonic() are one clock.
        return time.monotonic() + self._settings().accept_timeout

    def _overdue(self, background: Background, ticket: Ticket, parcel: Parcel) -> None:
        if background.gateway.withdraw(parcel):
            ticket.error = StoreUnavailable("The store was busy until accept_timeout ended. Nothing was stored.")
        elif not ticket.wait(ANSWER_SLACK):
            job_id = parcel.jobs[0].envelope.custom_id or key_text(parcel.jobs[0].key)
            ticket.error = OutcomeUnknown(
                "The event loop of this process's producer does not turn, so that no answer can come. The job may be "
                f"stored: repeat with options(job_id={job_id!r}).",
                job_id=job_id if len(parcel.jobs) == 1 else None,
            )


def _routes(orders: Sequence[Order]) -> list[dict[str, Any]]:
    """Orders by their way, in batches that a store takes at once."""
    routes: dict[tuple[str, int, bool], list[NewJob]] = {}
    for order in orders:
        routes.setdefault((order.lane, order.priority, order.hold), []).append(order.job)
    return [
        {"jobs": jobs[start : start + MOST_JOBS], "lane": lane, "priority": priority, "hold": hold}
        for (lane, priority, hold), jobs in routes.items()
        for start in range(0, len(jobs), MOST_JOBS)
    ]


def _setter(answer: asyncio.Future[Exception | None]) -> Callable[[Exception | None], None]:
    def done(error: Exception | None) -> None:
        if not answer.done():
            answer.set_result(error)

    return done


_clients: weakref.WeakSet[Client] = weakref.WeakSet()
_inherited: list[object] = []


def _after_fork() -> None:
    for client in list(_clients):
        client.after_fork()


def _at_exit() -> None:
    for client in list(_clients):
        client.close()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
atexit.register(_at_exit)
