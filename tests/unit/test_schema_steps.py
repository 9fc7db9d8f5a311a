"""Migrations beside programs that go on: guards, kills in the middle, locks, and who may work with what."""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import signal
import sqlite3
import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import psycopg
import pytest

from jobmaster.errors import ConfigurationError, SchemaError, StoreUnavailable
from jobmaster.model.states import WorkerMode
from jobmaster.model.worker import Registration
from jobmaster.ports.master import MasterRules
from jobmaster.stores.sql import migrate, provision, steps, version
from jobmaster.stores.sql.compatibility import Fit
from jobmaster.stores.sql.postgresql.store import PostgresStore
from jobmaster.stores.sql.sqlite.store import SqliteStore
from tests.faults import next_release
from tests.servers.databases import Databases
from tests.unit.test_postgresql_schema import SHAPE


class Place(NamedTuple):
    """A database with the schema of this release."""

    dsn: str
    open: Callable[..., Any]
    rows: Callable[[str], list[tuple[Any, ...]]]
    another: Callable[[], Place]

    @property
    def schema(self) -> str:
        return str(self.rows("SELECT version_num FROM jm_schema")[0][0])

    def shape(self) -> Any:
        if self.dsn.startswith("sqlite"):
            return self.rows("SELECT sql FROM sqlite_master WHERE sql IS NOT NULL ORDER BY sql")
        return [
            *map(self.rows, SHAPE),
            self.rows("SELECT indexrelid::regclass::text FROM pg_index WHERE NOT indisvalid"),
        ]


def file_place(path: Path) -> Place:
    def rows(statement: str) -> list[tuple[Any, ...]]:
        with contextlib.closing(sqlite3.connect(path, timeout=30)) as connection:
            found = connection.execute(statement).fetchall()
            connection.commit()
            return found

    async def opened(**options: Any) -> SqliteStore:
        return await SqliteStore.open(str(path), rules=MasterRules(), **options)

    provision.upgrade(f"sqlite:///{path}")
    return Place(f"sqlite:///{path}", opened, rows, lambda: file_place(path.with_suffix(".other")))


def server_place(servers: Databases, undo: contextlib.ExitStack) -> Place:
    dsn = servers.blank()
    undo.callback(servers.remove, dsn)

    def rows(statement: str) -> list[tuple[Any, ...]]:
        with psycopg.connect(dsn, autocommit=True) as connection:
            cursor = connection.execute(statement)  # type: ignore[call-overload]
            return cursor.fetchall() if cursor.description else []

    async def opened(**options: Any) -> PostgresStore:
        return await PostgresStore.open(dsn, rules=MasterRules(), **options)

    provision.upgrade(dsn)
    return Place(dsn, opened, rows, lambda: server_place(servers, undo))


@pytest.fixture(params=[pytest.param(name, marks=pytest.mark.backend(name)) for name in ("sqlite", "postgresql")])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    with contextlib.ExitStack() as undo:
        if request.param == "sqlite":
            yield file_place(tmp_path / "jm.db")
        else:
            yield server_place(request.getfixturevalue("postgres_databases"), undo)


@pytest.fixture
def released(monkeypatch: pytest.MonkeyPatch, place: Place) -> None:
    """From here on this process is of the next release; `place` is not."""
    release(monkeypatch)
    monkeypatch.setenv("PYTHONPATH", f"{next_release.FOLDER}:{os.environ.get('PYTHONPATH', '')}")


def release(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(version, "SCHEMA_VERSION", next_release.CONTRACTED)
    monkeypatch.setattr(version, "AUTOMATIC_SCHEMA", next_release.EXPANDED)
    monkeypatch.setattr(version, "FOLDERS", (*version.FOLDERS, str(next_release.VERSIONS)))


def use(place: Place, work: Callable[[Any], Any], **options: Any) -> Any:
    async def main() -> Any:
        store = await place.open(**options)
        try:
            return await work(store)
        finally:
            await store.close_store()

    return asyncio.run(main())


def register(place: Place, name: str, schema: str) -> int:
    registration = Registration(name, 1, "here", ("",), WorkerMode.FULL, version="0.1", schema_version=schema)
    return use(place, lambda store: store.register(registration)).worker


async def asks(store: Any) -> int:
    return len(await store.list_workers())


# -- who works with what


def test_the_next_release_begins_on_the_old_schema_where_it_may_not_change_it(place: Place, released: None) -> None:
    assert use(place, asks, auto_provision=False) == 0
    status = provision.status(place.dsn)
    assert (place.schema, status.fit, status.works, status.is_current) == ("0002", Fit.BEHIND, True, False)


def test_a_process_that_starts_expands_and_never_contracts(place: Place, released: None) -> None:
    assert use(place, asks) == 0
    assert place.schema == next_release.EXPANDED


def test_older_code_works_with_an_expanded_schema_and_refuses_a_contracted_one(
    place: Place, released: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    provision.upgrade(place.dsn, expand_only=True)
    assert [step.number for step in provision.status(place.dsn).steps] == [next_release.CONTRACTED]
    with older_code(monkeypatch):
        assert use(place, asks, auto_provision=False) == use(place, asks) == 0
        assert provision.upgrade(place.dsn).fit is Fit.AHEAD, "there is nothing to do for older code"
    provision.upgrade(place.dsn)
    with older_code(monkeypatch):
        for provisions in (True, False):
            with pytest.raises(SchemaError, match=r"works with code of schema 0003 and newer; this one knows 0002"):
                use(place, asks, auto_provision=provisions)
        with pytest.raises(SchemaError, match="install the newer JobMaster"):
            provision.upgrade(place.dsn)
        status = provision.status(place.dsn)
        assert (status.fit, status.works) == (Fit.TOO_NEW, False)
        assert "install the newer JobMaster" in status.next_step


WITHOUT_SCHEDULES = (
    "DROP TABLE jm_schedule",
    "DROP TABLE jm_occurrence",
    "UPDATE jm_schema SET version_num = '0001'",
)
"""What makes the first release's tables of today's."""


def test_the_tables_of_the_first_release_are_expanded_by_whoever_starts(place: Place) -> None:
    whole = place.shape()
    for statement in WITHOUT_SCHEDULES:
        place.rows(statement)
    with pytest.raises(SchemaError, match="has schema 0001, but this JobMaster needs 0002"):
        use(place, asks, auto_provision=False)
    assert use(place, asks) == 0
    assert (place.schema, place.shape()) == ("0002", whole)


def test_code_of_the_first_release_works_beside_schedules(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(version, "SCHEMA_VERSION", "0001")
    monkeypatch.setattr(version, "AUTOMATIC_SCHEMA", "0001")
    monkeypatch.setattr(version, "OLDEST_SCHEMA", "0001")
    assert use(place, asks, auto_provision=False) == use(place, asks) == 0
    assert (place.schema, provision.status(place.dsn).fit) == ("0002", Fit.AHEAD)


def test_the_tables_of_a_pre_release_are_refused_with_what_to_do_and_not_touched(place: Place) -> None:
    place.rows("ALTER TABLE jm_schema DROP COLUMN oldest_code")
    before = place.shape()
    refused = r"was made by a pre-release of JobMaster.*delete the file or empty the database"
    for provisions in (True, False):
        with pytest.raises(SchemaError, match=refused):
            use(place, asks, auto_provision=provisions)
    with pytest.raises(SchemaError, match=refused):
        provision.upgrade(place.dsn)
    status = provision.status(place.dsn)
    assert (status.fit, status.works, status.state) == (Fit.UNRELEASED, False, "made by a pre-release of JobMaster")
    assert status.next_step == "delete it, or name another database"
    assert place.shape() == before


@contextlib.contextmanager
def older_code(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """In here this process is of this release again."""
    with monkeypatch.context() as older:
        older.setattr(version, "SCHEMA_VERSION", "0002")
        older.setattr(version, "AUTOMATIC_SCHEMA", "0002")
        older.setattr(version, "FOLDERS", version.FOLDERS[:1])
        yield


def test_code_that_needs_what_only_a_contraction_leads_to_says_who_makes_it(
    place: Place, released: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(version, "OLDEST_SCHEMA", next_release.CONTRACTED)
    with pytest.raises(SchemaError, match=r"no worker makes it by itself.*run: jobmaster db upgrade"):
        use(place, asks)
    assert place.schema == next_release.EXPANDED


def test_where_the_migrator_fails_code_that_works_on_the_old_schema_goes_on(
    place: Place, released: None, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fails(_dsn: str) -> None:
        raise SchemaError("no rights")

    monkeypatch.setattr(migrate, "in_own_process", fails)
    assert use(place, asks) == 0
    assert "schema_behind found=0002 expected=0005 error=no rights" in caplog.text
    monkeypatch.setattr(version, "OLDEST_SCHEMA", next_release.EXPANDED)
    with pytest.raises(SchemaError, match="no rights"):
        use(place, asks)


# -- contractions


def test_a_contraction_waits_for_workers_that_it_would_break(place: Place, released: None) -> None:
    old, unknown = register(place, "old", "0002"), register(place, "unknown", "")
    register(place, "new", "0003")
    with pytest.raises(SchemaError) as refused:
        provision.upgrade(place.dsn)
    said = str(refused.value)
    assert "not changed to schema 0005 (Definitions lose their source" in said
    assert "2 such workers live: old (0.1), unknown (0.1)" in said
    assert "producers" in said
    assert place.schema == next_release.EXPANDED, "what comes before it is done"
    status = provision.status(place.dsn)
    assert status.next_step == "replace the older workers, then: jobmaster db upgrade"
    versions = {one.name: (one.version, one.schema_version) for one in status.workers}
    assert versions == {"unknown": ("0.1", ""), "old": ("0.1", "0002"), "new": ("0.1", "0003")}

    use(place, lambda store: store.end_worker(old))
    with pytest.raises(SchemaError, match="1 such workers live: unknown"):
        provision.upgrade(place.dsn)
    use(place, lambda store: store.end_worker(unknown))
    assert provision.upgrade(place.dsn).is_current


def test_a_contraction_can_be_forced(place: Place, released: None) -> None:
    register(place, "old", "0002")
    assert provision.upgrade(place.dsn, force=True).is_current


def test_a_separate_agent_waits_for_the_workers_that_its_master_knows(
    place: Place, released: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    with older_code(monkeypatch):
        agent = place.another()
    register(place, "old", "0002")
    with pytest.raises(SchemaError, match="1 such workers live: old"):
        provision.upgrade(agent.dsn, master=place.dsn)
    assert agent.schema == next_release.EXPANDED


# -- kills


def in_fork(work: Callable[[], None]) -> int:
    """Do it in a process of its own; how that ended."""
    child = os.fork()
    if child == 0:
        with contextlib.suppress(BaseException):
            work()
            os._exit(0)
        os._exit(1)
    return os.waitpid(child, 0)[1]


def upgrade_until(statement: int, dsn: str) -> None:
    """Upgrade, and vanish before the statement of that number."""
    from sqlalchemy import Engine, event

    count = 0

    @event.listens_for(Engine, "before_cursor_execute")
    def _count(*_: Any) -> None:
        nonlocal count
        count += 1
        if count == statement:
            os.kill(os.getpid(), signal.SIGKILL)

    provision.upgrade(dsn)


@pytest.mark.fault("H13")
@pytest.mark.timeout(120)
def test_a_kill_before_any_statement_leaves_what_the_next_migrator_completes(place: Place, released: None) -> None:
    other = place.another()
    provision.upgrade(other.dsn)
    kills, seen = 0, set()
    while (end := in_fork(partial(upgrade_until, kills + 1, place.dsn))) != 0:
        assert os.waitstatus_to_exitcode(end) == -signal.SIGKILL
        kills += 1
        status = provision.status(place.dsn)
        assert status.found in {"0002", "0003", "0004", "0005"}
        assert status.works
        seen.add(status.found)
    assert kills > 15
    assert len(seen) > 2
    assert provision.status(place.dsn).is_current
    assert place.shape() == other.shape()


# -- indexes on tables in use

ATTACHED = """
SELECT count(*), count(x.indexrelid) FILTER (WHERE x.indisvalid) FROM pg_inherits p LEFT JOIN (
    pg_inherits i JOIN pg_index x ON x.indexrelid = i.inhrelid AND i.inhparent = 'jm_job_note'::regclass)
    ON x.indrelid = p.inhrelid
WHERE p.inhparent = 'jm_job'::regclass
"""
IS_VALID = "SELECT indisvalid FROM pg_index WHERE indexrelid IN ('jm_job_note'::regclass, 'jm_message_note'::regclass)"


@pytest.mark.backend("postgresql")
def test_an_index_on_jobs_reaches_all_weeks_those_that_come_and_those_whose_index_was_cut_short(
    postgres_databases: Databases, monkeypatch: pytest.MonkeyPatch
) -> None:
    week_us = 7 * 86_400_000_000

    def make_weeks(now_us: int) -> None:
        use(place, lambda store: store.purge(before_us=1, limit=10), clock_us=lambda: now_us)

    def all_have_it() -> bool:
        parts, valid = place.rows(ATTACHED)[0]
        assert parts > 3
        return parts == valid and place.rows(IS_VALID) == [(True,), (True,)]

    with contextlib.ExitStack() as undo:
        place = server_place(postgres_databases, undo)
        make_weeks(2_900 * week_us)
        release(monkeypatch)
        provision.upgrade(place.dsn, expand_only=True)
        assert all_have_it()

        # What a migrator leaves that ended while it built: the whole without its parts, and an index that is no good.
        week = place.rows("SELECT min(inhrelid::regclass::text) FROM pg_inherits WHERE inhparent = 'jm_job'::regclass")
        for statement in (
            "DROP INDEX jm_job_note",
            "CREATE INDEX jm_job_note ON ONLY jm_job (note) WHERE note <> ''",
            f"CREATE INDEX {week[0][0]}_job_note ON {week[0][0]} (note) WHERE note <> ''",
            f"UPDATE pg_index SET indisvalid = false WHERE indexrelid = '{week[0][0]}_job_note'::regclass",
            "UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'jm_message_note'::regclass",
            "UPDATE jm_schema SET version_num = '0003'",
        ):
            place.rows(statement)
        assert not all_have_it()
        make_weeks(2_950 * week_us)
        provision.upgrade(place.dsn, expand_only=True)
        assert all_have_it()
        make_weeks(2_970 * week_us)
        assert all_have_it()


# -- locks


@pytest.mark.fault("H5")
@pytest.mark.backend("postgresql")
def test_nobody_waits_behind_a_migration_that_waits(
    postgres_databases: Databases, monkeypatch: pytest.MonkeyPatch
) -> None:
    with contextlib.ExitStack() as undo:
        place = server_place(postgres_databases, undo)
        release(monkeypatch)
        tried = threading.Event()
        monkeypatch.setattr(steps.logger, "info", lambda text, *_: tried.set() if "waits" in text else None)
        with psycopg.connect(place.dsn) as reader, psycopg.connect(place.dsn, autocommit=True) as writer:
            reader.execute("SELECT count(*) FROM jm_job")
            writer.execute("SET statement_timeout = '10s'")
            migrator = threading.Thread(target=provision.upgrade, args=(place.dsn,))
            migrator.start()
            assert tried.wait(20), "the migrator gave way"
            for _ in range(2):
                tried.clear()
                assert tried.wait(20)
                writer.execute("UPDATE jm_job SET reason = reason")
                writer.execute("INSERT INTO jm_tombstone (job_id, created_us) VALUES (gen_random_uuid(), 1)")
            assert place.schema == "0002"
            reader.rollback()
            migrator.join(30)
        assert place.schema == next_release.CONTRACTED


@pytest.mark.backend("postgresql")
def test_a_migrator_gives_up_and_says_who_is_in_the_way(
    postgres_databases: Databases, monkeypatch: pytest.MonkeyPatch
) -> None:
    with contextlib.ExitStack() as undo:
        place = server_place(postgres_databases, undo)
        release(monkeypatch)
        monkeypatch.setattr(steps, "PATIENCE", 0.3)
        with psycopg.connect(place.dsn) as reader:
            reader.execute("SELECT count(*) FROM jm_job")
            with pytest.raises(SchemaError, match=r"other transactions kept its tables.*pg_stat_activity"):
                provision.upgrade(place.dsn)
            monkeypatch.setattr(steps, "OTHER_MIGRATOR", 0.3)
            reader.execute("SELECT pg_advisory_xact_lock(4242260001)")
            with pytest.raises(SchemaError, match="another migrator has been at work"):
                provision.upgrade(place.dsn)
        assert place.schema == "0002"


# -- what stands in the way


@pytest.mark.backend("postgresql")
def test_a_missing_right_and_a_standby_are_told_as_such(
    postgres_databases: Databases, monkeypatch: pytest.MonkeyPatch
) -> None:
    with contextlib.ExitStack() as undo:
        place = server_place(postgres_databases, undo)
        release(monkeypatch)
        place.rows("CREATE ROLE jm_weak LOGIN")
        undo.callback(place.rows, "DROP OWNED BY jm_weak; DROP ROLE jm_weak")
        place.rows("GRANT SELECT, UPDATE ON ALL TABLES IN SCHEMA public TO jm_weak")
        weak = place.dsn.replace("//postgres@", "//jm_weak@")
        assert provision.status(weak).found == "0002"
        with pytest.raises(ConfigurationError, match=r"lacks a right.*runs: jobmaster db upgrade"):
            provision.upgrade(weak)
        with pytest.raises(StoreUnavailable, match=r"takes no writes now.*Name the primary"):
            provision.upgrade(f"{place.dsn}?options=-cdefault_transaction_read_only%3Don")
        assert place.schema == "0002"


@pytest.mark.backend("sqlite")
def test_a_full_disk_is_told_as_such_and_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = file_place(tmp_path / "jm.db")
    before = place.shape()
    release(monkeypatch)
    said = tmp_path / "said"
    said.write_text("x" * 4_000)

    def on_a_full_disk() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (4_096, resource.RLIM_INFINITY))
        try:
            provision.upgrade(place.dsn)
        except StoreUnavailable as error:
            said.write_text(str(error))

    assert os.waitstatus_to_exitcode(in_fork(on_a_full_disk)) == 0
    assert "the disk is full" in said.read_text() or "the disk reported an error" in said.read_text()
    assert place.shape() == before
