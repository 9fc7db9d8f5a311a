"""The verbs of an owner: claims, guarded starts, outcomes, letting go (ports.master, ports.store), one line each."""

from __future__ import annotations

from jobmaster.stores.sql.postgresql.handle import Handle


class JobVerbs(Handle):
    """The verbs of an owner: claims on PostgreSQL."""
