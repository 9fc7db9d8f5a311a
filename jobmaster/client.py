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
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Final, TypeVar

import msgspec

from jobmaster.context import running_job
from jobmaster.errors import (
    ClusterArchived,
    ConfigurationError,
    MessageTooLarge,
    StoreUnavailable,
)
from jobmaster.gateway import MOST_FLIGHTS, MOST_JOBS, Connections, Gateway, Route, new_token
from jobmaster.loops import Background, Tenancy
from jobmaster.model.ids import new_job_key
from jobmaster.model.job import Envelope, NewJob, encode_envelope
from jobmaster.model.states import ClusterMode, Priority
from jobmaster.ports.answers import StoreOutdated
from jobmaster.tickets import Promise, Relay, Ticket, answer_of, wait_for_first

if TYPE_CHECKING:
    from jobmaster.options import CallPlan
    from jobmaster.registry import Target
    from jobmaster.settings import Settings
    from jobmaster.wire.codec import Codec

T = TypeVar("T")

WINDOW: Final = MOST_FLIGHTS
"""Batches of one call that are under way at once; each has its accept_timeout from when it was sent."""

MOST_MOULDS: Final = 256

Opener = Callable[[], Awaitable[Connections]]
Load = tuple[list[NewJob], Route]


class Order(msgspec.Struct, frozen=True):
    """One job that is ready to be stored, and the way it goes."""

    job: NewJob
    route: Route


class Mould(msgspec.Struct, frozen=True):
    """What all jobs of one target have in common that are enqueued with the same options under the same settings."""

    target: Target
    plan: CallPlan
    settings: Settings
    to_bucket: Route
    to_master: Route
    metadata: dict[str, object]
    keep_result: float | None
    nearest_us: int
    """Jobs that are due later than so many microseconds from now are held."""


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
        self._moulds: dict[tuple[int, int], Mould] = {}
        self._relay = Relay()
        _clients.add(self)

    @property
    def token(self) -> str:
        """Names this process where its jobs say whom to tell of their end."""
        return self._token

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
        mould = self._mould(target, plan)
        now_us = time.time_ns() // 1_000
        due_us, delay_us = plan.due_us, plan.delay_us
        ahead_us = delay_us if due_us is None else due_us - now_us
        expires_us = plan.expires_us
        if plan.expires_after_us is not None:
            expires_us = now_us + clock_ahead_us + plan.expires_after_us
        # By position, because names cost half of the time; the order is that of the class.
        envelope = Envelope(
            target.name,
            call,
            now_us,
            now_us + ahead_us,
            mould.to_bucket.lane,
            mould.to_bucket.priority,
            target.at_most_once,
            mould.metadata,
            expires_us,
            plan.timeout,
            plan.soft_timeout,
            plan.max_retries,
            mould.keep_result,
            self._token,
            plan.custom_id,
            1,
            target.is_data,
        )
        payload = encode_envelope(envelope)
        if len(payload) > mould.settings.max_message_bytes:
            raise MessageTooLarge(
                f"The job for {target.name} has {len(payload):,} bytes, and max_message_bytes is "
                f"{mould.settings.max_message_bytes:,}. Nothing was stored. Keep the data elsewhere and pass its key, "
                "or raise max_message_bytes."
            )
        job = NewJob(plan.key or new_job_key(), envelope, payload, due_us, delay_us, plan.key is not None)
        return Order(job, mould.to_master if ahead_us > mould.nearest_us else mould.to_bucket)

    def _mould(self, target: Target, plan: CallPlan) -> Mould:
        settings = self._settings()
        known = self._moulds.get((id(target), id(plan)))
        if known is not None and known.settings is settings:
            return known
        self.require_writable()
        lane = target.lane if plan.lane is None else plan.lane
        priority = target.priority if plan.priority is None else plan.priority
        if settings.is_disabled(Priority(priority)):
            raise ConfigurationError(
                f"The priority {Priority(priority).name.lower()} is switched off in cluster {settings.cluster_id!r} "
                "(setting buckets). Use another one, or give it buckets again."
            )
        durability = plan.durability or target.durability or settings.durability.value
        mould = Mould(
            target=target,
            plan=plan,
            settings=settings,
            to_bucket=Route(lane, priority, hold=durability == "master"),
            to_master=Route(lane, priority, hold=True),
            metadata={**target.metadata, **plan.metadata} if plan.metadata else target.metadata,
            keep_result=settings.keep_result if target.keep_result is None else target.keep_result,
            nearest_us=round(settings.transient_threshold * 1_000_000),
        )
        if len(self._moulds) >= MOST_MOULDS:
            self._moulds.clear()
        # It holds both, so that nothing else gets their ids.
        self._moulds[id(target), id(plan)] = mould
        return mould

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
        gateway = background.gateway
        loads = _loads(orders)
        relay = self._relay if len(loads) == 1 else None
        sent: deque[Ticket] = deque()
        try:
            for jobs, route in loads:
                if len(sent) == WINDOW:
                    wait_for_first(gateway, sent)
                sent.append(Ticket(jobs, route, self._deadline(), relay))
                gateway.send(sent[-1])
            while sent:
                wait_for_first(gateway, sent)
        except BaseException as error:  # Ctrl-C among others
            for ticket in sent:
                gateway.withdraw(ticket)  # what nobody waits for is stored now or never, and not with a later call
                ticket.leave()
            self._leave_outdated(background, error)
            raise

    async def aaccept(self, orders: Sequence[Order]) -> None:
        """`accept` on the running loop."""
        gateway = await self._gateway()
        sent: deque[Promise] = deque()
        try:
            for jobs, route in _loads(orders):
                if len(sent) == WINDOW:
                    await answer_of(sent)
                promise = Promise(jobs, route, self._deadline())
                sent.append(promise)
                gateway.put(promise, here=True)
            while sent:
                await answer_of(sent)
        except StoreUnavailable as error:
            await self._aleave_outdated(gateway, error)
            raise

    def enlist(self, orders: Sequence[Order], transaction: object) -> None:
        """Put the jobs into the caller's transaction; see `transactional.enlist` for the errors."""
        from jobmaster.transactional import enlist

        enlist(transaction, [order.job for order in orders], master=lambda: self.ask(lambda gate: gate.identity()))

    async def aenlist(self, orders: Sequence[Order], transaction: object) -> None:
        """`enlist` for the async kinds of transactions."""
        from jobmaster.transactional import aenlist

        jobs = [order.job for order in orders]
        await aenlist(transaction, jobs, master=lambda: self.aask(lambda gate: gate.identity()))

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
        except BaseException as error:
            future.cancel()
            self._leave_outdated(background, error)
            raise

    async def aask(self, question: Callable[[Gateway], Awaitable[T]]) -> T:
        """Ask a question on the running loop."""
        gateway = await self._gateway()
        try:
            return await question(gateway)
        except StoreUnavailable as error:
            await self._aleave_outdated(gateway, error)
            raise

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
        self._relay = Relay()
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

    def _leave_outdated(self, background: Background, error: BaseException) -> None:
        """Close what is open of a database that must be opened anew: the next call does it."""
        if not _is_outdated(error):
            return
        with self._lock:
            if self._background is not background:  # another call has heard it first
                return
            self._background = None
        background.stop()

    async def _aleave_outdated(self, gateway: Gateway, error: BaseException) -> None:
        loop = asyncio.get_running_loop()
        tenancy = self._tenancies.get(loop)
        if tenancy is not None and _is_outdated(error) and await tenancy.gateway() is gateway:
            self._tenancies.pop(loop, None)
            await tenancy.end()

    def _deadline(self) -> float:
        # asyncio's loops and time.monotonic() are one clock.
        return time.monotonic() + self._settings().accept_timeout


def _is_outdated(error: BaseException | None) -> bool:
    while error is not None and not isinstance(error, StoreOutdated):
        error = error.__cause__
    return error is not None


def _loads(orders: Sequence[Order]) -> list[Load]:
    """Jobs by their way, in batches that a store takes at once."""
    if len(orders) == 1:
        return [([orders[0].job], orders[0].route)]
    routes: dict[Route, list[NewJob]] = {}
    for order in orders:
        routes.setdefault(order.route, []).append(order.job)
    return [
        (jobs[start : start + MOST_JOBS], route)
        for route, jobs in routes.items()
        for start in range(0, len(jobs), MOST_JOBS)
    ]


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
