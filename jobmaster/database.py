"""The master's schema, for those who deploy: which version it has, bringing it up to date, the SQL to do it by hand.

Imports SQLAlchemy and Alembic when it is asked: no worker and no producer does that.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from jobmaster.settings import Settings
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
