"""A cluster into whose tables a test looks, on any SQL database."""

from __future__ import annotations

import contextlib
import sqlite3
from typing import Any

import asyncpg

from jobmaster.model.bucket import Bucket
from jobmaster.stores.sql.job_rows import COLUMNS
from tests.conformance.cluster import Cluster

TABLES = {
    "jm_job": (COLUMNS, "id"),
    "jm_attempt": (
        "job_id, attempt, status, worker, bucket, started_us, finished_us, reason, error",
        "job_id, attempt",
    ),
    "jm_blame": ("job_id, worker, reason, counted", "job_id, worker"),
    "jm_tombstone": ("job_id, answer", "job_id"),
}
"""The master's tables about jobs: their columns, and an order."""


class Looking(Cluster):
    """A cluster on SQLite or PostgreSQL."""

    async def bucket_by_id(self, number: int) -> Bucket:
        found: Bucket = next(one for one in await self.store.list_buckets() if one.id == number)
        return found

    async def stored(self) -> dict[str, list[tuple[Any, ...]]]:
        """All rows of the master's tables about jobs."""
        found = {}
        for table, (columns, order) in TABLES.items():
            rows = await self._rows(f"SELECT {columns} FROM {table} ORDER BY {order}")
            found[table] = [tuple(getattr(value, "bytes", value) for value in row) for row in rows]
        return found

    async def _rows(self, statement: str) -> list[Any]:
        if self._place.databases:
            connection = await asyncpg.connect(self._place.databases[0])
            try:
                return list(await connection.fetch(statement))
            finally:
                await connection.close()
        name = "cluster.db" if self.standalone else "master.db"
        with contextlib.closing(sqlite3.connect(self._place.folder / name)) as database:
            return database.execute(statement).fetchall()
