"""The verbs of an agent (ports.agent), one line each."""

from __future__ import annotations

from jobmaster.stores.sql.postgresql.handle import Handle


class AgentVerbs(Handle):
    """The verbs of an agent (ports.agent) on PostgreSQL."""
