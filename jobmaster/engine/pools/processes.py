"""Runs sync tasks one at a time on the main thread of each of N processes (Celery's prefork semantics).

Each process is started once, by exec, and imports the user's code itself. Whatever a run does, it can be ended: the
soft limit is a signal that raises in it; the hard limit, a cancellation and a shutdown kill that one process with all
that it started, and another takes its place. A process that crashes takes one run with it. For Linux and macOS.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from collections import deque
from typing import TYPE_CHECKING, Final

import msgspec
from msgspec.structs import replace

from jobmaster.engine.links import framing, memory
from jobmaster.engine.links.spawned import SpawnedProcess, spawn
from jobmaster.engine.pools import soft_limit
from jobmaster.engine.pools.ending import PATIENCE, after_halt, stopped
from jobmaster.model.job import ErrorInfo
from jobmaster.model.run import End, Ended, Halt
from jobmaster.rules.restart import restart_delay

if TYPE_CHECKING:
    from collections.abc import Callable

    from jobmaster.model.ids import JobKey
    from jobmaster.model.run import Run

logger = logging.getLogger("jobmaster.pool")

NUMBER: Final = 8
"""Bytes of a run's number before its message."""

_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Ended)


class PoolLaunch(msgspec.Struct, frozen=True):
    """What a process of a pool is told first.

    Attributes:
        entry: "module:function"; it is called with `arguments` and answers a `Workload`.
        arguments: whatever the entry understands.
    """

    entry: str
    arguments: bytes


class _Entry:
    """One submitted run."""

    __slots__ = ("done", "place", "reported", "run", "told_at", "why")

    def __init__(self, run: Run, done: Callable[[Ended], None]) -> None:
        self.run = run
        self.done = done
        self.place: _Place | None = None
        self.why: Halt | None = None
        self.told_at = 0.0
        self.reported = False

    def halted(self) -> bool:
        return self.why is not None and self.why is not Halt.SOFT_LIMIT


class ProcessPool:
    """A pool of processes (ports.workload.Pool). To be made and used on one loop, on the main thread.

    Args:
        launch: what the processes are to run.
        size: how many processes; they are started at once.
        max_tasks_per_child: a process is replaced after so many runs; None: never.
        random: numbers in [0, 1), for jitter.
    """

    def __init__(
        self, launch: PoolLaunch, *, size: int, max_tasks_per_child: int | None, random: Callable[[], float]
    ) -> None:
        self.launch = launch
        self.max_tasks_per_child = max_tasks_per_child
        self.random = random
        self.closing = False
        self._loop = asyncio.get_running_loop()
        self._entries: dict[JobKey, _Entry] = {}
        self._queue: deque[_Entry] = deque()
        self._idle: list[_Place] = []
        self._places = [_Place(self, number) for number in range(size)]
        self._tending = {self._loop.create_task(place.tend()) for place in self._places}

    def submit(self, run: Run, done: Callable[[Ended], None]) -> None:
        """See `Pool.submit`."""
        entry = _Entry(run, done)
        self._entries[run.key] = entry
        if self._idle:
            self._idle.pop().begin(entry)
        else:
            self._queue.append(entry)

    def halt(self, key: JobKey, why: Halt) -> bool:
        """See `Pool.halt`."""
        entry = self._entries.get(key)
        if entry is None:
            return False
        if why is Halt.SOFT_LIMIT:
            if entry.why is None and entry.place is not None:
                entry.why = why
                entry.place.pass_soft_limit()
            return True
        if entry.halted():
            return True
        entry.why, entry.told_at = why, self._loop.time()
        if entry.place is None:
            self._queue.remove(entry)
            self.report(entry, stopped(why))
        else:
            entry.place.kill()
        return True

    def stuck(self) -> list[JobKey]:
        """See `Pool.stuck`: only what outlives a SIGKILL, in a device that does not answer."""
        before = self._loop.time() - PATIENCE
        return [key for key, entry in self._entries.items() if entry.halted() and entry.told_at <= before]

    async def close(self) -> None:
        """See `Pool.close`."""
        self.closing = True
        for key in list(self._entries):
            self.halt(key, Halt.SHUTDOWN)
        for place in self._places:
            place.let_go()
        await asyncio.wait(self._tending, timeout=PATIENCE)
        for place in self._places:
            place.kill()
        await asyncio.wait(self._tending, timeout=PATIENCE)
        for task in self._tending:
            task.cancel()
        await asyncio.wait(self._tending)
        for entry in list(self._entries.values()):
            self.report(entry, stopped(entry.why or Halt.SHUTDOWN))

    # ---------------------------------------------------------------- what the places say

    def is_free(self, place: _Place) -> None:
        """The place can take a run."""
        if self._queue:
            place.begin(self._queue.popleft())
        else:
            self._idle.append(place)

    def is_gone(self, place: _Place) -> None:
        """The place has no process for the moment."""
        if place in self._idle:
            self._idle.remove(place)

    def report(self, entry: _Entry, ended: Ended) -> None:
        """The run has ended. The first word counts."""
        if entry.reported:
            return
        entry.reported = True
        if self._entries.get(entry.run.key) is entry:
            del self._entries[entry.run.key]
        entry.done(after_halt(entry.why, ended))


class _Place:
    """One process after the other."""

    def __init__(self, pool: ProcessPool, number: int) -> None:
        self._pool = pool
        self._number = number
        self._process: SpawnedProcess | None = None
        self._soft_limit: soft_limit.SoftLimit | None = None
        self._ended = asyncio.Event()
        self._entry: _Entry | None = None
        self._run = 0
        """The number of the run that is under way, or of the last."""
        self._runs_left: int | None = None
        self._worked = False
        """This process has been given a run."""
        self._retiring = False
        self._killed = False
        self._failure = ""

    # ---------------------------------------------------------------- what the pool says

    def begin(self, entry: _Entry) -> None:
        """Send the run to the process, which waits for one."""
        assert self._process is not None  # noqa: S101 - only a place that said `is_free` is asked
        self._entry, entry.place = entry, self
        self._worked = True
        self._run += 1
        run = replace(entry.run, cancelled=None)
        self._process.frames.send(framing.RUN, self._run.to_bytes(NUMBER, "big") + _encoder.encode(run))

    def pass_soft_limit(self) -> None:
        """Have the soft limit raised in the run that is under way."""
        if self._soft_limit is not None and self._process is not None:
            self._soft_limit.passes_for(self._run)
            self._process.signal(signal.SIGUSR1)

    def kill(self) -> None:
        """End the process now, and its run."""
        if self._process is not None:
            self._killed = True
            self._process.kill()

    def let_go(self) -> None:
        """End the process, which has no run any more."""
        self._retiring = True
        self._pool.is_gone(self)
        if self._process is not None:
            self._process.frames.close()

    # ---------------------------------------------------------------- one process after the other

    async def tend(self) -> None:
        """Keep a process in this place until the pool closes."""
        failed_starts = 0
        while not self._pool.closing:
            if failed_starts:
                await asyncio.sleep(restart_delay(short_lives=failed_starts, random=self._pool.random()))
            try:
                await self._start()
            except OSError:
                logger.exception("pool_process_not_started place=%d", self._number)
                failed_starts += 1
                continue
            await self._ended.wait()
            failed_starts = 0 if self._worked or self._killed else failed_starts + 1
            self._bury()

    async def _start(self) -> None:
        self._ended.clear()
        self._worked = self._retiring = self._killed = False
        self._failure = ""
        self._runs_left = self._pool.max_tasks_per_child
        descriptor = memory.create(soft_limit.SIZE)
        try:
            self._soft_limit = soft_limit.SoftLimit(descriptor)
            self._process = await spawn(
                "jobmaster.engine.pools.process_child",
                shared=descriptor,
                on_frame=self._arrived,
                on_end=lambda _word: self._ended.set(),
                own_group=True,
            )
        finally:
            os.close(descriptor)
        self._process.frames.send(framing.LAUNCH, _encoder.encode(self._pool.launch))
        if self._pool.closing:
            self.let_go()

    def _bury(self) -> None:
        """The process has ended: so has its run, if there was one."""
        self._pool.is_gone(self)
        assert self._process is not None  # noqa: S101 - it has just ended
        word, pid = self._process.word or "", self._process.pid
        self._process = None
        entry, self._entry = self._entry, None
        if self._failure:
            logger.error("pool_process_cannot_start place=%d reason=%s", self._number, self._failure)
        elif entry is not None and not entry.halted():
            logger.warning("pool_process_crashed place=%d pid=%d reason=%s", self._number, pid, word)
        if entry is not None:
            lost = ErrorInfo("jobmaster.errors.WorkerLostError", f"the process that ran the task ended: {word}")
            self._pool.report(
                entry,
                stopped(entry.why) if entry.why and entry.halted() else Ended(End.CRASHED, error=lost, reason=word),
            )

    def _arrived(self, kind: bytes, payload: bytes) -> None:
        if kind == framing.READY:
            if not self._retiring and not self._killed:
                self._pool.is_free(self)
        elif kind == framing.FAILURE:
            self._failure = payload.decode(errors="replace")
        elif kind == framing.END and self._entry is not None:
            entry, self._entry = self._entry, None
            self._go_on()
            self._pool.report(entry, _decoder.decode(payload[NUMBER:]))

    def _go_on(self) -> None:
        """After a run: the next one, or a new process."""
        if self._runs_left is not None:
            self._runs_left -= 1
        if self._runs_left == 0:
            self.let_go()
        elif not self._retiring and not self._killed:
            self._pool.is_free(self)
