"""The verbs of producers and of people who change a job (ports.master), one line each."""

from __future__ import annotations

from jobmaster.stores.sql.postgresql.handle import Handle


class ProducerVerbs(Handle):
    """The verbs of producers and of people who change a job (ports.master) on PostgreSQL."""
