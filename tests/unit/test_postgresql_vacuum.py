"""Space of removed messages on PostgreSQL."""

from __future__ import annotations

import asyncio
import logging

import psycopg
import pytest

from jobmaster.settings.dsn import parse_dsn
from jobmaster.stores.sql.postgresql import vacuum
from jobmaster.stores.sql.postgresql.connection import Place
from jobmaster.stores.sql.postgresql.vacuum import REMOVALS, Vacuum

pytestmark = pytest.mark.backend("postgresql")

HOW_OFTEN = "SELECT vacuum_count FROM pg_stat_user_tables WHERE relname = 'jm_message'"


def times(dsn: str) -> int:
    with psycopg.connect(dsn) as connection:
        row = connection.execute(HOW_OFTEN).fetchone()
    assert row is not None
    return int(row[0])


async def removed(dsn: str, *counts: int) -> None:
    sweeper = Vacuum(Place(parse_dsn(dsn), timeout=5))
    for count in counts:
        sweeper.removed(count)
        if sweeper._task is not None:
            await sweeper._task
    await sweeper.close()


def test_the_table_is_vacuumed_after_many_removals_and_not_before(postgres_database: str) -> None:
    before = times(postgres_database)
    asyncio.run(removed(postgres_database, REMOVALS - 1))
    assert times(postgres_database) == before
    asyncio.run(removed(postgres_database, REMOVALS - 1, 1))
    assert times(postgres_database) == before + 1


def test_one_at_a_time_and_never_most_of_the_time(postgres_database: str) -> None:
    before = times(postgres_database)
    with psycopg.connect(postgres_database) as other:
        other.execute("SELECT pg_advisory_lock(4242260003)")
        asyncio.run(removed(postgres_database, REMOVALS))
        assert times(postgres_database) == before
        other.execute("SELECT pg_advisory_unlock_all()")  # a session's end takes its time
    asyncio.run(removed(postgres_database, REMOVALS, REMOVALS))
    assert times(postgres_database) == before + 1


def test_nothing_is_read_in_vain_beside_a_transaction_that_is_held_open(
    postgres_database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = times(postgres_database)
    with psycopg.connect(postgres_database) as other:
        other.execute("SELECT txid_current()")
        monkeypatch.setattr(vacuum, "IN_VAIN", vacuum.IN_VAIN.replace(f"'{vacuum.OLD} s'", "'0 s'"))
        asyncio.run(removed(postgres_database, REMOVALS))
        assert times(postgres_database) == before
        other.rollback()
        asyncio.run(removed(postgres_database, REMOVALS))
    assert times(postgres_database) == before + 1


def test_a_user_without_the_right_leaves_it_to_autovacuum(
    postgres_database: str, caplog: pytest.LogCaptureFixture
) -> None:
    with psycopg.connect(postgres_database) as connection:
        connection.execute("DROP ROLE IF EXISTS jm_guest")
        connection.execute("CREATE ROLE jm_guest LOGIN")
    login, _, rest = postgres_database.partition("@")
    guest = f"{login.partition('://')[0]}://jm_guest@{rest}"
    before = times(postgres_database)
    with caplog.at_level(logging.INFO, "jobmaster.store"):
        asyncio.run(removed(guest, REMOVALS, REMOVALS))
    assert [record.message.split(" ")[0] for record in caplog.records] == ["vacuum_left"]
    assert times(postgres_database) == before
