"""The file: how it is made, who may read it, which schema it has, and what is said when it can't be used."""

from __future__ import annotations

import asyncio
import os
import re
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest

from jobmaster.errors import ConfigurationError, SchemaError, StoreUnavailable
from jobmaster.model.ids import JobKey
from jobmaster.ports.master import MasterRules
from jobmaster.stores.sql import provision
from jobmaster.stores.sql.migrate import in_own_process
from jobmaster.stores.sql.revisions import revisions
from jobmaster.stores.sql.sqlite.connection import connect
from jobmaster.stores.sql.sqlite.provisioning import fresh_statements
from jobmaster.stores.sql.sqlite.store import SqliteStore
from jobmaster.stores.sql.version import AUTOMATIC_SCHEMA, OLDEST_SCHEMA, SCHEMA_VERSION
from tests.unit.sqlite_place import in_loop, modes_below, new_job, opened, owned_bucket

pytestmark = pytest.mark.backend("sqlite")


def schema_of(path: Path) -> list[str]:
    connection = sqlite3.connect(path)
    found = [
        row[0] for row in connection.execute("SELECT sql FROM sqlite_master WHERE sql IS NOT NULL ORDER BY type, name")
    ]
    connection.close()
    return found


def version_of(path: Path) -> str:
    connection = sqlite3.connect(path)
    (found,) = connection.execute("SELECT version_num FROM jm_schema").fetchone()
    connection.close()
    return str(found)


def set_version(path: Path, version: str) -> None:
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("UPDATE jm_schema SET version_num = ?1, oldest_code = ?1", (version,))
    connection.close()


def make(path: Path) -> None:
    async def main() -> None:
        async with opened(path):
            pass

    asyncio.run(main())


def refusal(path: Path, expected: type[Exception], **options: object) -> str:
    async def main() -> None:
        await SqliteStore.open(str(path), rules=MasterRules(), **options)  # type: ignore[arg-type]

    with pytest.raises(expected) as caught:
        asyncio.run(main())
    assert type(caught.value) is expected
    return str(caught.value)


# -- rights


@in_loop
async def test_only_the_owner_can_read_what_we_make(tmp_path: Path) -> None:
    os.umask(old := os.umask(0))
    try:
        os.umask(0)
        async with opened(tmp_path / "a.db") as store:
            bucket = await owned_bucket(store)
            store.subscribe("held", lambda: None)
            assert store.hold_presence(bucket.owner or 0) is not None
            await store.push(bucket.id, [new_job()])
            modes = modes_below(tmp_path)
    finally:
        os.umask(old)
    files = {name: mode for name, mode in modes.items() if not name.endswith((".wake", ".locks"))}
    assert {"a.db", "a.db-wal", "a.db-shm"} < set(files)
    assert set(files.values()) == {0o600}
    assert {modes["a.db.wake"], modes["a.db.locks"]} == {0o700}


@in_loop
@pytest.mark.fault("D14")
async def test_an_acknowledgement_survives_a_power_cut(tmp_path: Path) -> None:
    async with opened(tmp_path / "a.db") as store:
        durability = await store.durability()
    assert durability.survives == "host"
    assert durability.evidence == "SQLite: synchronous = FULL, journal_mode = wal"


# -- what can't be opened


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    said = refusal(tmp_path / "no" / "a.db", ConfigurationError)
    assert f"its folder {tmp_path}/no does not exist" in said
    assert "Make the folder first" in said
    assert not (tmp_path / "no").exists()


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs Linux's /proc, where nobody can make a file")
def test_a_folder_that_takes_no_files_is_not_called_missing() -> None:
    said = refusal(Path("/proc/a.db"), ConfigurationError)
    assert "in its folder /proc no files can be made" in said


def test_a_file_that_is_no_database_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    path.write_bytes(b"dear diary, " * 100)
    said = refusal(path, ConfigurationError)
    assert "is not an SQLite database" in said
    assert "Name another file" in said
    assert path.read_bytes() == b"dear diary, " * 100


def test_a_damaged_file_is_said_to_be_damaged(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    make(path)
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA journal_mode = DELETE").fetchall()
    connection.close()
    content = bytearray(path.read_bytes())
    content[100:4096] = b"\xff" * 3996
    path.write_bytes(content)
    said = refusal(path, ConfigurationError)
    assert "the file is damaged" in said
    assert "Restore a backup" in said


def test_a_folder_in_the_place_of_the_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.db").mkdir()
    assert "cannot be opened" in refusal(tmp_path / "a.db", ConfigurationError)


def test_a_file_that_is_locked_for_long_is_unavailable(tmp_path: Path) -> None:
    make(tmp_path / "a.db")
    other = sqlite3.connect(tmp_path / "a.db", isolation_level=None)
    other.execute("PRAGMA locking_mode = EXCLUSIVE").fetchall()
    other.execute("BEGIN EXCLUSIVE")
    assert "held its lock for too long" in refusal(tmp_path / "a.db", StoreUnavailable, timeout=0.1)
    other.close()


def test_a_read_only_file_is_said_to_be_read_only(tmp_path: Path) -> None:
    from jobmaster.stores.sql.sqlite.faults import translated

    make(tmp_path / "a.db")
    connection = sqlite3.connect(f"file:{tmp_path}/a.db?mode=ro", uri=True)
    with pytest.raises(sqlite3.OperationalError) as caught:
        connection.execute("DELETE FROM jm_job")
    connection.close()
    answer = translated(caught.value, "a.db", opening=True)
    assert type(answer) is ConfigurationError
    assert "read-only for this user" in str(answer)


# -- schema


def test_the_shipped_tables_are_what_the_migrations_make(tmp_path: Path) -> None:
    make(tmp_path / "fresh.db")
    provision.upgrade(f"sqlite:///{tmp_path}/migrated.db")
    assert schema_of(tmp_path / "fresh.db") == schema_of(tmp_path / "migrated.db")
    assert version_of(tmp_path / "fresh.db") == version_of(tmp_path / "migrated.db") == SCHEMA_VERSION


def test_the_declared_tables_are_what_the_migrations_make(tmp_path: Path) -> None:
    from alembic.autogenerate import compare_metadata
    from alembic.migration import MigrationContext
    from sqlalchemy import create_engine

    from jobmaster.stores.sql.schema import metadata

    provision.upgrade(f"sqlite:///{tmp_path}/migrated.db")
    metadata.create_all(declared := create_engine(f"sqlite:///{tmp_path}/declared.db"))
    with declared.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []
    declared.dispose()
    own = [text for text in schema_of(tmp_path / "migrated.db") if "jm_schema" not in text]
    assert own == schema_of(tmp_path / "declared.db")


def test_the_newest_migration_is_the_version_of_the_code() -> None:
    known = revisions()
    assert known[-1].number == SCHEMA_VERSION
    assert [one.oldest_code for one in known] == sorted(one.oldest_code for one in known)
    assert all(one.oldest_code <= one.number for one in known)
    assert known[-1].oldest_code <= OLDEST_SCHEMA <= AUTOMATIC_SCHEMA
    assert [one.number for one in known if not one.contracts][-1] == AUTOMATIC_SCHEMA


def test_the_sql_for_hand_work_makes_the_same_tables(tmp_path: Path) -> None:
    make(tmp_path / "fresh.db")
    connection = sqlite3.connect(tmp_path / "by_hand.db")
    connection.executescript(provision.sql("sqlite"))
    connection.close()

    def squeezed(path: Path) -> list[str]:
        return [" ".join(text.split()) for text in schema_of(path)]

    assert squeezed(tmp_path / "by_hand.db") == squeezed(tmp_path / "fresh.db")
    assert version_of(tmp_path / "by_hand.db") == SCHEMA_VERSION


@pytest.mark.parametrize("dialect", ["postgresql", "mysql", "mssql", "postgresql://u:secret@db.example.org/shop"])
def test_there_is_sql_for_every_dialect_without_a_server(dialect: str) -> None:
    text = provision.sql(dialect)
    assert len(re.findall(r"CREATE TABLE jm_\w+ \(", text)) == 14
    assert "secret" not in text


def test_an_older_schema_is_brought_up_to_date_by_another_process(tmp_path: Path) -> None:
    """The version's table without a row: what is left of a first migration on a database that can't undo DDL."""
    path = tmp_path / "a.db"
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("CREATE TABLE jm_schema (version_num VARCHAR(32) NOT NULL)")
    connection.close()
    make(path)
    assert version_of(path) == SCHEMA_VERSION


def test_a_newer_schema_is_refused_and_not_touched(tmp_path: Path) -> None:
    make(tmp_path / "a.db")
    set_version(tmp_path / "a.db", "9999")
    before = schema_of(tmp_path / "a.db")
    said = refusal(tmp_path / "a.db", SchemaError)
    assert "schema 9999, made by a newer JobMaster" in said
    assert "install the newer JobMaster" in said
    with pytest.raises(SchemaError, match="newer JobMaster"):
        provision.upgrade(f"sqlite:///{tmp_path}/a.db")
    assert schema_of(tmp_path / "a.db") == before


@pytest.mark.parametrize("older", [None, "0000"])
def test_without_auto_provision_the_schema_is_left_as_it_is(tmp_path: Path, older: str | None) -> None:
    path = tmp_path / "a.db"
    if older:
        make(path)
        set_version(path, older)
    said = refusal(path, SchemaError, auto_provision=False)
    assert "auto_provision is off" in said
    assert "jobmaster db upgrade" in said
    assert (version_of(path) if older else schema_of(path)) == (older or [])


def test_status_and_upgrade_say_what_there_is(tmp_path: Path) -> None:
    dsn = f"sqlite:///{tmp_path}/a.db"
    before = provision.status(dsn)
    assert (before.found, before.pending, before.is_current) == (None, ("0001", SCHEMA_VERSION), False)
    assert not (tmp_path / "a.db").exists(), "asking makes no file"
    after = provision.upgrade(dsn)
    assert (after.found, after.pending, after.is_current) == (SCHEMA_VERSION, (), True)
    assert provision.upgrade(dsn) == after


def test_tables_of_others_stay_in_the_same_file(tmp_path: Path) -> None:
    connection = sqlite3.connect(tmp_path / "a.db")
    connection.execute("CREATE TABLE customer (id INTEGER PRIMARY KEY)")
    connection.close()
    make(tmp_path / "a.db")
    assert "CREATE TABLE customer (id INTEGER PRIMARY KEY)" in schema_of(tmp_path / "a.db")


def test_two_migrators_at_once_are_one(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "jobmaster.stores.sql.migrate"]
    both = [subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    for one in both:
        assert one.stdin
        one.stdin.write(f"sqlite:///{tmp_path}/a.db")
        one.stdin.close()
    ends = [(one.wait(60), one.stderr.read() if one.stderr else "") for one in both]
    for one in both:
        if one.stderr:
            one.stderr.close()
    assert ends == [(0, ""), (0, "")]
    assert version_of(tmp_path / "a.db") == SCHEMA_VERSION


@in_loop
async def test_two_that_start_on_a_new_file_at_once_both_work(tmp_path: Path) -> None:
    stores = await asyncio.gather(*(SqliteStore.open(str(tmp_path / "a.db"), rules=MasterRules()) for _ in range(4)))
    for store in stores:
        await store.hold([new_job()])
        await store.close_store()


def test_a_failed_migration_says_why(tmp_path: Path) -> None:
    (tmp_path / "a.db").write_bytes(b"dear diary, " * 100)
    with pytest.raises(SchemaError, match=r"is not an SQLite database.*Run: jobmaster db upgrade"):
        in_own_process(f"sqlite:///{tmp_path}/a.db")


def test_a_migration_whose_exit_code_was_lost_has_not_succeeded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In process 1 of a container the end of any child may be fetched before it is asked for: it is 0 then."""
    run = subprocess.run

    def stolen(*args: object, **options: object) -> subprocess.CompletedProcess[str]:
        done = run(*args, **options)  # type: ignore[call-overload]
        done.returncode = 0
        return done  # type: ignore[no-any-return]

    monkeypatch.setattr(subprocess, "run", stolen)
    in_own_process(f"sqlite:///{tmp_path}/good.db")
    (tmp_path / "a.db").write_bytes(b"dear diary, " * 100)
    with pytest.raises(SchemaError, match="is not an SQLite database"):
        in_own_process(f"sqlite:///{tmp_path}/a.db")


# -- what opening costs


def test_a_new_file_is_ready_soon(tmp_path: Path) -> None:
    took = []
    for number in range(3):
        began = time.perf_counter()
        make(tmp_path / f"{number}.db")
        took.append(time.perf_counter() - began)
    assert min(took) < 0.3


def test_neither_opening_nor_working_nor_single_questions_import_sqlalchemy(tmp_path: Path) -> None:
    program = """
import asyncio, sys
from jobmaster.model.ids import new_job_key
from tests.unit.sqlite_place import opened, owned_bucket, new_job

async def main():
    async with opened(sys.argv[1]) as store:
        bucket = await owned_bucket(store)
        await store.push(bucket.id, [new_job()])
        await store.read(bucket.fence, None, limit=10, window_us=0)
        await store.get_job(new_job_key())
        await store.list_workers()

asyncio.run(main())
heavy = sorted({name.split(".")[0] for name in sys.modules} & {"sqlalchemy", "alembic", "multiprocessing"})
sys.exit(f"imported: {heavy}" if heavy else 0)
"""
    subprocess.run([sys.executable, "-c", program, str(tmp_path / "a.db")], check=True)


def test_the_statements_of_a_new_file_are_complete() -> None:
    connection = connect(":memory:", (), patience=1)
    for statement in fresh_statements():
        assert sqlite3.complete_statement(statement + ";")
        connection.execute(statement)
    connection.close()


# -- a kill


PRODUCER = """
import asyncio, sys
from tests.unit.sqlite_place import opened, new_job

async def main():
    async with opened(sys.argv[1]) as store:
        async def produce():
            while True:
                jobs = [new_job() for _ in range(7)]
                await store.push(int(sys.argv[2]), jobs)
                sys.stdout.write("".join(job.key.hex() + "\\n" for job in jobs))
                sys.stdout.flush()
        await asyncio.gather(*(produce() for _ in range(20)))

asyncio.run(main())
"""


def acknowledged_until_killed(path: Path, bucket: int, seconds: float) -> list[JobKey]:
    """The jobs that a producer said it had pushed before it was killed."""
    command = [sys.executable, "-c", PRODUCER, str(path), str(bucket)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as producer:
        assert producer.stdout
        told = [producer.stdout.readline()]
        time.sleep(seconds)
        producer.kill()
        told += producer.stdout.readlines()
    whole = [line.strip() for line in told if line.endswith("\n")]
    return [JobKey(bytes.fromhex(line)) for line in whole if len(line) == 32]


@in_loop
async def test_what_was_acknowledged_survives_a_kill_whole(tmp_path: Path) -> None:
    async with opened(tmp_path / "a.db") as store:
        bucket = await owned_bucket(store)
        acknowledged: list[JobKey] = []
        for seconds in (0.3, 0.1, 0.2):
            acknowledged += await asyncio.to_thread(acknowledged_until_killed, tmp_path / "a.db", bucket.id, seconds)
        assert len(acknowledged) > 100
        assert all(await store.look_up(acknowledged)), "each is there"
        [(waiting,)] = await store._write(lambda tx: tx.rows("SELECT count(*) FROM jm_message"))
        assert waiting % 7 == 0, "all or none of a call"
        assert await store._write(lambda tx: tx.rows("PRAGMA integrity_check")) == [("ok",)]
