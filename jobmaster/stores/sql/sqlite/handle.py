"""An open database: its two threads, its signals, and what happens to it at a fork."""

from __future__ import annotations

import asyncio
import os
import time
from typing import TYPE_CHECKING, TypeVar

from jobmaster.errors import StoreUnavailable
from jobmaster.rules.storable import check_jobs
from jobmaster.stores.sql.sqlite.connection import READER_SETTINGS, WRITER_SETTINGS, connect, make_file
from jobmaster.stores.sql.sqlite.faults import log_removed, translated
from jobmaster.stores.sql.sqlite.forks import watch_forks
from jobmaster.stores.sql.sqlite.place import Place
from jobmaster.stores.sql.sqlite.presence import Presence, forget_presence, hold_presence, is_gone
from jobmaster.stores.sql.sqlite.provisioning import provide
from jobmaster.stores.sql.sqlite.reader import Reader
from jobmaster.stores.sql.sqlite.transaction import Setting
from jobmaster.stores.sql.sqlite.wake import Wake
from jobmaster.stores.sql.sqlite.writer import Writer

if TYPE_CHECKING:
    import sqlite3
    import threading
    from collections.abc import Awaitable, Callable, Collection, Iterable

    from jobmaster.ports.direct import Handed
    from jobmaster.ports.master import MasterRules
    from jobmaster.stores.sql.sqlite.threads import ConnectionThread
    from jobmaster.stores.sql.sqlite.transaction import Transaction
    from jobmaster.stores.sql.sqlite.wake import Hint

T = TypeVar("T")


class Handle:
    """What all verbs stand on. Belongs to the loop that is running when it is made."""

    def __init__(
        self,
        path: str,
        *,
        rules: MasterRules,
        auto_provision: bool,
        clock_us: Callable[[], int] | None,
        standalone: bool,
        patience: float,
    ) -> None:
        loop = asyncio.get_running_loop()
        self._path = os.path.realpath(path)
        self._pid = os.getpid()
        self._auto_provision = auto_provision
        self._patience = patience
        self._setting = Setting(rules, clock_us or wall_us, standalone, lambda worker: is_gone(self._path, worker))
        self._place = Place(self._path)
        self._presences: dict[int, Presence] = {}
        self._wake = Wake(self._path, loop, listening=self._begin_to_watch)
        self._writer = Writer(
            self._connect_writer,
            loop=loop,
            setting=self._setting,
            path=self._path,
            patience=patience,
            place=self._place,
            published=self._wake.send,
            watch=self._wake.watch,
        )
        self._loop = loop
        self._reader = self._new_reader()
        self._people: Reader | None = None
        self._people_opening: asyncio.Future[None] | None = None

    def _new_reader(self) -> Reader:
        return Reader(
            self._connect_reader,
            loop=self._loop,
            setting=self._setting,
            path=self._path,
            patience=self._patience,
            place=self._place,
        )

    async def _open(self) -> None:
        watch_forks(self)  # its threads enter SQLite from here on
        try:
            await self._writer.open()
            await self._reader.open()
        except BaseException:
            await self._shut()
            raise

    def _connect_writer(self) -> sqlite3.Connection:
        make_file(self._path)
        connection = self._connect(WRITER_SETTINGS)
        try:
            provide(connection, self._path, allowed=self._auto_provision, patience=self._patience)
        except BaseException as error:
            self._place.close(connection)
            raise translated(error, self._path, opening=True) from error
        self._place.remember()
        return connection

    def _connect_reader(self) -> sqlite3.Connection:
        return self._connect(READER_SETTINGS)

    def _connect(self, settings: tuple[str, ...]) -> sqlite3.Connection:
        if not self._place.may_open():
            raise log_removed(self._path)
        try:
            connection = connect(self._path, settings, patience=self._patience)
        except Exception as error:
            raise translated(error, self._path, opening=True) from error
        self._place.opened()
        return connection

    # -- verbs

    def _write(self, work: Callable[[Transaction], T]) -> Awaitable[T]:
        self._require_own_process()
        return self._writer.submit(work)

    def _read(self, work: Callable[[Transaction], T]) -> Awaitable[T]:
        self._require_own_process()
        return self._reader.submit(work)

    async def _ask(self, work: Callable[[Transaction], T]) -> T:
        """A question of people, on a connection and thread of its own: a long list holds no owner's read up."""
        self._now()
        if self._people is None or self._people_opening is None:
            self._people = self._new_reader()
            self._people_opening = asyncio.ensure_future(self._people.open())
        try:
            await asyncio.shield(self._people_opening)
        except Exception:
            self._people = None  # the next question tries again
            raise
        answer: T = await self._people.submit(work)
        return answer

    def hand(self, handed: Handed) -> None:
        """See `ports.direct.DirectAgent`: the writer takes it without a detour through the loop."""
        check_jobs(handed.jobs, self._now())
        self._writer.hand(handed)

    def take_back(self, handed: Handed) -> bool:
        """See `ports.direct.DirectAgent`."""
        return self._writer.take_back(handed)

    def _begin_to_watch(self) -> None:
        self._writer.ring()

    def _now(self) -> int:
        self._require_own_process()
        self._writer.require_open()
        return self._setting.clock_us()

    def _require_own_process(self) -> None:
        if os.getpid() != self._pid:
            raise StoreUnavailable(
                f"The database {self._path} was opened by process {self._pid}, and this one ({os.getpid()}) is a fork. "
                "Nothing was stored. A forked process opens its own store; close and open again."
            )

    # -- signals and presence

    def subscribe(self, topic: str, callback: Callable[[], None]) -> Hint:
        """Call `callback` on the store's loop after signals for `topic`."""
        self._now()
        return self._wake.subscribe(topic, callback)

    async def signal(self, topics: Collection[str]) -> None:
        """Send hints by hand."""
        self._now()
        self._wake.send(topics)

    def hold_presence(self, worker: int) -> Presence | None:
        """Take the worker's lock file: once it is free, everybody on this host knows at once that the worker is gone.

        Held by the process whose end is the worker's end (`register` does it), until `release`, `end_worker` or the
        end of the process. None where locks don't work, or another has it: then leases alone say who is gone. A repeat
        gives the lock that is held already.
        """
        self._now()
        held = self._presences.get(worker) or hold_presence(self._path, worker)
        if held is not None:
            self._presences[worker] = held
        return held

    def _forget_presence(self, worker: int) -> None:
        held = self._presences.pop(worker, None)
        if held is not None:
            held.release()
        else:
            forget_presence(self._path, worker)

    # -- the end

    async def close_store(self) -> None:
        """Do what is queued, stop the threads, close the connections. May be called twice."""
        if os.getpid() != self._pid:
            return
        await self._shut()

    async def _shut(self) -> None:
        self._wake.close()
        await self._writer.close()
        await self._reader.close()
        if self._people is not None:
            await self._people.close()
        self._wake.end()
        for presence in self._presences.values():
            presence.release()
        self._presences.clear()

    # -- forks

    def gates(self) -> Iterable[threading.Lock]:
        """Locks that the threads hold while they are inside SQLite."""
        return [thread.gate for thread in self._threads()]

    def forked(self) -> list[object]:
        """In a forked child: give up all that is the parent's, and return what must never be freed."""
        self._wake.abandon()
        for presence in self._presences.values():
            presence.abandon()
        self._presences.clear()
        kept = [thread.abandon() for thread in self._threads()]
        return [connection for connection in kept if connection is not None]

    def _threads(self) -> list[ConnectionThread]:
        threads: list[ConnectionThread] = [self._writer, self._reader]
        return threads if self._people is None else [*threads, self._people]


def wall_us() -> int:
    """This host's clock, microseconds since the epoch: all processes on the file share it."""
    return time.time_ns() // 1_000
