"""The questions of people (ports.query), one line each."""

from __future__ import annotations

from jobmaster.stores.sql.postgresql.handle import Handle


class PeopleVerbs(Handle):
    """The questions of people (ports.query) on PostgreSQL."""
