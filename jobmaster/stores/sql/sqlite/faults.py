"""What SQLite's errors mean: one sentence each of what, why and what to do next."""

from __future__ import annotations

import sqlite3

from jobmaster.errors import ConfigurationError, JobMasterError, OutcomeUnknown, SerializationError, StoreUnavailable
from jobmaster.ports.answers import StoreOutdated, StoreReplaced

PRIMARY = 0xFF
"""The low byte of an extended result code is the plain one."""

_REASONS = {
    sqlite3.SQLITE_BUSY: (
        "another process has held its lock for too long",
        "End programs that keep a transaction open on it",
    ),
    sqlite3.SQLITE_LOCKED: ("another connection has locked it", "Try again"),
    sqlite3.SQLITE_FULL: ("the disk is full", "Free space on that disk"),
    sqlite3.SQLITE_READONLY: (
        "the file or its folder is read-only for this user",
        "Give the user the right to write to both",
    ),
    sqlite3.SQLITE_PERM: ("this user has no rights to the file", "Give the user the right to read and write it"),
    sqlite3.SQLITE_CANTOPEN: (
        "the file, or its -wal or -shm file beside it, cannot be opened",
        "Check its folder and its rights",
    ),
    sqlite3.SQLITE_CORRUPT: ("the file is damaged", "Restore a backup, or try `sqlite3 FILE .recover`"),
    sqlite3.SQLITE_NOTADB: ("the file is not an SQLite database", "Name another file, or move this one away"),
    sqlite3.SQLITE_IOERR: ("the disk reported an error", "Check the disk and the system's log"),
    sqlite3.SQLITE_NOMEM: ("memory ran out", "Free memory"),
    sqlite3.SQLITE_PROTOCOL: ("its locks do not work, as on some network file systems", "Put it on a local disk"),
}
_AT_START = {
    sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_CORRUPT,
    sqlite3.SQLITE_NOTADB,
}  # fmt: skip
_CERTAINLY_UNDONE = {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_FULL}


def primary_code(error: BaseException) -> int:
    """SQLite's plain result code of an error, or 0."""
    return int(getattr(error, "sqlite_errorcode", 0) or 0) & PRIMARY


def is_busy(error: BaseException) -> bool:
    """True where waiting may help."""
    return primary_code(error) in {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}


def translated(error: BaseException, path: str, *, opening: bool = False) -> BaseException:
    """The error that callers get for `error`, which changed nothing. What is no database error stays itself."""
    if isinstance(error, OverflowError):
        return SerializationError("A number does not fit into the 64 bits of a database's integer. Give a smaller one.")
    if isinstance(error, UnicodeEncodeError):
        return SerializationError("A text holds a lone surrogate, which is no character that can be stored as UTF-8.")
    if not isinstance(error, sqlite3.Error):
        return error
    code = primary_code(error)
    why, next_step = _REASONS.get(code, (str(error), "See `jobmaster doctor`"))
    kind: type[JobMasterError] = ConfigurationError if opening and code in _AT_START else StoreUnavailable
    return kind(f"The database {path} cannot be used: {why} ({_code_name(error)}). Nothing was stored. {next_step}.")


def after_commit(error: sqlite3.Error, path: str, *, rolled_back: bool) -> JobMasterError:
    """The error for a COMMIT that failed: only where SQLite rolled back for a known reason is it certain."""
    code = primary_code(error)
    why, next_step = _REASONS.get(code, (str(error), "See `jobmaster doctor`"))
    if rolled_back and code in _CERTAINLY_UNDONE:
        return StoreUnavailable(
            f"The database {path} cannot be used: {why} ({_code_name(error)}). Nothing was stored. {next_step}."
        )
    return OutcomeUnknown(
        f"The database {path} failed while it made a change durable: {why} ({_code_name(error)}). The change may be "
        f"stored or not; repeating it is safe. {next_step}."
    )


def moved_away(path: str, *, is_there: bool) -> StoreReplaced:
    """The error for files that were removed or replaced under an open store; `is_there`: only the log was."""
    if is_there:
        return StoreOutdated(
            f"The write-ahead log of the database {path} ({path}-wal) was removed while it was in use, so that what is "
            "written to the old one would be lost. Nothing was stored. The next call opens the database anew; workers "
            "do it by themselves when their lease is over. A program that uses the database must not copy its file by "
            "itself, which takes its locks away: `VACUUM INTO` makes a copy."
        )
    return StoreReplaced(
        f"The database {path} was removed or replaced while it was in use, so that what is written to the old file "
        "would be lost. Nothing was stored. Workers go on with the new file by themselves when their lease is over; "
        "restart other programs that use it, or put the file back."
    )


def log_removed(path: str) -> JobMasterError:
    """The error where this process cannot open the database again."""
    return StoreUnavailable(
        f"The write-ahead log of the database {path} was removed while this process used it, and a part of it still "
        "has the old one open. Nothing was stored. Each part lets go of it with its next call that writes, workers "
        "when their lease is over; `jm.close()` and the end of the program do it, too."
    )


def _code_name(error: BaseException) -> str:
    return str(getattr(error, "sqlite_errorname", "") or type(error).__name__)
