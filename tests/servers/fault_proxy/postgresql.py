"""As much of PostgreSQL's protocol as shows where a transaction ends.

A client says a cycle of messages that ends with a Query or a Sync; the server answers each cycle with messages that end
with ReadyForQuery, which says whether a transaction is open. A statement outside a transaction is committed when that
message is sent, not yet when its CommandComplete is. Where a client says several cycles without waiting for answers,
the statements after a BEGIN look like ends of transactions, too. Connections are without TLS: the question for it is
answered with no.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

from tests.servers.fault_proxy.conversation import COMMIT, End, Piece

SSL_REQUEST, GSS_REQUEST = 80877103, 80877104

QUERY, PARSE, BIND, DESCRIBE, EXECUTE, CLOSE, SYNC = b"Q", b"P", b"B", b"D", b"E", b"C", b"S"
WITHIN_A_CYCLE = {PARSE, BIND, DESCRIBE, EXECUTE, CLOSE}
COMMAND_COMPLETE, READY = b"C", b"Z"
COPY_BEGINS = (b"G", b"H", b"W")

IDLE, OPEN = b"I", b"T"


class Frames:
    """Cuts the bytes of one direction into whole messages: a letter (none in the first one), a length, a body."""

    def __init__(self) -> None:
        self._rest = bytearray()

    def take(self, data: bytes) -> None:
        """More bytes."""
        self._rest += data

    def next(self, *, letter: int = 1) -> bytes | None:
        """The next message that is complete; None while there is none."""
        if len(self._rest) < letter + 4:
            return None
        end = letter + int.from_bytes(self._rest[letter : letter + 4])
        if len(self._rest) < end:
            return None
        message = bytes(self._rest[:end])
        del self._rest[:end]
        return message


class PostgresConversation:
    """One connection: which statements each cycle held, and whether a transaction is open."""

    def __init__(self) -> None:
        self._from_client, self._from_server = Frames(), Frames()
        self._is_open = False
        self._prepared: dict[bytes, str] = {}
        self._said: list[str] = []
        self._unanswered: deque[tuple[str, ...]] = deque()
        self._tags: list[str] = []
        self._transaction: tuple[str, ...] = ()
        self._status = IDLE
        self._answer_waits = False

    def client_says(self, data: bytes) -> Iterator[Piece]:
        """Bytes from the client."""
        self._from_client.take(data)
        while not self._is_open and (message := self._from_client.next(letter=0)):
            if int.from_bytes(message[4:8]) in {SSL_REQUEST, GSS_REQUEST}:
                yield Piece(b"", answer=b"N")
            else:
                self._is_open = True
                yield Piece(message)
        while self._is_open and (message := self._from_client.next()):
            # What may still be cut is what was not sent: a cycle waits for its last message.
            yield Piece(message, end=self._asked(message), waits=message[:1] in WITHIN_A_CYCLE)

    def server_says(self, data: bytes) -> Iterator[Piece]:
        """Bytes from the server."""
        self._from_server.take(data)
        while message := self._from_server.next():
            # From a CommandComplete on the answer waits until it is known whether a transaction has ended.
            if message[:1] == COMMAND_COMPLETE:
                self._answer_waits = True
            elif message[:1] in {READY, *COPY_BEGINS}:
                self._answer_waits = False
            yield Piece(message, end=self._answered(message), waits=self._answer_waits)

    def _asked(self, message: bytes) -> End | None:
        """The end of a transaction, if the server does what it says with this message."""
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

    def _answered(self, message: bytes) -> End | None:
        """The end of a transaction that was committed before this message was sent."""
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
