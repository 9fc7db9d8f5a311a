"""Holding transactions open between their row locks and their commit, so that a test sees who waits for whom."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import asyncpg

    from tests.conformance.adapters import Place

GATE = 4242260099
"""The advisory lock behind which commits wait."""

# A deferred trigger runs at the commit: the transaction has all its locks by then, and nobody sees its changes yet.
GATE_TRIGGERS = f"""
CREATE FUNCTION wait_at_gate() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN PERFORM pg_advisory_xact_lock_shared({GATE}); RETURN NULL; END $$;
DO $$
DECLARE name text;
BEGIN
    FOR name IN SELECT c.relname FROM pg_class c WHERE relnamespace = 'public'::regnamespace
        AND relkind IN ('r', 'p') AND NOT relispartition
    LOOP
        EXECUTE format('CREATE CONSTRAINT TRIGGER gate AFTER INSERT OR UPDATE OR DELETE ON %I
            DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION wait_at_gate()', name);
    END LOOP;
END $$;
"""

WAITING = f"""
SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted
    AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
    AND (classid::bigint << 32 | objid::bigint) = {GATE}
"""

SESSIONS = """
SELECT count(*) FILTER (WHERE NOT waits), count(*) FILTER (WHERE waits)
FROM (SELECT state = 'active' AND wait_event_type IS NOT DISTINCT FROM 'Lock' AS waits
    FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()
        AND backend_type = 'client backend' AND state <> 'idle') AS busy
"""


class Commits(Protocol):
    """What a test does with the commits of a store."""

    async def hold(self) -> None:
        """From now on, whatever changes something waits before its commit."""
        ...

    async def let_go(self) -> None:
        """Let all commits through."""
        ...

    async def waiting(self) -> int:
        """How many wait."""
        ...

    async def turn(self) -> None:
        """Give everybody the time to get as far as they can."""
        ...

    async def close(self) -> None:
        """The case has ended."""
        ...


class NeverHeld:
    """A store of which one transaction runs after the other."""

    def __init__(self, place: Place) -> None:
        pass

    async def close(self) -> None:
        pass


class CommitsInMemory:
    """Those of the stores in memory, which await `Place.late_commits`."""

    def __init__(self, place: Place) -> None:
        place.late_commits = self._commit
        self._open = asyncio.Event()
        self._open.set()
        self._waiting = 0

    async def _commit(self) -> None:
        self._waiting += 1
        try:
            await self._open.wait()
        finally:
            self._waiting -= 1

    async def hold(self) -> None:
        self._open.clear()

    async def let_go(self) -> None:
        self._open.set()

    async def waiting(self) -> int:
        return self._waiting

    async def turn(self) -> None:
        for _ in range(20):
            await asyncio.sleep(0)

    async def close(self) -> None:
        self._open.set()


class CommitsOnServer:
    """Those of databases on a PostgreSQL server: their commits wait for an advisory lock that the test holds."""

    def __init__(self, place: Place) -> None:
        self._place = place
        self._sessions: list[asyncpg.Connection[Any]] = []

    async def hold(self) -> None:
        import asyncpg

        if not self._sessions:
            for dsn in self._place.databases:
                session = await asyncpg.connect(dsn)
                self._sessions.append(session)
                if await session.fetchval("SELECT to_regprocedure('wait_at_gate()') IS NULL"):
                    await session.execute(GATE_TRIGGERS)
        for session in self._sessions:
            await session.execute(f"SELECT pg_advisory_lock({GATE})")

    async def let_go(self) -> None:
        for session in self._sessions:
            await session.execute("SELECT pg_advisory_unlock_all()")

    async def waiting(self) -> int:
        return sum([await session.fetchval(WAITING) for session in self._sessions])

    async def turn(self) -> None:
        # Our own tasks may still be between two statements, or connect: quiet is what stays quiet while others can do
        # both, however busy the machine is. A session that has not taken up yet what it was asked looks idle, so those
        # that are in use must all be seen waiting.
        quiet = 0
        async with asyncio.timeout(30):
            while quiet < 3:
                await asyncio.sleep(0.005)
                looks = [await self._look(dsn) for dsn in self._place.databases]
                busy, waiting = (sum(counts) for counts in zip(*looks, strict=True))
                quiet = 0 if busy or waiting < self._in_use() else quiet + 1

    def _in_use(self) -> int:
        pools = [store._pool for store in self._place.on_server]
        return sum(len(pool._used) + pool._opening for pool in pools)

    async def _look(self, dsn: str) -> tuple[int, int]:
        """How many sessions do something, and how many wait for a lock."""
        import asyncpg

        session = await asyncpg.connect(dsn)
        try:
            busy, waiting = await session.fetchrow(SESSIONS)
        finally:
            await session.close()
        return busy, waiting

    async def close(self) -> None:
        for session in self._sessions:
            await session.close()
        self._sessions.clear()
