"""Jobs that do not get on: unknown to every worker, quarantined, or waiting for too long."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Final

from jobmaster.cli.checks.finding import Finding, State
from jobmaster.cli.output import span
from jobmaster.model.reasons import UNROUTABLE
from jobmaster.model.states import JobStatus
from jobmaster.views import JobQuery

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from jobmaster.app import JobMaster
    from jobmaster.model.examination import Examination, WaitingJob

LONG_WAIT: Final = timedelta(minutes=5)
MOST_LOOKED_AT: Final = 1_000


def counts(app: JobMaster) -> list[Finding]:
    """How many jobs there are."""
    found = app.jobs.count()
    told = ", ".join(f"{count:,} {status}" for status, count in found.items() if count) or "none yet"
    return [Finding("jobs", State.OK, told)]


def unroutable(app: JobMaster) -> list[Finding]:
    """Jobs whose task no worker has."""
    held = app.jobs.list(JobQuery(statuses=(JobStatus.HELD_ON_MASTER,), reason=UNROUTABLE), limit=MOST_LOOKED_AT)
    if not held.jobs:
        return [Finding("unroutable", State.OK, "no job has a task that no worker knows")]
    names = ", ".join(sorted({job.task for job in held.jobs})[:5])
    many = f"{len(held.jobs):,}{' or more' if held.after else ''}"
    advice = "Start a worker whose code has these tasks; the jobs go on then."
    return [Finding("unroutable", State.WARNING, f"no worker knows {names} ({many} jobs)", advice)]


def quarantined(master: Examination) -> list[Finding]:
    """Jobs that took their process down again and again, within the last day."""
    if master.quarantined is None:
        return [Finding("quarantined", State.WARNING, "not known: the question took too long")]
    if not master.quarantined:
        return [Finding("quarantined", State.OK, "none within the last day")]
    tasks = ", ".join(f"{task} ({count:,})" for task, count in sorted(master.quarantined.items()))
    advice = "They ended their process each time they ran: jobmaster jobs list --reason quarantined"
    return [Finding("quarantined", State.WARNING, f"within the last day: {tasks}", advice)]


def waiting(app: JobMaster, examined: Mapping[str, Examination]) -> list[Finding]:
    """The job that has waited longest."""
    if any(one.waiting is None for one in examined.values()):
        return [Finding("waiting", State.WARNING, "not known: the question took too long")]
    found = sorted((job for one in examined.values() for job in one.waiting or ()), key=lambda job: -job.seconds)
    oldest = _first_that_waits(app, found)
    if oldest is None:
        return [Finding("waiting", State.OK, "none is due")]
    fact = f"job {oldest.id} has waited for {span(oldest.seconds)}"
    if oldest.seconds <= LONG_WAIT.total_seconds():
        return [Finding("waiting", State.OK, f"longest: {fact}")]
    advice = "Too few workers or slots, or a lane that nobody serves. See jobmaster workers list."
    return [Finding("waiting", State.WARNING, fact, advice)]


def _first_that_waits(app: JobMaster, found: Sequence[WaitingJob]) -> WaitingJob | None:
    """An agent does not know which of its messages' jobs run."""
    for one in found:
        job = app.jobs.get(one.id)
        if job is not None and job.status is not JobStatus.PROCESSING and not job.status.is_final:
            return one
    return None
