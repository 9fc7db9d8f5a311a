"""Run by Alembic: gives it the connection, or the dialect, that `provision` put into its configuration."""

from __future__ import annotations

from alembic import context

from jobmaster.stores.sql.schema import metadata
from jobmaster.stores.sql.version import VERSION_TABLE

_attributes = context.config.attributes

if context.is_offline_mode():
    context.configure(
        dialect_name=_attributes["dialect"],
        target_metadata=metadata,
        version_table=VERSION_TABLE,
        literal_binds=True,
    )
    context.run_migrations()
else:
    # The caller's transaction, which holds the lock against a second migrator, covers everything.
    context.configure(
        connection=_attributes["connection"],
        target_metadata=metadata,
        version_table=VERSION_TABLE,
        transactional_ddl=False,
    )
    context.run_migrations()
