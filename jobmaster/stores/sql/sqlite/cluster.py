"""The cluster's settings and the definitions of its tasks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from jobmaster.model.definition import ClusterRecord, Definition

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jobmaster.stores.sql.sqlite.transaction import Row, Transaction

LOAD = "SELECT cluster, version, settings FROM jm_cluster WHERE id = 1"
SAVE_FIRST = "INSERT INTO jm_cluster (id, cluster, version, settings) VALUES (1, ?, ?, ?) ON CONFLICT (id) DO NOTHING"
SAVE_NEXT = "UPDATE jm_cluster SET cluster = ?, version = ?, settings = ? WHERE id = 1 AND version = ?"

SAVE_DEFINITION = """
INSERT INTO jm_definition (name, lane, priority, at_most_once, signature, source, defaults) VALUES (?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (name) DO UPDATE SET lane = excluded.lane, priority = excluded.priority,
    at_most_once = excluded.at_most_once, signature = excluded.signature, source = excluded.source,
    defaults = excluded.defaults
"""
DEFINITIONS = "SELECT name, lane, priority, at_most_once, signature, source, defaults FROM jm_definition"
ALL = DEFINITIONS + " ORDER BY name"
ONE = DEFINITIONS + " WHERE name = ?"


def load_cluster(transaction: Transaction) -> ClusterRecord | None:
    """The stored settings."""
    row = transaction.row(LOAD)
    return None if row is None else ClusterRecord(*row)


def save_cluster(transaction: Transaction, record: ClusterRecord) -> bool:
    """Compare and set by version."""
    if record.version == 1:
        return transaction.changed(SAVE_FIRST, (record.cluster, 1, record.settings)) == 1
    values = (record.cluster, record.version, record.settings, record.version - 1)
    return transaction.changed(SAVE_NEXT, values) == 1


def save_definitions(transaction: Transaction, definitions: Sequence[Definition]) -> None:
    """Insert or replace by name."""
    for one in definitions:
        texts = (one.signature.encode(), one.source.encode(), one.defaults)
        transaction.execute(SAVE_DEFINITION, (one.name, one.lane, one.priority, one.at_most_once, *texts))


def definitions(transaction: Transaction, names: Sequence[str] | None) -> list[Definition]:
    """All, or those named, by name."""
    if names is None:
        return [_definition(row) for row in transaction.rows(ALL)]
    found = (transaction.row(ONE, (name,)) for name in sorted(set(names)))
    return [_definition(row) for row in found if row]


def _definition(row: Row) -> Definition:
    name, lane, priority, at_most_once, signature, source, defaults = row
    return Definition(name, lane, priority, bool(at_most_once), signature.decode(), source.decode(), defaults)
