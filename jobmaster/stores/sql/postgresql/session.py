"""The connection that stays: it listens for signals, holds the sleep flags, and is opened anew where it breaks."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import socket
import time
from typing import TYPE_CHECKING, Any, Final

from jobmaster.errors import JobMasterError
from jobmaster.stores.sql.postgresql.connection import LISTENING
from jobmaster.stores.sql.postgresql.sleepers import LOWER, RAISE, Sleepers
from jobmaster.stores.sql.postgresql.transaction import CLIENTS, SLOTS, channel_of

if TYPE_CHECKING:
    from collections.abc import Callable

    import asyncpg

    from jobmaster.stores.sql.postgresql.connection import Place

logger = logging.getLogger("jobmaster.store")

FIRST_PAUSE: Final = 0.1
LONGEST_PAUSE: Final = 5.0
LONGEST_FAREWELL: Final = 1.0
PREFIX: Final = channel_of("bucket:")

# Taken shared by whoever listens for the ends of a client's jobs; see `transaction.TELL`.
ALL_SLOTS: Final = f"FROM generate_series({CLIENTS}, {CLIENTS + SLOTS - 1}) AS slot"
LISTENS: Final = f"SELECT count(pg_advisory_lock_shared(slot, hashtext($1))) {ALL_SLOTS}"
LISTENS_NO_MORE: Final = f"SELECT count(pg_advisory_unlock_shared(slot, hashtext($1))) {ALL_SLOTS}"
KEEPALIVE: Final = {"TCP_KEEPIDLE": 15, "TCP_KEEPINTVL": 5, "TCP_KEEPCNT": 3}
"""Seconds, seconds and times: a listener sends nothing, and would never notice that the other side is gone."""


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
        self._as_client: set[str] = set()
        self._changed = asyncio.Event()
        self._keeper: asyncio.Task[None] | None = None
        self._closed = False
        self.sleepers = Sleepers(ring=lambda bucket: self._call(f"{PREFIX}{bucket}"), changed=self._changed.set)

    def subscribe(self, topic: str, callback: Callable[[], None]) -> Hint:
        """Call `callback` after signals for `topic`, and once when listening has begun or was interrupted."""
        hint = Hint(self, topic, callback)
        channel = channel_of(topic)
        self._hints.setdefault(channel, []).append(hint)
        if (bucket := _bucket_of(channel)) is not None:
            self.sleepers.watch(bucket)
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
        if not hints and self._hints.pop(channel, None) is not None:
            if (bucket := _bucket_of(channel)) is not None:
                self.sleepers.forget(bucket)
            self._changed.set()

    async def close(self) -> None:
        """Stop listening, and tell the server."""
        self._closed = True
        self._changed.set()
        if self._keeper is not None:
            await asyncio.wait([self._keeper], timeout=LONGEST_FAREWELL)
            self._keeper.cancel()
            await asyncio.gather(self._keeper, return_exceptions=True)
        self.sleepers.close()

    async def _keep(self) -> None:
        pause = FIRST_PAUSE
        while not self._closed:
            try:
                connection = await self._place.connect(LISTENING, direct=True)
            except JobMasterError as error:
                log = logger.warning if pause == FIRST_PAUSE else logger.debug
                log("listen_failed error=%s", error)
                pause = await self._rest(pause)
                continue
            _keep_alive(connection)
            began = time.monotonic()
            try:
                await self._listen(connection)
                await connection.close(timeout=LONGEST_FAREWELL)
            except Exception as error:  # noqa: BLE001 - the next connection tries again
                logger.debug("listen_ended error=%s", error)
            finally:
                self._listening.clear()
                self._as_client.clear()
                connection.terminate()
                if not self._closed:
                    self.sleepers.lost()
            if time.monotonic() - began > LONGEST_PAUSE:
                pause = FIRST_PAUSE
            else:  # it ended as soon as it was there: a standby takes connections, and refuses to listen
                pause = await self._rest(pause)

    async def _rest(self, pause: float) -> float:
        """Wait about so long; how long next time."""
        await self._wait(pause * (0.5 + random.random() / 2))  # noqa: S311 - jitter
        return min(pause * 2, LONGEST_PAUSE)

    async def _wait(self, seconds: float) -> None:
        """So long, or until the store is closed."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while not self._closed:
                    self._changed.clear()
                    await self._changed.wait()

    async def _listen(self, connection: asyncpg.Connection[Any]) -> None:
        lost = asyncio.Event()

        def ended(_connection: object) -> None:
            lost.set()
            self._changed.set()

        connection.add_termination_listener(ended)
        self.sleepers.connected()
        while not lost.is_set() and not self._closed:
            self._changed.clear()
            async with asyncio.timeout(self._place.timeout):
                await self._follow_hints(connection)
                await self._follow_flags(connection)
            await self._changed.wait()

    async def _follow_hints(self, connection: asyncpg.Connection[Any]) -> None:
        wanted = set(self._hints)
        for channel in wanted - self._listening:
            await connection.add_listener(channel, self._heard)
            if self._is_of_client(channel):
                await connection.fetchval(LISTENS, channel)
                self._as_client.add(channel)
            self._listening.add(channel)
            self._call(channel)
        for channel in self._listening - wanted:
            await connection.remove_listener(channel, self._heard)
            if channel in self._as_client:
                self._as_client.discard(channel)
                await connection.fetchval(LISTENS_NO_MORE, channel)
        self._listening &= wanted

    def _is_of_client(self, channel: str) -> bool:
        return any(hint.topic.startswith("client:") for hint in self._hints.get(channel, ()))

    async def _follow_flags(self, connection: asyncpg.Connection[Any]) -> None:
        if lower := self.sleepers.to_lower():
            for bucket, _ in await connection.fetch(LOWER, lower):
                self.sleepers.lowered(bucket)
        if up := [bucket for bucket in self.sleepers.to_raise() if f"{PREFIX}{bucket}" in self._listening]:
            for bucket, done in await connection.fetch(RAISE, up):
                self.sleepers.raised(bucket, done=done)

    def _heard(self, _connection: object, _pid: int, channel: str, _payload: object) -> None:
        self._call(channel)

    def _call(self, channel: str) -> None:
        for hint in list(self._hints.get(channel, ())):
            hint.callback()


def _bucket_of(channel: str) -> int | None:
    number = channel.removeprefix(PREFIX)
    return int(number) if number != channel and number.isdecimal() else None


def _keep_alive(connection: asyncpg.Connection[Any]) -> None:
    transport = getattr(connection, "_transport", None)
    end = None if transport is None else transport.get_extra_info("socket")
    if end is None or end.family not in {socket.AF_INET, socket.AF_INET6}:
        return
    with contextlib.suppress(OSError):
        end.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for name, value in KEEPALIVE.items():
            if hasattr(socket, name):
                end.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
