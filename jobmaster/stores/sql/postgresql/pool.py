"""The connections of one store: opened when needed, used by one call at a time, replaced when they break."""

from __future__ import annotations

import asyncio
from collections import deque
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from jobmaster.errors import StoreUnavailable
from jobmaster.stores.sql.postgresql.connection import beginning

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    import asyncpg

    from jobmaster.stores.sql.postgresql.connection import Place


class ConnectionPool:
    """At most `size` connections with the same settings.

    Plainer and cheaper than the driver's own pool: a connection comes back as it was, and needs no reset in between.

    Args:
        place: where to.
        settings: those of each session, as "name = value".
        size: how many at once; further calls wait in line.
    """

    def __init__(self, place: Place, settings: tuple[str, ...], *, size: int) -> None:
        self._place = place
        self._settings = settings
        self.begin = beginning(settings, pooled=place.pooled)
        """The statement that begins a transaction."""
        self._size = size
        self._idle: list[asyncpg.Connection[Any]] = []
        self._used: set[asyncpg.Connection[Any]] = set()
        self._opening = 0
        self._line: deque[asyncio.Future[None]] = deque()
        self._closed = False

    @asynccontextmanager
    async def connection(self) -> AsyncGenerator[asyncpg.Connection[Any]]:
        """A connection for one call. One that broke, or is left inside a transaction, is not used again.

        Raises:
            ConfigurationError, StoreUnavailable: as `Place.connect`; StoreUnavailable also after `close`.
        """
        connection = await self._take()
        try:
            yield connection
        finally:
            self._give_back(connection)

    async def _take(self) -> asyncpg.Connection[Any]:
        while True:
            if self._closed:
                raise StoreUnavailable(f"{self._place.dsn} was closed here. Nothing was stored.")
            while self._idle:
                connection = self._idle.pop()
                if not connection.is_closed():
                    self._used.add(connection)
                    return connection
            if len(self._used) + self._opening < self._size:
                return await self._open()
            turn = asyncio.get_running_loop().create_future()
            self._line.append(turn)
            try:
                await turn
            except asyncio.CancelledError:
                if turn.done() and not turn.cancelled():
                    self._call_next()  # the turn was given and will not be used
                raise

    async def _open(self) -> asyncpg.Connection[Any]:
        self._opening += 1
        try:
            connection = await self._place.connect(self._settings)
        except BaseException:
            self._call_next()
            raise
        finally:
            self._opening -= 1
        if self._closed:
            connection.terminate()
            raise StoreUnavailable(f"{self._place.dsn} was closed here. Nothing was stored.")
        self._used.add(connection)
        return connection

    def _give_back(self, connection: asyncpg.Connection[Any]) -> None:
        self._used.discard(connection)
        if not connection.is_closed():
            if self._closed or connection.is_in_transaction():
                connection.terminate()
            else:
                self._idle.append(connection)
        self._call_next()

    def _call_next(self) -> None:
        while self._line:
            turn = self._line.popleft()
            if not turn.done():
                turn.set_result(None)
                return

    async def close(self) -> None:
        """End the idle connections at once, and those in use when they come back."""
        self._closed = True
        idle, self._idle = self._idle, []
        for turn in self._line:
            if not turn.done():
                turn.set_result(None)
        for connection in idle:
            await _end(connection, self._place.timeout)


async def _end(connection: asyncpg.Connection[Any], timeout: float) -> None:
    try:
        await connection.close(timeout=timeout)
    except Exception:  # noqa: BLE001 - it is gone either way
        connection.terminate()
