"""Waiting for results: one shared question for all waiters of an event loop, asked at a signal and now and then."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from jobmaster.errors import StoreUnavailable

if TYPE_CHECKING:
    from jobmaster.model.ids import JobKey
    from jobmaster.model.job import JobState
    from jobmaster.ports.agent import Subscription
    from jobmaster.ports.store import Store

SOONEST: Final = 0.005
LATEST: Final = 1.0
GROWTH: Final = 1.6
LONG_LOOK: Final = 0.002
MOST_KEYS: Final = 1_000


class Waiters:
    """Everybody on this loop who waits for the end of a job. Used on the loop only."""

    def __init__(self, store: Store, *, topic: str) -> None:
        self._store = store
        self._topic = topic
        self._waiting: dict[JobKey, list[asyncio.Future[JobState]]] = {}
        self._signal = asyncio.Event()
        self._pause = SOONEST
        self._watch: asyncio.Task[None] | None = None
        self._subscription: Subscription | None = None

    async def wait(self, key: JobKey, timeout: float | None) -> JobState | None:
        """The final state of the job; None: it has not ended within `timeout` seconds."""
        future: asyncio.Future[JobState] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(key, []).append(future)
        self._start()
        try:
            async with asyncio.timeout(timeout):
                return await future
        except TimeoutError:
            return None
        finally:
            self._leave(key, future)

    async def close(self) -> None:
        """End the watch. Waiters that are left are told that the store is closed."""
        if self._watch is not None:
            self._watch.cancel()
            await asyncio.gather(self._watch, return_exceptions=True)
        if self._subscription is not None:
            self._subscription.close()
        self._fail(StoreUnavailable("The app was closed while a result was waited for."))

    def _fail(self, error: Exception) -> None:
        for futures in self._waiting.values():
            for future in futures:
                if not future.done():
                    future.set_exception(error)

    def _start(self) -> None:
        """Have the watch running, and looking soon: a new waiter's job may have ended already."""
        if self._subscription is None:
            self._subscription = self._store.subscribe(self._topic, self._signal.set)
        self._pause = SOONEST
        self._signal.set()
        if self._watch is None or self._watch.done():
            self._watch = asyncio.create_task(self._run(), name="jobmaster-results")

    def _leave(self, key: JobKey, future: asyncio.Future[JobState]) -> None:
        futures = self._waiting.get(key)
        if futures is None:
            return
        futures.remove(future)
        if not futures:
            del self._waiting[key]

    async def _run(self) -> None:
        try:
            await self._watch_all()
        except Exception as error:  # noqa: BLE001 - whoever waits must hear it, or would wait for ever
            self._fail(error)

    async def _watch_all(self) -> None:
        while self._waiting:
            self._signal.clear()
            started = time.monotonic()
            if await self._look(list(self._waiting)):
                self._pause = SOONEST
            if not self._waiting:
                return
            took = time.monotonic() - started
            if took > LONG_LOOK:
                # With thousands of waiters a look is no small thing: never spend more than half of the time on it.
                await asyncio.sleep(took)
            try:
                async with asyncio.timeout(self._pause):
                    await self._signal.wait()
            except TimeoutError:
                # Signals are hints that may be lost; without any the question is asked less and less often.
                self._pause = min(self._pause * GROWTH, LATEST)

    async def _look(self, keys: Sequence[JobKey]) -> bool:
        """Ask for all that is waited for; True where a job has ended."""
        found = False
        for start in range(0, len(keys), MOST_KEYS):
            try:
                states = await self._store.look_up(keys[start : start + MOST_KEYS])
            except StoreUnavailable:
                # Waiting outlives a store's absence; the waiter's own timeout is the limit.
                self._pause = LATEST
                return found
            for state in states:
                if state is not None and state.status.is_final:
                    found = True
                    for future in self._waiting.get(state.key, ()):
                        if not future.done():
                            future.set_result(state)
        return found
