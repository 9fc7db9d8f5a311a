"""Runs `async def` tasks on the engine's loop.

A short task must not pay for an `asyncio.Task`, and a task's code may ask for `asyncio.current_task()` from its first
line on (`asyncio.timeout`, anyio and aiohttp do). So a *driver*, a real Task, takes one run after the other and does
their first steps. A run that ends in its first step costs no Task at all; for one that suspends, the driver stays with
it to its end as its Task, and another driver serves the rest. A driver of which a run kept hold is not used again, so
that nobody can cancel somebody else's run through it.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
import sys
from collections import deque
from typing import TYPE_CHECKING, Any

from msgspec.structs import replace

from jobmaster.engine.pools.ending import PATIENCE, after_halt, from_exception, stopped
from jobmaster.errors import SoftTimeLimitExceeded
from jobmaster.model.run import Halt

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Generator

    from jobmaster.model.ids import JobKey
    from jobmaster.model.run import Ended, Run
    from jobmaster.ports.workload import Workload

logger = logging.getLogger("jobmaster.pool")

_BURST_S = 0.005
"""A driver gives the loop back after so many seconds of first steps."""


class _Entry:
    """One submitted run."""

    __slots__ = ("context", "coroutine", "done", "ended", "future", "run", "soft", "task", "timer", "why")

    def __init__(self, run: Run, done: Callable[[Ended], None]) -> None:
        self.run = run
        self.done = done
        self.why: Halt | None = None
        self.soft = False
        """The soft limit has passed and its exception is not yet delivered."""
        self.ended = False
        self.task: asyncio.Task[None] | None = None
        self.timer: asyncio.TimerHandle | None = None
        self.context: contextvars.Context
        self.coroutine: Coroutine[Any, Any, Ended]
        self.future: Any = None

    def halted(self) -> bool:
        return self.why is not None and self.why is not Halt.SOFT_LIMIT


class LoopPool:
    """A pool of coroutines (ports.workload.Pool). To be made and used on one loop."""

    def __init__(self, workload: Workload) -> None:
        self._workload = workload
        self._loop = asyncio.get_running_loop()
        self._context = contextvars.copy_context()
        self._entries: dict[JobKey, _Entry] = {}
        self._queue: deque[_Entry] = deque()
        self._driver: asyncio.Task[None] | None = None
        """The driver that serves the queue; those that stay with a run are in `_entries`."""
        self._tasks: set[asyncio.Task[None]] = set()
        self._work: asyncio.Future[None] | None = None
        """What the driver waits for when the queue is empty."""
        self._emptied: asyncio.Future[None] | None = None

    def submit(self, run: Run, done: Callable[[Ended], None]) -> None:
        """See `Pool.submit`. The first step happens in the loop's next turn."""
        entry = _Entry(run, done)
        if run.cancelled is None:
            entry.run = replace(run, cancelled=entry.halted)
        self._entries[run.key] = entry
        self._queue.append(entry)
        if self._driver is None:
            self._start_driver()
        elif self._work is not None and not self._work.done():
            self._work.set_result(None)

    def halt(self, key: JobKey, why: Halt) -> bool:
        """See `Pool.halt`. A run that swallows its cancellation is cancelled again, and then resumed no more."""
        entry = self._entries.get(key)
        if entry is None:
            return False
        if why is Halt.SOFT_LIMIT:
            if not entry.halted():
                entry.why = entry.why or why
                entry.soft = True
                if entry.task is not None:  # else it is raised where the run first waits
                    entry.task.cancel()
            return True
        if entry.halted():
            return True
        entry.why = why
        if entry.task is None:
            self._end(entry, stopped(why))
            return True
        entry.task.cancel()
        entry.timer = self._loop.call_later(PATIENCE, self._insist, entry)
        return True

    def stuck(self) -> list[JobKey]:
        """Always empty: a coroutine that does not end when it is told to is resumed no more."""
        return []

    async def close(self) -> None:
        """See `Pool.close`. Takes two seconds at most."""
        for key in list(self._entries):
            self.halt(key, Halt.SHUTDOWN)
        if self._entries:
            self._emptied = self._loop.create_future()
            await self._emptied
        if self._driver is not None:
            self._driver.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=PATIENCE)

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
            until = self._loop.time() + _BURST_S
            while self._queue and self._loop.time() <= until:
                entry = self._queue.popleft()
                if entry.ended:
                    continue
                holders = sys.getrefcount(task)
                if self._first_step(entry):
                    if sys.getrefcount(task) != holders or task.cancelling():
                        return
                    continue
                entry.task = task
                if entry.soft:
                    task.cancel()
                self._hand_the_queue_on()
                ended = await _Rest(entry)
                self._end(entry, ended)
                return
            await asyncio.sleep(0)

    def _first_step(self, entry: _Entry) -> bool:
        """Start the run; False: it has suspended."""
        entry.context = self._context.copy()
        entry.coroutine = self._workload.invoke_async(entry.run)
        try:
            entry.future = entry.context.run(entry.coroutine.send, None)
        except StopIteration as stop:
            self._end(entry, stop.value)
        except BaseException as error:  # noqa: BLE001 - a task that calls sys.exit() must not take the others with it
            self._end(entry, from_exception(error, None))
        else:
            return False
        return True

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
                {"message": "a run's end could not be taken in", "exception": task.exception(), "task": task}
            )

    # ---------------------------------------------------------------- ends

    def _end(self, entry: _Entry, ended: Ended) -> None:
        """Report the run, once. Later words of it count no more."""
        if entry.ended:
            return
        entry.ended = True
        if entry.timer is not None:
            entry.timer.cancel()
        if self._entries.get(entry.run.key) is entry:
            del self._entries[entry.run.key]
        if not self._entries and self._emptied is not None and not self._emptied.done():
            self._emptied.set_result(None)
        entry.done(after_halt(entry.why, ended))

    def _insist(self, entry: _Entry) -> None:
        """It was told to end and has not: tell it once more, then leave it."""
        if entry.ended or entry.task is None:
            return
        entry.task.cancel()
        entry.timer = self._loop.call_later(PATIENCE / 2, self._abandon, entry)

    def _abandon(self, entry: _Entry) -> None:
        if entry.ended or entry.task is None or entry.why is None:
            return
        logger.warning("run_ignores_its_end task=%s why=%s", entry.run.envelope.task, entry.why.name)
        self._end(entry, stopped(entry.why))
        entry.task.cancel()


class _Rest:
    """All further steps of a suspended run, each in the run's own context."""

    __slots__ = ("_entry",)

    def __init__(self, entry: _Entry) -> None:
        self._entry = entry

    def __await__(self) -> Generator[Any, None, Ended]:
        entry = self._entry
        while True:
            thrown: BaseException | None = None
            try:
                yield entry.future
            except GeneratorExit:
                entry.coroutine.close()
                raise
            except BaseException as error:  # noqa: BLE001 - whatever it is, it is meant for the run
                thrown = error
            if entry.ended:
                return self._leave()
            if entry.soft:
                thrown = self._soft_limit(thrown)
            try:
                if thrown is None:
                    entry.future = entry.context.run(entry.coroutine.send, None)
                else:
                    entry.future = entry.context.run(entry.coroutine.throw, thrown)
            except StopIteration as stop:
                ended: Ended = stop.value
                return ended
            except BaseException as error:  # noqa: BLE001 - see `_first_step`
                if isinstance(error, asyncio.CancelledError):
                    return from_exception(error, entry.why)
                return from_exception(error, entry.why if entry.halted() else None)

    def _soft_limit(self, thrown: BaseException | None) -> BaseException | None:
        """Our own cancellation becomes the soft limit's exception, unless the run is to end altogether.

        A task group that waits for its children must see a cancellation: any other exception leaves them running.
        """
        entry = self._entry
        entry.soft = False
        if entry.halted() or _waits_in_task_group(entry.coroutine):
            return thrown
        if isinstance(thrown, asyncio.CancelledError) and entry.task is not None:
            entry.task.uncancel()
        return SoftTimeLimitExceeded("the run's soft time limit passed")

    def _leave(self) -> Ended:
        """The run was reported already: it gets one last chance to clean up, without awaiting anything."""
        entry = self._entry
        try:
            entry.context.run(entry.coroutine.close)
        except BaseException as error:  # noqa: BLE001 - it swallows even this; it is resumed no more
            logger.debug("run_left_suspended task=%s error=%r", entry.run.envelope.task, error)
        return stopped(entry.why or Halt.SHUTDOWN)


def _waits_in_task_group(coroutine: object) -> bool:
    while coroutine is not None:
        code = getattr(coroutine, "cr_code", None)
        if code is not None and code.co_qualname.endswith("TaskGroup.__aexit__"):
            return True
        coroutine = getattr(coroutine, "cr_await", None) or getattr(coroutine, "gi_yieldfrom", None)
    return False
