"""The connection that stays: it listens for signals, and is opened anew where it breaks."""

from __future__ import annotations

import asyncio
import logging
import random
from typing import TYPE_CHECKING, Any, Final

from jobmaster.errors import JobMasterError
from jobmaster.stores.sql.postgresql.connection import LISTENING
from jobmaster.stores.sql.postgresql.transaction import channel_of

if TYPE_CHECKING:
    from collections.abc import Callable

    import asyncpg

    from jobmaster.stores.sql.postgresql.connection import Place

logger = logging.getLogger("jobmaster.store")

FIRST_PAUSE: Final = 0.1
LONGEST_PAUSE: Final = 5.0


class Hint:
    """One subscription (ports.agent.Subscription)."""

    def __init__(self, session: Session, topic: str, callback: Callable[[], None]) -> None:
        self._session = session
        self.topic = topic
        self.callback = callback

    def close(self) -> None:
        """End it. May be called twice."""
        self._session.forget(self)


class Session:
    """Signals of a store, on a connection of its own that goes to the server itself."""

    def __init__(self, place: Place) -> None:
        self._place = place
        self._hints: dict[str, list[Hint]] = {}
        self._listening: set[str] = set()
        self._changed = asyncio.Event()
        self._keeper: asyncio.Task[None] | None = None
        self._closed = False

    def subscribe(self, topic: str, callback: Callable[[], None]) -> Hint:
        """Call `callback` after signals for `topic`, and once when listening has begun or was interrupted."""
        hint = Hint(self, topic, callback)
        self._hints.setdefault(channel_of(topic), []).append(hint)
        self._changed.set()
        if self._keeper is None and not self._closed:
            self._keeper = asyncio.get_running_loop().create_task(self._keep(), name="jobmaster-listen")
        return hint

    def forget(self, hint: Hint) -> None:
        """End a subscription."""
        channel = channel_of(hint.topic)
        hints = self._hints.get(channel, [])
        if hint in hints:
            hints.remove(hint)
        if not hints:
            self._hints.pop(channel, None)
        self._changed.set()

    async def close(self) -> None:
        """Stop listening."""
        self._closed = True
        if self._keeper is not None:
            self._keeper.cancel()
            await asyncio.gather(self._keeper, return_exceptions=True)

    async def _keep(self) -> None:
        pause = FIRST_PAUSE
        while True:
            try:
                connection = await self._place.connect(LISTENING, direct=True)
            except JobMasterError as error:
                logger.debug("listen_failed error=%s", error)
                await asyncio.sleep(pause * (0.5 + random.random() / 2))  # noqa: S311 - jitter
                pause = min(pause * 2, LONGEST_PAUSE)
                continue
            pause = FIRST_PAUSE
            try:
                await self._listen(connection)
            except Exception as error:  # noqa: BLE001 - the next connection tries again
                logger.debug("listen_ended error=%s", error)
            finally:
                self._listening.clear()
                connection.terminate()

    async def _listen(self, connection: asyncpg.Connection[Any]) -> None:
        lost = asyncio.Event()

        def ended(_connection: object) -> None:
            lost.set()
            self._changed.set()

        connection.add_termination_listener(ended)
        while not lost.is_set():
            self._changed.clear()
            wanted = set(self._hints)
            for channel in wanted - self._listening:
                await connection.add_listener(channel, self._heard)
                self._listening.add(channel)
                self._call(channel)
            for channel in self._listening - wanted:
                await connection.remove_listener(channel, self._heard)
            self._listening &= wanted
            await self._changed.wait()

    def _heard(self, _connection: object, _pid: int, channel: str, _payload: object) -> None:
        self._call(channel)

    def _call(self, channel: str) -> None:
        for hint in list(self._hints.get(channel, ())):
            hint.callback()
