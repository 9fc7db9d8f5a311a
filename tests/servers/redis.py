"""A Redis server, from the operating system's packages; the benchmarks' peers need it, JobMaster does not."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Sequence
from pathlib import Path

from tests.servers.launcher import Server, program


class RedisServer(Server):
    """Redis without snapshots.

    Args:
        durable: keep an append-only file that is synced every second, which is Redis's own advice for durability;
            else in memory only.
    """

    name = "redis"
    unprivileged = False

    def __init__(self, *, durable: bool = False) -> None:
        super().__init__()
        self.durable = durable

    def command(self) -> Sequence[str | Path]:
        server = program("redis-server", package="apt-get install redis-server")
        kept = "yes" if self.durable else "no"
        return [
            *(server, "--port", str(self.port), "--bind", "127.0.0.1", "--dir", self.folder),
            *("--save", "", "--appendonly", kept, "--daemonize", "no"),
        ]

    def is_ready(self) -> bool:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), timeout=1) as one:
            one.sendall(b"PING\r\n")
            return one.recv(16) == b"+PONG\r\n"  # while it loads its file it answers -LOADING
        return False

    def dsn(self, number: int = 0) -> str:
        """The address of one of its databases."""
        return f"redis://127.0.0.1:{self.port}/{number}"
