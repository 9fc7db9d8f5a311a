"""Runs each job in a process in which nothing else runs: a death there names it, and harms no other.

For jobs that went down with their process before (`rules/recovery.py`). The processes are those of the pool
"processes"; they are started when they are needed, and end when nothing has run in them for a while.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from jobmaster.engine.pools.processes import ProcessPool
from jobmaster.engine.pools.sent import PoolLaunch

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from jobmaster.model.ids import JobKey
    from jobmaster.model.run import Finished, Halt, Run

IDLE_S = 30.0
"""Seconds after which processes end that nothing runs in."""


class ApartPool:
    """A pool of processes for one run each at a time (ports.workload.Pool), as many as are asked for at once.

    Args:
        launch: what the processes are to run.
        random: numbers in [0, 1), for jitter.
        idle: seconds after which the processes end that nothing runs in.
    """

    def __init__(self, launch: PoolLaunch, *, random: Callable[[], float], idle: float = IDLE_S) -> None:
        self.finished: Callable[[list[Finished]], None] = lambda _finished: None
        self.begun = 0
        """How many runs were submitted."""
        self._launch = launch
        self._random = random
        self._idle_s = idle
        self._loop = asyncio.get_running_loop()
        self._free: list[tuple[float, ProcessPool]] = []
        """Those in which nothing runs, and since when (of the loop's clock); the last to become free is used first."""
        self._busy: dict[JobKey, ProcessPool] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._closing: set[asyncio.Task[None]] = set()

    def submit(self, runs: Sequence[Run]) -> None:
        """See `Pool.submit`."""
        self.begun += len(runs)
        for run in runs:
            cell = self._free.pop()[1] if self._free else self._new_cell()
            self._busy[run.key] = cell
            cell.submit([run])

    def halt(self, key: JobKey, why: Halt) -> bool:
        """See `Pool.halt`."""
        cell = self._busy.get(key)
        return cell is not None and cell.halt(key, why)

    def stuck(self) -> list[JobKey]:
        """See `Pool.stuck`."""
        return [key for cell in self._busy.values() for key in cell.stuck()]

    def limit_memory(self, *, most: int, too_much: int) -> None:
        """See `ProcessPool.limit_memory`."""
        for cell in self._cells():
            cell.limit_memory(most=most, too_much=too_much)

    async def close(self) -> None:
        """See `Pool.close`."""
        if self._timer is not None:
            self._timer.cancel()
        cells = self._cells()
        self._free = []
        await asyncio.gather(*(cell.close() for cell in cells), *self._closing)

    def _cells(self) -> list[ProcessPool]:
        return [*self._busy.values(), *(cell for _, cell in self._free)]

    def _new_cell(self) -> ProcessPool:
        cell = ProcessPool(self._launch, size=1, max_tasks_per_child=None, random=self._random)
        cell.finished = self._ended
        return cell

    def _ended(self, finished: list[Finished]) -> None:
        for run, _, _ in finished:
            cell = self._busy.pop(run.key, None)
            if cell is not None:
                self._free.append((self._loop.time(), cell))
        self._look_later()
        self.finished(finished)

    def _look_later(self) -> None:
        if self._free and self._timer is None:
            self._timer = self._loop.call_at(self._free[0][0] + self._idle_s, self._let_go)

    def _let_go(self) -> None:
        """Close those that were free for long enough, however long others are busy."""
        self._timer = None
        before = self._loop.time() - self._idle_s
        while self._free and self._free[0][0] <= before:
            closing = self._loop.create_task(self._free.pop(0)[1].close())
            self._closing.add(closing)
            closing.add_done_callback(self._closing.discard)
        self._look_later()
