"""Space of removed messages: taken back by their owner, because autovacuum looks only once a minute.

A table that is filled and emptied all the time would otherwise be many times larger than its live rows.
"""

from __future__ import annotations

import asyncio
import logging
import time
from typing import TYPE_CHECKING, Any, Final

import asyncpg

from jobmaster.errors import JobMasterError

if TYPE_CHECKING:
    from jobmaster.stores.sql.postgresql.connection import Place

logger = logging.getLogger("jobmaster.store")

REMOVALS: Final = 200_000
"""So many removed messages make it worth while."""
SHARE: Final = 20
"""At most one twentieth of the time: where an old transaction keeps dead rows, each vacuum reads them all again."""
OLD: Final = 10
"""Seconds after which another session's transaction counts as one that is held open."""

MAY = "SELECT pg_has_role(relowner, 'USAGE') FROM pg_class WHERE oid = 'jm_message'::regclass"
# What ended after the oldest transaction began stays, and would only be read in vain.
IN_VAIN = f"""
SELECT EXISTS (
    SELECT FROM pg_stat_activity
    WHERE xact_start < now() - interval '{OLD} s' AND (backend_xmin IS NOT NULL OR backend_xid IS NOT NULL)
        AND pid <> pg_backend_pid() AND (datname = current_database() OR backend_type = 'walsender')
)
"""
ALONE = "SELECT pg_try_advisory_lock(4242260003)"
# Without giving the file's end back to the disk, which needs a lock that stops everybody.
VACUUM = "VACUUM (TRUNCATE FALSE) jm_message"


class Vacuum:
    """Counts removals, and vacuums beside the work, on a connection of its own for each time."""

    def __init__(self, place: Place) -> None:
        self._place = place
        self._removed = 0
        self._not_before = 0.0
        self._allowed = True
        self._task: asyncio.Task[None] | None = None

    def removed(self, count: int) -> None:
        """Messages have left the table."""
        self._removed += count
        if self._removed < REMOVALS or not self._allowed or time.monotonic() < self._not_before:
            return
        if self._task is None or self._task.done():
            self._removed = 0
            self._task = asyncio.get_running_loop().create_task(self._run(), name="jobmaster-vacuum")

    async def close(self) -> None:
        """Stop, in the middle of one if need be: the server undoes nothing by that."""
        self._allowed = False
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        try:
            connection = await self._place.connect((), direct=True)
        except JobMasterError as error:
            logger.debug("vacuum_left error=%s", error)
            return
        try:
            await self._vacuum(connection)
        except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError) as error:
            logger.debug("vacuum_left error=%s", error)
        finally:
            connection.terminate()

    async def _vacuum(self, connection: asyncpg.Connection[Any]) -> None:
        if not await connection.fetchval(MAY):
            self._allowed = False
            logger.info("vacuum_left reason=the user does not own jm_message; autovacuum does it, up to a minute later")
            return
        if await connection.fetchval(IN_VAIN) or not await connection.fetchval(ALONE):
            self._not_before = time.monotonic() + OLD
            return
        began = time.monotonic()
        await connection.execute(VACUUM)
        took = time.monotonic() - began
        self._not_before = time.monotonic() + SHARE * took
        logger.debug("vacuumed seconds=%.3f", took)
