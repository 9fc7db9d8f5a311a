"""Opening the database file: rights, settings of the connection, and waiting for a lock with sleeps of our own."""

from __future__ import annotations

import os
import sqlite3
import time
from typing import TYPE_CHECKING, TypeVar

from jobmaster.errors import ConfigurationError
from jobmaster.stores.sql.sqlite.faults import is_busy

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")

OLDEST = (3, 35, 0)
"""RETURNING came with this version."""

STATEMENTS = 400
FIRST_SLEEP, LONGEST_SLEEP = 0.0001, 0.002

WRITER_SETTINGS = (
    "PRAGMA journal_mode = WAL",
    "PRAGMA synchronous = FULL",
    "PRAGMA fullfsync = ON",  # macOS: a plain fsync leaves the data in the disk's own cache
    "PRAGMA wal_autocheckpoint = 4000",
    "PRAGMA cache_size = -65536",
    "PRAGMA mmap_size = 268435456",
    "PRAGMA temp_store = MEMORY",
)
READER_SETTINGS = (
    "PRAGMA query_only = ON",
    "PRAGMA cache_size = -16384",
    "PRAGMA mmap_size = 268435456",
    "PRAGMA temp_store = MEMORY",
)


def make_file(path: str) -> None:
    """Make an empty database file that only its owner can read; its -wal and -shm get the same mode from SQLite.

    Raises:
        ConfigurationError: the folder is missing or may not be written.
    """
    if sqlite3.sqlite_version_info < OLDEST:
        raise ConfigurationError(
            f"This Python has SQLite {sqlite3.sqlite_version}, but JobMaster needs {'.'.join(map(str, OLDEST))} "
            "or later. Use a newer Python, or another master (postgresql://…)."
        )
    try:
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    except FileExistsError:
        return
    except FileNotFoundError:
        folder = os.path.dirname(path)
        why = (
            f"in its folder {folder} no files can be made. Name another folder"
            if os.path.isdir(folder)
            else f"its folder {folder} does not exist. Make the folder first"
        )
        raise ConfigurationError(f"The database {path} cannot be made, because {why}.") from None
    except OSError as error:
        raise ConfigurationError(
            f"The database {path} cannot be made: {error.strerror}. Name a file in a folder where this user may write."
        ) from None


def connect(path: str, settings: tuple[str, ...], *, patience: float) -> sqlite3.Connection:
    """A connection with these settings, in autocommit mode: transactions begin and end by statements of our own."""
    connection = sqlite3.connect(
        path, timeout=0, isolation_level=None, check_same_thread=False, cached_statements=STATEMENTS
    )
    try:
        for setting in settings:
            with_patience(lambda setting=setting: connection.execute(setting).fetchall(), patience)  # type: ignore[misc]
    except BaseException:
        connection.close()
        raise
    return connection


def with_patience(step: Callable[[], T], patience: float) -> T:
    """Do `step`, again while the database is locked, for at most `patience` seconds.

    SQLite's own waiting sleeps up to 100 ms at a time; a lock is held here for a millisecond or two.
    """
    deadline = time.monotonic() + patience
    pause = FIRST_SLEEP
    while True:
        try:
            return step()
        except sqlite3.OperationalError as error:
            if not is_busy(error) or time.monotonic() >= deadline:
                raise
        time.sleep(pause)
        pause = min(pause * 2, LONGEST_SLEEP)
