"""A proxy before a PostgreSQL that loses what a network loses, at the moments when it matters.

It cuts a connection after the server has committed and before the client has heard of it, or after the client has said
COMMIT and before the server has; it adds latency, and leaves connections open on which nothing arrives any more.
It runs on a thread of its own, so that tests with and without a loop can use it. Connections must be without TLS: it
answers the question for it with no.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import threading
from collections.abc import Callable, Coroutine
from typing import Any, Self
from urllib.parse import urlsplit, urlunsplit

from tests.servers.postgres_frames import (
    BIND,
    CANCEL_REQUEST,
    CLOSE,
    COMMAND_COMPLETE,
    COPY_BEGINS,
    DESCRIBE,
    EXECUTE,
    GSS_REQUEST,
    PARSE,
    READY,
    SSL_REQUEST,
    Conversation,
    End,
    Frames,
)

Choice = Callable[[End], bool]

BEFORE, AFTER = "before", "after"

WITHIN_A_CYCLE = {PARSE, BIND, DESCRIBE, EXECUTE, CLOSE}


class CutProxy:
    """Stands between clients and one PostgreSQL; use it in a `with` block.

    Args:
        target: the address of a database of that server.
    """

    def __init__(self, target: str) -> None:
        self._target = urlsplit(target)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="cut-proxy", daemon=True)
        self._links: set[Link] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None
        self._chosen: dict[str, Choice | None] = {BEFORE: None, AFTER: None}
        self._flows = {"to_server": asyncio.Event(), "to_client": asyncio.Event()}
        self._lock = threading.Lock()
        self.port = 0
        self.latency = 0.0
        """Seconds that each packet takes, each way."""
        self.server_stays = False
        """After a cut, keep the connection to the server open, as when the client's host vanished without a word."""
        self.cuts: list[End] = []
        """What was cut, in order."""

    # -- what a test does

    def dsn(self, direct: str) -> str:
        """The same database through the proxy."""
        parts = urlsplit(direct)
        user, at, _ = parts.netloc.rpartition("@")
        return urlunsplit(parts._replace(netloc=f"{user}{at}127.0.0.1:{self.port}"))

    def cut_next(self, moment: str = AFTER, *, matching: str | None = None) -> None:
        """Cut once: the next connection that commits a change, or whose last statements match a pattern.

        Args:
            moment: AFTER the server has committed, its answer being lost; BEFORE what the client said reaches it.
            matching: a regular expression on the text of the statements, without regard to case.
        """

        def once(end: End) -> bool:
            if not (end.changes if matching is None else end.has(matching)):
                return False
            self._chosen[moment] = None
            return True

        self.cut_when(moment, once)

    def cut_when(self, moment: str, choice: Choice | None) -> None:
        """Cut whenever `choice` says so of the end of a transaction; None: no more. It is called on another thread."""
        assert moment in self._chosen
        with self._lock:
            self._chosen[moment] = choice

    def cut_all(self) -> int:
        """Reset all connections now; how many they were."""
        return self._do(self._cut_all())

    def stall(self, *, to_server: bool = True, to_client: bool = True) -> None:
        """From now on nothing arrives, and nobody is told; new connections are taken and get no answer."""
        self._do(self._flow(to_server=not to_server, to_client=not to_client))

    def resume(self) -> None:
        """Deliver what was stalled, and everything after it."""
        self._do(self._flow(to_server=True, to_client=True))

    def refuse(self) -> None:
        """Take no new connections (they are refused); the open ones stay."""
        self._do(self._stop_listening())

    def accept(self) -> None:
        """Take new connections again, on the same port."""
        self._do(self._listen())

    @property
    def connections(self) -> int:
        """How many connections are open."""
        return len(self._links)

    def __enter__(self) -> Self:
        self._thread.start()
        self._do(self._flow(to_server=True, to_client=True))
        self._do(self._listen())
        return self

    def __exit__(self, *_: object) -> None:
        self._do(self._end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    # -- for its connections

    def chooses(self, moment: str, end: End | None) -> bool:
        """Whether the connection that says (or hears) this is to be cut here."""
        with self._lock:
            choice = self._chosen[moment]
            if end is None or choice is None or not choice(end):
                return False
            self.cuts.append(end)
            return True

    def may_cut(self, moment: str) -> bool:
        """Whether somebody chooses at this moment."""
        return self._chosen[moment] is not None

    async def passage(self, direction: str) -> None:
        """Wait as long as the network takes."""
        if self.latency:
            await asyncio.sleep(self.latency)
        await self._flows[direction].wait()

    # -- on its thread

    def _do(self, work: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(10)

    async def _listen(self) -> None:
        if self._server is None:
            self._server = await asyncio.start_server(self._taken, "127.0.0.1", self.port)
            self.port = self._server.sockets[0].getsockname()[1]

    async def _stop_listening(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None

    async def _flow(self, *, to_server: bool, to_client: bool) -> None:
        for direction, open_ in (("to_server", to_server), ("to_client", to_client)):
            event = self._flows[direction]
            _ = event.set() if open_ else event.clear()

    async def _cut_all(self) -> int:
        links = list(self._links)
        for link in links:
            link.cut(server_stays=False)
        return len(links)

    async def _end(self) -> None:
        await self._stop_listening()
        await self._cut_all()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _taken(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = self._loop.create_task(self._serve(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        link = Link(self, reader, writer)
        self._links.add(link)
        try:
            await link.run(self._target.hostname or "127.0.0.1", self._target.port or 5432)
        except (OSError, asyncio.IncompleteReadError):
            link.cut(server_stays=False)
        finally:
            self._links.discard(link)
            link.close()


class Link:
    """One client's connection and the one to the server that belongs to it."""

    def __init__(self, proxy: CutProxy, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._proxy = proxy
        self._reader = reader
        self._writer = writer
        self._server: asyncio.StreamWriter | None = None
        self._conversation = Conversation()
        self._was_cut = False

    async def run(self, host: str, port: int) -> None:
        """Carry everything over until one side ends or the proxy cuts."""
        await self._proxy.passage("to_server")
        opening, is_cancel = await self._opening()
        from_server, self._server = await asyncio.open_connection(host, port)
        self._server.write(opening)
        if is_cancel:
            return
        pumps = [asyncio.ensure_future(pump) for pump in (self._to_server(), self._to_client(from_server))]
        try:
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for pump in pumps:
                pump.cancel()
            await asyncio.gather(*pumps, return_exceptions=True)
        if self._was_cut and self._proxy.server_stays:
            await asyncio.Event().wait()  # until the proxy ends

    def cut(self, *, server_stays: bool) -> None:
        """Reset the client's connection, without a word."""
        self._was_cut = True
        if not self._writer.transport.is_closing():
            own_socket: socket.socket = self._writer.get_extra_info("socket")
            own_socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self._writer.transport.abort()
        if self._server is not None and not server_stays:
            self._server.transport.abort()

    def close(self) -> None:
        """Close both ends."""
        for writer in (self._writer, self._server):
            if writer is not None:
                with contextlib.suppress(OSError):
                    writer.close()

    async def _opening(self) -> tuple[bytes, bool]:
        """The first message for the server, after saying no to encryption; and whether it cancels a statement."""
        while True:
            length = await self._reader.readexactly(4)
            body = await self._reader.readexactly(int.from_bytes(length) - 4)
            code = int.from_bytes(body[:4])
            if code not in {SSL_REQUEST, GSS_REQUEST}:
                return length + body, code == CANCEL_REQUEST
            self._writer.write(b"N")

    async def _to_server(self) -> None:
        assert self._server is not None
        frames, held = Frames(), bytearray()
        while data := await self._reader.read(65536):
            await self._proxy.passage("to_server")
            for message in frames.whole(data):
                end = self._conversation.client_says(message)
                if self._proxy.chooses(BEFORE, end):
                    self.cut(server_stays=self._proxy.server_stays)
                    return
                held += message
                # What may still be cut is what was not sent: a cycle waits here for its last message.
                if message[:1] not in WITHIN_A_CYCLE or not self._proxy.may_cut(BEFORE):
                    self._server.write(bytes(held))
                    held.clear()
            await self._server.drain()

    async def _to_client(self, reader: asyncio.StreamReader) -> None:
        frames, held, waits = Frames(), bytearray(), False
        while data := await reader.read(65536):
            await self._proxy.passage("to_client")
            for message in frames.whole(data):
                end = self._conversation.server_says(message)
                if self._proxy.chooses(AFTER, end):
                    self.cut(server_stays=self._proxy.server_stays)
                    return
                held += message
                # From a CommandComplete on, the answer waits here until it is known whether a transaction has ended.
                if message[:1] == COMMAND_COMPLETE:
                    waits = self._proxy.may_cut(AFTER)
                elif message[:1] in {READY, *COPY_BEGINS}:
                    waits = False
                if not waits:
                    self._writer.write(bytes(held))
                    held.clear()
            await self._writer.drain()
