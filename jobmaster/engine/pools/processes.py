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
import time
from collections import deque
from typing import TYPE_CHECKING

import msgspec

from jobmaster.engine.links import framing, memory
from jobmaster.engine.links.spawned import SpawnedProcess, spawn
from jobmaster.engine.pools import soft_limit
from jobmaster.engine.pools.ending import PATIENCE, after_halt, stopped
from jobmaster.engine.pools.sent import PoolLaunch, SentEnd, SentRun
from jobmaster.engine.wear import MIB, resident_bytes
from jobmaster.model.ids import JobKey
from jobmaster.model.job import ErrorInfo
from jobmaster.model.run import End, Ended, Halt
from jobmaster.rules.restart import restart_delay

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from jobmaster.model.run import Finished, Run

logger = logging.getLogger("jobmaster.pool")

AFTER_KILL = 0.3
"""Seconds before a SIGKILL from elsewhere is told: whoever kills all processes of a host or a container ends this one,
too, and then nobody says that the run brought it on itself."""

_encoder = msgspec.msgpack.Encoder()
_ends = msgspec.msgpack.Decoder(SentEnd)


class _Entry:
    """One submitted run."""

    __slots__ = ("place", "reported", "run", "told_at", "why")

    def __init__(self, run: Run) -> None:
        self.run = run
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
        monotonic: the process's clock (`Clock.monotonic`).
    """

    def __init__(
        self,
        launch: PoolLaunch,
        *,
        size: int,
        max_tasks_per_child: int | None,
        random: Callable[[], float],
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.finished: Callable[[list[Finished]], None] = lambda _finished: None
        self._monotonic = monotonic
        self._ends: list[Finished] = []
        """Ends that are reported in the loop's next turn."""
        self.launch = launch
        self.max_tasks_per_child = max_tasks_per_child
        self.random = random
        self.closing = False
        self.begun = 0
        """How many runs were submitted."""
        self._loop = asyncio.get_running_loop()
        self._entries: dict[JobKey, _Entry] = {}
        self._queue: deque[_Entry] = deque()
        self._idle: list[_Place] = []
        self._places = [_Place(self, number) for number in range(size)]
        self._tending = {self._loop.create_task(place.tend()) for place in self._places}

    def submit(self, runs: Sequence[Run]) -> None:
        """See `Pool.submit`."""
        self.begun += len(runs)
        for run in runs:
            entry = self._entries[run.key] = _Entry(run)
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
            if entry.why is None:
                entry.why = why
                if entry.place is not None:
                    entry.place.pass_soft_limit()
            return True
        if entry.halted():
            return True
        entry.why, entry.told_at = why, self._monotonic()
        entry.run.halting = True
        if entry.place is None:
            if entry in self._queue:
                self._queue.remove(entry)
            self.report(entry, stopped(why))
        else:
            entry.place.kill()
        return True

    def stuck(self) -> list[JobKey]:
        """See `Pool.stuck`: only what outlives a SIGKILL, in a device that does not answer."""
        before = self._monotonic() - PATIENCE
        return [key for key, entry in self._entries.items() if entry.halted() and entry.told_at <= before]

    def limit_memory(self, *, most: int, too_much: int) -> None:
        """Replace the processes that hold more than `most` bytes, after their run; at once beyond `too_much`."""
        for place in self._places:
            place.limit_memory(most=most, too_much=too_much)

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
        self._report_collected()

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
        """The run has ended. The first word counts; what ends in one turn of the loop is told together."""
        if entry.reported:
            return
        entry.reported = True
        if self._entries.get(entry.run.key) is entry:
            del self._entries[entry.run.key]
        if not self._ends:
            self._loop.call_soon(self._report_collected)
        self._ends.append((entry.run, after_halt(entry.why, ended), self._monotonic()))

    def report_later(self, entry: _Entry, ended: Ended) -> None:
        """The run has ended with its process, and it is not clear yet what became of all others."""
        entry.place = None
        self._loop.call_later(AFTER_KILL, self.report, entry, ended)

    def _report_collected(self) -> None:
        ends, self._ends = self._ends, []
        if ends:
            self.finished(ends)


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
        self._killed_for = ""
        self._failure = ""

    # ---------------------------------------------------------------- what the pool says

    def begin(self, entry: _Entry) -> None:
        """Send the run to the process, which waits for one."""
        assert self._process is not None  # noqa: S101 - only a place that said `is_free` is asked
        self._entry, entry.place = entry, self
        self._worked = True
        self._run += 1
        run = entry.run
        sent = SentRun(
            self._run,
            run.key,
            run.payload,
            run.attempt,
            run.failures,
            run.max_retries,
            run.scheduled_us,
            run.deadline_us,
            run.timeout,
            run.soft_timeout,
            run.worker,
            run.checkpoint,
        )
        self._process.frames.send(framing.RUN, _encoder.encode(sent))
        if entry.why is Halt.SOFT_LIMIT:  # it has waited for a process for too long
            self.pass_soft_limit()

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

    def limit_memory(self, *, most: int, too_much: int) -> None:
        """See `ProcessPool.limit_memory`."""
        held = 0 if self._process is None or not self._worked else resident_bytes(self._process.pid) or 0
        if held <= most or self._killed or self._retiring:
            return
        told = f"too much memory: {held // MIB} MiB, and max_memory_per_child is {most // MIB} MiB"
        if held > too_much and self._entry is not None:
            logger.warning("pool_process_killed place=%d reason=%s", self._number, told)
            self._killed_for = told
            self.kill()
        elif self._entry is None:
            logger.info("pool_process_recycled place=%d reason=%s", self._number, told)
            self.let_go()
        else:
            self._runs_left = 1

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
            except (OSError, RuntimeError):  # no descriptor, no memory, no process, no thread
                logger.exception("pool_process_not_started place=%d", self._number)
                failed_starts += 1
                continue
            await self._ended.wait()
            failed_starts = 0 if self._worked or self._killed else failed_starts + 1
            self._bury()

    async def _start(self) -> None:
        self._ended.clear()
        self._worked = self._retiring = self._killed = False
        self._failure = self._killed_for = ""
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
        word, pid = self._killed_for or self._process.word or "", self._process.pid
        self._process = None
        entry, self._entry = self._entry, None
        if self._failure:
            logger.error("pool_process_cannot_start place=%d reason=%s", self._number, self._failure)
        elif entry is not None and not entry.halted():
            logger.warning("pool_process_crashed place=%d pid=%d reason=%s", self._number, pid, word)
        if entry is None:
            return
        if entry.why and entry.halted():
            self._pool.report(entry, stopped(entry.why))
            return
        lost = ErrorInfo("jobmaster.errors.WorkerLostError", f"the process that ran the task ended: {word}")
        report = self._pool.report_later if word == "SIGKILL" else self._pool.report
        report(entry, Ended(End.CRASHED, error=lost, reason=word))

    def _arrived(self, kind: bytes, payload: bytes) -> None:
        if kind == framing.READY:
            if not self._retiring and not self._killed:
                self._pool.is_free(self)
        elif kind == framing.FAILURE:
            self._failure = payload.decode(errors="replace")
        elif kind == framing.END and self._entry is not None:
            entry, self._entry = self._entry, None
            told = _ends.decode(payload)
            self._go_on(is_last=told.is_last)
            self._pool.report(
                entry,
                Ended(
                    End(told.end),
                    told.result,
                    told.error,
                    told.reason,
                    told.retryable,
                    told.countdown,
                    told.max_retries,
                    told.checkpoint,
                ),
            )

    def _go_on(self, *, is_last: bool) -> None:
        """After a run: the next one, or a new process."""
        if self._runs_left is not None:
            self._runs_left -= 1
        if is_last or self._runs_left == 0:
            self.let_go()
        elif not self._retiring and not self._killed:
            self._pool.is_free(self)
