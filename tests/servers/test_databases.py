"""A lent database comes back as it was made, or does not come back."""

from __future__ import annotations

import psycopg
import pytest

from tests.servers.databases import Databases
from tests.servers.postgres import execute

pytestmark = pytest.mark.backend("postgresql")


@pytest.fixture
def lender(postgres_databases: Databases) -> Databases:
    return postgres_databases


def contents(dsn: str) -> dict[str, list[tuple[object, ...]]]:
    tables = [name for (name,) in execute(dsn, "SELECT tablename FROM pg_tables WHERE schemaname = 'public'")]
    rows = {name: execute(dsn, f'SELECT * FROM ONLY "{name}"') for name in tables}
    return {**rows, "sequences": execute(dsn, "SELECT sequencename, last_value FROM pg_sequences ORDER BY 1")}


def test_what_a_test_wrote_and_counted_is_gone_and_the_schemas_own_rows_are_back(lender: Databases) -> None:
    dsn = lender.borrow()
    made = contents(dsn)
    assert made["jm_schema"]
    execute(dsn, "INSERT INTO jm_agent_bucket (id, epoch, closing) VALUES (7, 1, 0)")
    execute(dsn, "SELECT nextval('jm_worker_id_seq'), nextval('jm_worker_id_seq')")
    execute(dsn, "DELETE FROM jm_schema")
    execute(dsn, "VACUUM ANALYZE jm_agent_bucket")
    assert contents(dsn) != made
    lender.give_back(dsn)
    assert lender.borrow() == dsn
    assert contents(dsn) == made


@pytest.mark.parametrize(
    "change",
    [
        "CREATE TABLE jm_more (x int)",
        "DROP TABLE jm_tombstone",
        "TRUNCATE jm_tombstone",
        "ALTER TABLE jm_worker ADD COLUMN more int",
        "ALTER TABLE jm_worker DROP COLUMN host",
        "ALTER TABLE jm_message SET (autovacuum_enabled = off)",
        "CREATE INDEX ON jm_worker (id)",
        "CREATE FUNCTION f() RETURNS int LANGUAGE sql RETURN 1",
    ],
)
def test_a_database_whose_shape_was_changed_is_replaced(lender: Databases, change: str) -> None:
    dsn = lender.borrow()
    execute(dsn, change)
    lender.give_back(dsn)
    assert lender.borrow() != dsn
    with pytest.raises(psycopg.OperationalError):
        execute(dsn, "SELECT 1")


def test_who_still_holds_a_lock_there_is_thrown_out(lender: Databases) -> None:
    dsn = lender.borrow()
    with psycopg.connect(dsn) as left:
        left.execute("LOCK TABLE jm_worker")
        lender.give_back(dsn)
        with pytest.raises(psycopg.OperationalError):
            left.execute("SELECT 1")


def test_our_own_session_may_be_thrown_out_too(lender: Databases) -> None:
    dsn = lender.borrow()
    execute(
        dsn, "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE application_name = 'jobmaster-tests'"
    )
    lender.give_back(dsn)
    assert execute(lender.borrow(), "SELECT 1") == [(1,)]


def test_a_test_that_reads_plans_gets_a_database_that_nobody_used(lender: Databases) -> None:
    with lender.lent() as used:
        pass
    with lender.lent(used=False) as new:
        assert new != used


def test_a_database_with_more_in_its_schema_is_for_those_who_asked_for_it(lender: Databases) -> None:
    more = "CREATE TABLE jm_more AS SELECT 1 AS x"
    with lender.lent(more=more) as dsn:
        execute(dsn, "INSERT INTO jm_agent_bucket (id, epoch, closing) VALUES (7, 1, 0)")
    with lender.lent() as other:
        assert other != dsn
    with lender.lent(more=more) as again:
        assert again == dsn
        assert execute(again, "SELECT count(*) FROM jm_agent_bucket") == [(0,)]
