"""What a test does to the connections that pass; on a thread of its own, for tests with and without a loop."""

from __future__ import annotations

import asyncio
import random
import threading
from collections import Counter
from collections.abc import Callable, Coroutine
from typing import Any, Final, Self
from urllib.parse import urlsplit, urlunsplit

from tests.servers.fault_proxy.conversation import Conversation, End, Unknown
from tests.servers.fault_proxy.link import TO_CLIENT, TO_SERVER, Link
from tests.servers.fault_proxy.postgresql import PostgresConversation

Choice = Callable[[End], bool]

BEFORE, AFTER = "before", "after"

CONVERSATIONS: Final[dict[str, Callable[[], Conversation]]] = {
    "postgresql": PostgresConversation,
    "postgres": PostgresConversation,
}
"""By the scheme of the target's address, without its driver."""

PORTS: Final = {"postgresql": 5432, "postgres": 5432, "mysql": 3306, "mssql": 1433, "nats": 4222}

_SAID_ON = {TO_SERVER: BEFORE, TO_CLIENT: AFTER}


class FaultProxy:
    """Stands between clients and one server; use it in a `with` block.

    Args:
        target: the server's address, `scheme://host:port/...`.
        conversation: what is known of its protocol; without it, by the scheme of the address.
        port: where it listens, on 127.0.0.1; 0: any.
        seed: of what happens by chance.

    Attributes:
        latency: seconds that each packet takes, each way.
        jitter: so many seconds more, at random; packets never overtake each other.
        bandwidth: bytes a second, each way and for each connection; 0: no limit.
        reset_chance: how likely each packet resets its connection.
        server_stays: after a cut, keep the connection to the server open, as when the client's host has vanished.
        cuts: the ends of transactions at which connections were cut, in order.
        resets: how many connections were reset by chance.
    """

    def __init__(
        self, target: str, *, conversation: Callable[[], Conversation] | None = None, port: int = 0, seed: int = 1
    ) -> None:
        self._target = urlsplit(target)
        scheme = self._target.scheme.partition("+")[0]
        self._conversation = conversation or CONVERSATIONS.get(scheme, Unknown)
        self._server_port = self._target.port or PORTS[scheme]
        self._chance = random.Random(seed)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="fault-proxy", daemon=True)
        self._links: set[Link] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None
        self._chosen: dict[str, Choice | None] = {BEFORE: None, AFTER: None}
        self._flows = {TO_SERVER: asyncio.Event(), TO_CLIENT: asyncio.Event()}
        self._left: dict[str, int | None] = {TO_SERVER: None, TO_CLIENT: None}
        self._broken: list[Exception] = []
        self._lock = threading.Lock()
        self.port = port
        self.latency = 0.0
        self.jitter = 0.0
        self.bandwidth = 0.0
        self.reset_chance = 0.0
        self.server_stays = False
        self.cuts: list[End] = []
        self.resets = 0

    # -- what a test does

    def dsn(self, direct: str) -> str:
        """An address of the same server, through the proxy."""
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

    def cuts_by(self, verb_of: Callable[[End], str]) -> Counter[str]:
        """How many cuts hit which of the client's verbs."""
        return Counter(map(verb_of, self.cuts))

    def cut_all(self) -> int:
        """Reset all connections now; how many they were."""
        return self._do(self._cut_all())

    def cut_after(self, size: int, *, direction: str = TO_CLIENT) -> None:
        """So many bytes still arrive in a direction, then that connection ends, in the middle of a message perhaps."""
        with self._lock:
            self._left[direction] = size

    def stall(self, *, to_server: bool = True, to_client: bool = True) -> None:
        """From now on nothing arrives, and nobody is told; new connections are taken and get no answer.

        With one direction only, it is the loss of one way. What is sent meanwhile is not lost: TCP says it again.
        """
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
        if self._broken:
            raise self._broken[0]

    # -- what its connections ask

    def delay(self) -> float:
        """Seconds that a packet takes that comes now."""
        return self.latency + self._chance.random() * self.jitter

    async def passage(self, direction: str, size: int) -> None:
        """Wait until a packet of so many bytes may arrive."""
        if self.bandwidth:
            await asyncio.sleep(size / self.bandwidth)
        await self._flows[direction].wait()

    def resets_now(self) -> bool:
        """Whether the connection is lost with the packet that has just arrived."""
        if self._chance.random() >= self.reset_chance:
            return False
        self.resets += 1
        return True

    def allowance(self, direction: str, size: int) -> int | None:
        """How many of these bytes are the last ones that arrive; None: more may follow."""
        with self._lock:
            left = self._left[direction]
            if left is None:
                return None
            self._left[direction] = None if left <= size else left - size
            return left if left <= size else None

    def may_cut(self, direction: str) -> bool:
        """Whether somebody chooses ends of transactions to cut at."""
        return self._chosen[_SAID_ON[direction]] is not None

    def chooses(self, direction: str, end: End | None) -> bool:
        """Whether the connection on which this was said is to be cut here."""
        with self._lock:
            choice = self._chosen[_SAID_ON[direction]]
            if end is None or choice is None or not choice(end):
                return False
            self.cuts.append(end)
            return True

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
        for direction, is_open in ((TO_SERVER, to_server), (TO_CLIENT, to_client)):
            event = self._flows[direction]
            _ = event.set() if is_open else event.clear()

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
        link = Link(self, self._conversation(), reader, writer)
        self._links.add(link)
        try:
            await link.run(self._target.hostname or "127.0.0.1", self._server_port)
        except OSError:
            link.cut(server_stays=False)
        except Exception as error:  # noqa: BLE001 - told at the end of the test
            link.cut(server_stays=False)
            self._broken.append(error)
        finally:
            self._links.discard(link)
            link.close()
