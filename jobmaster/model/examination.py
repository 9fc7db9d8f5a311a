"""What an examination of a store found: facts only. What is good or bad about them is judged elsewhere."""

from __future__ import annotations

import msgspec


class OpenTransaction(msgspec.Struct, frozen=True):
    """A transaction that was open on the server. No text of a statement: it may hold data of the app.

    Args:
        pid: the server process of its session; 0 for a prepared transaction, which has none.
        seconds: since it began.
        state: as the server calls it: "active", "idle in transaction", "prepared", ...
        user: of the session.
        application: the session's `application_name`, or the name of a prepared transaction.
    """

    pid: int
    seconds: float
    state: str
    user: str
    application: str


class Connections(msgspec.Struct, frozen=True):
    """Connections of a server: those in use, and how many this user may use in all."""

    used: int
    usable: int


class Disk(msgspec.Struct, frozen=True):
    """The file system that a store's file is on. `kind` is empty where the system does not say."""

    free: int
    size: int
    kind: str
    mounted_at: str


class WaitingJob(msgspec.Struct, frozen=True):
    """A job that is due and had not started when it was looked at."""

    id: str
    seconds: float


class Examination(msgspec.Struct, frozen=True, kw_only=True):
    """What one store told about itself.

    Attributes:
        server: product and version.
        exists: False for an SQLite file that is not there yet.
        is_empty: none of JobMaster's tables is there.
        may_make_tables: whether this user could provision the schema.
        missing_tables: tables of this version that are not there, where others are.
        missing_rights: `table: what this user may not do`.
        ahead: seconds that the store's clock is ahead of this host's; None: it is this host's own clock.
        survives, evidence: as `ports.agent.Durability`; empty where the file could not be read.
        unsafe: settings of the server that make it lose or tear data, or bloat, `name = value`.
        takes_writes: False for a standby.
        connections: None where there is no server.
        transactions: the oldest open ones of the database, oldest first.
        sees_all: whether other users' transactions are among them.
        log_bytes: size of a file's write-ahead log.
        disk: None where the store is on a server.
        waiting: jobs that have waited longest, longest first; None: looking for them took too long.
        quarantined: tasks with jobs quarantined within the last day, and how many; None: as `waiting`.
    """

    server: str
    exists: bool = True
    is_empty: bool = False
    may_make_tables: bool = True
    missing_tables: tuple[str, ...] = ()
    missing_rights: tuple[str, ...] = ()
    ahead: float | None = None
    survives: str = ""
    evidence: str = ""
    unsafe: tuple[str, ...] = ()
    takes_writes: bool = True
    connections: Connections | None = None
    transactions: tuple[OpenTransaction, ...] = ()
    sees_all: bool = True
    log_bytes: int = 0
    disk: Disk | None = None
    waiting: tuple[WaitingJob, ...] | None = ()
    quarantined: dict[str, int] | None = {}
