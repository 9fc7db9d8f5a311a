"""An open database: its connections, its signals, and how the verbs' functions are run on them."""

from __future__ import annotations

import asyncio
import os
import random
from typing import TYPE_CHECKING, Any, Final, TypeVar

from jobmaster.errors import StoreUnavailable
from jobmaster.settings.dsn import parse_dsn
from jobmaster.stores.sql.postgresql.connection import PEOPLE, Place, hot
from jobmaster.stores.sql.postgresql.faults import (
    DRIVER,
    READ_ONLY,
    REPEATABLE,
    STALE,
    is_lost,
    sqlstate,
    undone,
    unknown,
    unreachable,
)
from jobmaster.stores.sql.postgresql.late_commits import Floors
from jobmaster.stores.sql.postgresql.pool import ConnectionPool
from jobmaster.stores.sql.postgresql.provisioning import provide
from jobmaster.stores.sql.postgresql.session import Session
from jobmaster.stores.sql.postgresql.transaction import NOTIFY, Setting, Transaction, channel_of
from jobmaster.stores.sql.postgresql.vacuum import Vacuum

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection

    import asyncpg

    from jobmaster.ports.agent import Subscription
    from jobmaster.ports.master import MasterRules

T = TypeVar("T")

CONNECTIONS: Final = 6
"""Two flushers of outcomes, a read, a claim, a start, and one more; opened only when they are needed at once."""
TRIES: Final = 5
"""How often a transaction is tried that the server undid because of another one."""
STALE_TRIES: Final = 3 * CONNECTIONS
"""How often it is tried after a change of the tables: each connection may have prepared what it runs before that."""


class Handle:
    """What all verbs stand on. Belongs to the loop that is running when it is made."""

    def __init__(
        self,
        url: str,
        *,
        rules: MasterRules,
        auto_provision: bool,
        clock_us: Callable[[], int] | None,
        standalone: bool,
        patience: float,
    ) -> None:
        self._pid = os.getpid()
        self._closed = False
        self._auto_provision = auto_provision
        self._patience = patience
        self._setting = Setting(rules, clock_us, standalone)
        self._place = Place(parse_dsn(url, name="address"), timeout=patience)
        # The server gives up before we do, so that the outcome of most slow statements is certain.
        self._pool = ConnectionPool(self._place, hot(0.9 * min(patience, rules.lease_us / 1e6)), size=CONNECTIONS)
        self._people = ConnectionPool(self._place, PEOPLE, size=2)
        self._vacuum = Vacuum(self._place)
        self._session = Session(self._place)
        self._floors = Floors()

    async def _open(self) -> None:
        try:
            async with self._pool.connection() as connection:
                try:
                    await provide(connection, self._place.dsn, allowed=self._auto_provision)
                except DRIVER as error:
                    await _undo(connection, error)
                    raise unreachable(error, self._place.dsn) from error
        except BaseException:
            await self.close_store()
            raise

    # -- how verbs run

    async def _write(self, work: Callable[[Transaction], Awaitable[T]]) -> T:
        """Run `work` in a transaction of its own; its signals leave with the commit.

        Tried again where the server undid it because of a deadlock or a changed table, so `work` changes nothing but
        the database.

        Raises:
            StoreUnavailable: certainly no effect.
            OutcomeUnknown: the answer to the commit did not come.
        """
        tries, stale_tries = TRIES, STALE_TRIES
        while True:
            try:
                return await self._transaction(work)
            except _Again as again:
                if isinstance(again.cause, STALE):
                    stale_tries -= 1
                else:
                    tries -= 1
                if not (tries and stale_tries):
                    raise undone(again.cause, self._place.dsn) from again.cause
                await asyncio.sleep(random.random() * 0.01)  # noqa: S311 - jitter

    async def _transaction(self, work: Callable[[Transaction], Awaitable[T]]) -> T:
        self._require_usable()
        async with self._pool.connection() as connection:
            committing = False
            try:
                async with asyncio.timeout(self._patience):
                    await connection.execute(self._pool.begin)
                    transaction = Transaction(connection, setting=self._setting)
                    result = await work(transaction)
                    await transaction.tell()
                    committing = True
                    await connection.execute("COMMIT")
                    return result
            except BaseException as error:
                await _undo(connection, error)
                if sqlstate(error) in REPEATABLE or isinstance(error, STALE):
                    raise _Again(error) from error
                if committing and is_lost(error):
                    raise unknown(error, self._place.dsn) from error
                told = undone(error, self._place.dsn)
                if told is error:
                    raise
                raise told from error

    async def _hot(self, statement: str, *values: object) -> list[Any]:
        """One statement that is a transaction by itself; its rows.

        Raises:
            StoreUnavailable: certainly no effect.
            OutcomeUnknown: the answer did not come.
        """
        if self._place.pooled:
            # Behind PgBouncer a statement is prepared and run on one server connection only inside a transaction.
            return await self._write(lambda tx: tx.rows(statement, *values))
        self._require_usable()
        tries = TRIES
        while True:
            tries -= 1
            async with self._pool.connection() as connection:
                try:
                    async with asyncio.timeout(self._patience):
                        found: list[Any] = await connection.fetch(statement, *values)
                        return found
                except BaseException as error:
                    if sqlstate(error) in REPEATABLE and tries:
                        continue
                    await _undo(connection, error)
                    if is_lost(error):
                        raise unknown(error, self._place.dsn) from error
                    told = undone(error, self._place.dsn)
                    if told is error:
                        raise
                    raise told from error

    async def _read(self, work: Callable[[Transaction], Awaitable[T]]) -> T:
        """Run `work`, which changes nothing, each of its statements by itself."""
        return await self._questions(self._pool, work, self._patience)

    async def _ask(self, work: Callable[[Transaction], Awaitable[T]]) -> T:
        """A question of people, on connections of their own that can't write: a long list holds no owner up."""
        return await self._questions(self._people, work, None)

    async def _questions(
        self, pool: ConnectionPool, work: Callable[[Transaction], Awaitable[T]], timeout: float | None
    ) -> T:
        self._require_usable()
        async with pool.connection() as connection:
            try:
                async with asyncio.timeout(timeout):
                    if not self._place.pooled:
                        return await work(Transaction(connection, setting=self._setting))
                    await connection.execute(pool.begin)
                    answer = await work(Transaction(connection, setting=self._setting))
                    await connection.execute("COMMIT")
                    return answer
            except BaseException as error:
                await _undo(connection, error)
                told = undone(error, self._place.dsn)
                if told is error:
                    raise
                raise told from error

    def _require_usable(self) -> None:
        if self._closed:
            raise StoreUnavailable(f"{self._place.dsn} was closed here. Nothing was stored.")
        if os.getpid() != self._pid:
            raise StoreUnavailable(
                f"{self._place.dsn} was opened by process {self._pid}, and this one ({os.getpid()}) is a fork. "
                "Nothing was stored. A forked process opens its own store; close and open again."
            )

    # -- signals

    def subscribe(self, topic: str, callback: Callable[[], None]) -> Subscription:
        """Call `callback` on the store's loop after signals for `topic`."""
        self._require_usable()
        return self._session.subscribe(topic, callback)

    async def signal(self, topics: Collection[str]) -> None:
        """Send hints by hand."""
        if topics:
            await self._hot(NOTIFY, [channel_of(topic) for topic in topics])

    # -- the end

    async def close_store(self) -> None:
        """Close the connections. May be called twice."""
        if os.getpid() != self._pid or self._closed:
            return
        self._closed = True
        await self._vacuum.close()
        await self._session.close()
        await self._pool.close()
        await self._people.close()


class _Again(Exception):  # noqa: N818 - never leaves this module
    """The server undid the transaction because of another one, or of a change of the tables."""

    def __init__(self, cause: BaseException) -> None:
        super().__init__(str(cause))
        self.cause = cause


async def _undo(connection: asyncpg.Connection[Any], error: BaseException) -> None:
    """Leave the connection outside of any transaction, or end it where nobody knows what it still does."""
    if connection.is_closed():
        return
    if is_lost(error) or isinstance(error, asyncio.CancelledError) or sqlstate(error) == READ_ONLY:
        # One that is read-only is to a standby: after a failover the next connection may find the new primary.
        connection.terminate()
        return
    try:
        async with asyncio.timeout(1.0):
            await connection.execute("ROLLBACK")
    except Exception:  # noqa: BLE001 - the server undoes it when the connection ends
        connection.terminate()
