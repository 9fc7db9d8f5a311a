"""One store: what its examination means."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from jobmaster.cli.checks.finding import Finding, State, judge
from jobmaster.cli.output import span, survival

if TYPE_CHECKING:
    from jobmaster.model.examination import Disk, Examination, OpenTransaction
    from jobmaster.settings import Dsn, Settings

MOST_SKEW: Final = 2.0
"""Seconds between this host's clock and the store's that nobody needs to know of."""
LONG_TRANSACTION: Final = 60.0
"""Seconds; a transaction that is open for longer keeps the server from removing what was deleted since."""
FEW_CONNECTIONS: Final = 0.2
"""Share of a server's connections that should be free: a worker opens several, and more after a fault."""
LOW_DISK, VERY_LOW_DISK = 1 << 30, 100 << 20
"""Bytes free below which it is time to do something, and below which a write may fail any moment."""
LARGE_LOG: Final = 256 << 20
"""Bytes of an SQLite write-ahead log: it grows only while somebody reads in one long transaction."""

NETWORK: Final = frozenset(
    {"nfs", "nfs4", "cifs", "smb3", "smbfs", "ncpfs", "afs", "ceph", "glusterfs", "lustre", "gpfs", "beegfs", "davfs",
     "fuse.sshfs", "fuse.glusterfs", "fuse.ceph", "fuse.s3fs", "fuse.rclone", "fuse.davfs2", "fuse.gcsfuse"}
)  # fmt: skip
SHARED: Final = frozenset({"9p", "virtiofs", "vboxsf", "prl_fs", "fuse.grpcfuse", "fuse.vmhgfs-fuse"})
"""Folders of the host in a virtual machine: safe only while no program of the other side opens the file."""


def judged(store: str, dsn: Dsn, found: Examination, settings: Settings) -> list[Finding]:
    """All findings about one store.

    Args:
        store: "master" or the agent's name.
        dsn: its address.
        found: what it told.
        settings: what the app expects.
    """
    answers = f"{dsn} answers: {found.server}" if found.exists else f"{dsn} is not made yet; {found.server}"
    findings = [Finding("master" if store == "master" else "agent", State.OK, answers, store=store)]
    if not found.takes_writes:
        advice = "Name the primary server in the address."
        findings.append(Finding("standby", State.FAULT, f"{dsn} takes no writes: it is a standby", advice, store))
    findings += _rights(store, found)
    if found.survives:
        findings += [*_promises(store, found, settings), _clock(store, found)]
    if found.connections is not None:
        findings += [_connections(store, found), *_transactions(store, found)]
    if found.disk is not None:
        findings += [_disk(store, found.disk), *_file_system(store, found.disk), *_log(store, found)]
    return findings


def _rights(store: str, found: Examination) -> list[Finding]:
    if not found.missing_rights:
        return []
    shown = "; ".join(found.missing_rights[:4]) + ("; ..." if found.missing_rights[4:] else "")
    advice = "Give this user the right to read and write all of them."
    return [Finding("rights", State.FAULT, f"this user may not: {shown}", advice, store)]


def _promises(store: str, found: Examination, settings: Settings) -> list[Finding]:
    less = settings.survives.value == "host" and found.survives != "host"
    findings = [
        judge(
            "durability",
            f"an accepted job {survival(found.survives)} ({found.evidence})",
            good=not less,
            advice='The app expects "host": change the server\'s setting, or say survives="process".',
            bad=State.WARNING,
            store=store,
        )
    ]
    if found.unsafe:
        advice = "Set them to on in postgresql.conf, and reload the server."
        findings.append(Finding("server", State.WARNING, ", ".join(found.unsafe), advice, store))
    return findings


def _clock(store: str, found: Examination) -> Finding:
    if found.ahead is None:
        return Finding("clock", State.OK, "this host's own", store=store)
    return judge(
        "clock",
        f"the store's clock is {span(abs(found.ahead))} {'ahead' if found.ahead > 0 else 'behind'}",
        good=abs(found.ahead) <= MOST_SKEW,
        advice="Have both hosts follow a time server. Jobs run by the store's clock.",
        bad=State.WARNING,
        store=store,
    )


def _connections(store: str, found: Examination) -> Finding:
    assert found.connections is not None  # noqa: S101 - the caller looked
    used, usable = found.connections.used, found.connections.usable
    return judge(
        "connections",
        f"{used} of {usable} are used",
        good=usable - used >= usable * FEW_CONNECTIONS,
        advice="Raise max_connections, or put PgBouncer before it: with none free, workers cannot renew their leases.",
        bad=State.WARNING,
        store=store,
    )


def _transactions(store: str, found: Examination) -> list[Finding]:
    held = [one for one in found.transactions if one.seconds > LONG_TRANSACTION]
    findings = [
        Finding("transaction", State.WARNING, _told(one), _advice(one), store) for one in held
    ]  # fmt: skip
    if not findings:
        seen = "" if found.sees_all else " of this user (others are shown to members of pg_read_all_stats)"
        findings.append(Finding("transaction", State.OK, f"none is open for long{seen}", store=store))
    return findings


def _told(one: OpenTransaction) -> str:
    who = f"{one.user}{f', {one.application}' if one.application else ''}"
    what = f"pid {one.pid}" if one.pid else f"the prepared transaction {one.application!r}"
    return f"{what} ({who}) has held a transaction open for {span(one.seconds)} ({one.state})"


def _advice(one: OpenTransaction) -> str:
    way = f"SELECT pg_terminate_backend({one.pid})" if one.pid else f"ROLLBACK PREPARED '{one.application}'"
    return f"Deleted messages cannot be removed meanwhile, and reading gets slower. End it: {way};"


def _disk(store: str, disk: Disk) -> Finding:
    fact = f"{disk.free >> 20:,} MiB are free where the file is"
    if disk.free >= max(VERY_LOW_DISK, min(LOW_DISK, disk.size // 10)):
        return Finding("disk", State.OK, fact, store=store)
    advice = f"Free space on {disk.mounted_at or 'that disk'}: where it is full no job can be accepted, nor finished."
    return Finding("disk", State.FAULT if disk.free < VERY_LOW_DISK else State.WARNING, fact, advice, store)


def _file_system(store: str, disk: Disk) -> list[Finding]:
    if disk.kind in NETWORK:
        fact = f"the file is on {disk.kind} ({disk.mounted_at}), where SQLite's locks and shared memory do not work"
        return [Finding("file system", State.FAULT, fact, "Put it on a local disk, or use PostgreSQL.", store)]
    if disk.kind in SHARED:
        fact = f"the file is on {disk.kind} ({disk.mounted_at}), a folder shared with another system"
        advice = "Put it on a disk of this system: two systems that open the file would damage it."
        return [Finding("file system", State.WARNING, fact, advice, store)]
    return [Finding("file system", State.OK, disk.kind or "not told by this system", store=store)]


def _log(store: str, found: Examination) -> list[Finding]:
    if found.log_bytes < LARGE_LOG:
        return []
    fact = f"the write-ahead log has {found.log_bytes >> 20:,} MiB: a program reads in one long transaction"
    return [
        Finding("log", State.WARNING, fact, "End it (lsof FILE names them); the log shrinks by itself then.", store)
    ]
