"""Lists and counts on PostgreSQL: rows and, where messages are here, too, messages as one list. Imports SQLAlchemy."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy.dialects.postgresql import asyncpg

from jobmaster.model.states import JobStatus
from jobmaster.ports.query import JobPage
from jobmaster.ports.schedules import SchedulePage
from jobmaster.rules import schedule_lists
from jobmaster.rules.paging import Place, place_of, written
from jobmaster.rules.schedule_changes import seen
from jobmaster.stores.sql import queries, schedule_queries
from jobmaster.stores.sql.job_rows import STATUS_OF
from jobmaster.stores.sql.postgresql.numbering import SEQUENCE_BITS
from jobmaster.stores.sql.records import record_of, waiting_record
from jobmaster.stores.sql.schedule_rows import schedule_of

if TYPE_CHECKING:
    from typing import Any

    from sqlalchemy import Select

    from jobmaster.model.job import JobRecord
    from jobmaster.ports.query import JobQuery
    from jobmaster.ports.schedules import ScheduleQuery
    from jobmaster.rules.schedule_lists import SchedulePlace
    from jobmaster.stores.sql.job_rows import Row
    from jobmaster.stores.sql.postgresql.transaction import Transaction

HOW_MANY_MESSAGES = "SELECT count(*) FROM jm_message"

_dialect = asyncpg.dialect()  # type: ignore[no-untyped-call]


async def list_jobs(transaction: Transaction, query: JobQuery, limit: int, place: Place | None) -> JobPage:
    """Rows and messages together, newest first."""
    # Messages first: a job that ends between the two looks is found twice then, and not never.
    waiting: list[JobRecord] = []
    if transaction.standalone and queries.asks_for_waiting(query):
        waiting = await _waiting(transaction, query, limit + 1, place)
    rows = await _run(transaction, queries.jobs_page(query, limit=limit + 1, place=place))
    found = {record.key: record for record in (*waiting, *map(record_of, rows))}
    together = sorted(found.values(), key=place_of, reverse=True)
    page = together[:limit]
    after = written(place_of(page[-1])) if len(together) > limit else None
    return JobPage(page, after, await _unlisted(transaction, query))


async def _waiting(transaction: Transaction, query: JobQuery, limit: int, place: Place | None) -> list[JobRecord]:
    statement = queries.messages_page(query, limit=limit, place=place, bucket_bits=SEQUENCE_BITS)
    return [waiting_record(row) for row in await _run(transaction, statement)]


async def _unlisted(transaction: Transaction, query: JobQuery) -> int:
    if not queries.asks_for_waiting(query):
        return 0
    if not transaction.standalone:
        return int((await _run(transaction, queries.depth_sum(query)))[0][0])
    return max(0, int(await transaction.value(HOW_MANY_MESSAGES)) - queries.NEWEST_MESSAGES)


async def count_jobs(transaction: Transaction, query: JobQuery) -> dict[JobStatus, int]:
    """Counts per status."""
    waiting = 0
    if transaction.standalone and queries.asks_for_waiting(query):
        waiting = (await _run(transaction, queries.message_count(query)))[0][0]
    counts = {STATUS_OF[status]: count for status, count in await _run(transaction, queries.job_counts(query))}
    if waiting:
        counts[JobStatus.SAVE_PENDING] = waiting
    return counts


async def list_schedules(
    transaction: Transaction, query: ScheduleQuery, limit: int, place: SchedulePlace | None
) -> SchedulePage:
    """Schedules by name."""
    statement = schedule_queries.schedules_page(query, limit=limit + 1, place=place, collation="C")
    found = [seen(schedule_of(row)) for row in await _run(transaction, statement)]
    page = found[:limit]
    more = len(found) > limit
    return SchedulePage(page, schedule_lists.written(schedule_lists.place_of(page[-1])) if more else None)


async def _run(transaction: Transaction, statement: Select[Any]) -> list[Row]:
    text, values = queries.compiled(statement, _dialect)
    return await transaction.rows(text, *values)
