"""Running migrations beside workers that go on: one migrator at a time, short locks, and each step all or nothing."""

from __future__ import annotations

import logging
import random
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from jobmaster.errors import SchemaError
from jobmaster.settings.dsn import MSSQL, MYSQL, POSTGRESQL
from jobmaster.stores.sql.compatibility import Stored
from jobmaster.stores.sql.revisions import Revision, configuration
from jobmaster.stores.sql.version import VERSION_TABLE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from sqlalchemy import Connection, Engine

    from jobmaster.settings.dsn import Dsn

logger = logging.getLogger("jobmaster.schema")

OTHER_MIGRATOR: Final = 600
"""Seconds to wait for a migrator that works already."""
PATIENCE: Final = 120.0
"""Seconds for which a step is tried that other transactions keep from its locks."""
LONGEST_PAUSE: Final = 2.0

_MSSQL_LOCK = (
    "DECLARE @got INT; EXEC @got = sp_getapplock 'jobmaster-migration', 'Exclusive', 'Transaction', 0; "
    "SELECT CASE WHEN @got >= 0 THEN 1 ELSE 0 END"
)

# Held by a transaction of a connection of its own: the steps are transactions of their own, too.
_ALONE = {
    POSTGRESQL: ("SET LOCAL idle_in_transaction_session_timeout = 0", "SELECT pg_try_advisory_xact_lock(4242260001)"),
    MYSQL: ("SELECT GET_LOCK('jobmaster-migration', 0)",),
    MSSQL: (_MSSQL_LOCK,),
}
LOOK_AGAIN: Final = 0.2

# While a change of a table waits for its lock, everybody else waits behind it: it gives up soon, and tries again.
_BRIEFLY = {POSTGRESQL: ("lock_timeout = '200ms'", "statement_timeout = 0")}

_TRY_AGAIN = {"55P03", "40P01"}
"""The lock did not come in time; a deadlock that the server has solved."""


class Steps:
    """Runs migrations until there is none to run.

    Args:
        engine: for the database; each of its transactions may change it.
        address: of it.
        next_step: what to do to a database that says this; None: nothing. Asked inside the step's own transaction.
    """

    def __init__(self, engine: Engine, address: Dsn, next_step: Callable[[Stored], Revision | None]) -> None:
        self._engine = engine
        self._address = address
        self._next_step = next_step

    def run(self) -> None:
        """Run them.

        Raises:
            SchemaError: other transactions kept the tables for too long; or what `next_step` raises.
        """
        with self._alone():
            while self._patiently():
                pass

    @contextmanager
    def _alone(self) -> Iterator[None]:
        statements = _ALONE.get(self._address.kind, ())
        if not statements:  # a file: each step's transaction has the file to itself
            yield
            return
        deadline = time.monotonic() + OTHER_MIGRATOR
        with self._engine.connect() as connection:
            # Asked again and again, each time in a new transaction: an index that is built beside the writers waits for
            # all statements under way, so a statement that waited for its builder would never end.
            while True:
                with connection.begin():
                    *settings, lock = statements
                    for setting in settings:
                        connection.exec_driver_sql(setting)
                    if connection.exec_driver_sql(lock).scalar():
                        yield
                        return
                if time.monotonic() > deadline:
                    raise SchemaError(
                        f"{self._address} was not changed: another migrator has been at work for {OTHER_MIGRATOR} s. "
                        "Wait for its end, then run: jobmaster db upgrade"
                    )
                time.sleep(LOOK_AGAIN)

    def _patiently(self) -> bool:
        """One step, again while its locks are not to be had. False: there was none."""
        from sqlalchemy.exc import DBAPIError

        deadline = time.monotonic() + PATIENCE
        pause = 0.1
        while True:
            try:
                return self._step()
            except DBAPIError as error:
                if getattr(error.orig, "sqlstate", None) not in _TRY_AGAIN:
                    raise
                if time.monotonic() > deadline:
                    raise SchemaError(
                        f"{self._address} was not changed: other transactions kept its tables for {PATIENCE:.0f} s. "
                        "Look for open transactions in pg_stat_activity, then run: jobmaster db upgrade"
                    ) from error
            logger.info("migration_waits pause=%.1f", pause)
            time.sleep(pause * (0.5 + random.random() / 2))  # noqa: S311 - jitter
            pause = min(pause * 2, LONGEST_PAUSE)

    def _step(self) -> bool:
        with self._engine.connect() as connection, connection.begin():
            self._be_brief(connection, "SET LOCAL")
            step = self._next_step(stored_version(connection, hold=self._address.kind == POSTGRESQL))
            if step is None:
                return False
            if step.transactional or self._address.kind != POSTGRESQL:
                self._make(connection, step)
                self._require(stored_version(connection), step)
                return True
        # Its statements cannot be in a transaction, and each may be repeated: the lock against others is enough.
        with self._engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            self._be_brief(connection, "SET")
            self._make(connection, step)
            self._require(stored_version(connection), step)
        return True

    def _be_brief(self, connection: Connection, verb: str) -> None:
        for setting in _BRIEFLY.get(self._address.kind, ()):
            connection.exec_driver_sql(f"{verb} {setting}")

    def _make(self, connection: Connection, step: Revision) -> None:
        from alembic import command

        logger.info("migration version=%s title=%s", step.number, step.title)
        command.upgrade(configuration(connection=connection), step.number)

    def _require(self, now: Stored, step: Revision) -> None:
        if now.version != step.number or not now.oldest_code:
            raise SchemaError(
                f"{self._address} says schema {now.written} after the migration to {step.number}. Its table "
                f"{VERSION_TABLE} was changed by hand, or made by a JobMaster that was never released. Restore a "
                "backup, or use another database."
            )


def stored_version(connection: Connection, *, hold: bool = False) -> Stored:
    """What the database says. `hold`: nobody else changes it until this transaction ends."""
    from sqlalchemy import inspect, text

    if not inspect(connection).has_table(VERSION_TABLE):
        return Stored(None)
    # The column of the second may be missing where the first migration never got through.
    row = (
        connection.execute(text(f"SELECT * FROM {VERSION_TABLE}{' FOR UPDATE' if hold else ''}")).mappings().fetchone()
    )
    return Stored("") if row is None else Stored(row["version_num"], row.get("oldest_code", ""))
