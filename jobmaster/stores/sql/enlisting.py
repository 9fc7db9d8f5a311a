"""A held job (R2) as one statement for the caller's own transaction: on whatever driver, on PostgreSQL and SQLite.

It takes no lock but that of its new row: no bucket's row, no sleep flag, no message's number. So a transaction that its
owner keeps open for minutes holds nobody up. The row and the signal to the workers take effect at its commit.
"""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any

from jobmaster.settings.dsn import POSTGRESQL, SQLITE
from jobmaster.stores.sql.job_rows import COLUMNS, HELD, job_row

if TYPE_CHECKING:
    from collections.abc import Callable

    from jobmaster.model.job import NewJob

KINDS = {
    "id": "uuid", "task": "text", "lane": "text", "custom_id": "text", "payload": "bytea", "priority": "int",
    "at_most_once": "smallint", "suspect": "smallint", "created_us": "bigint", "scheduled_us": "bigint",
    "expires_us": "bigint", "due_us": "bigint", "delay_us": "bigint",
}  # fmt: skip
"""The values of a statement by name, with their types on PostgreSQL."""

_CLOCKS = {
    POSTGRESQL: "(extract(epoch FROM clock_timestamp()) * 1000000)::bigint",
    SQLITE: "CAST((julianday('now') - 2440587.5) * 86400000000 AS INTEGER)",
}
_INSERTED = (
    "id", "task", "lane", "custom_id", "payload", "priority", "at_most_once", "suspect", "created_us", "scheduled_us",
    "expires_us",
)  # fmt: skip

IDENTITY = {
    # The server, the database, and the very table that this session means by the name.
    POSTGRESQL: (
        "SELECT concat_ws('/', s.system_identifier, d.oid, coalesce(to_regclass('jm_job')::oid::text, 'no tables')) "
        "FROM pg_control_system() s, pg_database d WHERE d.datname = current_database()"
    ),
    SQLITE: "SELECT file FROM pragma_database_list WHERE name = 'main'",
}
"""By dialect: which database this is. Two addresses of one database give the same text."""


def insert_held(dialect: str, mark: Callable[[str, str], str]) -> str:
    """The statement that inserts one held job and signals the workers.

    Args:
        dialect: "postgresql" or "sqlite".
        mark: writes the placeholder of a value; it gets the value's name and its type on PostgreSQL.
    """
    clock = _CLOCKS[dialect]
    marks = {name: mark(name, kind) for name, kind in KINDS.items()}
    insert = (
        f"INSERT INTO jm_job ({', '.join(_INSERTED)}, status, gen, due_us, touched_us) "
        f"SELECT {', '.join(marks[name] for name in _INSERTED)}, {HELD}, 0, "
        f"coalesce({marks['due_us']}, {clock} + {marks['delay_us']}), {clock} "
        "WHERE true ON CONFLICT (id) DO NOTHING"
    )
    if dialect == SQLITE:
        return insert
    return f"WITH held AS ({insert}) SELECT pg_notify('jm:held', '')"


def values_of(job: NewJob, dialect: str) -> dict[str, Any]:
    """The values of the statement for one job, by name."""
    row = dict(zip(_NAMES, job_row(job.key, job.envelope, job.payload, status=HELD, due_us=0, now_us=0), strict=True))
    values: dict[str, Any] = {name: row[name] for name in _INSERTED}
    values["id"] = job.key if dialect == SQLITE else str(uuid.UUID(bytes=job.key))
    values["at_most_once"] = int(job.envelope.at_most_once)
    values["suspect"] = int(job.verify)
    values["due_us"] = job.due_us
    values["delay_us"] = job.delay_us
    return values


_NAMES = [name.strip() for name in COLUMNS.split(",")]
