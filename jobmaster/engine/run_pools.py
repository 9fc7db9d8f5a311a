"""Which pool has a run: that of coroutines, of functions, or a process of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from jobmaster.engine.isolation import Isolation
    from jobmaster.engine.life import Entry
    from jobmaster.model.run import Finished, Halt
    from jobmaster.ports.workload import Pool


class Batch:
    """Runs that start together, at one moment of the store's clock and of the process's monotonic one."""

    __slots__ = ("apart", "coroutines", "functions", "now", "now_us")

    def __init__(self, now_us: int, now: float) -> None:
        self.now_us = now_us
        self.now = now
        self.coroutines: list[Entry] = []
        self.functions: list[Entry] = []
        self.apart: list[Entry] = []


class RunPools:
    """The pools of one engine.

    Args:
        async_pool: runs coroutines.
        sync_pool: runs functions.
        isolation: knows who runs apart, and its pool.
        finished: called by each pool with runs that are over.
        submitting: called with entries that are about to be submitted to one of them.
    """

    def __init__(
        self,
        *,
        async_pool: Pool,
        sync_pool: Pool,
        isolation: Isolation,
        finished: Callable[[list[Finished]], None],
        submitting: Callable[[list[Entry]], None],
    ) -> None:
        self._async = async_pool
        self._sync = sync_pool
        self._isolation = isolation
        self._submitting = submitting
        for pool in (async_pool, sync_pool, isolation.pool):
            if pool is not None:
                pool.finished = finished

    def submit(self, batch: Batch) -> None:
        """Have them run."""
        for pool, entries in (
            (self._async, batch.coroutines), (self._sync, batch.functions), (self._isolation.pool, batch.apart)
        ):  # fmt: skip
            if entries and pool is not None:
                self._submitting(entries)
                pool.submit([entry.run for entry in entries if entry.run is not None])

    def halt(self, entry: Entry, why: Halt) -> None:
        """Stop a run, wherever it is."""
        policy = entry.policy
        pool = self._async if policy is not None and policy.is_async else self._sync
        if self._isolation.pool is not None and entry in self._isolation:
            pool = self._isolation.pool
        pool.halt(entry.key, why)
