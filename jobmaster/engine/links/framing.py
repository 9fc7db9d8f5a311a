"""Messages between two processes on a stream socket: four bytes of length, one byte of kind, the payload."""

from __future__ import annotations

import socket

HEADER = 5
LAUNCH = b"L"
"""Parent to child, first of all: what to run (msgpack)."""
GRANT = b"G"
"""Supervisor to engine: a grant (msgpack)."""
HURRY = b"H"
"""Supervisor to engine: cancel what runs, a second signal came."""
REPORT = b"R"
"""Engine to supervisor: a report (msgpack)."""
NEWS = b"N"
"""Engine to supervisor: look at the shared memory."""
FAILURE = b"F"
"""Child to parent: why it can't start (UTF-8)."""
ANSWER = b"A"
"""Engine to supervisor: what it found before it is told to go on (msgpack)."""
GO = b"O"
"""Supervisor to engine: go on."""
READY = b"Y"
"""Process of a pool to its engine: the first run may come."""
RUN = b"J"
"""Engine to a process of its pool: a run with its number (msgpack)."""
END = b"E"
"""Process of a pool to its engine: how a run ended, with its number (msgpack)."""


def frame(kind: bytes, payload: bytes = b"") -> bytes:
    """One message as it travels."""
    return len(payload).to_bytes(4, "big") + kind + payload


def receive(peer: socket.socket) -> tuple[bytes, bytes]:
    """The next message of a blocking socket.

    Raises:
        EOFError: the other end is gone.
    """
    header = _exactly(peer, HEADER)
    return header[4:], _exactly(peer, int.from_bytes(header[:4], "big"))


def _exactly(peer: socket.socket, size: int) -> bytes:
    parts = []
    while size:
        part = peer.recv(size)
        if not part:
            raise EOFError("the other process is gone")
        parts.append(part)
        size -= len(part)
    return b"".join(parts)
