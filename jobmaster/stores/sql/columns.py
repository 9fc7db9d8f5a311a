"""Kinds of columns, written once for all dialects: the schema and its migrations are made of them.

Migrations use them as they are today: a change of one needs a migration, and a new function here.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    BINARY,
    NVARCHAR,
    UUID,
    BigInteger,
    Column,
    Index,
    Integer,
    LargeBinary,
    SmallInteger,
    Unicode,
    UnicodeText,
    text,
)
from sqlalchemy.dialects import mysql, sqlite
from sqlalchemy.types import TypeEngine

NAME = 255
REASON = 64
OPTIONS: dict[str, Any] = {"mysql_engine": "InnoDB", "mysql_charset": "utf8mb4", "mysql_collate": "utf8mb4_bin"}
NUMBERED: dict[str, Any] = {**OPTIONS, "sqlite_autoincrement": True}
"""Options of a table whose rows the database numbers, never giving a number twice."""

BY_KEY: dict[str, Any] = {"postgresql_partition_by": "RANGE (id)"}
"""Options of the table of jobs: keys begin with the time, so that old history is dropped by the week."""
BY_TIME: dict[str, Any] = {"postgresql_using": "brin", "postgresql_with": {"pages_per_range": 32}}
"""Options of an index on a moment that grows with the table: a few bytes where the database has such a kind."""


def unless_postgresql(index: Index) -> Index:
    """An index that PostgreSQL's primary key makes needless."""
    return index.ddl_if(dialect=("sqlite", "mysql", "mariadb", "mssql"))  # type: ignore[arg-type]  # takes tuples, too


def unless_mysql(index: Index) -> Index:
    """A partial unique index: where there are only whole ones it would forbid what is allowed."""
    return index.ddl_if(dialect=("sqlite", "postgresql", "mssql"))  # type: ignore[arg-type]  # takes tuples, too


def key() -> TypeEngine[Any]:
    """A job's 16 bytes."""
    return (
        LargeBinary(16)
        .with_variant(UUID(as_uuid=False), "postgresql")
        .with_variant(BINARY(16), "mysql", "mariadb")
        .with_variant(BINARY(16), "mssql")
    )


def blob() -> TypeEngine[Any]:
    """Bytes of any length."""
    return LargeBinary().with_variant(mysql.LONGBLOB(), "mysql", "mariadb")


def number() -> TypeEngine[Any]:
    """A number that the database gives."""
    # SQLite numbers rows by itself only in a column of exactly this type.
    return BigInteger().with_variant(sqlite.INTEGER(), "sqlite")


def moment(name: str, *, nullable: bool = False) -> Column[Any]:
    """Microseconds since the epoch."""
    return Column(name, BigInteger, nullable=nullable)


def text_type(length: int) -> TypeEngine[Any]:
    """Text of at most `length` characters."""
    # Compared byte by byte everywhere: "Mail" and "mail" are two lanes.
    return (
        Unicode(length)
        .with_variant(mysql.VARCHAR(length, charset="utf8mb4", collation="utf8mb4_bin"), "mysql", "mariadb")
        .with_variant(NVARCHAR(length, collation="Latin1_General_100_BIN2"), "mssql")
    )


def words(name: str, length: int = NAME) -> Column[Any]:
    """Text that is never NULL."""
    return Column(name, text_type(length), nullable=False, server_default="")


def long_words(name: str) -> Column[Any]:
    """Text of any length that is never NULL, for people to search."""
    kind = (
        UnicodeText()
        .with_variant(mysql.LONGTEXT(charset="utf8mb4", collation="utf8mb4_bin"), "mysql", "mariadb")
        .with_variant(NVARCHAR(None, collation="Latin1_General_100_BIN2"), "mssql")
    )
    return Column(name, kind, nullable=False)


def count(name: str, default: int | None = 0, *, nullable: bool = False) -> Column[Any]:
    """A small number."""
    return Column(name, Integer, nullable=nullable, server_default=None if default is None else text(str(default)))


def flag(name: str) -> Column[Any]:
    """0 or 1."""
    return Column(name, SmallInteger, nullable=False, server_default=text("0"))


def where(condition: str) -> dict[str, Any]:
    """Options of an index that holds only the rows of `condition`."""
    # MySQL has no partial indexes: there each of these holds all rows.
    return {"sqlite_where": text(condition), "postgresql_where": text(condition), "mssql_where": text(condition)}
