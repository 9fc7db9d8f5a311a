"""What a database file says of itself, for `jobmaster doctor`: read on one connection, which changes nothing."""

from __future__ import annotations

import os
import re
import shutil
import sqlite3
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

from jobmaster.model.examination import Disk, Examination, WaitingJob
from jobmaster.model.ids import JobKey, key_text
from jobmaster.stores.sql.sqlite.connection import WRITER_SETTINGS
from jobmaster.stores.sql.sqlite.faults import translated
from jobmaster.stores.sql.sqlite.provisioning import FRESH

if TYPE_CHECKING:
    from jobmaster.settings.dsn import Dsn

MOUNTS: Final = Path("/proc/self/mountinfo")
MOST_SHOWN: Final = 20
DAY_US: Final = 86_400_000_000
STEPS: Final = 10_000
"""Of the machine of SQLite, between two looks at the time."""

TABLES = "SELECT name FROM sqlite_master WHERE type = 'table' AND name LIKE 'jm\\_%' ESCAPE '\\'"

# The first messages of each bucket are its oldest; those of running jobs stay there until they end.
BUCKETS = """
WITH RECURSIVE filled (id) AS (
    SELECT min(bucket) FROM jm_message
    UNION ALL
    SELECT (SELECT min(bucket) FROM jm_message WHERE bucket > filled.id) FROM filled WHERE filled.id IS NOT NULL)
SELECT id FROM filled WHERE id IS NOT NULL
"""
MESSAGES = """
SELECT m.job_id, m.custom_id, m.due_us FROM (
    SELECT job_id, custom_id, due_us FROM jm_message WHERE bucket = ?1 AND later = 0 ORDER BY seq LIMIT 50) m
WHERE m.due_us <= ?2 AND NOT EXISTS (SELECT 1 FROM jm_job j WHERE j.id = m.job_id AND j.status = 4)
"""
ROWS = """
SELECT id, custom_id, due_us FROM jm_job WHERE status IN (3, 4, 6) AND status <> 4 AND due_us <= ?1
UNION ALL
SELECT id, custom_id, due_us FROM jm_job WHERE status = 2 AND reason <> 'unroutable' AND due_us <= ?1
ORDER BY 3 LIMIT 20
"""

QUARANTINED = """
SELECT task, count(*) FROM jm_job
WHERE finished_us IS NOT NULL AND finished_us > ? AND status = 7 AND reason = 'quarantined' GROUP BY task ORDER BY task
"""


def examine(dsn: Dsn, *, timeout: float) -> Examination:
    """Look at the file and where it is.

    Args:
        dsn: where it is; there may be none yet.
        timeout: seconds for a lock, and for each question.

    Raises:
        ConfigurationError: it cannot be opened, or is no database.
        StoreUnavailable: another program has locked it.
    """
    path = Path(dsn.path)
    server = f"SQLite {sqlite3.sqlite_version}"
    if not path.exists():
        may_make = os.access(path.parent, os.W_OK | os.X_OK)
        return Examination(server=server, exists=False, is_empty=True, may_make_tables=may_make, disk=disk_of(path))
    try:
        connection = sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True, timeout=timeout, isolation_level=None)
        try:
            return _examine(connection, path, server, timeout)
        finally:
            connection.close()
    except sqlite3.Error as error:
        if rights := _rights(path):  # then the file may be as it should be, and SQLite cannot make the ones beside it
            return Examination(server=server, missing_rights=rights, disk=disk_of(path), waiting=None, quarantined=None)
        raise translated(error, dsn.path, opening=True) from error


def _examine(connection: sqlite3.Connection, path: Path, server: str, seconds: float) -> Examination:
    found = [name for (name,) in connection.execute(TABLES)]
    missing = _missing(found)
    # What the writers of this version set; the journal is the file's own.
    for setting in WRITER_SETTINGS:
        if "synchronous" in setting:
            connection.execute(setting)
    (level,) = connection.execute("PRAGMA synchronous").fetchone()
    (journal,) = connection.execute("PRAGMA journal_mode").fetchone()
    full = level >= 2
    complete = bool(found) and not missing
    return Examination(
        server=server,
        is_empty=not found,
        may_make_tables=os.access(path, os.W_OK),
        missing_tables=missing,
        missing_rights=_rights(path),
        survives="host" if full else "process",
        evidence=f"synchronous = {'FULL' if full else level}, journal_mode = {journal}",
        log_bytes=_size(path.with_name(f"{path.name}-wal")),
        disk=disk_of(path),
        # Of tables that may be large: they get less time, so that all the rest is told in any case.
        waiting=_waiting(connection, seconds / 4) if complete else None,
        quarantined=_quarantined(connection, seconds / 4) if complete else None,
    )


def _missing(found: list[str]) -> tuple[str, ...]:
    """Tables that are not there; none where there is not even one, which is a file that is not made yet."""
    wanted = re.findall(r"CREATE TABLE (\w+) \(", Path(FRESH).read_text(encoding="utf-8"))
    return tuple(sorted(set(wanted) - set(found))) if found else ()


def _rights(path: Path) -> tuple[str, ...]:
    """SQLite makes files beside the database, so that the folder must be writable, too."""
    told = []
    if missing := [word for word, right in (("read", os.R_OK), ("write", os.W_OK)) if not os.access(path, right)]:
        told.append(f"{path.name}: {' and '.join(missing)}")
    if not os.access(path.parent, os.W_OK | os.X_OK):
        told.append(f"its folder {path.parent}: write")
    return tuple(told)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _waiting(connection: sqlite3.Connection, seconds: float) -> tuple[WaitingJob, ...] | None:
    now_us = time.time_ns() // 1_000
    _stop_after(connection, seconds)
    try:
        found = connection.execute(ROWS, (now_us,)).fetchall()
        for (bucket,) in connection.execute(BUCKETS).fetchall():
            found += connection.execute(MESSAGES, (bucket, now_us)).fetchall()
    except sqlite3.OperationalError:
        return None
    found.sort(key=lambda row: row[2])
    return tuple(
        WaitingJob(custom or key_text(JobKey(key)), (now_us - due_us) / 1e6)
        for key, custom, due_us in found[:MOST_SHOWN]
    )


def _quarantined(connection: sqlite3.Connection, seconds: float) -> dict[str, int] | None:
    _stop_after(connection, seconds)
    try:
        return dict(connection.execute(QUARANTINED, (time.time_ns() // 1_000 - DAY_US,)).fetchall())
    except sqlite3.OperationalError:
        return None


def _stop_after(connection: sqlite3.Connection, seconds: float) -> None:
    """Interrupt the next question when it takes longer."""
    deadline = time.monotonic() + seconds
    connection.set_progress_handler(lambda: time.monotonic() > deadline, STEPS)


def disk_of(path: Path) -> Disk:
    """The file system of a file, or of the nearest folder that is there."""
    place = path.resolve()
    while not place.exists():
        place = place.parent
    usage = shutil.disk_usage(place)
    kind, mounted_at = _mount_of(place)
    return Disk(free=usage.free, size=usage.total, kind=kind, mounted_at=mounted_at)


def _mount_of(place: Path) -> tuple[str, str]:
    """Kind and place of the mount that `place` is on; empty where the system does not say."""
    try:
        lines = MOUNTS.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return "", ""
    best = ("", "")
    for line in lines:
        before, _, after = line.partition(" - ")
        folder = before.split(" ")[4].encode().decode("unicode_escape")  # a blank is \\040
        if len(folder) >= len(best[1]) and place.is_relative_to(folder):
            best = (after.split(" ")[0], folder)  # of two on one place the later one counts
    return best
