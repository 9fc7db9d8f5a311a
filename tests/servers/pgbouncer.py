"""PgBouncer in transaction mode before a PostgreSQL, from the operating system's packages."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from urllib.parse import urlsplit

from tests.servers.launcher import Server, program

# The first version that carries named prepared statements over from one server connection to another.
PREPARES_SINCE = (1, 21)


class PgBouncer(Server):
    """A PgBouncer that gives a server connection to each transaction anew, for all databases of one server.

    Args:
        target: the address of a database on that server; its user is the one who may connect, without a password.
        pool: how many connections to the server it keeps for each database.
    """

    name = "pgbouncer"

    def __init__(self, target: str, *, pool: int = 10) -> None:
        super().__init__()
        self._target = urlsplit(target)
        self._pool = pool

    def prepare(self) -> None:
        user = self._target.username or "postgres"
        users = self.write("users.txt", f'"{user}" "{self._target.password or ""}"\n')
        settings = {
            "listen_addr": "127.0.0.1",
            "listen_port": self.port,
            "unix_socket_dir": "",
            "auth_type": "trust",
            "auth_file": users,
            "admin_users": user,
            "pool_mode": "transaction",
            "default_pool_size": self._pool,
            "max_client_conn": 500,
            **({"max_prepared_statements": 200} if self.prepares else {}),
        }
        lines = [f"{name} = {value}" for name, value in settings.items()]
        server = f"* = host={self._target.hostname} port={self._target.port or 5432}"
        self.write("pgbouncer.ini", "\n".join(["[databases]", server, "[pgbouncer]", *lines, ""]))

    def command(self) -> Sequence[str | Path]:
        return [self._program, "-q", self.folder / "pgbouncer.ini"]

    @cached_property
    def version(self) -> tuple[int, ...]:
        """As (1, 18, 0)."""
        told = subprocess.run([self._program, "--version"], capture_output=True, text=True, check=True).stdout
        found = re.search(r"PgBouncer (\d+)\.(\d+)\.(\d+)", told)
        assert found, told
        return tuple(map(int, found.groups()))

    @property
    def prepares(self) -> bool:
        """Whether named prepared statements work through it."""
        return self.version >= PREPARES_SINCE

    def dsn(self, database: str) -> str:
        """The address of one of the server's databases, through PgBouncer."""
        return f"postgresql://{self._target.username or 'postgres'}@127.0.0.1:{self.port}/{database}"

    @cached_property
    def _program(self) -> str:
        return program("pgbouncer", package="apt-get install pgbouncer")
