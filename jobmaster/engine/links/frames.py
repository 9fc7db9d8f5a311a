"""One end of the messages between two processes, on an event loop."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, cast

from jobmaster.engine.links.framing import HEADER, frame

if TYPE_CHECKING:
    from collections.abc import Callable


class Frames(asyncio.Protocol):
    """One end of a connection on an event loop.

    Args:
        on_frame: called with kind and payload of each message.
        on_lost: called when the other end is gone.
    """

    def __init__(self, on_frame: Callable[[bytes, bytes], None], on_lost: Callable[[], None]) -> None:
        self._on_frame = on_frame
        self._on_lost = on_lost
        self._received = bytearray()
        self._transport: asyncio.Transport | None = None
        self._paused = False
        self._latest: bytes | None = None

    def send(self, kind: bytes, payload: bytes = b"") -> None:
        """Send a message, after those before it. To a lost end: nothing happens."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(frame(kind, payload))

    def send_latest(self, kind: bytes, payload: bytes) -> None:
        """Send a message that replaces the one before: where the other end reads slowly, only the last one goes."""
        if self._paused:
            self._latest = frame(kind, payload)
        else:
            self.send(kind, payload)

    @property
    def waiting(self) -> bool:
        """A message of `send_latest` has not gone yet: the next one replaces it."""
        return self._latest is not None

    def close(self) -> None:
        """Close the connection after what was sent."""
        if self._transport is not None:
            self._transport.close()

    # ---------------------------------------------------------------- called by the transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See `asyncio.Protocol`."""
        self._transport = cast("asyncio.Transport", transport)
        self._transport.set_write_buffer_limits(high=0)

    def pause_writing(self) -> None:
        """See `asyncio.Protocol`."""
        self._paused = True

    def resume_writing(self) -> None:
        """See `asyncio.Protocol`."""
        self._paused = False
        latest, self._latest = self._latest, None
        if latest is not None and self._transport is not None:
            self._transport.write(latest)

    def data_received(self, data: bytes) -> None:
        """See `asyncio.Protocol`."""
        received = self._received
        received += data
        begin = 0
        while len(received) - begin >= HEADER:
            end = begin + HEADER + int.from_bytes(received[begin : begin + 4], "big")
            if len(received) < end:
                break
            kind, payload = bytes(received[begin + 4 : begin + HEADER]), bytes(received[begin + HEADER : end])
            begin = end
            self._on_frame(kind, payload)
        del received[:begin]

    def connection_lost(self, exc: Exception | None) -> None:
        """See `asyncio.Protocol`."""
        self._on_lost()
