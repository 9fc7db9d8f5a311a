"""Lists of schedules for people, built with SQLAlchemy Core once for all dialects. Imported when first asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import ColumnElement, and_, case, func, or_, select

from jobmaster.stores.sql.queries import KeyHex
from jobmaster.stores.sql.schedule_rows import NAMES
from jobmaster.stores.sql.schema import schedule

if TYPE_CHECKING:
    from sqlalchemy import Select

    from jobmaster.ports.schedules import ScheduleQuery
    from jobmaster.rules.schedule_lists import SchedulePlace


def schedules_page(
    query: ScheduleQuery, *, limit: int, place: SchedulePlace | None, collation: str | None
) -> Select[Any]:
    """Rows by name, those without one last. `collation`: one that compares texts character by character."""
    table = schedule.c
    name = table.name if collation is None else table.name.collate(collation)
    statement = select(*(table[column] for column in NAMES)).where(*_filters(query))
    if place is not None:
        statement = statement.where(_after(place, name))
    return statement.order_by(case((table.name == "", 1), else_=0), name, table.id).limit(limit)


def _after(place: SchedulePlace, name: ColumnElement[str]) -> ColumnElement[bool]:
    table = schedule.c
    further = table.id > place.key
    if place.nameless:
        return and_(table.name == "", further)
    return or_(table.name == "", name > place.name, and_(table.name == place.name, further))


def _filters(query: ScheduleQuery) -> list[ColumnElement[bool]]:
    table = schedule.c
    filters: list[ColumnElement[bool]] = []
    if query.statuses is not None:
        filters.append(table.status.in_([status.value for status in query.statuses]))
    if query.kind is not None:
        filters.append(table.kind == query.kind.value)
    if query.task is not None:
        filters.append(table.task == query.task)
    if query.lane is not None:
        filters.append(table.lane == query.lane)
    if query.paused is not None:
        filters.append(table.paused == int(query.paused))
    if query.broken is not None:
        filters.append(table.error != "" if query.broken else table.error == "")
    if query.text is not None:
        filters.append(_says(query.text.lower()))
    return filters


def _says(wanted: str) -> ColumnElement[bool]:
    table = schedule.c
    texts = (table.name, table.task, table.expression)
    found = [func.lower(column).contains(wanted, autoescape=True) for column in texts]
    digits = wanted.replace("-", "")
    if digits:
        found.append(KeyHex(table.id).contains(digits, autoescape=True))
    return or_(*found)
