"""An engine inside the user's own process, with the keeper of its lease in a thread beside it.

Both ends are one object: what is shared memory between processes is a plain attribute here, and messages are callbacks
on the other side's loop.
"""

from __future__ import annotations

import asyncio
import contextlib
import faulthandler
import itertools
import logging
import os
import sys
import threading
from typing import TYPE_CHECKING, Any, Protocol

from msgspec.structs import replace

from jobmaster.engine.lease_keeper import LeaseKeeper
from jobmaster.model.job import Blame

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from jobmaster.engine.loop_watch import Block
    from jobmaster.model.ids import JobKey
    from jobmaster.model.worker import Grant, Renewal
    from jobmaster.ports.clock import Clock
    from jobmaster.ports.link import Report
    from jobmaster.rules.lease import LeaseTiming


logger = logging.getLogger("jobmaster.lease")

_TRIES = 5


class KeptStore(Protocol):
    """What the keeper of an engine in this process needs of a master."""

    async def renew(self, renewals: Sequence[Renewal]) -> list[Grant]:
        """See `ports.master.MasterStore.renew`."""
        ...

    async def end_worker(self, worker: int, *, blame: Sequence[Blame] = ()) -> None:
        """See `ports.master.MasterStore.end_worker`."""
        ...


class ThreadLink:
    """Both ends of a link inside one process (ports.link.EngineLink and ports.link.Child).

    Args:
        stop: called on the engine's loop for the graceful stop, with `now` True when it is asked a second time.
        on_condemned: called on the engine's loop when the engine asks to be replaced, which nobody can do here.
    """

    def __init__(self, *, stop: Callable[[bool], None], on_condemned: Callable[[str], None]) -> None:
        self._stop = stop
        self._on_condemned = on_condemned
        self._loop: asyncio.AbstractEventLoop | None = None
        self._deliver: Callable[[Grant], None] | None = None
        self._hurry: Callable[[], None] = lambda: None
        self._report: Report | None = None
        self._trust_until_ns = 0
        self._beats = 0
        self._places: dict[int, JobKey] = {}
        self._place = itertools.count()
        self._condemned: str | None = None
        self._exit: str | None = None
        self._asked_to_stop = False
        self._last: Grant | None = None
        self.forsaken = ""
        """Why its lease was ended while its loop did not turn; empty: it was not."""

    # ---------------------------------------------------------------- the engine's end

    def report(self, report: Report) -> None:
        """See `EngineLink.report`."""
        self._report = report
        if report.soon:
            self._hurry()

    def trust_until_ns(self) -> int:
        """See `EngineLink.trust_until_ns`."""
        return self._trust_until_ns

    def on_grant(self, callback: Callable[[Grant], None]) -> None:
        """See `EngineLink.on_grant`. The running loop is the engine's."""
        self._loop = asyncio.get_running_loop()
        self._deliver = callback

    def beat(self) -> None:
        """See `EngineLink.beat`."""
        self._beats += 1

    def running(self, key: JobKey) -> int:
        """See `EngineLink.running`."""
        place = next(self._place)
        self._places[place] = key
        return place

    def ended(self, place: int) -> None:
        """See `EngineLink.ended`."""
        self._places.pop(place, None)

    def condemn(self, reason: str) -> None:
        """See `EngineLink.condemn`."""
        if self._condemned is None:
            self._condemned = reason
            self._on_condemned(reason)

    # ---------------------------------------------------------------- the keeper's end

    @property
    def pid(self) -> int:
        """This process."""
        return os.getpid()

    def reports(self) -> Report | None:
        """See `Child.reports`."""
        return self._report

    def grant(self, grant: Grant, *, trust_until_ns: int) -> None:
        """See `Child.grant`."""
        if self._is_forsaken():
            return
        self._trust_until_ns, self._last = trust_until_ns, grant
        if self._is_forsaken():  # on another thread, just now
            self._trust_until_ns = 0
        elif self._deliver is not None:
            self._on_engine_loop(self._deliver, grant)

    def beats(self) -> int:
        """See `Child.beats`."""
        return self._beats

    def evidence(self) -> list[JobKey]:
        """See `Child.evidence`. It dies with this process."""
        return list(self._places.values())

    def condemned(self) -> str | None:
        """See `Child.condemned`."""
        return self._condemned

    def accused(self) -> tuple[JobKey | None, str] | None:
        """See `Child.accused`. Whoever watches the loop in this process acts on it at once."""
        return None

    def exit_reason(self) -> str | None:
        """See `Child.exit_reason`."""
        return self._exit

    def dump_stacks(self) -> None:
        """See `Child.dump_stacks`."""
        faulthandler.dump_traceback(file=sys.__stderr__ or sys.stderr, all_threads=True)

    def terminate(self) -> None:
        """See `Child.terminate`."""
        now, self._asked_to_stop = self._asked_to_stop, True
        self._on_engine_loop(self._stop, now)

    def kill(self) -> None:
        """A thread can't be killed: its runs are cancelled at once instead."""
        self._asked_to_stop = True
        self.terminate()

    # ---------------------------------------------------------------- what its owner says

    def forsake(self, reason: str) -> None:
        """Renew its lease no more. The engine hears that it is gone as soon as its loop turns again. For any thread."""
        self.forsaken = self._exit = reason
        self._trust_until_ns = 0
        if self._last is not None and self._deliver is not None:
            self._on_engine_loop(self._deliver, replace(self._last, gone=True, buckets=[], trust_until_ns=0))

    def exited(self, reason: str) -> None:
        """The engine has ended: its lease is renewed no more."""
        self._exit = reason

    def call_to_hurry(self, hurry: Callable[[], None]) -> None:
        """Call this, on the engine's thread, when a report wants a renewal soon."""
        self._hurry = hurry

    def _is_forsaken(self) -> bool:
        return bool(self.forsaken)

    def _on_engine_loop(self, callback: Callable[[Any], None], argument: object) -> None:
        if self._loop is None:
            return
        try:
            self._loop.call_soon_threadsafe(callback, argument)
        except RuntimeError:  # the engine's loop is closed: it has ended, and `exited` is about to be called
            return


class KeeperThread:
    """A lease keeper on a loop and a store of its own, in a daemon thread.

    Args:
        open_store: makes the keeper's store, on the keeper's loop.
        close_store: ends it, on the same loop.
    """

    def __init__(
        self,
        link: ThreadLink,
        *,
        open_store: Callable[[], Awaitable[KeptStore]],
        close_store: Callable[[KeptStore], Awaitable[None]],
        clock: Clock,
        timing: LeaseTiming,
        random: Callable[[], float],
    ) -> None:
        self._link = link
        self._open_store, self._close_store = open_store, close_store
        self._clock, self._timing, self._random = clock, timing, random
        self._store: KeptStore | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stopped: asyncio.Event | None = None
        self._ready = threading.Event()
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="jobmaster-lease", daemon=True)

    def start(self) -> None:
        """Start the thread and wait until its store is open.

        Raises:
            JobMasterError: the store could not be opened.
        """
        self._thread.start()
        self._ready.wait()
        if self._failure is not None:
            raise self._failure

    def give_up(self, block: Block, *, reason: str) -> None:
        """The engine's loop does not turn: end its lease, so that other workers have its buckets now. For any thread.

        A thread cannot be killed. What runs in it goes on, and nothing that it says counts any more.
        """
        logger.error("engine_given_up reason=%s: by %s. Other workers take over its jobs; what blocks goes on until it "
                     "ends by itself", reason, block.what)  # fmt: skip
        self._link.dump_stacks()
        report = self._link.reports()
        ran = self._link.evidence() if block.key is None else [block.key]
        self._link.forsake(reason)
        if report is not None and self._loop is not None:
            blame = [Blame(key, reason) for key in ran]
            with contextlib.suppress(RuntimeError):  # its loop is closed already
                asyncio.run_coroutine_threadsafe(self._end_worker(report.worker, blame), self._loop)

    async def _end_worker(self, worker: int, blame: list[Blame]) -> None:
        """Until the store answers; at the latest the lease ends by itself."""
        for _ in range(_TRIES):
            try:
                if self._store is not None:
                    await self._store.end_worker(worker, blame=blame)
            except Exception as error:  # noqa: BLE001 - whatever the store has, the lease ends
                logger.warning("lease_not_ended worker=%d error=%r", worker, error)
                await asyncio.sleep(self._timing.lease / _TRIES)
            else:
                return

    def stop(self) -> None:
        """End the thread and close its store. May be called twice; waits until it has ended."""
        if self._loop is not None and self._stopped is not None:
            with contextlib.suppress(RuntimeError):  # its loop is closed already
                self._loop.call_soon_threadsafe(self._stopped.set)
        self._thread.join()

    def _run(self) -> None:
        try:
            asyncio.run(self._keep())
        except BaseException as error:  # noqa: BLE001 - handed to the thread that waits in `start`
            self._failure = error
        finally:
            self._ready.set()

    async def _keep(self) -> None:
        self._loop, self._stopped = asyncio.get_running_loop(), asyncio.Event()
        store = self._store = await self._open_store()
        try:
            keeper = LeaseKeeper(store=store, clock=self._clock, timing=self._timing, random=self._random)
            keeper.add(self._link)
            self._link.call_to_hurry(lambda: self._hurry(keeper))
            self._ready.set()
            keeping = asyncio.create_task(keeper.run())
            await self._stopped.wait()
            keeping.cancel()
            await asyncio.wait({keeping})
        finally:
            await self._close_store(store)

    def _hurry(self, keeper: LeaseKeeper) -> None:
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(keeper.hurry)
