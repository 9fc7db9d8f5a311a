"""What PostgreSQL's errors mean: one sentence each of what, why and what to do next."""

from __future__ import annotations

import socket
import ssl
from typing import TYPE_CHECKING

import asyncpg

from jobmaster.errors import ConfigurationError, JobMasterError, OutcomeUnknown, SerializationError, StoreUnavailable

if TYPE_CHECKING:
    from jobmaster.settings.dsn import Dsn

# The driver's own errors, with or without the server's: an InternalClientError comes from a connection that the server
# has just ended and that does not know it yet.
DRIVER = (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError, OSError, TimeoutError)

REPEATABLE = ("40001", "40P01")
"""Serialization failure and deadlock: the server undid the whole transaction, which may be tried again at once."""

STALE = (asyncpg.InvalidCachedStatementError, asyncpg.OutdatedSchemaCacheError)
"""A table was changed under a prepared statement, which the driver has forgotten now: nothing was done."""

READ_ONLY = "25006"
"""The session takes no writes."""

UNKNOWN_OPTION = "42704"
"""Of a session that begins: the driver hands options that it does not know to the server, as settings."""

_BOUNCED = (
    "a PgBouncer in transaction mode stands before it",
    "Name the server itself in the address, too: session_host=...&session_port=...",
    True,
)

_GRANT = (
    "Grant the user its rights on the tables that begin with jm_; where there are none yet, "
    "one who may create them runs: jobmaster db upgrade"
)

# By SQLSTATE, or its first two letters: why, what to do next, and whether it is a mistake of the configuration.
_REASONS: dict[str, tuple[str, str, bool]] = {
    "28": ("it does not accept this user or password", "Check the address, and pg_hba.conf on the server", True),
    "3D000": ("there is no such database", "Create it (createdb), or name another one", True),
    "42501": ("this user lacks a right", _GRANT, True),
    "42P01": ("its JobMaster tables are missing", "Run: jobmaster db upgrade", True),
    "53300": ("it has no connection left", "Raise max_connections, or put PgBouncer before it", False),
    "53100": ("its disk is full", "Free space on the server's disk", False),
    READ_ONLY: ("it takes no writes now, as a standby does", "Name the primary server in the address", False),
    "57P03": ("it is starting up or shutting down", "Wait until it has started", False),
    "25P03": ("this process stopped in the middle of a transaction", "Look for what keeps it from running", False),
    "26000": _BOUNCED,
    "42P05": _BOUNCED,
    "57014": ("a statement took too long and was stopped", "Look for locks and load in pg_stat_activity", False),
    "55P03": ("a lock was held for too long", "Look for open transactions in pg_stat_activity", False),
}


def sqlstate(error: BaseException) -> str:
    """The five letters that PostgreSQL gives an error, or nothing."""
    return str(getattr(error, "sqlstate", "") or "")


def unreachable(error: BaseException, dsn: Dsn) -> JobMasterError:
    """The error for a connection that could not be opened: nothing was sent."""
    return _told(error, dsn, opening=True)


def undone(error: BaseException, dsn: Dsn) -> BaseException:
    """The error for statements whose transaction certainly has no effect. What is no database error stays itself."""
    if isinstance(error, JobMasterError):
        return error
    if isinstance(error, (asyncpg.DataError, asyncpg.CharacterNotInRepertoireError)) and not _is_lost(error):
        return SerializationError(f"{dsn} cannot store this value: {error}. Nothing was stored.")
    if isinstance(error, DRIVER):
        return _told(error, dsn, opening=False)
    return error


def unknown(error: BaseException, dsn: Dsn) -> JobMasterError:
    """The error for a change whose answer did not come."""
    return OutcomeUnknown(
        f"{dsn} did not answer while it made a change durable ({_name(error)}). The change may be stored or not; "
        "repeating it is safe."
    )


def is_lost(error: BaseException) -> bool:
    """Whether the connection broke, so that nobody knows what the server did with the last statement."""
    broken = (OSError, TimeoutError, asyncpg.InterfaceError, asyncpg.InternalClientError)
    return _is_lost(error) or isinstance(error, broken)


def _is_lost(error: BaseException) -> bool:
    # 57P01 to 57P03: the server ended the session, by an administrator's order or at its own end.
    state = sqlstate(error)
    return isinstance(error, asyncpg.PostgresConnectionError) or state in {"57P01", "57P02", "57P03"}


def _told(error: BaseException, dsn: Dsn, *, opening: bool) -> JobMasterError:
    state = sqlstate(error)
    if opening and state == UNKNOWN_OPTION:
        why, next_step, mistake = str(error), "Take this option out of the address", True
    else:
        why, next_step, mistake = _REASONS.get(state) or _REASONS.get(state[:2]) or _otherwise(error)
    kind: type[JobMasterError] = ConfigurationError if opening and mistake else StoreUnavailable
    return kind(f"{dsn} cannot be used: {why} ({_name(error)}). Nothing was stored. {next_step}.")


def _otherwise(error: BaseException) -> tuple[str, str, bool]:
    if isinstance(error, TimeoutError):
        return "it did not answer in time", "Check that the server runs and can be reached", False
    # Not every error of TLS: one in the middle of a handshake is a server that goes away.
    if isinstance(error, ssl.SSLCertVerificationError) or "rejected SSL" in str(error):
        return "no encrypted connection came about", "Check sslmode and certificates, here and on the server", True
    if isinstance(error, socket.gaierror):
        return "the name of its host is not known here", "Check the host of the address, and this network's DNS", False
    if isinstance(error, OSError):
        return "it cannot be reached", "Check that the server runs, and the host and port of the address", False
    if isinstance(error, (asyncpg.InterfaceError, asyncpg.InternalClientError, asyncpg.PostgresConnectionError)):
        return "the connection broke", "Check the server and the network", False
    return str(error).rstrip("."), "See `jobmaster doctor`", False


def _name(error: BaseException) -> str:
    return sqlstate(error) or type(error).__name__
