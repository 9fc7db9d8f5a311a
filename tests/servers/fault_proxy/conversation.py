"""What a proxy must know of a protocol to cut between a commit and its answer: the plug-in that each protocol needs.

A protocol is added by a class with the two methods of `Conversation`, and a line in `proxy.CONVERSATIONS`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

COMMIT = re.compile(r"\s*(commit|end)\b", re.IGNORECASE)
CHANGE = re.compile(r"\b(insert|update|delete|merge|copy|truncate)\b", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class End:
    """The end of a transaction by a commit: all its statements, and the tags of the server's last answer, if any.

    A statement outside a transaction is one of its own. Where a protocol has no statements, these are its requests.
    """

    statements: tuple[str, ...]
    tags: tuple[str, ...] = ()

    def has(self, pattern: str) -> bool:
        """Whether one of its statements matches a regular expression, without regard to case."""
        return any(re.search(pattern, statement, re.IGNORECASE) for statement in self.statements)

    @property
    def changes(self) -> bool:
        """Whether it is a COMMIT or a statement that writes (as far as its words tell: a function may hide it)."""
        return any(COMMIT.match(statement) or CHANGE.search(statement) for statement in self.statements)


@dataclass(frozen=True, slots=True)
class Piece:
    """A whole message (or any bytes, before which and after which a connection may be cut).

    Attributes:
        data: what the other side is to hear; a conversation may change it, to talk a client out of encryption.
        end: the transaction that ends here. What a client says: it will be committed if the server hears this. What a
            server says: it was committed before this was sent.
        waits: this must not be sent before what follows it, so that both can be lost at the next `end`.
        answer: what the proxy itself says back, in place of the other side.
    """

    data: bytes
    end: End | None = None
    waits: bool = False
    answer: bytes = b""


class Conversation(Protocol):
    """What is said on one connection. It takes in bytes as they come, yields what is complete, and keeps the rest."""

    def client_says(self, data: bytes) -> Iterator[Piece]:
        """Bytes from the client."""
        ...

    def server_says(self, data: bytes) -> Iterator[Piece]:
        """Bytes from the server."""
        ...


class Unknown:
    """Any protocol: bytes are passed as they come, and nobody knows where a transaction ends."""

    def client_says(self, data: bytes) -> Iterator[Piece]:
        """Bytes from the client."""
        yield Piece(data)

    def server_says(self, data: bytes) -> Iterator[Piece]:
        """Bytes from the server."""
        yield Piece(data)
