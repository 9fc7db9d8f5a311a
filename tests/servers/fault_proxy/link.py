"""One client's connection through the proxy, and the one to the server that belongs to it."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections.abc import Callable, Coroutine, Iterator
from typing import Protocol

from tests.servers.fault_proxy.conversation import Conversation, End, Piece

TO_SERVER, TO_CLIENT = "to_server", "to_client"


class Line(Protocol):
    """What a link asks the proxy about."""

    server_stays: bool

    def delay(self) -> float:
        """Seconds that a packet takes that comes now."""
        ...

    async def passage(self, direction: str, size: int) -> None:
        """Wait until a packet of so many bytes may arrive."""
        ...

    def resets_now(self) -> bool:
        """Whether the connection is lost with the packet that has just arrived."""
        ...

    def allowance(self, direction: str, size: int) -> int | None:
        """How many of these bytes are the last ones that arrive; None: more may follow."""
        ...

    def may_cut(self, direction: str) -> bool:
        """Whether somebody chooses ends of transactions to cut at."""
        ...

    def chooses(self, direction: str, end: End | None) -> bool:
        """Whether to cut here."""
        ...


class Link:
    """Carries bytes both ways, until one side ends or the proxy cuts."""

    def __init__(
        self,
        line: Line,
        conversation: Conversation,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        self._line = line
        self._conversation = conversation
        self._reader = reader
        self._writer = writer
        self._server: asyncio.StreamWriter | None = None
        self._was_cut = asyncio.Event()

    async def run(self, host: str, port: int) -> None:
        """Connect to the server and carry everything over.

        Raises OSError where the server does not listen, and whatever a conversation raises.
        """
        await self._line.passage(TO_SERVER, 0)
        from_server, self._server = await asyncio.open_connection(host, port)
        there: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(64)
        back: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(64)
        ways: list[Coroutine[None, None, None]] = [
            self._taken_in(self._reader, there),
            self._delivered(there, TO_SERVER, self._conversation.client_says, self._server, self._writer),
            self._taken_in(from_server, back),
            self._delivered(back, TO_CLIENT, self._conversation.server_says, self._writer, self._server),
        ]
        tasks = [asyncio.ensure_future(way) for way in ways]
        cut = asyncio.ensure_future(self._was_cut.wait())
        try:
            await asyncio.wait([*tasks[1::2], cut], return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (*tasks, cut):
                task.cancel()
            ends = await asyncio.gather(*tasks, return_exceptions=True)
        for end in ends:
            if isinstance(end, Exception) and not isinstance(end, OSError):
                raise end
        if self._was_cut.is_set() and self._line.server_stays:
            await asyncio.Event().wait()  # until the proxy ends

    def cut(self, *, server_stays: bool) -> None:
        """Reset the client's connection, without a word."""
        self._was_cut.set()
        _reset(self._writer)
        if self._server is not None and not server_stays:
            self._server.transport.abort()

    def close(self) -> None:
        """Close both ends."""
        for writer in (self._writer, self._server):
            if writer is not None:
                with contextlib.suppress(OSError):
                    writer.close()

    async def _taken_in(self, reader: asyncio.StreamReader, queue: asyncio.Queue[tuple[float, bytes]]) -> None:
        """What arrives is on its way; an empty packet is the end."""
        clock = asyncio.get_running_loop().time
        data = b"first"
        while data:
            try:
                data = await reader.read(65536)
            except OSError:
                data = b""
            await queue.put((clock() + self._line.delay(), data))

    async def _delivered(
        self,
        queue: asyncio.Queue[tuple[float, bytes]],
        direction: str,
        says: Callable[[bytes], Iterator[Piece]],
        onward: asyncio.StreamWriter,
        back: asyncio.StreamWriter,
    ) -> None:
        held = bytearray()
        while data := await self._arrived(queue, direction):
            if onward.is_closing():
                return
            if self._line.resets_now():
                self.cut(server_stays=False)
                return
            for piece in says(data):
                if onward.is_closing():  # the write before found it reset
                    return
                if piece.answer:
                    back.write(piece.answer)
                if self._line.chooses(direction, piece.end):
                    self.cut(server_stays=self._line.server_stays)
                    return
                held += piece.data
                if held and not (piece.waits and self._line.may_cut(direction)):
                    size = self._line.allowance(direction, len(held))
                    onward.write(bytes(held[:size]))
                    if size is not None:
                        return  # what has arrived, arrives; then both sides see an end
                    held.clear()
            await onward.drain()

    async def _arrived(self, queue: asyncio.Queue[tuple[float, bytes]], direction: str) -> bytes:
        """The next packet, when it is time; empty at the end."""
        due, data = await queue.get()
        if (wait := due - asyncio.get_running_loop().time()) > 0:
            await asyncio.sleep(wait)
        await self._line.passage(direction, len(data))
        return data


def _reset(writer: asyncio.StreamWriter) -> None:
    if not writer.transport.is_closing():
        own_socket: socket.socket = writer.get_extra_info("socket")
        own_socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        writer.transport.abort()
