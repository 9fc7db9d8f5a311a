"""The questions of people (ports.query), one line each. Lists and counts import SQLAlchemy when first asked."""

from __future__ import annotations

from typing import TYPE_CHECKING

from jobmaster.rules.paging import read_page
from jobmaster.rules.storable import check_key
from jobmaster.stores.sql.sqlite import leases, look_up
from jobmaster.stores.sql.sqlite.handle import Handle

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jobmaster.model.bucket import Bucket
    from jobmaster.model.ids import JobKey
    from jobmaster.model.job import AttemptRecord, JobRecord
    from jobmaster.model.states import JobStatus
    from jobmaster.model.worker import WorkerRecord
    from jobmaster.ports.query import JobPage, JobQuery


class PeopleVerbs(Handle):
    """QueryStore on SQLite."""

    async def list_jobs(self, query: JobQuery, *, limit: int = 50, after: str | None = None) -> JobPage:
        from jobmaster.stores.sql.sqlite import lists

        place = read_page(limit, after)
        return await self._ask(lambda tx: lists.list_jobs(tx, query, limit, place))

    async def get_job(self, key: JobKey) -> JobRecord | None:
        check_key(key)
        return await self._ask(lambda tx: look_up.get_job(tx, key))

    async def count_jobs(self, query: JobQuery) -> dict[JobStatus, int]:
        from jobmaster.stores.sql.sqlite import lists

        return await self._ask(lambda tx: lists.count_jobs(tx, query))

    async def job_attempts(self, key: JobKey) -> list[AttemptRecord]:
        check_key(key)
        return await self._ask(lambda tx: look_up.job_attempts(tx, key))

    async def list_workers(self) -> list[WorkerRecord]:
        return await self._ask(leases.list_workers)

    async def list_buckets(self) -> list[Bucket]:
        return await self._ask(look_up.list_buckets)

    async def workers_by_id(self, ids: Sequence[int]) -> list[WorkerRecord]:
        return await self._ask(lambda tx: leases.workers_by_id(tx, ids))
