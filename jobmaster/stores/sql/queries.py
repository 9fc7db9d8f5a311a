"""Lists and counts for people, built with SQLAlchemy Core once for all dialects. Imported when first asked for.

Only texts and values leave this module: a store runs them on a connection of its own that may not write.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import ColumnElement, String, and_, func, literal_column, not_, or_, select, true
from sqlalchemy.ext.compiler import compiles

from jobmaster.model.schedule import Trigger
from jobmaster.model.states import JobStatus
from jobmaster.stores.sql.job_rows import HELD, QUEUED
from jobmaster.stores.sql.schema import bucket, job, message

if TYPE_CHECKING:
    from sqlalchemy import Select
    from sqlalchemy.engine import Dialect
    from sqlalchemy.sql.compiler import SQLCompiler

    from jobmaster.ports.query import JobQuery
    from jobmaster.rules.paging import Place

NEWEST_MESSAGES = 50_000
"""So many of the newest messages are looked through for a list; how many more wait, the page says."""

LIVE = (1, 2, 4, 5)


class KeyHex(ColumnElement[str]):
    """A key's 32 hexadecimal digits, in lower case."""

    inherit_cache = True
    type = String()

    def __init__(self, column: ColumnElement[Any]) -> None:
        self.column = column


@compiles(KeyHex)
def _hex(element: KeyHex, compiler: SQLCompiler, **options: Any) -> str:
    return f"lower(hex({compiler.process(element.column, **options)}))"


@compiles(KeyHex, "postgresql")
def _hex_postgresql(element: KeyHex, compiler: SQLCompiler, **options: Any) -> str:
    return f"replace(({compiler.process(element.column, **options)})::text, '-', '')"


@compiles(KeyHex, "mssql")
def _hex_mssql(element: KeyHex, compiler: SQLCompiler, **options: Any) -> str:
    return f"lower(convert(char(32), {compiler.process(element.column, **options)}, 2))"


def jobs_page(query: JobQuery, *, limit: int, place: Place | None) -> Select[Any]:
    """Rows, newest first."""
    table = job.c
    columns = (
        table.id, table.status, table.task, table.lane, table.priority, table.created_us, table.scheduled_us,
        table.due_us,
        table.payload, table.custom_id, table.gen, table.bucket, table.worker, table.started_us, table.finished_us,
        table.attempts, table.failures, table.recoveries, table.result, table.error, table.reason,
    )  # fmt: skip
    statement = select(*columns).where(*_job_filters(query))
    if place is not None:
        statement = statement.where(_after(place, table.created_us, table.id))
    return statement.order_by(table.created_us.desc(), table.id.desc()).limit(limit)


def messages_page(query: JobQuery, *, limit: int, place: Place | None, bucket_bits: int | None = None) -> Select[Any]:
    """Messages without a row, newest first, among the newest that were stored.

    `bucket_bits`: where a message's number has its bucket above so many bits, the newest are looked for in each bucket.
    """
    newest: Any
    if bucket_bits is None:
        newest = select(message).order_by(message.c.seq.desc()).limit(NEWEST_MESSAGES).subquery("m")
        sources = newest.outerjoin(bucket, bucket.c.id == newest.c.bucket)
    else:
        newest = _newest_of_bucket(bucket_bits)
        sources = bucket.join(newest, true())
    statement = (
        select(newest.c.job_id, newest.c.gen, newest.c.bucket, newest.c.due_us, newest.c.payload)
        .select_from(sources)
        .where(*_message_filters(query, newest.c), _without_row(newest.c))
    )
    if place is not None:
        statement = statement.where(_after(place, newest.c.created_us, newest.c.job_id))
    return statement.order_by(newest.c.created_us.desc(), newest.c.job_id.desc()).limit(limit)


def _newest_of_bucket(bits: int) -> Any:
    shift: ColumnElement[int] = literal_column(str(bits))
    of_bucket = select(message).where(
        message.c.seq >= bucket.c.id.op("<<")(shift), message.c.seq < (bucket.c.id + 1).op("<<")(shift)
    )
    return of_bucket.order_by(message.c.seq.desc()).limit(NEWEST_MESSAGES).lateral("m")


def job_counts(query: JobQuery) -> Select[Any]:
    """(status, how many) of rows."""
    return select(job.c.status, func.count()).where(*_job_filters(query)).group_by(job.c.status)


def message_count(query: JobQuery) -> Select[Any]:
    """How many messages without a row."""
    joined = message.outerjoin(bucket, bucket.c.id == message.c.bucket)
    filters = (*_message_filters(query, message.c), _without_row(message.c))
    return select(func.count(message.c.job_id.distinct())).select_from(joined).where(*filters)


def depth_sum(query: JobQuery) -> Select[Any]:
    """Waiting messages of separate agents, as their owners published them."""
    filters: list[ColumnElement[bool]] = [bucket.c.status.in_(LIVE)]
    if query.lane is not None:
        filters.append(bucket.c.lane == query.lane)
    if query.priority is not None:
        filters.append(bucket.c.priority == query.priority)
    return select(func.coalesce(func.sum(bucket.c.depth), 0)).where(*filters)


def asks_for_waiting(query: JobQuery) -> bool:
    """Whether messages without a row can be an answer."""
    pending = query.statuses is None or JobStatus.SAVE_PENDING in query.statuses
    return pending and query.worker is None and query.reason in {None, ""}


def compiled(statement: Select[Any], dialect: Dialect) -> tuple[str, list[Any]]:
    """Text and values, in the order of its placeholders."""
    done = statement.compile(dialect=dialect, compile_kwargs={"render_postcompile": True})
    return str(done), [done.params[name] for name in done.positiontup or ()]


def _job_filters(query: JobQuery) -> list[ColumnElement[bool]]:
    filters = _shared_filters(query, job.c)
    if query.statuses is not None:
        filters.append(_one_of(query.statuses))
    for column, wanted in (
        (job.c.lane, query.lane),
        (job.c.priority, query.priority),
        (job.c.worker, query.worker),
        (job.c.reason, query.reason),
    ):
        if wanted is not None:
            filters.append(column == wanted)
    if query.text is not None:
        filters.append(_says(query.text, job.c.task, job.c.custom_id, job.c.id))
    if query.not_ahead_of_us is not None:
        planned = and_(job.c.status.in_((HELD, QUEUED)), job.c.trigger_kind == Trigger.SCHEDULE.value)
        later = and_(job.c.due_us > query.not_ahead_of_us, job.c.scheduled_us > query.not_ahead_of_us)
        filters.append(not_(and_(planned, later)))
    return filters


def _after(place: Place, created_us: ColumnElement[int], key: ColumnElement[Any]) -> ColumnElement[bool]:
    # Not as a comparison of pairs, which SQL Server has not; the first condition is the range in the index.
    return and_(created_us <= place.created_us, or_(created_us < place.created_us, key < place.key))


def _one_of(statuses: tuple[JobStatus, ...]) -> ColumnElement[bool]:
    # As numbers in the text, not as values: a database takes a partial index only where it sees its very condition.
    numbers: list[ColumnElement[int]] = [literal_column(str(status.value)) for status in statuses]
    return job.c.status == numbers[0] if len(numbers) == 1 else job.c.status.in_(numbers)


def _message_filters(query: JobQuery, columns: Any) -> list[ColumnElement[bool]]:
    filters = _shared_filters(query, columns)
    if query.lane is not None:
        filters.append(bucket.c.lane == query.lane)
    if query.priority is not None:
        filters.append(bucket.c.priority == query.priority)
    if query.text is not None:
        filters.append(_says(query.text, columns.task, columns.custom_id, columns.job_id))
    return filters


def _shared_filters(query: JobQuery, columns: Any) -> list[ColumnElement[bool]]:
    filters: list[ColumnElement[bool]] = []
    if query.task is not None:
        filters.append(columns.task == query.task)
    if query.created_from_us is not None:
        filters.append(columns.created_us >= query.created_from_us)
    if query.created_to_us is not None:
        filters.append(columns.created_us <= query.created_to_us)
    return filters


def _says(
    text: str, task: ColumnElement[str], custom_id: ColumnElement[str], key: ColumnElement[Any]
) -> ColumnElement[bool]:
    wanted = text.lower()
    found = [func.lower(column).contains(wanted, autoescape=True) for column in (task, func.coalesce(custom_id, ""))]
    digits = wanted.replace("-", "")
    if digits:
        found.append(KeyHex(key).contains(digits, autoescape=True))
    return or_(*found)


def _without_row(columns: Any) -> ColumnElement[bool]:
    return and_(~select(job.c.id).where(job.c.id == columns.job_id).exists())
