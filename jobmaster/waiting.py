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
FEW: Final = 8
"""So many waiters are looked for as soon as there is a reason to."""
APART_FOR_EACH: Final = 0.0001
"""With more, looks are so many seconds apart for each waiter: at most 10,000 keys a second, however many wait."""
APART: Final = 0.1
"""Seconds for each statement, where a look needs several."""
ALL_AGAIN: Final = 0.05
"""Seconds after which newcomers are a reason to ask for all others, too: a signal may have been lost."""
MOST_KEYS: Final = 1_024
"""Of one statement."""


class Waiters:
    """Everybody on this loop who waits for the end of a job. Used on the loop only."""

    def __init__(self, store: Store, *, topic: str) -> None:
        self._store = store
        self._topic = topic
        self._waiting: dict[JobKey, list[asyncio.Future[JobState]]] = {}
        self._new: dict[JobKey, None] = {}
        self._wake = asyncio.Event()
        self._hinted = False
        self._asked_for_all_at = float("-inf")
        self._pause = SOONEST
        self._watch: asyncio.Task[None] | None = None
        self._subscription: Subscription | None = None

    async def wait(self, key: JobKey, timeout: float | None) -> JobState | None:
        """The final state of the job; None: it has not ended within `timeout` seconds."""
        future: asyncio.Future[JobState] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(key, []).append(future)
        self._start(key)
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

    def _start(self, key: JobKey) -> None:
        """Have the watch running, and looking soon: a new waiter's job may have ended already."""
        if self._subscription is None:
            self._subscription = self._store.subscribe(self._topic, self._hint)
        self._new[key] = None
        self._pause = SOONEST
        self._wake.set()
        if self._watch is None or self._watch.done():
            self._watch = asyncio.create_task(self._run(), name="jobmaster-results")

    def _hint(self) -> None:
        self._hinted = True
        self._wake.set()

    def _leave(self, key: JobKey, future: asyncio.Future[JobState]) -> None:
        futures = self._waiting.get(key)
        if futures is None:
            return
        futures.remove(future)
        if not futures:
            del self._waiting[key]
            self._new.pop(key, None)

    async def _run(self) -> None:
        try:
            await self._watch_all()
        except Exception as error:  # noqa: BLE001 - whoever waits must hear it, or would wait for ever
            self._fail(error)

    async def _watch_all(self) -> None:
        while self._waiting:
            began = time.monotonic()
            keys = self._next_keys(began)
            if await self._look(keys):
                self._pause = SOONEST
            if not self._waiting:
                return
            await self._keep_apart(began, len(keys))
            try:
                async with asyncio.timeout(self._pause):
                    await self._wake.wait()
            except TimeoutError:
                # Signals are hints that may be lost; without any the question is asked less and less often.
                self._pause = min(self._pause * GROWTH, LATEST)

    def _next_keys(self, now: float) -> list[JobKey]:
        """For whom to look. A newcomer alone is no reason to ask for all others again."""
        if self._new and not self._hinted and now - self._asked_for_all_at < ALL_AGAIN:
            keys = list(self._new)
        else:
            keys = list(self._waiting)
            self._asked_for_all_at = now
        self._wake.clear()
        self._hinted = False
        self._new.clear()
        return keys

    async def _keep_apart(self, began: float, asked: int) -> None:
        """Let time pass since the last look began, where many wait; at least as long again as it took."""
        many = max(asked, len(self._waiting))
        if many > FEW:
            now = time.monotonic()
            apart = max(many * APART_FOR_EACH, 2 * (now - began))
            if many > MOST_KEYS:
                apart = max(apart, -(-many // MOST_KEYS) * APART)
            await asyncio.sleep(began + apart - now)

    async def _look(self, keys: Sequence[JobKey]) -> bool:
        """Ask for these; True where a job has ended."""
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
