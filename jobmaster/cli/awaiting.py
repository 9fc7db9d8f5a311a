"""`--wait`: a job's result in a terminal, and a word where nobody is there to run it."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

from jobmaster.errors import ResultTimeout
from jobmaster.model.states import JobStatus

if TYPE_CHECKING:
    from jobmaster.app import JobMaster
    from jobmaster.result import Result
    from jobmaster.views import JobInfo

PATIENCE = 2.0
"""Seconds after which it is asked whether any worker lives."""


def nobody_runs(app: JobMaster, job: JobInfo | None) -> str | None:
    """Why a job that is due will go on waiting: no worker that lives can take it. None: there is one."""
    if job is None or job.status is JobStatus.PROCESSING or job.status.is_final or job.due_at > datetime.now(UTC):
        return None
    runs = [one for one in app.workers.list() if one.status.lives and one.mode.runs_jobs]
    if not runs:
        return "No worker lives, so the job waits. Start one: jobmaster worker -A myapp"
    if not any(job.lane in one.lanes for one in runs):
        return (
            f"No living worker serves the lane {job.lane!r}, so the job waits. "
            f"Start one: jobmaster worker -A myapp -Q {job.lane}"
        )
    return None


def value_of(app: JobMaster, result: Result[Any], *, timeout: float | None, as_json: bool) -> Any:
    """What a job returns, once it has ended.

    Args:
        app: the job's.
        result: of the job.
        timeout: seconds; None: as long as it takes.
        as_json: a program reads along: nothing but an error is told on stderr.

    Raises:
        JobFailed, JobCancelled, ResultExpired: as `Result.get`.
        ResultTimeout: it has not ended in time.
    """
    first = PATIENCE if timeout is None else min(timeout, PATIENCE)
    try:
        return result.get(timeout=first)
    except ResultTimeout:
        why = None if as_json else nobody_runs(app, app.jobs.get(result.id))
        if why:
            click.echo(why, err=True)
    try:
        return result.get(timeout=None if timeout is None else timeout - first)
    except ResultTimeout:
        raise ResultTimeout(
            f"Job {result.id} has not ended within {timeout:g} s. It goes on: `jobmaster jobs show {result.id}` tells "
            "how it stands, `jobs cancel` ends it."
        ) from None
