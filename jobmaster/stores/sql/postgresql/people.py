"""The questions of people (ports.query), one line each. Lists and counts import SQLAlchemy when first asked."""

from __future__ import annotations

from typing import TYPE_CHECKING

from jobmaster.rules.paging import read_page
from jobmaster.rules.storable import check_key
from jobmaster.stores.sql.postgresql import hold
from jobmaster.stores.sql.postgresql.handle import Handle
from jobmaster.stores.sql.records import WORKER_RECORD, worker_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jobmaster.model.bucket import Bucket
    from jobmaster.model.ids import JobKey
    from jobmaster.model.job import AttemptRecord, JobRecord
    from jobmaster.model.states import JobStatus
    from jobmaster.model.worker import WorkerRecord
    from jobmaster.ports.query import JobPage, JobQuery
    from jobmaster.stores.sql.postgresql.transaction import Transaction

WORKERS = f"""
SELECT {WORKER_RECORD} FROM jm_worker ORDER BY ended = 1 OR lease_until_us <= $1, name, boot DESC
"""
SOME_WORKERS = f"SELECT {WORKER_RECORD} FROM jm_worker WHERE id = ANY($1::bigint[])"


class PeopleVerbs(Handle):
    """QueryStore on PostgreSQL."""

    async def list_jobs(self, query: JobQuery, *, limit: int = 50, after: str | None = None) -> JobPage:
        from jobmaster.stores.sql.postgresql import lists

        place = read_page(limit, after)
        return await self._ask(lambda tx: lists.list_jobs(tx, query, limit, place))

    async def get_job(self, key: JobKey) -> JobRecord | None:
        check_key(key)
        return await self._ask(lambda tx: hold.get_job(tx, key))

    async def count_jobs(self, query: JobQuery) -> dict[JobStatus, int]:
        from jobmaster.stores.sql.postgresql import lists

        return await self._ask(lambda tx: lists.count_jobs(tx, query))

    async def job_attempts(self, key: JobKey) -> list[AttemptRecord]:
        check_key(key)
        return await self._ask(lambda tx: hold.job_attempts(tx, key))

    async def list_workers(self) -> list[WorkerRecord]:
        return await self._ask(_list_workers)

    async def list_buckets(self) -> list[Bucket]:
        return await self._ask(hold.list_buckets)

    async def workers_by_id(self, ids: Sequence[int]) -> list[WorkerRecord]:
        return await self._ask(lambda tx: _workers_by_id(tx, ids))


async def _list_workers(transaction: Transaction) -> list[WorkerRecord]:
    now_us = await transaction.tick()
    return [worker_of(row, now_us) for row in await transaction.rows(WORKERS, now_us)]


async def _workers_by_id(transaction: Transaction, ids: Sequence[int]) -> list[WorkerRecord]:
    now_us = await transaction.tick()
    return [worker_of(row, now_us) for row in await transaction.rows(SOME_WORKERS, list(ids))]
