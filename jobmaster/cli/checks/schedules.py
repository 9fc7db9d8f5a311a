"""Recurring schedules: those in code and files that cannot work, and those that the planner has given up."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from jobmaster.cli.checks.finding import Finding, State
from jobmaster.views import ScheduleQuery, ScheduleState

if TYPE_CHECKING:
    from jobmaster.app import JobMaster

MOST_LOOKED_AT: Final = 1_000
_SHOWN: Final = 5


def in_code(app: JobMaster) -> list[Finding]:
    """Schedules of decorators, profiles and files."""
    found = [
        Finding("schedules", State.FAULT, fault, "Correct that line; no worker starts before.")
        for fault in app.schedule_faults()
    ]
    found += [
        Finding("schedules", State.WARNING, warning, "Remove it, or correct its expression.")
        for warning in app.schedule_warnings()
    ]
    return found or [Finding("schedules", State.OK, f"{len(app.static_schedules())} in code and files")]


def broken(app: JobMaster) -> list[Finding]:
    """Schedules whose rule could not be computed, so that nobody plans them."""
    page = app.schedules.list(ScheduleQuery(state=ScheduleState.BROKEN), limit=MOST_LOOKED_AT)
    if not page.schedules:
        return [Finding("broken", State.OK, "no schedule is")]
    first = page.schedules[0]
    names = ", ".join(one.name or one.id for one in page.schedules[:_SHOWN])
    more = ", ..." if len(page.schedules) > _SHOWN or page.after else ""
    fact = f"{names}{more}: the planner could not compute when {'it fires' if not page.schedules[1:] else 'they fire'}"
    advice = f"Correct it, or resume it once its cause is gone: jobmaster schedules show {first.name or first.id}"
    return [Finding("broken", State.WARNING, f"{fact} ({first.error.partition(chr(10))[0]})", advice)]
