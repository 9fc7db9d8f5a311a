"""A connection to PostgreSQL is ready for every statement when it is opened: the driver has nothing to ask."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from jobmaster.settings.dsn import parse_dsn
from jobmaster.stores.sql.postgresql.connection import ARRAYS, Place, hot

pytestmark = pytest.mark.backend("postgresql")

SAMPLES: dict[str, list[Any]] = {
    "bool": [True, False], "bytea": [b"\0", b""], "int2": [-1, 7], "int4": [-1, 7], "int8": [-1, 1 << 60],
    "uuid": [b"k" * 16], "text": ["ä", ""],
}  # fmt: skip


def test_arrays_of_all_types_travel_without_a_question_to_the_server(
    postgres_database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def ask() -> dict[str, Any]:
        connection = await Place(parse_dsn(postgres_database), timeout=10).connect(hot(5))

        async def refuse(*_: object, **__: object) -> None:
            raise AssertionError("the driver asked what a type is")

        monkeypatch.setattr(type(connection), "_introspect_types", refuse)
        try:
            return {name: await connection.fetchval(f"SELECT $1::{name}[]", values) for name, values in SAMPLES.items()}
        finally:
            await connection.close()

    assert asyncio.run(ask()) == SAMPLES


def test_the_numbers_of_types_are_those_of_the_server(postgres_database: str) -> None:
    async def ask() -> dict[int, tuple[str, int]]:
        connection = await Place(parse_dsn(postgres_database), timeout=10).connect(())
        try:
            rows = await connection.fetch(
                "SELECT oid::int, typname::text, typelem::int FROM pg_type WHERE oid::int = ANY($1::int[])",
                list(ARRAYS),
            )
        finally:
            await connection.close()
        return {oid: (name, element) for oid, name, element in rows}

    assert asyncio.run(ask()) == ARRAYS
