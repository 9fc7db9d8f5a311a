"""Work for one connection, combined: done by the caller who brings it while nothing is under way, else by a thread.

A lone caller so pays for no switch of threads, and many share their commits (the technique is known as flat combining:
Hendler, Incze, Shavit, Tzafrir 2010).

A caller's thread may be interrupted anywhere: by Ctrl-C, by a signal's handler that raises, by the time limit of a job.
What it does for others must not be lost with it. So an item is always in the queue or in the open group, between which
it is moved by one call into C, which no such exception can divide; and whoever was interrupted leaves the group to the
thread, which finishes it.
"""

from __future__ import annotations

import threading
from collections import deque
from itertools import islice
from typing import Generic, TypeVar

from jobmaster.errors import StoreUnavailable

T = TypeVar("T")


class CombiningQueue(Generic[T]):
    """Queue, gate and thread. Subclasses say how a group of items is done. `name`: the thread's, for people.

    Attributes:
        gate: held by whoever does a group. A fork takes it first, so that nothing is copied half done.
    """

    def __init__(self, name: str) -> None:
        self.gate = threading.Lock()
        self._queue: deque[T] = deque()
        self._bell = threading.Lock()
        self._bell.acquire()
        self._asleep = False
        self._closed = False
        self._leader = 0
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    # -- callers

    def bring(self, item: T) -> None:
        """Queue an item, from any thread; where nothing else is done, do it here.

        Raises:
            StoreUnavailable: this very thread is in the middle of a group.
        """
        if self._leader == threading.get_ident():
            raise StoreUnavailable(
                "A signal's handler, or a finalizer, came in the middle of a call that stores a job in this very "
                "thread, and cannot store one itself. Nothing was stored. Let it set a flag, and enqueue afterwards."
            )
        self._queue.append(item)
        if self._asleep and not self.gate.locked():
            self._lead()
        if self._asleep and self._queue:
            self.ring()

    def take_back(self, item: T) -> bool:
        """Remove an item from the queue; False: it is not there any more."""
        try:
            self._queue.remove(item)
        except ValueError:
            return False
        return True

    def ring(self) -> None:
        """End the thread's sleep."""
        self._asleep = False
        try:
            self._bell.release()
        except RuntimeError:
            return  # two rings for one sleep

    def _lead(self) -> None:
        with self.gate:
            if self._queue and self._is_ready():
                self._leader = threading.get_ident()
                try:
                    self._run_group()
                except BaseException:
                    self.ring()  # the thread finishes what this one has begun
                    raise
                finally:
                    self._leader = 0

    # -- what subclasses say

    def _run_group(self) -> None:
        """Finish what an interrupted thread has left, then take from the queue, do it and answer. The gate is held."""
        raise NotImplementedError

    def _has_unfinished(self) -> bool:
        """Whether an interrupted thread has left something."""
        return False

    def _is_ready(self) -> bool:
        """Whether a caller may do a group. The gate is held."""
        return True

    def _idle(self) -> float | None:
        """Called between groups; returns how many seconds the thread may sleep, None: until it is rung."""
        return None

    # -- the thread

    def _run(self) -> None:
        """What the thread does."""
        self._serve()

    def _serve(self) -> None:
        """Do group after group until `_closed`."""
        while True:
            if self._queue or self._has_unfinished():
                with self.gate:
                    self._run_group()
            elif self._closed:
                return
            with self.gate:
                pause = self._idle()
            if not self._queue:
                self._sleep(pause)

    def _sleep(self, pause: float | None) -> None:
        self._asleep = True
        if self._queue or self._closed:  # came between the last look and the flag
            self._asleep = False
            return
        self._bell.acquire(timeout=-1 if pause is None else pause)
        self._asleep = False

    # -- between queue and group

    def _move_next(self, taken: list[T]) -> bool:
        """Move the first item of the queue to the end of the list; False: there is none."""
        try:
            taken.extend(islice(iter(self._queue.popleft, None), 1))
        except IndexError:  # it was the last, and was taken back
            return False
        return True

    def _move_back(self, taken: list[T]) -> None:
        """Move the whole list to the head of the queue, in its order."""
        try:
            self._queue.extendleft(iter(taken.pop, None))
        except IndexError:
            return
