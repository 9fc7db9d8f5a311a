"""The cluster's settings and the definitions of its tasks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from jobmaster.model.definition import ClusterRecord, Definition

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jobmaster.stores.sql.job_rows import Row
    from jobmaster.stores.sql.postgresql.transaction import Transaction

LOAD = "SELECT cluster, version, settings FROM jm_cluster WHERE id = 1"
SAVE_FIRST = "INSERT INTO jm_cluster (id, cluster, version, settings) VALUES (1, $1, 1, $2) ON CONFLICT (id) DO NOTHING"
SAVE_NEXT = "UPDATE jm_cluster SET cluster = $1, version = $2, settings = $3 WHERE id = 1 AND version = $2 - 1"

NAMES = ("name", "lane", "priority", "at_most_once", "signature", "source", "defaults")
TYPES = ("text", "text", "int", "smallint", "bytea", "bytea", "bytea")
SAVE_DEFINITIONS = f"INSERT INTO jm_definition ({', '.join(NAMES)})"
REPLACING = f"ON CONFLICT (name) DO UPDATE SET {', '.join(f'{name} = excluded.{name}' for name in NAMES[1:])}"
ALL = f"SELECT {', '.join(NAMES)} FROM jm_definition ORDER BY name"
SOME = f"SELECT {', '.join(NAMES)} FROM jm_definition WHERE name = ANY($1::text[]) ORDER BY name"


async def load_cluster(transaction: Transaction) -> ClusterRecord | None:
    """The stored settings."""
    row = await transaction.row(LOAD)
    return None if row is None else ClusterRecord(*row)


async def save_cluster(transaction: Transaction, record: ClusterRecord) -> bool:
    """Compare and set by version."""
    if record.version == 1:
        return await transaction.changed(SAVE_FIRST, record.cluster, record.settings) == 1
    return await transaction.changed(SAVE_NEXT, record.cluster, record.version, record.settings) == 1


async def save_definitions(transaction: Transaction, definitions: Sequence[Definition]) -> None:
    """Insert or replace by name, in one order, so that two workers that start together wait for each other once."""
    latest = {one.name: one for one in definitions}
    rows = [
        (one.name, one.lane, one.priority, one.at_most_once, one.signature.encode(), one.source.encode(), one.defaults)
        for _, one in sorted(latest.items())
    ]
    await transaction.insert(SAVE_DEFINITIONS, TYPES, rows, REPLACING)


async def definitions(transaction: Transaction, names: Sequence[str] | None) -> list[Definition]:
    """All, or those named, by name."""
    rows = await (transaction.rows(ALL) if names is None else transaction.rows(SOME, list(names)))
    return [_definition(row) for row in rows]


def _definition(row: Row) -> Definition:
    name, lane, priority, at_most_once, signature, source, defaults = row
    return Definition(name, lane, priority, bool(at_most_once), signature.decode(), source.decode(), defaults)
