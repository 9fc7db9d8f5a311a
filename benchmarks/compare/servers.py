"""The servers of a run: PostgreSQL, Redis and NATS, each started once, on loopback, shared by all contestants."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Self

from tests.servers.launcher import Server
from tests.servers.nats import NatsServer
from tests.servers.postgres import PostgresServer
from tests.servers.redis import RedisServer

SYNC_US = 100
"""The simulated sync: about what an NVMe disk with power-loss protection takes."""

POSTGRES_SETTINGS = {
    "shared_buffers": "1GB",
    "max_wal_size": "4GB",
    "shared_preload_libraries": "pg_stat_statements",
    "log_min_messages": "warning",
}
"""Beyond PostgreSQL's own defaults: fsync, synchronous_commit, full_page_writes and autovacuum stay on."""


class Disk:
    """Where the servers and SQLite files keep their data.

    With gcc on Linux: a folder on tmpfs, and a library that makes every sync a constant sleep, because the sync of a
    virtual disk moves by a factor of 100 within minutes. Else the disk below the temporary folder, as it is.
    """

    def __init__(self) -> None:
        simulated = Path("/dev/shm").is_dir() and shutil.which("gcc") is not None  # noqa: S108 - a folder of our own is made in it
        self.folder = Path(tempfile.mkdtemp(prefix="jobmaster-bench-", dir="/dev/shm" if simulated else None))  # noqa: S108 - same
        self.folder.chmod(0o755)
        self.environment: dict[str, str] = {}
        self.words = f"the disk of {self.folder.parent}, as it is"
        if simulated:
            library = self.folder / "sync_delay.so"
            source = Path(__file__).with_name("sync_delay.c")
            subprocess.run(["gcc", "-O2", "-shared", "-fPIC", "-o", library, source], check=True)
            self.environment = {"LD_PRELOAD": str(library), "BENCH_SYNC_US": str(SYNC_US)}
            self.words = f"tmpfs, every sync a sleep of {SYNC_US / 1000} ms"

    def close(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)


class Postgres(PostgresServer):
    """PostgreSQL with all that it promises switched on, on the given disk."""

    def __init__(self, disk: Disk) -> None:
        super().__init__(durable=True, settings=POSTGRES_SETTINGS)
        self._disk = disk

    def run_as(self) -> dict[str, Any]:
        return super().run_as() | {"env": {**os.environ, **self._disk.environment}}


class Servers:
    """Those servers that a run needs, as a context."""

    def __init__(self, *, redis: bool, nats: bool) -> None:
        self.disk = Disk()
        self.postgres = Postgres(self.disk)
        self.redis = RedisServer() if redis else None  # in memory only: nothing is lost here by a snapshot's moment
        self.nats = NatsServer() if nats else None  # its default: synced within two minutes
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        self._stack.callback(self.disk.close)
        before, tempfile.tempdir = tempfile.tempdir, str(self.disk.folder)
        try:
            for server in self.running:
                self._stack.enter_context(server)
        finally:
            tempfile.tempdir = before
        self.postgres.execute("CREATE EXTENSION pg_stat_statements", database="template1")
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    @property
    def running(self) -> list[Server]:
        return [server for server in (self.postgres, self.redis, self.nats) if server is not None]

    def pids(self) -> list[int]:
        return [server.process.pid for server in self.running if server.process is not None]

    def addresses(self, database: str) -> Mapping[str, str]:
        """What a driver finds in its environment."""
        return {
            "BENCH_POSTGRES": self.postgres.dsn(database),
            "BENCH_REDIS": f"redis://127.0.0.1:{self.redis.port}" if self.redis else "",
            "BENCH_NATS": f"nats://127.0.0.1:{self.nats.port}" if self.nats else "",
        }

    def fresh_database(self, name: str) -> str:
        """An empty database of that name, and nothing left to write from what was before."""
        self.postgres.drop_database(name)
        address = self.postgres.create_database(name)
        self.postgres.execute("CHECKPOINT")
        return address
