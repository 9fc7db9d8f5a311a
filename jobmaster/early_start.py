"""Starts the first engine process of a worker before the supervisor has imported what it needs itself.

The process imports the app, says what it found, waits to be told to go on, and becomes engine 0. Whatever is imported
here delays it: no settings, no event loop.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Final

import msgspec

from jobmaster.engine.links.starting import Launch, StartedEngine, start_engine
from jobmaster.errors import ConfigurationError

if TYPE_CHECKING:
    from jobmaster.worker_order import WorkerOrder

__all__ = ["StartedEngine", "start_first_engine"]

ENTRY: Final = "jobmaster.worker_process:first_engine"


def start_first_engine(order: WorkerOrder) -> StartedEngine:
    """Start the process. It lives as long as the calling thread, if nobody ends it before.

    Raises:
        ConfigurationError: this system cannot start engine processes.
    """
    if sys.platform == "win32":
        raise ConfigurationError(
            "jobmaster worker needs Linux or macOS: its engine processes inherit descriptors. On Windows run the "
            "workers inside your program: `with jm:`."
        )
    return start_engine(Launch(entry=ENTRY, arguments=msgspec.msgpack.encode(order), grace=0.0))
