"""The settings as an app gives them, for type checkers: every name of `Settings`, with what it may be given as."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import timedelta
from os import PathLike
from typing import TypeAlias, TypedDict

from jobmaster.model.backoff import Backoff
from jobmaster.model.states import ClusterMode, Priority
from jobmaster.settings.declarations import Agent, Worker
from jobmaster.settings.values import Durability, Survives

Duration: TypeAlias = float | timedelta
"""Seconds, or a timedelta."""


class SettingArguments(TypedDict, total=False):
    """What `JobMaster(cluster_id, ...)` takes. `mode` is the cluster's mode there, short for `cluster_mode`."""

    master: str
    agents: Iterable[Agent]
    workers: Iterable[Worker]
    mode: ClusterMode | str
    cluster_mode: ClusterMode | str
    transient_threshold: Duration
    onboarding_window: Duration
    buffer_per_bucket: int
    buckets: Mapping[Priority, int]
    default_timeout: Duration | None
    default_max_retries: int
    retry: Backoff
    max_message_bytes: int
    max_result_bytes: int
    accept_timeout: Duration
    finish_flush: int
    early_row_after: Duration
    early_rows_per_second: int
    lease: Duration
    renew_every: Duration
    max_block: Duration
    max_recoveries: int
    max_tasks_per_child: int | None
    max_memory_per_child: int | None
    grace: Duration
    claims_per_second: int
    time_zone: str
    retention: Duration | None
    keep_result: Duration | None
    archive_to: str | None
    protect_agents: bool
    durability: Durability | str
    survives: Survives | str
    auto_provision: bool
    debug_log: str | PathLike[str] | None
    allow_pickle: bool
    include: Iterable[str]
