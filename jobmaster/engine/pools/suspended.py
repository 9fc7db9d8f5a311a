"""A coroutine that has suspended in its first step, and its further steps."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any

from jobmaster.engine.pools.ending import from_exception, stopped
from jobmaster.errors import SoftTimeLimitExceeded
from jobmaster.model.run import Halt

if TYPE_CHECKING:
    import contextvars
    from collections.abc import Coroutine, Generator

    from jobmaster.model.run import Ended, Run

logger = logging.getLogger("jobmaster.pool")


class Suspended:
    """One run that waits for something. `task` is what it sees as its Task; `future` is what it waits for."""

    __slots__ = ("context", "coroutine", "ended", "future", "run", "soft", "task", "timer", "why")

    def __init__(
        self,
        run: Run,
        task: asyncio.Task[None],
        context: contextvars.Context,
        coroutine: Coroutine[Any, Any, Ended],
        future: Any,
    ) -> None:
        self.run = run
        self.task = task
        self.context = context
        self.coroutine = coroutine
        self.future = future
        self.why: Halt | None = None
        self.soft = False
        """The soft limit has passed and its exception is not yet delivered."""
        self.ended = False
        self.timer: asyncio.TimerHandle | None = None

    def halted(self) -> bool:
        """Whether it was told to end; the soft limit only warns."""
        return self.why is not None and self.why is not Halt.SOFT_LIMIT


class Rest:
    """All further steps of a suspended run, each in the run's own context."""

    __slots__ = ("_held",)

    def __init__(self, held: Suspended) -> None:
        self._held = held

    def __await__(self) -> Generator[Any, None, Ended]:
        held = self._held
        step, send = held.context.run, held.coroutine.send
        while True:
            thrown: BaseException | None = None
            try:
                yield held.future
            except GeneratorExit:
                held.coroutine.close()
                raise
            except BaseException as error:  # noqa: BLE001 - whatever it is, it is meant for the run
                thrown = error
            if held.ended:
                return self._leave()
            if held.soft:
                thrown = self._soft_limit(thrown)
            try:
                if thrown is None:
                    held.future = step(send, None)
                else:
                    held.future = step(held.coroutine.throw, thrown)
            except StopIteration as stop:
                ended: Ended = stop.value
                return ended
            except BaseException as error:  # noqa: BLE001 - a task that calls sys.exit() must not take the others with it
                if isinstance(error, asyncio.CancelledError):
                    return from_exception(error, held.why)
                return from_exception(error, held.why if held.halted() else None)

    def _soft_limit(self, thrown: BaseException | None) -> BaseException | None:
        """Our own cancellation becomes the soft limit's exception, unless the run is to end altogether.

        A task group that waits for its children must see a cancellation: any other exception leaves them running.
        """
        held = self._held
        held.soft = False
        if held.halted() or _waits_in_task_group(held.coroutine):
            return thrown
        if isinstance(thrown, asyncio.CancelledError):
            held.task.uncancel()
        return SoftTimeLimitExceeded("the run's soft time limit passed")

    def _leave(self) -> Ended:
        """The run was reported already: it gets one last chance to clean up, without awaiting anything."""
        held = self._held
        try:
            held.context.run(held.coroutine.close)
        except BaseException as error:  # noqa: BLE001 - it swallows even this; it is resumed no more
            logger.debug("run_left_suspended task=%s error=%r", held.run.envelope.task, error)
        return stopped(held.why or Halt.SHUTDOWN)


def _waits_in_task_group(coroutine: object) -> bool:
    while coroutine is not None:
        code = getattr(coroutine, "cr_code", None)
        if code is not None and code.co_qualname.endswith("TaskGroup.__aexit__"):
            return True
        coroutine = getattr(coroutine, "cr_await", None) or getattr(coroutine, "gi_yieldfrom", None)
    return False
