"""`--wait`: a job's result in a terminal, and a word where nobody is there to run it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from jobmaster.errors import ResultTimeout

if TYPE_CHECKING:
    from jobmaster.app import JobMaster
    from jobmaster.result import Result

PATIENCE = 2.0
"""Seconds after which it is asked whether any worker lives."""


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
        if not as_json and not any(one.status.lives and one.mode.runs_jobs for one in app.workers.list()):
            click.echo("No worker lives, so the job waits. Start one: jobmaster worker -A myapp", err=True)
    try:
        return result.get(timeout=None if timeout is None else timeout - first)
    except ResultTimeout:
        raise ResultTimeout(
            f"Job {result.id} has not ended within {timeout:g} s. It goes on: `jobmaster jobs show {result.id}` tells "
            "how it stands, `jobs cancel` ends it."
        ) from None
