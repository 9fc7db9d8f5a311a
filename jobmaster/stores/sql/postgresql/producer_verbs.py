"""The verbs of producers and of people who change a job (ports.master), one line each."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from jobmaster.rules.storable import check_jobs, check_key, check_moment, check_text
from jobmaster.stores.sql.postgresql import cancel, hold
from jobmaster.stores.sql.postgresql.handle import Handle

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jobmaster.model.ids import JobKey
    from jobmaster.model.job import CancelReply, JobState, NewJob


class ProducerVerbs(Handle):
    """The producers' part of MasterStore on PostgreSQL."""

    async def hold(self, jobs: Sequence[NewJob], *, reason: str = "") -> list[bool]:
        check_jobs(jobs, self._rough_now_us())
        check_text(reason, "reason")
        return await self._write(lambda tx: hold.hold(tx, jobs, reason))

    async def look_up(self, keys: Sequence[JobKey]) -> list[JobState | None]:
        return await self._read(lambda tx: hold.look_up(tx, keys))

    async def cancel(self, key: JobKey) -> CancelReply:
        check_key(key)
        return await self._write(lambda tx: cancel.cancel(tx, key))

    async def reschedule(self, key: JobKey, due_us: int) -> bool:
        check_key(key)
        check_moment(due_us, "due time")
        return await self._write(lambda tx: cancel.reschedule(tx, key, due_us))

    async def requeue(self, key: JobKey, *, due_us: int | None = None) -> bool:
        check_key(key)
        if due_us is not None:
            check_moment(due_us, "due time")
        return await self._write(lambda tx: cancel.requeue(tx, key, due_us))

    def _rough_now_us(self) -> int:
        """This host's clock: good enough to see that a due time is no moment before the year 10000."""
        clock = self._setting.clock_us
        return time.time_ns() // 1_000 if clock is None else clock()
