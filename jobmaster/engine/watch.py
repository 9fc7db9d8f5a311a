"""Looks at what lasts: time limits, early rows (R11), and runs that can't be ended from inside this process."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from jobmaster.engine.life import Stage
from jobmaster.engine.limits import LOOK_EVERY

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from jobmaster.engine.lease import Lease
    from jobmaster.engine.runner import Runner
    from jobmaster.engine.starter import Starter
    from jobmaster.engine.tuning import Tuning
    from jobmaster.model.ids import JobKey
    from jobmaster.ports.clock import Clock
    from jobmaster.ports.store import Store
    from jobmaster.ports.workload import Pool


class Watch:
    """Looks every quarter of a second while something runs, and sooner where a limit comes sooner.

    Args:
        condemn: called once, with the reason, when a run does not end although it was told to.
    """

    def __init__(
        self,
        *,
        tuning: Tuning,
        store: Store,
        clock: Clock,
        lease: Lease,
        runner: Runner,
        starter: Starter,
        pools: Sequence[Pool],
        condemn: Callable[[str], None],
    ) -> None:
        self._tuning = tuning
        self._store = store
        self._clock = clock
        self._lease = lease
        self._runner = runner
        self._starter = starter
        self._pools = pools
        self._condemn = condemn

    async def run(self) -> None:
        """Look until cancelled."""
        limits = self._runner.limits
        condemned = False
        while True:
            if self._store.standalone and not self._runner.running:
                await limits.wait_for_a_start()
            limits.look()
            if not self._store.standalone:
                self._early_rows_of_waiting()
            stuck = self.stuck()
            if stuck and not condemned:
                condemned = True
                self._condemn(f"{len(stuck)} run(s) did not end when they were told to")
            next_limit = limits.next_limit()
            wait = LOOK_EVERY if next_limit is None else min(LOOK_EVERY, next_limit - self._clock.monotonic())
            await asyncio.sleep(max(wait, 0.005))

    def stuck(self) -> list[JobKey]:
        """Runs that were told to end, and that only the end of the process can end."""
        return [key for pool in self._pools for key in pool.stuck()]

    def _early_rows_of_waiting(self) -> None:
        """With a separate agent, what waits for long gets its Queued row, at a bounded rate."""
        budget = int(self._tuning.early_rows_per_second * LOOK_EVERY)
        before = self._clock.monotonic() - self._tuning.early_row_after
        for life in self._lease.open_lives():
            rowless = life.rowless
            while rowless and budget and rowless[0][0] <= before:
                entry = rowless.popleft()[1]
                if entry.stage is Stage.WAITING and not entry.in_master and entry.alive:
                    self._starter.early(entry)
                    budget -= 1
