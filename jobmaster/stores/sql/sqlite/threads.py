"""A thread that owns one connection and does what is asked of it, many requests at a time with one answer."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, NamedTuple

from jobmaster.errors import StoreUnavailable
from jobmaster.ports.direct import Handed
from jobmaster.stores.sql.combining import CombiningQueue

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Sequence

    from jobmaster.stores.sql.sqlite.place import Place
    from jobmaster.stores.sql.sqlite.transaction import Transaction

LARGEST_GROUP = 500
MOST_JOBS = 1_000
"""Handed jobs of a group, after which no more are taken into it."""


class Request(NamedTuple):
    """One verb that waits for its turn."""

    work: Callable[[Transaction], Any]
    future: asyncio.Future[Any]


class Answer(NamedTuple):
    """The end of one request: a value, or the error to raise."""

    future: asyncio.Future[Any]
    value: Any
    error: BaseException | None


class ConnectionThread(CombiningQueue["Request | Handed"]):
    """Queue, thread and answers. Subclasses say how a group of requests runs on the connection.

    Args:
        connect: makes the connection, in the thread.
        loop: the loop whose futures are answered, with one wake-up per group.
        name: the thread's name, for people.
        place: the files of the database.
    """

    def __init__(
        self,
        connect: Callable[[], sqlite3.Connection],
        *,
        loop: asyncio.AbstractEventLoop,
        name: str,
        place: Place,
    ) -> None:
        super().__init__(name)
        self._connect = connect
        self._place = place
        self._loop = loop
        self._gone = False
        self._opened: asyncio.Future[None] = loop.create_future()
        self._ended: asyncio.Future[None] = loop.create_future()
        self._connection: sqlite3.Connection | None = None

    async def open(self) -> None:
        """Start the thread and wait for its connection."""
        self._thread.start()
        await self._opened

    def submit(self, work: Callable[[Transaction], Any]) -> asyncio.Future[Any]:
        """Queue a verb; the future has its result. Called on the loop only."""
        self.require_open()
        future: asyncio.Future[Any] = self._loop.create_future()
        self._queue.append(Request(work, future))
        if self._asleep:
            self.ring()
        return future

    def hand(self, handed: Handed) -> None:
        """Queue a push, from any thread; where nothing else is done, do it here. See `ports.direct.DirectAgent`."""
        self.require_open()
        self.bring(handed)
        if self._gone and self.take_back(handed):  # the thread ended between the first line and the second
            self.require_open()

    def require_open(self) -> None:
        """Raise StoreUnavailable after `close`."""
        if self._closed:
            raise closed()

    async def close(self) -> None:
        """Do what is queued, close the connection, end the thread."""
        if not self._closed:
            self._closed = True
            self.ring()
        if self._thread.ident is not None:
            await asyncio.shield(self._ended)
            self._thread.join()

    def abandon(self) -> sqlite3.Connection | None:
        """In a forked child: forget the connection, which belongs to the parent, and give it to the caller."""
        self._closed = True
        connection, self._connection = self._connection, None
        return connection

    def _run_on(self, connection: sqlite3.Connection) -> None:
        """`_run_group` on this connection."""
        raise NotImplementedError

    def _run_group(self) -> None:
        if self._connection is not None:
            self._run_on(self._connection)

    def _is_ready(self) -> bool:
        return self._connection is not None

    def _run(self) -> None:
        try:
            with self.gate:
                connection = self._connection = self._connect()
        except BaseException as error:  # noqa: BLE001 - raised where `open` is awaited
            self._post([Answer(self._opened, None, error), Answer(self._ended, None, None)])
            return
        self._post([Answer(self._opened, None, None)])
        try:
            self._serve()
        finally:
            self._closed = True  # whatever ended it: nothing may wait for a thread that is no more
            with self.gate:
                self._connection = None
                self._place.close(connection)
            self._refuse_the_rest()
            self._post([Answer(self._ended, None, None)])

    def _take_into(self, taken: list[Request | Handed]) -> tuple[list[Request], list[Handed]]:
        """The next group, or more for it: verbs, and pushes that were handed over. All are in `taken`, too."""
        requests: list[Request] = []
        pushes: list[Handed] = []
        jobs = 0
        while self._queue and len(requests) < LARGEST_GROUP and jobs < MOST_JOBS and self._move_next(taken):
            found = taken[-1]
            if isinstance(found, Request):
                if not found.future.cancelled():
                    requests.append(found)
            else:
                pushes.append(found)
                jobs += len(found.jobs)
        return requests, pushes

    def _refuse_the_rest(self) -> None:
        self._gone = True
        while self._queue:
            requests, pushes = self._take_into([])
            self._post([Answer(request.future, None, closed()) for request in requests])
            for handed in pushes:
                handed.answered(closed())

    def _post(self, answers: Sequence[Answer]) -> None:
        try:
            self._loop.call_soon_threadsafe(_settle, answers)
        except RuntimeError:
            return  # the loop was closed: nobody waits any more


def closed() -> StoreUnavailable:
    """The error of what comes after `close`."""
    return StoreUnavailable("The store was closed. Nothing was stored; open it again.")


def _settle(answers: Sequence[Answer]) -> None:
    for future, value, error in answers:
        if future.done():
            continue
        if error is None:
            future.set_result(value)
        else:
            future.set_exception(error)
