"""An event loop whose time jumps to the next timer, and simulated processes that can be stopped, continued and killed.

One loop carries all processes of a simulation. Each callback belongs to the process in whose context it was scheduled:
a killed process runs nothing any more, a paused one runs what was due as soon as it is continued (SIGSTOP, SIGCONT).
Nothing here asks the operating system: equal seeds give equal histories.
"""

from __future__ import annotations

import asyncio
import contextvars
import itertools
from collections.abc import Callable, Coroutine
from typing import Any

MOST_TURNS_AT_ONE_INSTANT = 200_000
TURN = 1e-6
"""Seconds that a turn of the loop takes, as it would on a real machine: waiting for a moment always ends."""

_process: contextvars.ContextVar[Process | None] = contextvars.ContextVar("process", default=None)


class ProcessDied(BaseException):
    """Raised by the handles of a killed process, so that what is left of it has no effect outside."""


class Deadlock(Exception):  # noqa: N818 - what it is
    """Nothing is scheduled any more, and the simulation has not ended."""


class Spinning(Exception):  # noqa: N818 - what it is
    """The simulation goes on for ever without time passing."""


class Process:
    """A simulated operating-system process: its tasks, and whether they run.

    Attributes:
        host: name of the machine, for traces.
        cut: names of the servers that it cannot reach now.
        died: why it ended, or None.
    """

    _numbers = itertools.count(1)

    def __init__(self, loop: VirtualLoop, name: str, *, host: str = "") -> None:
        self.loop, self.name, self.host = loop, name, host or name
        self.pid = next(loop.numbers)
        self.alive, self.paused, self.died = True, False, ""
        self.cut: set[str] = set()
        self.children: list[Process] = []
        self.on_death: list[Callable[[], None]] = []
        self._frozen: list[_Gated] = []
        self._corpse: list[asyncio.Task[Any]] = []
        self.context = contextvars.Context()
        self.context.run(_process.set, self)

    def __repr__(self) -> str:
        return f"<{self.name} pid {self.pid}>"

    def spawn(self, coroutine: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """Run the coroutine as a task of this process."""
        return self.loop.create_task(coroutine, context=self.context.copy())

    def call(self, callback: Callable[..., object], *args: object) -> None:
        """Call it soon inside this process (not at all if it is dead, later if it is paused)."""
        self.loop.call_soon(callback, *args, context=self.context)

    def check(self) -> None:
        """Every handle that reaches out of the process asks this first."""
        if not self.alive:
            raise ProcessDied(self.name)

    def pause(self) -> None:
        """SIGSTOP."""
        self.paused = True

    def go_on(self) -> None:
        """SIGCONT: what was due meanwhile runs now, in its order."""
        if not self.paused:
            return
        self.paused = False
        frozen, self._frozen = self._frozen, []
        for gated in frozen:
            gated.thaw(self.loop)

    def kill(self, reason: str = "SIGKILL") -> None:
        """SIGKILL: nothing of it runs any more. Its tasks are kept to the end, so that none is closed before."""
        if not self.alive:
            return
        self.alive, self.died, self._frozen = False, reason, []
        self._corpse = [task for task in asyncio.all_tasks(self.loop) if getattr(task, "process", None) is self]
        for task in self._corpse:
            task._log_destroy_pending = False  # type: ignore[attr-defined]
        for callback in self.on_death:
            callback()


def current_process() -> Process | None:
    """The process whose code runs now; None in the world outside of all processes."""
    return _process.get()


class _Gated:
    """A callback that runs only while its process does."""

    __slots__ = ("args", "callback", "handle", "process")

    def __init__(self, process: Process, callback: Callable[..., object], args: tuple[object, ...]) -> None:
        self.process, self.callback, self.args = process, callback, args
        self.handle: asyncio.Handle | None = None

    def __call__(self) -> None:
        process = self.process
        if process.alive:
            if process.paused:
                process._frozen.append(self)
            else:
                self.callback(*self.args)

    def thaw(self, loop: VirtualLoop) -> None:
        handle = self.handle
        assert handle is not None
        loop.call_soon_ungated(self._if_not_cancelled, context=handle._context)  # type: ignore[attr-defined]

    def _if_not_cancelled(self) -> None:
        if not self.handle.cancelled():  # type: ignore[union-attr]
            self()


class SimTask(asyncio.Task):  # type: ignore[type-arg]
    """A task that hashes by its number, so that sets of tasks have the same order in every run."""

    def __init__(self, coroutine: Coroutine[Any, Any, Any], *, loop: VirtualLoop, **options: Any) -> None:
        self.number = next(loop.numbers)
        context = options.get("context")
        self.process = _process.get() if context is None else context.get(_process)
        super().__init__(coroutine, loop=loop, **options)

    def __hash__(self) -> int:
        return self.number


class _Jump:
    """The selector's part: instead of waiting, move time."""

    def __init__(self, loop: VirtualLoop) -> None:
        self._loop, self._turns = loop, 0

    def select(self, timeout: float | None) -> list[object]:
        if timeout is None:
            raise Deadlock("nothing is scheduled any more")
        if timeout > 0:
            self._turns = 0
            self._loop.virtual += timeout
        else:
            self._turns += 1
            self._loop.virtual += TURN
            if self._turns > MOST_TURNS_AT_ONE_INSTANT:
                raise Spinning(f"{self._turns} turns of the loop at {self._loop.virtual:.6f}")
        return []


class VirtualLoop(asyncio.BaseEventLoop):
    """See the module's text. `numbers` counts whatever needs a unique and repeatable number."""

    def __init__(self) -> None:
        super().__init__()
        self.virtual = 0.0
        self.numbers = itertools.count(1)
        self._selector = _Jump(self)
        self.set_task_factory(lambda loop, coroutine, **options: SimTask(coroutine, loop=loop, **options))

    def time(self) -> float:
        return self.virtual

    def call_soon(self, callback: Any, *args: Any, context: contextvars.Context | None = None) -> asyncio.Handle:
        context = contextvars.copy_context() if context is None else context
        process = context.get(_process)
        if process is None:
            return super().call_soon(callback, *args, context=context)
        gated = _Gated(process, callback, args)
        gated.handle = super().call_soon(gated, context=context)
        return gated.handle

    def call_soon_ungated(self, callback: Any, *args: Any, context: contextvars.Context) -> asyncio.Handle:
        """For callbacks that see to their process themselves."""
        return super().call_soon(callback, *args, context=context)

    def call_soon_threadsafe(self, callback: Any, *args: Any, context: Any = None) -> asyncio.Handle:
        return self.call_soon(callback, *args, context=context)

    def run_in_executor(self, executor: Any, func: Callable[..., Any], *args: Any) -> asyncio.Future[Any]:
        """There are no threads here: what one would do is done at once."""
        future = self.create_future()
        try:
            future.set_result(func(*args))
        except Exception as error:  # noqa: BLE001 - its caller's
            future.set_exception(error)
        return future

    def call_at(self, when: float, callback: Any, *args: Any, context: Any = None) -> asyncio.TimerHandle:
        context = contextvars.copy_context() if context is None else context
        process = context.get(_process)
        if process is None:
            return super().call_at(when, callback, *args, context=context)
        gated = _Gated(process, callback, args)
        timer = super().call_at(when, gated, context=context)
        gated.handle = timer
        return timer

    def _process_events(self, event_list: list[object]) -> None:
        pass

    def _write_to_self(self) -> None:
        pass
