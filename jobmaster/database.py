"""The master's schema, for those who deploy: which version it has, bringing it up to date, the SQL to do it by hand.

Imports SQLAlchemy and Alembic when it is asked: no worker and no producer does that.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from jobmaster.client import Client
    from jobmaster.model.examination import Examination
    from jobmaster.settings import Dsn, Settings
    from jobmaster.stores.sql.provision import SchemaStatus as SchemaStatus  # noqa: PLC0414 - part of this API


def load_schema_tools() -> None:
    """Import what questions about schemas need: for callers that count the time of the questions alone."""
    from alembic import command, script  # noqa: F401
    from sqlalchemy import inspect  # noqa: F401


def schema_status(settings: Settings) -> SchemaStatus:
    """What schema the master has, and which workers live with which version; nothing is changed.

    Raises:
        ConfigurationError: the driver of its address is missing.
        StoreUnavailable: it cannot be reached.
    """
    from jobmaster.stores.sql.provision import status

    return status(settings.master.url)


def agent_statuses(settings: Settings) -> dict[str, SchemaStatus]:
    """The same of the agents that are SQL databases, by name. Their workers are those that the master knows.

    Raises:
        As `schema_status`.
    """
    from jobmaster.stores.sql.provision import status

    return {name: status(url, master=settings.master.url) for name, url in _sql_agents(settings).items()}


def upgrade_schema(settings: Settings, *, expand_only: bool = False, force: bool = False) -> SchemaStatus:
    """Make the schema, or bring it up to date, in the master and in agents that are SQL databases.

    Workers of older code run on meanwhile. Of two who try at once, one waits and finds nothing to do.

    Args:
        settings: of the cluster.
        expand_only: do nothing that running older workers would not survive.
        force: do it even while such workers live.

    Returns:
        What the master has then.

    Raises:
        ConfigurationError: the driver of an address is missing, or a file cannot be made.
        SchemaError: the schema is newer than this code works with; or the next step waits for older workers to end.
        StoreUnavailable: a database cannot be reached, or its tables are held for too long.
    """
    from jobmaster.stores.sql.provision import upgrade

    master = settings.master.url
    after = upgrade(master, expand_only=expand_only, force=force)
    for url in _sql_agents(settings).values():
        upgrade(url, expand_only=expand_only, force=force, master=master)
    return after


def _sql_agents(settings: Settings) -> dict[str, str]:
    return {agent.name: agent.dsn.url for agent in settings.agents if agent.dsn.is_sql}


def schema_sql(dialect: str, *, since: str | None = None) -> str:
    """The statements that bring a database to this version.

    Args:
        dialect: sqlite, postgresql, mysql or mssql.
        since: the version that it has; None: it is empty.

    Raises:
        SchemaError: there is no such version.
    """
    from jobmaster.stores.sql.provision import sql

    return sql(dialect, since=since)


def examine_store(dsn: Dsn, *, timeout: float) -> Examination:
    """What a store says of itself; nothing is changed. On a connection of its own, to be called outside of any loop.

    Args:
        dsn: the address of the master or of an agent.
        timeout: seconds for the connection, and for each of a few questions.

    Raises:
        ConfigurationError: this version has no such store, its driver is missing, or the address is wrong.
        StoreUnavailable: it does not answer, or has no connection left.
    """
    from jobmaster.settings import require_driver, require_store

    require_store(dsn)
    require_driver(dsn)
    if dsn.kind == "sqlite":
        from jobmaster.stores.sql.sqlite.examining import examine as examine_file

        return examine_file(dsn, timeout=timeout)
    import asyncio

    from jobmaster.stores.sql.postgresql.examining import examine as examine_server

    return asyncio.run(examine_server(dsn, timeout=timeout))


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
