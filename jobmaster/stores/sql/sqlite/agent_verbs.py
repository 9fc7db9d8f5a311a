"""The verbs of an agent (ports.agent), one line each: which function, in which thread."""

from __future__ import annotations

from typing import TYPE_CHECKING

from jobmaster.ports.agent import Durability
from jobmaster.rules.storable import check_jobs
from jobmaster.stores.sql.sqlite import accept, fencing, read
from jobmaster.stores.sql.sqlite.handle import Handle

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from jobmaster.model.job import Fence, Message, NewJob
    from jobmaster.ports.agent import Cursor, Read, Reread, Takeover
    from jobmaster.stores.sql.sqlite.transaction import Transaction

SYNCHRONOUS = {0: "OFF", 1: "NORMAL", 2: "FULL", 3: "EXTRA"}
SURVIVES_A_POWER_CUT = 2


class AgentVerbs(Handle):
    """Agent on SQLite."""

    @property
    def gapless(self) -> bool:
        """Numbers are given under the write lock: no message appears below a cursor."""
        return True

    async def push(self, bucket: int, jobs: Sequence[NewJob]) -> None:
        check_jobs(jobs, self._now())
        await self._write(lambda tx: accept.push(tx, bucket, jobs))

    async def read(self, fence: Fence, cursor: Cursor | None, *, limit: int, window_us: int) -> Read:
        return await self._read(lambda tx: read.read(tx, fence, cursor, limit, window_us))

    async def reread(
        self, fence: Fence, cursor: Cursor, *, known: Collection[int], limit: int, window_us: int, full: bool = False
    ) -> Reread:
        return await self._read(lambda tx: read.reread(tx, fence, cursor, known, limit=limit, window_us=window_us))

    async def remove(self, fence: Fence, seqs: Sequence[int]) -> None:
        await self._write(lambda tx: read.remove(tx, fence.bucket, seqs))

    async def fence(self, fence: Fence) -> Takeover:
        return await self._write(lambda tx: fencing.fence(tx, fence))

    async def close(self, fence: Fence) -> bool:
        return await self._write(lambda tx: fencing.close(tx, fence))

    async def hand_over(
        self, fence: Fence, to: int, *, cursor: Cursor, high_mark: int, limit: int, window_us: int
    ) -> int:
        def work(tx: Transaction) -> int:
            return fencing.hand_over(
                tx, fence, to, cursor=cursor, high_mark=high_mark, limit=limit, window_us=window_us
            )

        return await self._write(work)

    async def depths(self, buckets: Sequence[int]) -> dict[int, int]:
        return await self._read(lambda tx: read.depths(tx, buckets))

    async def orphans(self, known: Collection[int]) -> list[int]:
        return await self._read(lambda tx: read.orphans(tx, frozenset(known)))

    async def drain_read(self, bucket: int, epoch: int, *, limit: int) -> list[Message]:
        return await self._write(lambda tx: fencing.drain_read(tx, bucket, epoch, limit))

    async def durability(self) -> Durability:
        return await self._write(_durability)


def _durability(transaction: Transaction) -> Durability:
    (level,) = transaction.rows("PRAGMA synchronous")[0]
    (journal,) = transaction.rows("PRAGMA journal_mode")[0]
    survives = "host" if level >= SURVIVES_A_POWER_CUT else "process"
    return Durability(survives, f"SQLite: synchronous = {SYNCHRONOUS.get(level, level)}, journal_mode = {journal}")
