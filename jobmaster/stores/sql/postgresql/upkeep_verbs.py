"""The verbs of the cluster, the coordinator and of commands (ports.master), one line each."""

from __future__ import annotations

from jobmaster.stores.sql.postgresql.handle import Handle


class UpkeepVerbs(Handle):
    """The verbs of the cluster on PostgreSQL."""
