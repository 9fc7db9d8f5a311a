"""Enqueuing inside the caller's own transaction: the job exists if and only if that transaction commits.

The transaction is a psycopg connection, or a SQLAlchemy Connection or Session (also `db.session` of Flask-SQLAlchemy);
`adelay` takes their async kinds. It must be one on the master's own database, which is asked of the server once.
"""

from __future__ import annotations

import weakref
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any, Final, Protocol

from jobmaster.errors import ConfigurationError
from jobmaster.stores.sql.enlisting import IDENTITY, KINDS, insert_held, values_of

if TYPE_CHECKING:
    from jobmaster.model.job import NewJob

_WHAT: Final = (
    "a psycopg connection, a SQLAlchemy Connection or Session, or db.session of Flask-SQLAlchemy "
    "(with adelay: their async kinds)"
)

_IDLE: Final = 0
"""psycopg.pq.TransactionStatus.IDLE, which need not be imported to be told."""

_proven: weakref.WeakKeyDictionary[Any, str] = weakref.WeakKeyDictionary()
"""Connections (psycopg) and engines (SQLAlchemy) that were found to be on the master's database, and which that is."""


class _Door(Protocol):
    """How statements get into one kind of transaction. `run` gives the first column of the first row, if any."""

    dialect: str
    proof: Any
    """What stays on the same database for as long as it lives."""

    def mark(self, name: str, kind: str) -> str: ...

    def run(self, statement: str, values: dict[str, Any]) -> Any: ...


class _Psycopg:
    """A psycopg connection, sync or async."""

    def __init__(self, connection: Any) -> None:
        if connection.autocommit and connection.info.transaction_status == _IDLE:
            raise ConfigurationError(
                "transaction is a connection in autocommit mode outside of any transaction, so that the job would stay "
                "whatever becomes of your other statements. Nothing was written. Enqueue inside of "
                "`with connection.transaction():`, or without options(transaction=...)."
            )
        self.dialect = "postgresql"
        self.proof = self._connection = connection

    def mark(self, name: str, kind: str) -> str:
        return f"%({name})s::{kind}"

    def run(self, statement: str, values: dict[str, Any]) -> Any:
        # Without values psycopg takes a % in a statement as it is.
        row = self._connection.execute(statement, values or None).fetchone()
        return None if row is None else _first(row)


class _AsyncPsycopg(_Psycopg):
    async def arun(self, statement: str, values: dict[str, Any]) -> Any:
        cursor = await self._connection.execute(statement, values or None)
        row = await cursor.fetchone()
        return None if row is None else _first(row)


def _first(row: Any) -> Any:
    """The only column, whatever row factory the connection has."""
    if isinstance(row, dict):
        return next(iter(row.values()))
    return row[0] if isinstance(row, (tuple, list)) else row


class _Sqlalchemy:
    """A SQLAlchemy connection."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection
        self.dialect = connection.dialect.name
        self.proof = connection.engine

    def mark(self, name: str, kind: str) -> str:
        return f"CAST(:{name} AS {kind})" if self.dialect == "postgresql" else f":{name}"

    def run(self, statement: str, values: dict[str, Any]) -> Any:
        done = self._connection.execute(_text(statement, values), values)
        return done.scalar() if done.returns_rows else None


class _AsyncSqlalchemy(_Sqlalchemy):
    async def arun(self, statement: str, values: dict[str, Any]) -> Any:
        done = await self._connection.execute(_text(statement, values), values)
        return done.scalar() if done.returns_rows else None


def _text(statement: str, values: dict[str, Any]) -> Any:
    from sqlalchemy import BigInteger, Integer, LargeBinary, SmallInteger, Unicode, bindparam, text

    kinds = {"bigint": BigInteger, "int": Integer, "smallint": SmallInteger, "bytea": LargeBinary, "text": Unicode}
    # A key is text on PostgreSQL and bytes on SQLite; the value itself says which.
    typed = [bindparam(name, type_=kinds[KINDS[name]]()) for name in values if KINDS[name] in kinds]
    return text(statement).bindparams(*typed)


def enlist(transaction: object, jobs: Sequence[NewJob], *, master: Callable[[], str]) -> None:
    """Insert the jobs as held rows in the caller's transaction.

    Args:
        transaction: see the module's text.
        jobs: what to insert; a key that is there already stays as it is.
        master: asks which database the master is (`MasterStore.identity`).

    Raises:
        ConfigurationError: it is none of these, or on another database than the master; nothing was written.
    """
    door = _door(transaction)
    _require_dialect(door)
    theirs = _proven.get(door.proof) or str(door.run(IDENTITY[door.dialect], {}))
    _require_same(theirs, master())
    _proven[door.proof] = theirs
    statement = insert_held(door.dialect, door.mark)
    for job in jobs:
        door.run(statement, values_of(job, door.dialect))


async def aenlist(transaction: object, jobs: Sequence[NewJob], *, master: Callable[[], Awaitable[str]]) -> None:
    """`enlist` for the async kinds."""
    door = await _async_door(transaction)
    _require_dialect(door)
    theirs = _proven.get(door.proof) or str(await door.arun(IDENTITY[door.dialect], {}))
    _require_same(theirs, await master())
    _proven[door.proof] = theirs
    statement = insert_held(door.dialect, door.mark)
    for job in jobs:
        await door.arun(statement, values_of(job, door.dialect))


def check_transaction(value: object) -> object:
    """The transaction as it was given.

    Raises:
        ConfigurationError: it is none that a job can be put into.
    """
    if not _kinds_of(value) & {*_SYNC, *_ASYNC}:
        raise ConfigurationError(
            f"transaction is of the type {type(value).__name__}, but a job can be put into the transaction of {_WHAT}."
        )
    return value


_SYNC: Final[dict[str, Callable[[Any], _Door]]] = {
    "psycopg.Connection": _Psycopg,
    "sqlalchemy.Connection": _Sqlalchemy,
    "sqlalchemy.Session": lambda session: _Sqlalchemy(session.connection()),
    "sqlalchemy.scoped_session": lambda session: _Sqlalchemy(session.connection()),
}
_ASYNC: Final = {
    "psycopg.AsyncConnection": _AsyncPsycopg,
    "sqlalchemy.AsyncConnection": _AsyncSqlalchemy,
    "sqlalchemy.AsyncSession": None,
    "sqlalchemy.async_scoped_session": None,
}


def _kinds_of(transaction: object) -> set[str]:
    """Its classes as library and name: the libraries need not be imported to be told from each other."""
    return {f"{kind.__module__.partition('.')[0]}.{kind.__name__}" for kind in type(transaction).__mro__}


def _door(transaction: object) -> _Door:
    check_transaction(transaction)
    for name in _kinds_of(transaction):
        if name in _SYNC:
            return _SYNC[name](transaction)
    raise ConfigurationError(
        f"transaction is an async {type(transaction).__name__}, which delay() cannot wait for. "
        "Write: await task.options(transaction=...).adelay(...)"
    )


async def _async_door(transaction: Any) -> Any:
    check_transaction(transaction)
    for name in _kinds_of(transaction):
        if name not in _ASYNC:
            continue
        made = _ASYNC[name]
        return _AsyncSqlalchemy(await transaction.connection()) if made is None else made(transaction)
    raise ConfigurationError(
        f"transaction is a {type(transaction).__name__}, which would block the event loop inside adelay(). "
        "Give its async kind, or call delay() from sync code."
    )


def _require_dialect(door: _Door) -> None:
    if door.dialect not in IDENTITY:
        raise ConfigurationError(
            f"transaction is one of {door.dialect}, and a job can be put into one of PostgreSQL or SQLite only. "
            "Nothing was written. Enqueue after your commit instead."
        )


def _require_same(theirs: str, ours: str) -> None:
    if theirs != ours:
        raise ConfigurationError(
            "transaction is on another database than the master of this cluster, so that the job could not commit "
            "together with it. Nothing was written. Use a connection to the master's database, or enqueue after your "
            "commit."
        )
