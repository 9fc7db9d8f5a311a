"""Run by Alembic: gives it the connection, or the dialect, that `provision` put into its configuration."""

from __future__ import annotations

from typing import Any

from alembic import context

from jobmaster.stores.sql.schema import metadata
from jobmaster.stores.sql.version import VERSION_TABLE


def _state_oldest_code(ctx: Any, step: Any, **_kwargs: Any) -> None:
    """Beside the new version: whose code goes on working with it, as its migration says."""
    ctx.execute(f"UPDATE {VERSION_TABLE} SET oldest_code = '{step.up_revision.module.oldest_code}'")


_attributes = context.config.attributes
_common: dict[str, Any] = {
    "target_metadata": metadata,
    "version_table": VERSION_TABLE,
    "on_version_apply": _state_oldest_code,
}

if context.is_offline_mode():
    context.configure(dialect_name=_attributes["dialect"], literal_binds=True, **_common)
else:
    # The caller's transaction, if the revision is one, covers the step and the note of its version.
    context.configure(connection=_attributes["connection"], transactional_ddl=False, **_common)
context.run_migrations()
