"""Runs `async def` tasks on the engine's loop.

A short task must not pay for an `asyncio.Task`, and a task's code may ask for `asyncio.current_task()` from its first
line on (`asyncio.timeout`, anyio and aiohttp do). So a *driver*, a real Task, takes one run after the other and does
their first steps. A run that ends in its first step costs no Task and no object of this pool at all; for one that
suspends, the driver stays with it to its end as its Task, and another driver serves the rest. A driver of which a run
kept hold is not used again, so that nobody can cancel somebody else's run through it.

Ends are reported together: those of first steps when the queue is empty or enough of them have come, those of suspended
runs once for a turn of the loop.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
import sys
import time
from collections import deque
from typing import TYPE_CHECKING

from jobmaster.engine.pools.ending import PATIENCE, after_halt, from_exception, stopped
from jobmaster.engine.pools.suspended import Rest, Suspended
from jobmaster.model.run import Halt

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from jobmaster.model.ids import JobKey
    from jobmaster.model.run import Ended, Finished, Run
    from jobmaster.ports.workload import Workload

logger = logging.getLogger("jobmaster.pool")

_BURST_S = 0.005
"""A driver gives the loop back after so many seconds of first steps."""
_TOGETHER = 128
"""So many ends are reported at once at most."""


class LoopPool:
    """A pool of coroutines (ports.workload.Pool). To be made and used on one loop.

    Args:
        monotonic: the process's clock (`Clock.monotonic`).
    """

    def __init__(self, workload: Workload, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        self.finished: Callable[[list[Finished]], None] = lambda _finished: None
        self._workload = workload
        self._monotonic = monotonic
        self._loop = asyncio.get_running_loop()
        self._context = contextvars.copy_context()
        self._queue: deque[Run] = deque()
        self._suspended: dict[JobKey, Suspended] = {}
        self._softened: set[JobKey] = set()
        """Queued runs whose soft limit has passed: its exception is raised where they first wait."""
        self._driver: asyncio.Task[None] | None = None
        """The driver that serves the queue; those that stay with a run are in `_suspended`."""
        self._tasks: set[asyncio.Task[None]] = set()
        self._work: asyncio.Future[None] | None = None
        """What the driver waits for when the queue is empty."""
        self._ends: list[Finished] = []
        """Ends of suspended runs that are reported in this turn of the loop, or the next."""
        self._emptied: asyncio.Future[None] | None = None

    def submit(self, runs: Sequence[Run]) -> None:
        """See `Pool.submit`. First steps happen in the loop's next turn, or in this one after those before them."""
        self._queue.extend(runs)
        if self._driver is None:
            self._start_driver()
        elif self._work is not None and not self._work.done():
            self._work.set_result(None)

    def halt(self, key: JobKey, why: Halt) -> bool:
        """See `Pool.halt`. A run that swallows its cancellation is cancelled again, and then resumed no more."""
        held = self._suspended.get(key)
        if held is None:
            return self._halt_queued(key, why)
        if why is Halt.SOFT_LIMIT:
            if not held.halted():
                held.why = held.why or why
                held.soft = True
                held.task.cancel()
            return True
        if not held.halted():
            held.why = why
            held.run.halting = True
            held.task.cancel()
            held.timer = self._loop.call_later(PATIENCE, self._insist, held)
        return True

    def stuck(self) -> list[JobKey]:
        """Always empty: a coroutine that does not end when it is told to is resumed no more."""
        return []

    async def close(self) -> None:
        """See `Pool.close`. Takes two seconds at most."""
        for key in [*self._suspended, *(run.key for run in self._queue)]:
            self.halt(key, Halt.SHUTDOWN)
        if self._suspended or self._ends:
            self._emptied = self._loop.create_future()
            await self._emptied
        if self._driver is not None:
            self._driver.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=PATIENCE)

    def _halt_queued(self, key: JobKey, why: Halt) -> bool:
        for run in self._queue:
            if run.key == key:
                break
        else:
            return False
        if why is Halt.SOFT_LIMIT:
            self._softened.add(key)
            return True
        self._queue.remove(run)
        self._softened.discard(key)
        run.halting = True
        self._report_soon(run, stopped(why))
        return True

    # ---------------------------------------------------------------- first steps

    def _start_driver(self) -> None:
        self._driver = self._loop.create_task(self._drive(), name="jobmaster-run", context=self._context.copy())
        self._tasks.add(self._driver)
        self._driver.add_done_callback(self._driver_ended)

    async def _drive(self) -> None:
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - for the type checker: this is a task's own coroutine
        while True:
            if not self._queue:
                self._work = self._loop.create_future()
                await self._work
                self._work = None
            held, spoilt = self._first_steps(task)
            if held is not None:
                if held.soft:
                    task.cancel()
                self._hand_the_queue_on()
                self._end(held, await Rest(held))
            if held is not None or spoilt:
                return
            if self._queue:
                await asyncio.sleep(0)

    def _first_steps(self, task: asyncio.Task[None]) -> tuple[Suspended | None, bool]:
        """Start runs until the burst is over: the one that has suspended, and whether a run kept hold of the task."""
        queue, monotonic, invoke, copy = self._queue, self._monotonic, self._workload.invoke_async, self._context.copy
        references = sys.getrefcount
        until = monotonic() + _BURST_S
        ends: list[Finished] = []
        while queue:
            run = queue.popleft()
            holders = references(task)
            context = copy()
            coroutine = invoke(run)
            try:
                future = context.run(coroutine.send, None)
            except StopIteration as stop:
                ended = stop.value
            except BaseException as error:  # noqa: BLE001 - a task that calls sys.exit() must not take the others with it
                ended = from_exception(error, None)
            else:
                held = Suspended(run, task, context, coroutine, future)
                self._suspended[run.key] = held
                if self._softened and run.key in self._softened:
                    self._softened.discard(run.key)
                    held.why, held.soft = Halt.SOFT_LIMIT, True
                self._report(ends)
                return held, False
            now = monotonic()
            ends.append((run, ended, now))
            if self._softened:
                self._softened.discard(run.key)
            spoilt = references(task) != holders or task.cancelling() > 0
            if spoilt or now > until:
                self._report(ends)
                return None, spoilt
            if not queue or len(ends) >= _TOGETHER:
                self._report(ends)
                ends = []
        return None, False

    def _hand_the_queue_on(self) -> None:
        self._driver = None
        if self._queue:
            self._start_driver()

    def _driver_ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if self._driver is task:
            self._work = None
            self._hand_the_queue_on()
        if not task.cancelled() and task.exception() is not None:
            self._loop.call_exception_handler(
                {"message": "a driver of runs failed", "exception": task.exception(), "task": task}
            )

    # ---------------------------------------------------------------- ends

    def _report(self, ends: list[Finished]) -> None:
        if not ends:
            return
        try:
            self.finished(ends)
        except Exception as error:  # noqa: BLE001 - the runs that are still to come must not suffer for it
            self._loop.call_exception_handler({"message": "ends of runs could not be taken in", "exception": error})

    def _report_soon(self, run: Run, ended: Ended) -> None:
        if not self._ends:
            self._loop.call_soon(self._report_collected)
        self._ends.append((run, ended, self._monotonic()))

    def _report_collected(self) -> None:
        ends, self._ends = self._ends, []
        self._report(ends)
        if not self._suspended and not self._ends and self._emptied is not None and not self._emptied.done():
            self._emptied.set_result(None)

    def _end(self, held: Suspended, ended: Ended) -> None:
        """Report the run, once. Later words of it count no more."""
        if held.ended:
            return
        held.ended = True
        if held.timer is not None:
            held.timer.cancel()
        if self._suspended.get(held.run.key) is held:
            del self._suspended[held.run.key]
        self._report_soon(held.run, after_halt(held.why, ended))

    def _insist(self, held: Suspended) -> None:
        """It was told to end and has not: tell it once more, then leave it."""
        if not held.ended:
            held.task.cancel()
            held.timer = self._loop.call_later(PATIENCE / 2, self._abandon, held)

    def _abandon(self, held: Suspended) -> None:
        if held.ended or held.why is None:
            return
        logger.warning("run_ignores_its_end task=%s why=%s", held.run.envelope.task, held.why.name)
        self._end(held, stopped(held.why))
        held.task.cancel()
