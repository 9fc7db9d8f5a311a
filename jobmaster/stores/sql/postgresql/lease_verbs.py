"""The verbs of workers and buckets (ports.master), one line each."""

from __future__ import annotations

from jobmaster.stores.sql.postgresql.handle import Handle


class LeaseVerbs(Handle):
    """The verbs of workers and buckets (ports.master) on PostgreSQL."""
