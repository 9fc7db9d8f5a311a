"""Task definitions and cluster settings as they stand in the master."""

from __future__ import annotations

import msgspec


class Definition(msgspec.Struct, frozen=True):
    """A registered task: its name, where it routes, its defaults, signature and source, for people and for `send`."""

    name: str
    lane: str = ""
    priority: int = 3
    at_most_once: bool = False
    signature: str = ""
    source: str = ""
    defaults: bytes = b"{}"
    """JSON of timeout, soft_timeout, max_retries and the other defaults."""


class ClusterRecord(msgspec.Struct, frozen=True):
    """The cluster's settings in the master, with the version that a writer must have read to replace them."""

    cluster: str
    version: int
    settings: bytes
    """JSON object; the keys that workers must agree on are lease, clock and retention."""
