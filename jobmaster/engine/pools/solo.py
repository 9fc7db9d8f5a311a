"""Runs sync tasks one at a time, in one thread beside the engine's loop, so that leases and reads go on meanwhile."""

from __future__ import annotations

from typing import TYPE_CHECKING

from jobmaster.engine.pools.threads import ThreadPool

if TYPE_CHECKING:
    from jobmaster.ports.workload import Workload


class SoloPool(ThreadPool):
    """A pool of one place (ports.workload.Pool)."""

    def __init__(self, workload: Workload) -> None:
        super().__init__(workload, size=1)
