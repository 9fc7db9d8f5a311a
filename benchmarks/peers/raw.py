"""What the database itself takes: rows of a job's size, one insert and one commit each, on one connection."""

from __future__ import annotations

import os
import sqlite3
import time

import asyncpg
from driver import POSTGRES, Driver, Item, main

BODY = b"x" * 160


class RawPostgres(Driver):
    async def open(self) -> None:
        self.connection = await asyncpg.connect(POSTGRES)

    async def close(self) -> None:
        await self.connection.close()

    async def reset(self) -> None:
        await self.connection.execute(
            "CREATE TABLE raw (id bigserial PRIMARY KEY, due bigint NOT NULL, body bytea NOT NULL)"
        )

    async def one(self, job: Item) -> None:
        await self.connection.fetch("INSERT INTO raw (due, body) VALUES ($1, $2)", time.time_ns(), BODY)


class RawSqlite(Driver):
    def open(self) -> None:
        self.file = sqlite3.connect(os.environ["BENCH_MASTER"].removeprefix("sqlite:///"), isolation_level=None)
        self.file.execute("PRAGMA journal_mode = wal")
        self.file.execute("PRAGMA synchronous = full")

    def reset(self) -> None:
        self.file.execute("CREATE TABLE raw (id integer PRIMARY KEY, due integer NOT NULL, body blob NOT NULL)")

    def one(self, job: Item) -> None:
        self.file.execute("INSERT INTO raw (due, body) VALUES (?, ?)", (time.time_ns(), BODY))


if __name__ == "__main__":
    main(RawSqlite() if os.environ["BENCH_MASTER"].startswith("sqlite:") else RawPostgres())
