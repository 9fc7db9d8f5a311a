"""As much of PostgreSQL's protocol as shows where a transaction ends; for the cutting proxy.

A client says a cycle of messages that ends with a Query or a Sync; the server answers each cycle with messages that end
with ReadyForQuery, which says whether a transaction is open. A statement outside a transaction is committed when that
message is sent, not yet when its CommandComplete is.
"""

from __future__ import annotations

import re
from collections import deque
from dataclasses import dataclass

SSL_REQUEST, GSS_REQUEST, CANCEL_REQUEST = 80877103, 80877104, 80877102

QUERY, PARSE, BIND, DESCRIBE, EXECUTE, CLOSE, SYNC = b"Q", b"P", b"B", b"D", b"E", b"C", b"S"
COMMAND_COMPLETE, READY = b"C", b"Z"
COPY_BEGINS = (b"G", b"H", b"W")

IDLE, OPEN = b"I", b"T"

COMMIT = re.compile(r"\s*(commit|end)\b", re.IGNORECASE)
CHANGE = re.compile(r"\b(insert|update|delete|merge|copy|truncate)\b", re.IGNORECASE)


@dataclass(frozen=True)
class End:
    """The end of a transaction by a commit: all its statements, and the tags of the server's last answer, if any.

    A statement outside a transaction is one of its own. Where a client says several cycles without waiting for answers,
    the statements after a BEGIN look like that, too.
    """

    statements: tuple[str, ...]
    tags: tuple[str, ...] = ()

    def has(self, pattern: str) -> bool:
        """Whether one of its statements matches."""
        return any(re.search(pattern, statement, re.IGNORECASE) for statement in self.statements)

    @property
    def changes(self) -> bool:
        """Whether it is a COMMIT or a statement that writes (as far as its words tell: a function may hide it)."""
        return any(COMMIT.match(statement) or CHANGE.search(statement) for statement in self.statements)


class Frames:
    """Cuts the bytes of one direction into whole messages: a letter, a length, a body."""

    def __init__(self) -> None:
        self._rest = bytearray()

    def whole(self, data: bytes) -> list[bytes]:
        """The messages that are complete now."""
        self._rest += data
        messages, at = [], 0
        while len(self._rest) >= at + 5:
            end = at + 1 + int.from_bytes(self._rest[at + 1 : at + 5])
            if len(self._rest) < end:
                break
            messages.append(bytes(self._rest[at:end]))
            at = end
        del self._rest[:at]
        return messages


class Conversation:
    """One connection: which statements each cycle held, and whether a transaction is open."""

    def __init__(self) -> None:
        self._prepared: dict[bytes, str] = {}
        self._said: list[str] = []
        self._unanswered: deque[tuple[str, ...]] = deque()
        self._tags: list[str] = []
        self._transaction: tuple[str, ...] = ()
        self._status = IDLE

    def client_says(self, message: bytes) -> End | None:
        """Take in a client's message; the end of a transaction, if the server does what it says with this message."""
        letter = message[:1]
        if letter == PARSE:
            name, statement, _ = message[5:].split(b"\0", 2)
            self._prepared[name] = statement.decode(errors="replace")
        elif letter == BIND:
            _, name, _ = message[5:].split(b"\0", 2)
            self._said.append(self._prepared.get(name, ""))
        elif letter == QUERY:
            self._said.append(message[5:-1].decode(errors="replace"))
        if letter not in {QUERY, SYNC}:
            return None
        said, self._said = tuple(self._said), []
        self._unanswered.append(said)
        ends = any(map(COMMIT.match, said)) or (self._status == IDLE and bool(said))
        return End(self._transaction + said) if ends else None

    def server_says(self, message: bytes) -> End | None:
        """Take in a server's message; the end of a transaction that was committed before it was sent."""
        letter = message[:1]
        if letter == COMMAND_COMPLETE:
            self._tags.append(message[5:-1].decode(errors="replace"))
        if letter != READY:
            return None
        before, self._status = self._status, message[5:6]
        tags, self._tags = tuple(self._tags), []
        said = self._unanswered.popleft() if self._unanswered else ()
        statements = self._transaction + said
        self._transaction = statements if self._status == OPEN else ()
        ended = "COMMIT" in tags or (before == IDLE and bool(tags))
        return End(statements, tags) if ended and self._status == IDLE else None
