"""Runs sync tasks in daemon threads of the engine's process.

Hand-over in frames: what is submitted waits in one queue; a thread that is awake takes one run after the other without
going back to the loop. At most one sleeping thread is being woken at a time, and it wakes the next one when it has come
to its first run and there are more: short tasks are run through by one thread, blocking ones spread over all. Ends are
collected and handed to the loop with one wake-up for many.

A run is stopped by an exception that is injected into its thread. Where that does not help (a blocking call, a handler
that swallows everything) the run counts as stuck, and only the end of the process ends it.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
import os
import threading
import time
import weakref
from collections import deque
from typing import TYPE_CHECKING

import msgspec

from jobmaster.engine.pools.ending import PATIENCE, after_halt, from_exception, stopped
from jobmaster.engine.pools.injection import RunStopped, inject, withdraw
from jobmaster.errors import SoftTimeLimitExceeded
from jobmaster.model.run import Ended, Halt, Run

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from jobmaster.model.ids import JobKey
    from jobmaster.model.run import Finished
    from jobmaster.ports.workload import Workload

logger = logging.getLogger("jobmaster.engine")

_INSIST_EVERY = 0.25
_LIMITED_FOR = 10.0
"""Seconds after which the system is asked for one more thread where it had none."""


class _Entry(msgspec.Struct, eq=False):
    """One submitted run. `told_at`: when it was told to end; `place`: the thread that runs it."""

    run: Run
    why: Halt | None = None
    told_at: float = 0.0
    injected: bool = False
    place: _Place | None = None
    ended: Ended | None = None
    ended_at: float = 0.0
    reported: bool = False

    def halted(self) -> bool:
        return self.why is not None and self.why is not Halt.SOFT_LIMIT


class _Place:
    """One thread. `lock` guards `entry`: while it is held, the thread neither leaves the run nor comes to another."""

    __slots__ = ("entry", "ident", "lock", "permit", "thread")

    def __init__(self, serve: Callable[[_Place], None], number: int) -> None:
        self.lock = threading.Lock()
        self.entry: _Entry | None = None
        self.permit = threading.Lock()
        """Free: the thread may go on. Taken by the thread when it falls asleep; given by who wakes it."""
        self.permit.acquire()
        self.ident = 0
        self.thread = threading.Thread(target=serve, args=(self,), name=f"jobmaster-run-{number}", daemon=True)


class ThreadPool:
    """A pool of threads (ports.workload.Pool). To be made and used on one loop.

    Args:
        size: how many threads; they are started when they are first needed.
        monotonic: the process's clock (`Clock.monotonic`).
    """

    def __init__(self, workload: Workload, *, size: int, monotonic: Callable[[], float] = time.monotonic) -> None:
        self.finished: Callable[[list[Finished]], None] = lambda _finished: None
        self._monotonic = monotonic
        self._workload = workload
        self._size = size
        self._loop = asyncio.get_running_loop()
        self._context = contextvars.copy_context()
        self._entries: dict[JobKey, _Entry] = {}
        self._queue: deque[_Entry] = deque()
        self._places: list[_Place] = []
        self._idle: list[_Place] = []
        self._limited_until = float("-inf")
        self._waking = False
        """A sleeping thread has been woken and has not come to its first run yet."""
        self._ends: deque[_Entry] = deque()
        self._collecting = False
        """The loop has been told that there are ends, and has not looked yet."""
        self._insisting: asyncio.TimerHandle | None = None
        self._emptied: asyncio.Future[None] | None = None
        self._closed = False
        _living.add(self)

    def submit(self, runs: Sequence[Run]) -> None:
        """See `Pool.submit`."""
        entries = [_Entry(run) for run in runs]
        for entry in entries:
            self._entries[entry.run.key] = entry
        self._queue.extend(entries)
        while len(self._entries) > len(self._places) < self._size and self._start_thread():
            pass
        if not self._waking:
            self._wake_one()

    def halt(self, key: JobKey, why: Halt) -> bool:
        """See `Pool.halt`."""
        entry = self._entries.get(key)
        if entry is None:
            return False
        if why is Halt.SOFT_LIMIT:
            if entry.why is None:
                entry.why = why
                self._inject(entry, SoftTimeLimitExceeded)
            return True
        if entry.halted():
            return True
        entry.why, entry.told_at = why, self._monotonic()
        entry.run.halting = True
        try:
            self._queue.remove(entry)
        except ValueError:  # a thread has it
            self._inject(entry, RunStopped)
            if self._insisting is None:
                self._insisting = self._loop.call_later(_INSIST_EVERY, self._insist)
        else:
            self._end(entry, stopped(why))
        return True

    def stuck(self) -> list[JobKey]:
        """See `Pool.stuck`."""
        before = self._monotonic() - PATIENCE
        return [key for key, entry in self._entries.items() if entry.halted() and entry.told_at <= before]

    async def close(self) -> None:
        """See `Pool.close`. Threads that do not end within a second are left behind; they end with the process."""
        for key in list(self._entries):
            self.halt(key, Halt.SHUTDOWN)
        if self._entries:
            self._emptied = self._loop.create_future()
            await asyncio.wait({self._emptied}, timeout=PATIENCE)
        for entry in list(self._entries.values()):
            self._end(entry, stopped(entry.why or Halt.SHUTDOWN))
        self._collect()
        self._closed = True
        while self._idle:
            self._idle.pop().permit.release()
        if self._insisting is not None:
            self._insisting.cancel()

    def abandon(self) -> None:
        """In a forked child: what waits is the parent's, and the thread that has forked ends after its run."""
        self._closed = True
        self._queue.clear()

    # ---------------------------------------------------------------- on the loop

    def _start_thread(self) -> bool:
        """One more thread. False: the system gives none now, and the others do the work.

        Raises:
            RuntimeError: there is no other.
        """
        if self._monotonic() < self._limited_until:
            return False
        place = _Place(self._serve, len(self._places))
        try:
            place.thread.start()
        except RuntimeError as error:
            if not self._places:
                raise
            logger.warning("threads_limited threads=%d wanted=%d error=%r", len(self._places), self._size, str(error))
            self._limited_until = self._monotonic() + _LIMITED_FOR
            return False
        self._places.append(place)
        return True

    def _inject(self, entry: _Entry, kind: type[BaseException]) -> None:
        place = entry.place
        if place is None:  # in the queue, or between it and its first instruction: the thread looks at `why` then
            return
        with place.lock:
            if place.entry is entry:
                entry.injected = True
                inject(place.ident, kind)

    def _insist(self) -> None:
        """Again for runs that swallowed the exception, once they had time to clean up."""
        self._insisting = None
        halted = [entry for entry in self._entries.values() if entry.halted()]
        before = self._monotonic() - PATIENCE / 2
        for entry in halted:
            if not entry.injected or entry.told_at <= before:
                self._inject(entry, RunStopped)
        if halted:
            self._insisting = self._loop.call_later(_INSIST_EVERY, self._insist)

    def _collect(self) -> None:
        """Report all ends that there are, together."""
        self._collecting = False
        ends = self._ends
        finished: list[Finished] = []
        while ends:
            entry = ends.popleft()
            if entry.reported:
                continue
            entry.reported = True
            run = entry.run
            if self._entries.get(run.key) is entry:
                del self._entries[run.key]
            ended = entry.ended or stopped(entry.why or Halt.SHUTDOWN)
            finished.append((run, ended if entry.why is None else after_halt(entry.why, ended), entry.ended_at))
        if finished:
            self.finished(finished)
        if not self._entries and self._emptied is not None and not self._emptied.done():
            self._emptied.set_result(None)

    def _end(self, entry: _Entry, ended: Ended) -> None:
        """An end that no thread tells; if one does later, its word counts no more."""
        if entry.ended is None:
            entry.ended, entry.ended_at = ended, self._monotonic()
        self._ends.append(entry)
        if not self._collecting:
            self._collecting = True
            self._loop.call_soon(self._collect)

    # ---------------------------------------------------------------- on both sides

    def _wake_one(self) -> None:
        try:
            place = self._idle.pop()
        except IndexError:
            return
        self._waking = True
        place.permit.release()

    # ---------------------------------------------------------------- in the threads

    def _serve(self, place: _Place) -> None:
        place.ident = threading.get_ident()
        while not self._closed:
            try:
                entry = self._queue.popleft()
            except IndexError:
                self._sleep(place)
                continue
            if self._queue and not self._waking:
                self._wake_one()
            self._execute(place, entry)
            entry.ended_at = self._monotonic()
            self._ends.append(entry)
            if not self._collecting:
                self._collecting = True
                self._tell_the_loop()

    def _sleep(self, place: _Place) -> None:
        """Wait for work. Who submits after `append` wakes this thread; what was submitted before is seen here."""
        self._idle.append(place)
        if self._queue or self._closed:
            try:
                self._idle.remove(place)
            except ValueError:  # somebody has just taken it from there to wake it
                place.permit.acquire()
                self._waking = False
            return
        place.permit.acquire()
        self._waking = False

    def _execute(self, place: _Place, entry: _Entry) -> None:
        """Run to the end. An injected exception may strike anywhere in here, but not after it."""
        while True:
            try:
                with place.lock:
                    place.entry = entry if entry.ended is None else None
                    entry.place = place
                if entry.ended is None:
                    entry.ended = self._invoke(entry)
                    continue
                if entry.injected:
                    withdraw(place.ident)
                return
            except BaseException as error:  # noqa: BLE001 - injected, and it came too late for the run to see it
                entry.ended = entry.ended or from_exception(error, entry.why)

    def _invoke(self, entry: _Entry) -> Ended:
        if entry.why is not None:  # it was told before it began: there is nothing that could be cleaned up
            return stopped(entry.why)
        try:
            return self._context.copy().run(self._workload.invoke_sync, entry.run)
        except BaseException as error:  # noqa: BLE001 - a task that calls sys.exit() must not take the thread with it
            return from_exception(error, entry.why)

    def _tell_the_loop(self) -> None:
        try:
            self._loop.call_soon_threadsafe(self._collect)
        except RuntimeError:  # the loop is closed, the engine is gone: nobody waits for this end
            self._closed = True


_living: weakref.WeakSet[ThreadPool] = weakref.WeakSet()


def _after_fork() -> None:
    for pool in list(_living):
        pool.abandon()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
