"""The master's schema, for those who deploy: which version it has, bringing it up to date, the SQL to do it by hand.

Imports SQLAlchemy and Alembic when it is asked: no worker and no producer does that.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from jobmaster.errors import ConfigurationError

if TYPE_CHECKING:
    from jobmaster.client import Client
    from jobmaster.model.examination import Examination
    from jobmaster.settings import Dsn, Settings
    from jobmaster.stores.sql.provision import SchemaStatus


def schema_status(settings: Settings) -> SchemaStatus:
    """What schema the master has; nothing is changed.

    Raises:
        ConfigurationError: the driver of its address is missing.
        StoreUnavailable: it cannot be reached.
    """
    from jobmaster.stores.sql.provision import status

    return status(settings.master.url)


def upgrade_schema(settings: Settings) -> SchemaStatus:
    """Make the schema, or bring it up to date. Of two that try at once, one waits and finds nothing to do.

    Raises:
        ConfigurationError: the driver of its address is missing, or a file cannot be made.
        SchemaError: the schema is newer than this code.
        StoreUnavailable: it cannot be reached.
    """
    from jobmaster.stores.sql.provision import upgrade

    return upgrade(settings.master.url)


def schema_sql(dialect: str) -> str:
    """The statements that make an empty database one of this version.

    Args:
        dialect: sqlite, postgresql, mysql or mssql.
    """
    from jobmaster.stores.sql.provision import sql

    return sql(dialect)


def examine_store(dsn: Dsn, *, timeout: float) -> Examination:
    """What a store says of itself; nothing is changed. On a connection of its own, to be called outside of any loop.

    Args:
        dsn: the address of the master or of an agent.
        timeout: seconds for the connection, and for each of a few questions.

    Raises:
        ConfigurationError: this version has no such store, its driver is missing, or the address is wrong.
        StoreUnavailable: it does not answer, or has no connection left.
    """
    from jobmaster.settings import require_driver

    require_driver(dsn)
    if dsn.kind == "sqlite":
        from jobmaster.stores.sql.sqlite.examining import examine as examine_file

        return examine_file(dsn, timeout=timeout)
    if dsn.kind == "postgresql":
        import asyncio

        from jobmaster.stores.sql.postgresql.examining import examine as examine_server

        return asyncio.run(examine_server(dsn, timeout=timeout))
    raise ConfigurationError(
        f"{dsn} names a {dsn.kind} store, and this version of JobMaster has stores for SQLite and PostgreSQL only. "
        "Use sqlite:///jobmaster.db or postgresql://HOST/DATABASE."
    )


def settings_skew(client: Client, settings: Settings) -> Sequence[str]:
    """Sentences about the settings that differ from what the cluster has agreed on, with both values; nothing changes.

    Raises:
        ClusterMismatch: the master belongs to another cluster.
        StoreUnavailable: it cannot be reached.
    """
    import msgspec

    from jobmaster.agreement import agreed_values, contradictions

    stored = client.ask(lambda gate: gate.store.load_cluster())
    if stored is None:
        return ()
    theirs = msgspec.json.decode(stored.settings)
    return contradictions(theirs, agreed_values(settings), protect_agents=settings.protect_agents)
