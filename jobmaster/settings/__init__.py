"""Settings of a cluster: what they are, where they may be written, and what is refused.

`resolve()` reads all sources and returns `ResolvedSettings`. The rest of the names are the values in it.
"""

from __future__ import annotations

from jobmaster.model.backoff import Backoff
from jobmaster.settings.arguments import Duration, SettingArguments
from jobmaster.settings.declarations import Agent, Worker
from jobmaster.settings.dsn import Dsn, parse_dsn, redacted, require_driver
from jobmaster.settings.names import DEFAULT_LANE, STANDALONE_AGENT, check_cluster_id, check_lane, check_worker_name
from jobmaster.settings.resolve import ResolvedSettings, resolve
from jobmaster.settings.validation import archive_faults
from jobmaster.settings.values import Durability, Settings, Survives

__all__ = [
    "DEFAULT_LANE",
    "STANDALONE_AGENT",
    "Agent",
    "Backoff",
    "Dsn",
    "Durability",
    "Duration",
    "ResolvedSettings",
    "SettingArguments",
    "Settings",
    "Survives",
    "Worker",
    "archive_faults",
    "check_cluster_id",
    "check_lane",
    "check_worker_name",
    "parse_dsn",
    "redacted",
    "require_driver",
    "resolve",
]
