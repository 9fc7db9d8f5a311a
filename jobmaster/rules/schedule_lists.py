"""The pages of a list of schedules: by name, those without one last; each goes on after the last of the one before."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from jobmaster.errors import ConfigurationError
from jobmaster.rules.paging import LONGEST_PAGE

if TYPE_CHECKING:
    from jobmaster.model.schedule import Schedule, ScheduleQuery


class SchedulePlace(NamedTuple):
    """Where a page ends: the list goes on with what is larger."""

    nameless: bool
    name: str
    key: bytes


def place_of(schedule: Schedule) -> SchedulePlace:
    """The place of a schedule in the list."""
    return SchedulePlace(not schedule.name, schedule.name, schedule.key)


def written(place: SchedulePlace) -> str:
    """The place as `SchedulePage.after` says it."""
    return f"{place.key.hex()}:{place.name}"


def read_page(limit: int, after: str | None) -> SchedulePlace | None:
    """The place after which the page begins; None: at the first.

    Raises:
        ConfigurationError: `limit` is not 1 to 1,000, or `after` is no end of a page.
    """
    if not 1 <= limit <= LONGEST_PAGE:
        raise ConfigurationError(f"limit is {limit}, but a page holds 1 to {LONGEST_PAGE:,} schedules.")
    if after is None:
        return None
    key, _, name = after.partition(":")
    try:
        return SchedulePlace(not name, name, bytes.fromhex(key))
    except ValueError:
        raise ConfigurationError(
            f"after={after!r} is no end of a page. Pass on what SchedulePage.after said."
        ) from None


def matches(query: ScheduleQuery, schedule: Schedule) -> bool:
    """Whether a schedule is one of those that are asked for."""
    exact = (
        (query.kind, schedule.kind),
        (query.task, schedule.task),
        (query.lane, schedule.lane),
        (query.paused, schedule.paused),
        (query.broken, bool(schedule.error)),
    )
    return (
        all(wanted is None or wanted == found for wanted, found in exact)
        and (query.statuses is None or schedule.status in query.statuses)
        and (query.text is None or _says(schedule, query.text.lower()))
    )


def _says(schedule: Schedule, wanted: str) -> bool:
    if any(wanted in text.lower() for text in (schedule.name, schedule.task, schedule.rule.text)):
        return True
    digits = wanted.replace("-", "")
    return bool(digits) and digits in schedule.key.hex()
