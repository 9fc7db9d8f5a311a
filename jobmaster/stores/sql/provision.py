"""The schema for people: what a database has, bringing it up to date, and the SQL for those who run it themselves.

This imports SQLAlchemy and Alembic; it is for the command line and for the migrator's own process (`migrate.py`).
"""

from __future__ import annotations

import io
import time
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from jobmaster.errors import SchemaError
from jobmaster.settings.dsn import POSTGRESQL, SCHEMES, SQLITE
from jobmaster.stores.sql import version
from jobmaster.stores.sql.compatibility import Fit, Stored, fit_of, too_new, unreleased, works_with
from jobmaster.stores.sql.reaching import address_of, parsed, reached
from jobmaster.stores.sql.revisions import Revision, configuration, pending
from jobmaster.stores.sql.steps import Steps, stored_version

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from jobmaster.settings.dsn import Dsn


class LivingWorker(msgspec.Struct, frozen=True):
    """A worker whose lease goes on, and the newest schema that its code knows (empty: it did not say)."""

    name: str
    version: str
    schema_version: str


class SchemaStatus(msgspec.Struct, frozen=True):
    """What schema a database has.

    Attributes:
        database: its address, without secrets.
        found: its version; None or empty: no JobMaster tables.
        expected: the version of this code.
        pending: the missing migrations, in their order.
        fit: what this code can do with it.
        oldest_code: the oldest schema version whose code works with it.
        workers: those that live in this database's cluster.
        steps: more about `pending`.
    """

    database: str
    found: str | None
    expected: str
    pending: tuple[str, ...] = ()
    fit: Fit = Fit.MISSING
    oldest_code: str = ""
    workers: tuple[LivingWorker, ...] = ()
    steps: tuple[Revision, ...] = ()

    @property
    def is_current(self) -> bool:
        """True: it is the very version of this code."""
        return self.found == self.expected

    @property
    def works(self) -> bool:
        """True: this JobMaster can work on it as it is."""
        return self.fit.works

    @property
    def state(self) -> str:
        """What `fit` means, in words."""
        return _STATES[self.fit]

    @property
    def next_step(self) -> str:
        """What to do now, in words; empty: nothing."""
        if self.fit is Fit.TOO_NEW:
            return "update this installation: install the newer JobMaster"
        if self.fit is Fit.UNRELEASED:
            return "delete it, or name another database"
        if not self.steps:
            return ""
        if self.in_the_way_of(self.steps[0]):
            return "replace the older workers, then: jobmaster db upgrade"
        return "jobmaster db upgrade" + (" --expand" if any(map(self.in_the_way_of, self.steps)) else "")

    def in_the_way_of(self, step: Revision) -> tuple[LivingWorker, ...]:
        """Living workers whose code would not survive a migration."""
        return outdated(self.workers, step) if step.contracts else ()


_STATES = {
    Fit.CURRENT: "current",
    Fit.AHEAD: "newer than this JobMaster, which goes on working with it",
    Fit.BEHIND: "older than this JobMaster, which works with it, too",
    Fit.MISSING: "no JobMaster tables yet",
    Fit.TOO_OLD: "too old for this JobMaster",
    Fit.TOO_NEW: "too new: it has lost what this JobMaster needs",
    Fit.UNRELEASED: "made by a pre-release of JobMaster",
}


def outdated(workers: tuple[LivingWorker, ...], step: Revision) -> tuple[LivingWorker, ...]:
    """Those whose code does not work any more after a migration."""
    return tuple(one for one in workers if not works_with(one.schema_version, step.oldest_code))


def status(dsn: str, *, master: str | None = None) -> SchemaStatus:
    """The schema of a database, which is not changed.

    Args:
        dsn: its address.
        master: where the workers are registered that use it; None: in itself.

    Raises:
        ConfigurationError: `dsn` is no address of an SQL database, or its driver is missing.
        StoreUnavailable: it cannot be reached.
    """
    address = address_of(dsn)
    stored = _stored(address)
    missing, fit = pending(stored), fit_of(stored)
    return SchemaStatus(
        database=str(address),
        found=stored.version,
        expected=version.SCHEMA_VERSION,
        pending=tuple(step.number for step in missing),
        fit=fit,
        oldest_code=stored.oldest_code,
        workers=() if fit is Fit.UNRELEASED else living_workers(master or dsn),
        steps=missing,
    )


def upgrade(dsn: str, *, expand_only: bool = False, force: bool = False, master: str | None = None) -> SchemaStatus:
    """Run the migrations that are missing, one after the other, each all or nothing. One migrator at a time.

    Args:
        dsn: the database.
        expand_only: stop before the first one that older code would not survive.
        force: make those, too, while workers of older code live. They then fail until they are replaced.
        master: where the workers are registered that use it; None: in itself.

    Raises:
        ConfigurationError: `dsn` is no address of an SQL database, its driver is missing, or a file can't be made.
        SchemaError: the schema is newer than this code works with; or workers of older code live that the next
            migration would break. What was made before it stays.
        StoreUnavailable: the database cannot be reached, or another migrator or a transaction holds it for too long.
    """
    address = address_of(dsn)
    if address.kind == SQLITE:
        from jobmaster.stores.sql.sqlite.connection import make_file

        make_file(address.path)

    def next_step(stored: Stored) -> Revision | None:
        if fit_of(stored) is Fit.TOO_NEW:
            raise SchemaError(too_new(stored, str(address)))
        if fit_of(stored) is Fit.UNRELEASED:
            raise SchemaError(unreleased(str(address)))
        step = next(iter(pending(stored)), None)
        if step is None or not step.contracts:
            return step
        if expand_only:
            return None
        if not force:
            _require_no_outdated(step, living_workers(master or dsn), str(address))
        return step

    with reached(address, writes=True) as engine:
        Steps(engine, address, next_step).run()
    return status(dsn, master=master)


def _require_no_outdated(step: Revision, workers: tuple[LivingWorker, ...], where: str) -> None:
    in_the_way = outdated(workers, step)
    if not in_the_way:
        return
    named = ", ".join(f"{one.name} ({one.version or 'unknown version'})" for one in in_the_way[:10])
    more = f" and {len(in_the_way) - 10} more" if len(in_the_way) > 10 else ""
    raise SchemaError(
        f"{where} was not changed to schema {step.number} ({step.title}): code older than schema {step.oldest_code} "
        f"does not survive it, and {len(in_the_way)} such workers live: {named}{more}. Replace or stop them, and "
        "producers of that age, which are not listed anywhere; then run: jobmaster db upgrade"
    )


def living_workers(dsn: str) -> tuple[LivingWorker, ...]:
    """The workers that are registered in a master and whose leases go on.

    Raises:
        As `status`.
    """
    address = address_of(dsn)
    if address.kind == SQLITE and not Path(address.path).exists():
        return ()
    with reached(address, writes=False) as engine, engine.connect() as connection:
        return _living(connection, address)


def _living(connection: Connection, address: Dsn) -> tuple[LivingWorker, ...]:
    from sqlalchemy import inspect, text

    if not inspect(connection).has_table("jm_worker"):
        return ()
    now_us = time.time_ns() // 1_000
    if address.kind == POSTGRESQL:
        clock = text("SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint")
        now_us = connection.execute(clock).scalar_one()
    rows = connection.execute(
        text(
            "SELECT name, version, schema_version FROM jm_worker WHERE ended = 0 AND lease_until_us > :now ORDER BY 1"
        ),
        {"now": now_us},
    )
    return tuple(LivingWorker(*row) for row in rows)


def _stored(address: Dsn) -> Stored:
    if address.kind == SQLITE and not Path(address.path).exists():
        return Stored(None)
    with reached(address, writes=False) as engine, engine.connect() as connection:
        return stored_version(connection)


def sql(dsn_or_dialect: str, *, since: str | None = None) -> str:
    """The statements that bring a database to this version, for those who run them by hand.

    Args:
        dsn_or_dialect: an address, or one of sqlite, postgresql, mysql, mssql.
        since: the version that the database has; None: it is empty.

    Raises:
        SchemaError: there is no such version.
    """
    from alembic import command
    from alembic.util import CommandError

    kind = SCHEMES.get(dsn_or_dialect) or parsed(dsn_or_dialect).kind
    config = configuration(dialect=kind)
    config.output_buffer = buffer = io.StringIO()
    try:
        command.upgrade(config, f"{since}:head" if since else "head", sql=True)
    except CommandError as error:
        raise SchemaError(
            f"There is no schema version {since!r} from which this JobMaster could go on. `jobmaster db status` says "
            "which one the master has."
        ) from error
    lines = buffer.getvalue().splitlines()
    return "\n".join(line for line in lines if not line.startswith("-- ")).strip() + "\n"
