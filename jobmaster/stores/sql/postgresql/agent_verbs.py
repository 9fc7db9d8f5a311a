"""The verbs of an agent (ports.agent), one line each."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import asyncpg

from jobmaster.errors import StoreUnavailable
from jobmaster.ports.answers import Fenced, Refused
from jobmaster.rules.storable import check_jobs
from jobmaster.stores.sql.postgresql import accept, durability, fencing, read
from jobmaster.stores.sql.postgresql.handle import Handle

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from jobmaster.model.job import Fence, Message, NewJob
    from jobmaster.ports.agent import Cursor, Durability, Read, Reread, Takeover
    from jobmaster.stores.sql.postgresql.transaction import Transaction


class AgentVerbs(Handle):
    """The verbs of an agent (ports.agent) on PostgreSQL."""

    @property
    def gapless(self) -> bool:
        """Two inserts draw their numbers in one order and may commit in the other."""
        return False

    async def push(self, bucket: int, jobs: Sequence[NewJob]) -> None:
        clock = self._setting.clock_us
        clock_us = None if clock is None else clock()
        check_jobs(jobs, time.time_ns() // 1_000 if clock_us is None else clock_us)
        try:
            if len(jobs) == 1 and not jobs[0].verify:
                stored = await self._hot(accept.SINGLE, *accept.single_values(bucket, jobs[0], clock_us))
            else:
                stored = await self._hot(accept.statement_for(jobs), *accept.values_of(bucket, jobs, clock_us))
        except StoreUnavailable as error:
            if not isinstance(error.__cause__, asyncpg.UniqueViolationError):
                raise
            stored = await self._hot(accept.ONCE, *accept.values_of(bucket, jobs, clock_us))
        if not stored:
            raise Refused(f"bucket {bucket} is unknown, closing or closed")

    async def read(self, fence: Fence, cursor: Cursor | None, *, limit: int, window_us: int) -> Read:
        floor = self._floors.of(fence.bucket, fence.epoch, anew=cursor is None)
        try:
            found = await self._read(lambda tx: read.read(tx, fence, cursor, floor, limit=limit, window_us=window_us))
        except Fenced:
            self._floors.forget(fence.bucket)
            raise
        self._session.sleepers.read(fence.bucket, len(found.messages), more=found.more)
        return found

    async def reread(
        self, fence: Fence, cursor: Cursor, *, known: Collection[int], limit: int, window_us: int, full: bool = False
    ) -> Reread:
        floor = self._floors.of(fence.bucket, fence.epoch)
        return await self._read(
            lambda tx: read.reread(tx, fence, cursor, floor, known, limit=limit, window_us=window_us, full=full)
        )

    async def remove(self, fence: Fence, seqs: Sequence[int]) -> None:
        if ours := read.of_bucket(fence.bucket, seqs):
            await self._hot(read.REMOVE, ours)
            self._vacuum.removed(len(ours))

    async def fence(self, fence: Fence) -> Takeover:
        return await self._write(lambda tx: fencing.fence(tx, fence))

    async def close(self, fence: Fence) -> bool:
        closed = await self._write(lambda tx: fencing.close(tx, fence))
        if closed:
            self._floors.forget(fence.bucket)
        return closed

    async def hand_over(
        self, fence: Fence, to: int, *, cursor: Cursor, high_mark: int, limit: int, window_us: int
    ) -> int:
        async def work(tx: Transaction) -> int:
            return await fencing.hand_over(
                tx, fence, to, cursor=cursor, high_mark=high_mark, limit=limit, window_us=window_us
            )

        return await self._write(work)

    async def depths(self, buckets: Sequence[int]) -> dict[int, int]:
        return await self._read(lambda tx: read.depths(tx, buckets))

    async def orphans(self, known: Collection[int]) -> list[int]:
        return await self._read(lambda tx: read.orphans(tx, known))

    async def drain_read(self, bucket: int, epoch: int, *, limit: int) -> list[Message]:
        return await self._write(lambda tx: fencing.drain_read(tx, bucket, epoch, limit))

    async def durability(self) -> Durability:
        return await self._read(durability.durability)
