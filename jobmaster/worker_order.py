"""What `jobmaster worker` was told."""

from __future__ import annotations

import os
import re
import socket
from typing import Any, Final

import msgspec

LONGEST_HOST: Final = 40


class WorkerOrder(msgspec.Struct, frozen=True, kw_only=True):
    """What `jobmaster worker` was told. Plain data; None: as the app and its settings say.

    `place` and `folder` say where the app is; `identity` names this worker where nothing else does; `settings` are
    settings of the command line by dotted name; `lanes` as people write them; `grace` in seconds;
    `max_memory_per_child` in MiB.
    """

    place: str
    folder: str
    identity: str
    settings: dict[str, Any] = {}
    agent: str | None = None
    lanes: tuple[str, ...] = ()
    name: str | None = None
    mode: str | None = None
    pool: str = "threads"
    concurrency: int | None = None
    engines: int = 1
    once: bool = False
    max_tasks_per_child: int | None = None
    max_memory_per_child: int | None = None
    log_level: str = "info"
    log_format: str = "text"


def default_worker_name() -> str:
    """Host and process: unique while the process lives, so that two workers of one host never share a name."""
    host = re.sub(r"[^A-Za-z0-9]+", "-", socket.gethostname()).strip("-")[:LONGEST_HOST].strip("-") or "worker"
    return f"{host}.{os.getpid()}"
