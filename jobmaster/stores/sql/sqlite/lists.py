"""Lists and counts on SQLite: rows and, where messages are here, too, messages as one list. Imports SQLAlchemy."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy.dialects import sqlite

from jobmaster.model.states import JobStatus
from jobmaster.ports.query import JobPage
from jobmaster.ports.schedules import SchedulePage
from jobmaster.rules import schedule_lists
from jobmaster.rules.paging import Place, place_of, written
from jobmaster.rules.schedule_changes import seen
from jobmaster.stores.sql import queries, schedule_queries
from jobmaster.stores.sql.job_rows import STATUS_OF
from jobmaster.stores.sql.records import record_of, waiting_record
from jobmaster.stores.sql.schedule_rows import schedule_of

if TYPE_CHECKING:
    from typing import Any

    from sqlalchemy import Select

    from jobmaster.model.job import JobRecord
    from jobmaster.ports.query import JobQuery
    from jobmaster.ports.schedules import ScheduleQuery
    from jobmaster.rules.schedule_lists import SchedulePlace
    from jobmaster.stores.sql.sqlite.transaction import Row, Transaction

HOW_MANY_MESSAGES = "SELECT count(*) FROM jm_message"

_dialect = sqlite.dialect(paramstyle="qmark")


def list_jobs(transaction: Transaction, query: JobQuery, limit: int, place: Place | None) -> JobPage:
    """Rows and messages together, newest first."""
    found = [record_of(row) for row in _run(transaction, queries.jobs_page(query, limit=limit + 1, place=place))]
    if transaction.standalone and queries.asks_for_waiting(query):
        found += _waiting(transaction, query, limit + 1, place)
        found.sort(key=place_of, reverse=True)
    page = found[:limit]
    after = written(place_of(page[-1])) if len(found) > limit else None
    return JobPage(page, after, _unlisted(transaction, query))


def _waiting(transaction: Transaction, query: JobQuery, limit: int, place: Place | None) -> list[JobRecord]:
    rows = _run(transaction, queries.messages_page(query, limit=limit, place=place))
    return list({row[0]: waiting_record(row) for row in rows}.values())


def _unlisted(transaction: Transaction, query: JobQuery) -> int:
    if not queries.asks_for_waiting(query):
        return 0
    if not transaction.standalone:
        return int(_run(transaction, queries.depth_sum(query))[0][0])
    return max(0, int(transaction.rows(HOW_MANY_MESSAGES)[0][0]) - queries.NEWEST_MESSAGES)


def count_jobs(transaction: Transaction, query: JobQuery) -> dict[JobStatus, int]:
    """Counts per status."""
    counts = {STATUS_OF[status]: count for status, count in _run(transaction, queries.job_counts(query))}
    if transaction.standalone and queries.asks_for_waiting(query):
        waiting = _run(transaction, queries.message_count(query))[0][0]
        if waiting:
            counts[JobStatus.SAVE_PENDING] = waiting
    return counts


def list_schedules(
    transaction: Transaction, query: ScheduleQuery, limit: int, place: SchedulePlace | None
) -> SchedulePage:
    """Schedules by name."""
    statement = schedule_queries.schedules_page(query, limit=limit + 1, place=place, collation=None)
    found = [seen(schedule_of(row)) for row in _run(transaction, statement)]
    page = found[:limit]
    more = len(found) > limit
    return SchedulePage(page, schedule_lists.written(schedule_lists.place_of(page[-1])) if more else None)


def _run(transaction: Transaction, statement: Select[Any]) -> list[Row]:
    return transaction.rows(*queries.compiled(statement, _dialect))
