"""What migrations call that change tables in use, which may be large, without stopping those who write to them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from alembic import op
from sqlalchemy import text

if TYPE_CHECKING:
    from collections.abc import Sequence

# An index is built beside the writers, and waits for transactions that are older than itself; nobody waits behind it.
_UNHURRIED = "SET lock_timeout = '60s'"
_BRIEF = "SET lock_timeout = '200ms'"

_KIND = "SELECT relkind FROM pg_class WHERE oid = to_regclass(:name)"
_IS_VALID = "SELECT indisvalid FROM pg_index WHERE indexrelid = to_regclass(:name)"
_WITHOUT = """
SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = to_regclass(:name) AND inhrelid NOT IN (
    SELECT x.indrelid FROM pg_inherits i JOIN pg_index x ON x.indexrelid = i.inhrelid
    WHERE i.inhparent = to_regclass(:index))
ORDER BY 1
"""
"""The partitions of a table that have no part of an index yet."""

LONGEST_NAME = 63


_ORDER = (
    "jm_definition", "jm_cluster", "jm_worker", "jm_bucket", "jm_agent_bucket", "jm_message", "jm_schedule",
    "jm_occurrence", "jm_job", "jm_attempt", "jm_tombstone", "jm_blame", "jm_command",
)  # fmt: skip
"""In which the statements of workers and producers take tables."""


def hold(*tables: str) -> None:
    """Take all tables that a revision changes, before it changes the first of them.

    On PostgreSQL a revision that holds one and asks for the next, in another order than a worker's statement, meets
    that statement half-way, again and again as long as there is traffic. Needless for a single table.

    Args:
        tables: of ours, in any order.
    """
    if op.get_context().dialect.name == "postgresql":
        op.execute(f"LOCK TABLE {', '.join(sorted(tables, key=_ORDER.index))} IN ACCESS EXCLUSIVE MODE")


def create_index(name: str, table: str, columns: Sequence[str], *, condition: str = "") -> None:
    """Make an index that is not there yet.

    A revision that calls this says `transactional = False`: on PostgreSQL it cannot be in a transaction. A kill in the
    middle leaves what a repetition completes.

    Args:
        name: of the index.
        table: of ours; on PostgreSQL it may be partitioned.
        columns: their names.
        condition: of a partial index, where the database has such ones.
    """
    context = op.get_context()
    if context.dialect.name != "postgresql" or context.as_sql:
        partial: dict[str, Any] = {}
        if condition:
            partial = {f"{dialect}_where": text(condition) for dialect in ("sqlite", "postgresql")}
        op.create_index(name, table, list(columns), if_not_exists=True, **partial)
        return
    what = f"({', '.join(columns)})" + (f" WHERE {condition}" if condition else "")
    if _value(_KIND, name=table) != "p":
        _create_beside_writers(name, table, what)
        return
    # First an empty one for the whole: partitions that are made from now on get their part by themselves.
    op.execute(f"CREATE INDEX IF NOT EXISTS {name} ON ONLY {table} {what}")
    for part in op.get_bind().execute(text(_WITHOUT), {"name": table, "index": name}).scalars().all():
        own = f"{part}_{name.removeprefix('jm_')}"[:LONGEST_NAME]
        _create_beside_writers(own, part, what)
        op.execute(f"ALTER INDEX {name} ATTACH PARTITION {own}")


def _create_beside_writers(name: str, table: str, what: str) -> None:
    op.execute(_UNHURRIED)
    valid = _value(_IS_VALID, name=name)
    if valid is False:  # the rest of an attempt that was ended
        op.execute(f"DROP INDEX CONCURRENTLY IF EXISTS {name}")
    if not valid:
        op.execute(f"CREATE INDEX CONCURRENTLY {name} ON {table} {what}")
    op.execute(_BRIEF)


def _value(question: str, **values: str) -> Any:
    return op.get_bind().execute(text(question), values).scalar()
