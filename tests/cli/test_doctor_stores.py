"""The doctor at a store: each test breaks one thing of a real server or file, and reads the line that names it."""

from __future__ import annotations

import contextlib
import os
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest

from jobmaster.cli.checks import stores
from jobmaster.stores.sql.postgresql import connection as postgresql_connection
from jobmaster.stores.sql.sqlite import examining
from tests.cli.consulting import consult, provisioned
from tests.servers.fault_proxy import FaultProxy
from tests.servers.postgres import PostgresServer

MOST_CONNECTIONS = 12
OTHERS = "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()"
SETTINGS = {"max_connections": str(MOST_CONNECTIONS), "max_prepared_transactions": "2"}


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    """A server as its makers deliver it, but for few connections."""
    with PostgresServer(durable=True, settings=SETTINGS) as server:
        provisioned(Path(), master=server.create_database("model"))
        yield server


@pytest.fixture
def database(server: PostgresServer, request: pytest.FixtureRequest) -> Iterator[str]:
    """A database with our tables, whose server is as before after the test."""
    name = f"shop_{abs(hash(request.node.name)):x}"
    yield server.create_database(name, template="model")
    server.execute("ALTER SYSTEM RESET ALL")
    server.execute("SELECT pg_reload_conf()")
    server.drop_database(name)


def wait_for(step: Callable[[], object]) -> None:
    """Until it is true; a server that has no connection left yet is asked again."""
    deadline = time.monotonic() + 60
    while True:
        with contextlib.suppress(psycopg.OperationalError):
            if step():
                return
        assert time.monotonic() < deadline
        time.sleep(0.01)


def set_on_server(server: PostgresServer, name: str, value: str) -> None:
    server.execute(f"ALTER SYSTEM SET {name} = {value}")
    server.execute("SELECT pg_reload_conf()")


def shadowed(dsn: str, function: str) -> None:
    """Have every session of this database find a function of ours before PostgreSQL's own."""
    name = psycopg.conninfo.conninfo_to_dict(dsn)["dbname"]
    with psycopg.connect(dsn, autocommit=True) as session:
        session.execute("CREATE SCHEMA shadow")
        session.execute(f"CREATE FUNCTION shadow.{function}")
        session.execute(f'ALTER DATABASE "{name}" SET search_path = shadow, pg_catalog, public')


@pytest.mark.backend("postgresql")
class TestPostgresql:
    def test_a_well_server_is_well(self, tmp_path: Path, database: str) -> None:
        visit = consult(tmp_path, master=database)

        assert visit.troubles().keys() == {"workers"}
        facts = {one.check: one.fact for one in visit.findings}
        assert "PostgreSQL" in facts["master"]
        assert "fsync = on" in facts["durability"]
        assert f"of {MOST_CONNECTIONS} are used" in facts["connections"]
        assert facts["transaction"] == "none is open for long"
        assert not visit.left_out

    @pytest.mark.parametrize("name", ["fsync", "full_page_writes", "synchronous_commit", "autovacuum"])
    def test_a_setting_that_loses_data(self, tmp_path: Path, server: PostgresServer, database: str, name: str) -> None:
        set_on_server(server, name, "off")

        troubles = consult(tmp_path, master=database).troubles()

        assert troubles["server"].startswith(f"WARNING {name} = off")
        assert ("durability" in troubles) is (name != "autovacuum")

    def test_what_the_app_does_not_expect_is_no_trouble(
        self, tmp_path: Path, server: PostgresServer, database: str
    ) -> None:
        set_on_server(server, "fsync", "off")

        assert "durability" not in consult(tmp_path, master=database, survives="process").troubles()

    @pytest.mark.fault("C13")
    def test_a_transaction_that_is_held_open_is_named_by_its_pid(
        self, tmp_path: Path, database: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(stores, "LONG_TRANSACTION", 0.0)
        with psycopg.connect(database, application_name="report") as session:
            session.execute("SELECT count(*) FROM jm_job")
            pid = session.info.backend_pid
            told = consult(tmp_path, master=database).troubles()["transaction"]

        assert f"pid {pid} (postgres, report) has held a transaction open for" in told
        assert "(idle in transaction)" in told
        assert f"pg_terminate_backend({pid})" in told
        assert "transaction" not in consult(tmp_path, master=database).troubles()

    def test_a_prepared_transaction_is_named(
        self, tmp_path: Path, database: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(stores, "LONG_TRANSACTION", 0.0)
        with psycopg.connect(database, autocommit=True) as session:
            session.execute("BEGIN")
            session.execute("CREATE TABLE mine (id int)")
            session.execute("PREPARE TRANSACTION 'forgotten'")
            told = consult(tmp_path, master=database).troubles()["transaction"]
            session.execute("ROLLBACK PREPARED 'forgotten'")

        assert "prepared transaction 'forgotten'" in told
        assert "ROLLBACK PREPARED 'forgotten'" in told

    @pytest.mark.fault("C10")
    def test_connections_that_run_out(self, tmp_path: Path, server: PostgresServer, database: str) -> None:
        wait_for(lambda: server.execute(OTHERS) == [(0,)])  # those of the test before
        with contextlib.ExitStack() as held:
            for _ in range(MOST_CONNECTIONS - 1):
                held.enter_context(psycopg.connect(database))
            nearly = consult(tmp_path, master=database)
            wait_for(lambda: held.enter_context(psycopg.connect(database)))
            none_left = consult(tmp_path, master=database)

        assert f"{MOST_CONNECTIONS} of {MOST_CONNECTIONS} are used" in nearly.troubles()["connections"]
        assert none_left.one("master").is_unreachable
        assert "no connection left" in none_left.one("master").fact
        assert "max_connections" in none_left.one("master").fact
        assert none_left.left_out == ["cluster", "jobs"]

    @pytest.mark.parametrize(("seconds", "word"), [(10, "ahead"), (-10, "behind")])
    def test_a_clock_that_is_off(self, tmp_path: Path, database: str, seconds: int, word: str) -> None:
        shadowed(
            database,
            "clock_timestamp() RETURNS timestamptz LANGUAGE sql AS "
            f"$$ SELECT pg_catalog.clock_timestamp() + interval '{seconds} s' $$",
        )

        told = consult(tmp_path, master=database).troubles()["clock"]

        assert told.startswith(f"WARNING the store's clock is 10 s {word}")
        assert "time server" in told

    def test_a_standby(self, tmp_path: Path, database: str) -> None:
        shadowed(database, "pg_is_in_recovery() RETURNS bool LANGUAGE sql AS 'SELECT true'")

        assert "it is a standby -> Name the primary" in consult(tmp_path, master=database).troubles()["standby"]

    def test_a_table_that_somebody_removed(self, tmp_path: Path, server: PostgresServer, database: str) -> None:
        with psycopg.connect(database, autocommit=True) as session:
            session.execute("DROP TABLE jm_attempt")

        visit = consult(tmp_path, master=database)

        assert visit.troubles()["tables"].startswith("FAULT tables are missing: jm_attempt")
        assert visit.left_out == ["cluster", "jobs"]

    def test_a_user_without_rights(self, tmp_path: Path, server: PostgresServer, database: str) -> None:
        server.execute("DROP ROLE IF EXISTS poor")
        server.execute("CREATE ROLE poor LOGIN")
        poor = database.replace("postgres@", "poor@")

        told = consult(tmp_path, master=poor).troubles()["rights"]

        assert told.startswith("FAULT this user may not: jm_agent_bucket: SELECT, INSERT, UPDATE, DELETE")

    def test_tables_that_are_not_there_and_may_not_be_made(self, tmp_path: Path, server: PostgresServer) -> None:
        server.execute("DROP ROLE IF EXISTS poor")
        server.execute("CREATE ROLE poor LOGIN")
        empty = server.create_database("empty")
        server.execute("REVOKE CREATE ON SCHEMA public FROM PUBLIC", database="empty")
        try:
            visit = consult(tmp_path, master=empty.replace("postgres@", "poor@"))
            allowed = consult(tmp_path, master=empty)
            by_hand = consult(tmp_path, master=empty, auto_provision=False)
        finally:
            server.drop_database("empty")

        assert "FAULT none yet" in visit.troubles()["schema"]
        assert "this user may not make tables" in visit.troubles()["schema"]
        assert "jobmaster db upgrade" in visit.troubles()["schema"]
        assert allowed.troubles()["schema"].startswith("WARNING none yet")
        assert by_hand.troubles()["schema"].startswith("FAULT none yet")
        assert visit.left_out == allowed.left_out == by_hand.left_out == ["cluster", "jobs"]

    def test_a_server_that_is_too_old(self, tmp_path: Path, database: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(postgresql_connection, "OLDEST", 99)

        assert "needs 99 or newer" in consult(tmp_path, master=database).troubles()["master"]

    @pytest.mark.parametrize(
        ("part", "other", "told"),
        [("/shop_", "/no_such_", "no such database"), ("postgres@", "nobody@", "does not accept this user")],
        ids=["database", "user"],
    )
    def test_an_address_that_leads_elsewhere(
        self, tmp_path: Path, database: str, part: str, other: str, told: str
    ) -> None:
        visit = consult(tmp_path, master=database.replace(part, other))

        assert told in visit.troubles()["master"]
        assert visit.left_out == ["cluster", "jobs"]

    def test_a_server_that_is_frozen_is_given_up(
        self, tmp_path: Path, database: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("jobmaster.cli.checkup.QUESTION_WITHIN", 0.5)
        with FaultProxy(database) as proxy:
            proxy.stall()
            visit = consult(tmp_path, master=proxy.dsn(database))

        assert visit.one("master").is_unreachable
        assert "did not answer in time" in visit.one("master").fact

    def test_a_question_that_never_ends_is_a_finding(
        self, tmp_path: Path, database: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("jobmaster.cli.checkup.CHECK_WITHIN", 0.5)
        with FaultProxy(database) as proxy:
            proxy.stall()
            visit = consult(tmp_path, master=proxy.dsn(database))

        assert visit.stuck
        assert "no answer within 0.5 s" in visit.troubles()["master"]

    def test_a_table_that_is_locked_leaves_the_rest_known(
        self, tmp_path: Path, database: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("jobmaster.cli.checkup.QUESTION_WITHIN", 1.5)
        monkeypatch.setattr("jobmaster.cli.checkup.CHECK_WITHIN", 15.0)
        with psycopg.connect(database) as session:
            session.execute("LOCK TABLE jm_job IN ACCESS EXCLUSIVE MODE")
            visit = consult(tmp_path, master=database, accept_timeout=1.5)

        troubles = visit.troubles()
        assert troubles.keys() == {"workers", "unroutable", "quarantined", "waiting", "jobs"}
        assert {check for check, told in troubles.items() if "WARNING not known" in told} == troubles.keys() - {
            "workers"
        }

    def test_an_agent_is_looked_at_like_the_master(self, tmp_path: Path, server: PostgresServer, database: str) -> None:
        set_on_server(server, "fsync", "off")
        agents = [{"name": "fast", "url": database}]

        visit = consult(tmp_path, master=f"sqlite:///{tmp_path}/master.db", agents=agents)

        assert {(one.check, one.store) for one in visit.findings} >= {("master", "master"), ("agent", "fast")}
        assert visit.one("server").store == "fast"


def test_a_server_that_is_not_there(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]

    visit = consult(tmp_path, master=f"postgresql://shop:hunter2@127.0.0.1:{port}/shop")

    assert visit.one("master").is_unreachable
    assert "cannot be reached" in visit.one("master").fact
    assert "hunter2" not in str(visit.troubles())


@pytest.mark.backend("sqlite")
class TestSqlite:
    @pytest.fixture
    def file(self, tmp_path: Path) -> Path:
        provisioned(tmp_path)
        return tmp_path / "jobmaster.db"

    def test_a_well_file_is_well(self, tmp_path: Path, file: Path) -> None:
        visit = consult(tmp_path)

        assert visit.troubles().keys() == {"workers"}
        facts = {one.check: one.fact for one in visit.findings}
        assert facts["master"] == f"sqlite:///{file} answers: SQLite {sqlite3.sqlite_version}"
        assert "synchronous = FULL, journal_mode = wal" in facts["durability"]
        assert "MiB are free" in facts["disk"]

    def test_a_table_that_somebody_removed(self, tmp_path: Path, file: Path) -> None:
        with contextlib.closing(sqlite3.connect(file)) as session:
            session.execute("DROP TABLE jm_blame")

        assert consult(tmp_path).troubles()["tables"].startswith("FAULT tables are missing: jm_blame")

    @pytest.mark.parametrize(
        ("oldest_code", "state", "part"),
        [("0001", "WARNING", "goes on working with it"), ("9999", "FAULT", "install the newer JobMaster")],
        ids=["expanded", "contracted"],
    )
    def test_a_schema_of_a_newer_version(
        self, tmp_path: Path, file: Path, oldest_code: str, state: str, part: str
    ) -> None:
        with contextlib.closing(sqlite3.connect(file)) as session:
            session.execute("UPDATE jm_schema SET version_num = '9999', oldest_code = ?", (oldest_code,))
            session.commit()

        visit = consult(tmp_path)

        assert visit.troubles()["schema"].startswith(f"{state} 9999 in")
        assert part in visit.troubles()["schema"]
        assert visit.left_out == ([] if state == "WARNING" else ["cluster", "jobs"])

    def test_a_file_that_is_no_database(self, tmp_path: Path) -> None:
        (tmp_path / "jobmaster.db").write_text("holiday pictures" * 1000)

        assert "not an SQLite database" in consult(tmp_path).troubles()["master"]

    @pytest.mark.parametrize(("kind", "state"), [("nfs4", "FAULT"), ("fuse.sshfs", "FAULT"), ("9p", "WARNING")])
    def test_a_file_on_a_network(
        self, tmp_path: Path, file: Path, monkeypatch: pytest.MonkeyPatch, kind: str, state: str
    ) -> None:
        mounts = tmp_path / "mountinfo"
        mounts.write_text(
            "21 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw\n"
            f"99 21 0:52 / {tmp_path} rw,relatime - {kind} files:/export rw\n"
            f"98 21 0:53 / {tmp_path}\\040other rw - tmpfs none rw\n"
        )
        monkeypatch.setattr(examining, "MOUNTS", mounts)

        told = consult(tmp_path).troubles()["file system"]

        assert told.startswith(f"{state} the file is on {kind} ({tmp_path})")

    def test_a_program_that_reads_for_ever_lets_the_log_grow(
        self, tmp_path: Path, file: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(stores, "LARGE_LOG", 1 << 20)
        with (
            contextlib.closing(sqlite3.connect(file, isolation_level=None)) as reader,
            contextlib.closing(sqlite3.connect(file, isolation_level=None)) as writer,
        ):
            writer.execute("CREATE TABLE mine (text)")
            reader.execute("BEGIN")
            reader.execute("SELECT count(*) FROM jm_job").fetchall()
            writer.execute("INSERT INTO mine VALUES (zeroblob(2000000))")
            told = consult(tmp_path).troubles()["log"]

        assert "a program reads in one long transaction" in told

    def test_another_clusters_file(self, tmp_path: Path) -> None:
        from jobmaster import JobMaster

        with contextlib.closing(JobMaster("other", folder=str(tmp_path))) as other:
            other.task(len)
            with other:
                pass

        visit = consult(tmp_path)

        assert list(visit.troubles()) == ["agreement"], "it is said once"
        assert "belongs to cluster 'other'" in visit.troubles()["agreement"]
        assert visit.left_out == ["cluster", "jobs"]


INSIDE = """
import sys
from pathlib import Path
from tests.cli.consulting import consult, provisioned
folder = Path(sys.argv[1])
if sys.argv[2] == "made":
    provisioned(folder)
    import subprocess
    subprocess.run(["mount", "-o", "remount,ro", folder], check=True)
for check, told in consult(folder).troubles().items():
    print(check, told)
"""


def in_a_small_disk(folder: Path, what: str) -> str:
    """What the doctor says of an app on a file system of 16 MB, which only its process sees."""
    place = folder / "small"
    place.mkdir()
    mount = f'mount -t tmpfs -o size=16m none {place} && exec {sys.executable} -c "$0" {place} {what}'
    done = subprocess.run(
        ["unshare", "--map-root-user", "--mount", "sh", "-c", mount, INSIDE],
        cwd=Path(__file__).parents[2], capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    if "unshare:" in done.stderr or "mount:" in done.stderr:
        pytest.skip(f"no mounts of our own: {done.stderr.strip()}")
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.skipif(sys.platform != "linux", reason="mounts of our own are Linux's")
class TestDisk:
    def test_a_file_that_may_not_even_be_read(self, tmp_path: Path) -> None:
        provisioned(tmp_path)
        (tmp_path / "jobmaster.db").chmod(0)
        look = (
            f"from pathlib import Path; from tests.cli.consulting import consult; "
            f"print(consult(Path({str(tmp_path)!r})).troubles())"
        )
        without_rights = ["setpriv", "--bounding-set=-dac_override,-dac_read_search"] if os.getuid() == 0 else []

        done = subprocess.run(
            [*without_rights, sys.executable, "-c", look],
            cwd=Path(__file__).parents[2], capture_output=True, text=True, check=False, timeout=60,
        )  # fmt: skip

        assert "this user may not: jobmaster.db: read and write ->" in done.stdout, done.stderr

    def test_a_disk_that_is_nearly_full(self, tmp_path: Path) -> None:
        told = in_a_small_disk(tmp_path, "new")

        assert "disk FAULT 16 MiB are free" in told
        assert f"Free space on {tmp_path}/small" in told

    def test_a_file_that_may_only_be_read(self, tmp_path: Path) -> None:
        told = in_a_small_disk(tmp_path, "made")

        assert "rights FAULT this user may not: jobmaster.db: write; its folder" in told
