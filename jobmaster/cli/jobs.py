"""`jobmaster jobs`: look at jobs, run them again, cancel them, follow them."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import click

from jobmaster.cli.awaiting import nobody_runs
from jobmaster.cli.failures import FAILED, Failure
from jobmaster.cli.invocation import Invocation, common_options, pass_invocation
from jobmaster.cli.job_story import story
from jobmaster.cli.output import age, compact_json, plain, printable, show_facts, show_json, show_table, stamp
from jobmaster.model.states import CancelOutcome, JobStatus, Priority

if TYPE_CHECKING:
    from jobmaster.app import JobMaster
    from jobmaster.cli.job_story import Step
    from jobmaster.views import JobInfo, JobQuery

STATUSES = {str(status).lower(): (status,) for status in JobStatus} | {
    "waiting": (JobStatus.SAVE_PENDING, JobStatus.HELD_ON_MASTER, JobStatus.ASSIGNED_TO_BUCKET, JobStatus.QUEUED),
    "running": (JobStatus.PROCESSING,),
    "ended": (JobStatus.SUCCEEDED, JobStatus.FAILED, JobStatus.CANCELLED),
}
"""What `--status` takes: a status, or a family of them."""
PRIORITIES = tuple(priority.name.lower() for priority in Priority)
UNKNOWN = "nobody knows it: a job of this id will not start, should it come later"
LOOK_EVERY = 0.5
_OF_ONE = frozenset({"args", "kwargs", "metadata", "result", "schedule", "trigger"})
"""What a list does not tell."""
FOLLOWED = 200
UNITS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}


@click.group()
@common_options
def jobs() -> None:
    """List, show, retry, cancel and follow jobs."""


def _filters(command: Any) -> Any:
    for option in (
        click.option("--text", metavar="TEXT", help="Part of the task's name or of an id."),
        click.option("--reason", metavar="REASON", help="Such as quarantined, unroutable, expired."),
        click.option("--since", metavar="AGE", callback=_read_since, help="Made since: 30s, 15m, 2h, 7d ago."),
        click.option("--worker", metavar="NAME", help="The worker that has, or had, it."),
        click.option("--priority", type=click.Choice(PRIORITIES)),
        click.option("--lane", "-Q", metavar="LANE"),
        click.option("--task", metavar="NAME", help="The task's name."),
        click.option(
            "--status",
            "-s",
            "statuses",
            multiple=True,
            type=click.Choice(list(STATUSES), case_sensitive=False),
            help="A status, or waiting, running, ended; may be repeated.",
        ),
    ):
        command = option(command)
    return command


def _read_since(_ctx: click.Context, _param: click.Parameter, value: str | None) -> datetime | None:
    if value is None:
        return None
    number, unit = value[:-1], value[-1:]
    try:
        return datetime.now(UTC) - timedelta(seconds=float(number) * UNITS[unit])
    except (ValueError, KeyError, OverflowError):
        raise click.BadParameter(f"{value!r} is no age. Write 30s, 15m, 2h or 7d.") from None


def _query(given: dict[str, Any]) -> JobQuery:
    from jobmaster.views import JobQuery

    statuses = tuple(dict.fromkeys(status for name in given.pop("statuses") for status in STATUSES[name.lower()]))
    return JobQuery(statuses=statuses or None, created_from=given.pop("since"), **given)


@jobs.command("list")
@common_options
@_filters
@click.option("--limit", type=click.IntRange(1, 1_000), default=50, show_default=True, metavar="N")
@click.option("--after", metavar="TOKEN", help="The next page: what the page before named.")
@pass_invocation
def list_jobs(invocation: Invocation, /, limit: int, after: str | None, **given: Any) -> None:
    """List jobs, newest first."""
    query = _query(given)
    page = invocation.app().jobs.list(query, limit=limit, after=after)
    if invocation.as_json:
        show_json({"jobs": [_short(job) for job in page.jobs], "after": page.after, "unlisted": page.unlisted})
        return
    show_table(
        ["id", "status", "task", "lane", "priority", "attempts", "created", "due", "ended", "reason"],
        [
            (job.id, str(job.status), job.task, job.lane, job.priority, job.attempts, age(job.created_at),
             _due(job), age(job.finished_at), job.reason or (job.error.type if job.error else ""))
            for job in page.jobs
        ],
        empty="No such jobs.",
    )  # fmt: skip
    if page.unlisted:
        click.echo(f"{page.unlisted:,} more wait in agents and have no row in the master yet.")
    if page.after:
        click.echo(f"More: --after {page.after}")


def _due(job: JobInfo) -> str:
    """When a job that waits for its moment begins; empty: it waits for no moment."""
    waits = not job.status.is_final and job.due_at > datetime.now(UTC)
    return age(job.due_at) if waits else ""


@jobs.command("show")
@common_options
@click.argument("job_id", metavar="ID")
@pass_invocation
def show(invocation: Invocation, /, job_id: str) -> None:
    """Show one job: arguments, result, error, and its story: who ran it, what became of each run, and why."""
    app = invocation.app()
    job, attempts = _found(app, job_id), app.jobs.attempts(job_id)
    if invocation.as_json:
        show_json({**plain(job), "attempts_made": attempts, "story": story(job, attempts)})
        return
    show_facts(
        [
            ("id", job.id),
            ("status", str(job.status) + (f" ({job.reason})" if job.reason else "")),
            ("task", job.task),
            ("made by", f"schedule {job.schedule} ({job.trigger})" if job.schedule else None),
            ("lane", job.lane),
            ("priority", job.priority.name.lower()),
            ("arguments", _arguments(job)),
            ("metadata", compact_json(job.metadata) if job.metadata else None),
            ("result", compact_json(job.result) if job.status is JobStatus.SUCCEEDED else None),
            ("unreadable", job.payload_error),
            ("created", _when(job.created_at)),
            ("due", _when(job.due_at)),
            ("expires", _when(job.expires_at)),
            ("started", _when(job.started_at)),
            ("ended", _when(job.finished_at)),
            ("worker", job.worker),
            ("bucket", job.bucket),
            ("attempts", f"{job.attempts} ({job.failures} failed, {job.recoveries} recovered)"),
            ("error", f"{job.error.type}: {job.error.message}" if job.error else None),
        ]
    )
    for step in story(job, attempts):
        _show_step(step)
    why = nobody_runs(app, job)
    if why:
        click.echo(f"\n{why}")
    if job.error and job.error.traceback:
        click.echo(f"\n{printable(job.error.traceback.rstrip(), keep_lines=True)}")


@jobs.command("retry")
@common_options
@click.argument("job_ids", metavar="ID...", nargs=-1, required=True)
@pass_invocation
def retry(invocation: Invocation, /, job_ids: tuple[str, ...]) -> None:
    """Run ended jobs again, with their retries as new."""
    app = invocation.app()
    done = {job_id: app.jobs.retry(job_id) for job_id in job_ids}
    if invocation.as_json:
        show_json(done)
    else:
        for job_id, yes in done.items():
            click.echo(f"{job_id}  {'waits to run again' if yes else 'not done: it has not ended, or nobody knows it'}")
    if not all(done.values()):
        raise click.exceptions.Exit(FAILED)


@jobs.command("cancel")
@common_options
@click.argument("job_ids", metavar="ID...", nargs=-1, required=True)
@pass_invocation
def cancel(invocation: Invocation, /, job_ids: tuple[str, ...]) -> None:
    """Cancel jobs: one that waits does not start, one that runs is told to stop."""
    app = invocation.app()
    done = {job_id: app.jobs.cancel(job_id) for job_id in job_ids}
    words = {
        CancelOutcome.CANCELLED: "cancelled: it will not start",
        CancelOutcome.REQUESTED: "asked for: its worker decides; see jobs show",
        CancelOutcome.TOO_LATE: "too late: it had ended",
    }
    unknown = {id_ for id_, said in done.items() if said is CancelOutcome.REQUESTED and app.jobs.get(id_) is None}
    if invocation.as_json:
        show_json({job_id: outcome.value for job_id, outcome in done.items()})
    else:
        for job_id, outcome in done.items():
            click.echo(f"{job_id}  {UNKNOWN if job_id in unknown else words[outcome]}")
    if unknown or CancelOutcome.TOO_LATE in done.values():
        raise click.exceptions.Exit(FAILED)


@jobs.command("tail")
@common_options
@click.argument("job_id", metavar="[ID]", required=False)
@_filters
@click.option("--lines", "-n", type=click.IntRange(1), metavar="N", help="End after so many lines.")
@pass_invocation
def tail(invocation: Invocation, /, job_id: str | None, lines: int | None, **given: Any) -> None:
    """Follow jobs: a line for each change of a status, until Ctrl-C. With an ID: until that job has ended.

    With an ID the exit code is 0 if the job succeeded.
    """
    query = _query(given)
    app = invocation.app()
    last: JobInfo | None = None
    changes = _changes_of_one(app, job_id) if job_id else _changes(app, query)
    for count, job in enumerate(changes, 1):
        last = job
        _show_change(job, as_json=invocation.as_json)
        if count == lines:
            break
    if job_id and last is not None and last.status.is_final and last.status is not JobStatus.SUCCEEDED:
        raise click.exceptions.Exit(FAILED)


def _changes_of_one(app: JobMaster, job_id: str) -> Iterator[JobInfo]:
    """The job each time that its status or attempt has changed, until it has ended."""
    seen: tuple[object, ...] = ()
    while True:
        job = _found(app, job_id)
        if (job.status, job.attempts) != seen:
            seen = (job.status, job.attempts)
            yield job
        if job.status.is_final:
            return
        time.sleep(LOOK_EVERY)


def _changes(app: JobMaster, query: JobQuery) -> Iterator[JobInfo]:
    """The newest jobs as they change, oldest change first, for ever."""
    seen: dict[str, tuple[object, ...]] = {}
    first = True
    while True:
        page = app.jobs.list(query, limit=FOLLOWED)
        now: dict[str, tuple[object, ...]] = {job.id: (job.status, job.attempts) for job in page.jobs}
        for job in reversed(page.jobs[:10] if first else page.jobs):
            if seen.get(job.id) != now[job.id]:
                yield job
        seen, first = now, False
        time.sleep(LOOK_EVERY)


def _show_change(job: JobInfo, *, as_json: bool) -> None:
    if as_json:
        click.echo(compact_json(_short(job)))
        return
    moment = job.finished_at or job.started_at or job.created_at
    note = job.reason or (f"{job.error.type}: {job.error.message}" if job.error else "")
    text = f"{stamp(moment)}  {job.status!s:<17} {job.task}  {job.id}" + (f"  {note}" if note else "")
    click.echo(printable(text))


def _found(app: JobMaster, job_id: str) -> JobInfo:
    job = app.jobs.get(job_id)
    if job is None:
        raise Failure(
            f"Nobody knows a job {job_id!r} in cluster {app.cluster_id!r} ({app.settings.master}). It may be older "
            "than the retention, or belong to another cluster."
        )
    return job


def _short(job: JobInfo) -> dict[str, object]:
    """The job without what only `show` has."""
    told: dict[str, object] = plain(job)
    return {name: value for name, value in told.items() if name not in _OF_ONE}


def _arguments(job: JobInfo) -> str | None:
    if job.args is None and job.kwargs is None:
        return None
    parts = [compact_json(value) for value in job.args or ()]
    parts += [f"{name}={compact_json(value)}" for name, value in (job.kwargs or {}).items()]
    return ", ".join(parts) or "none"


def _when(moment: datetime | None) -> str | None:
    return None if moment is None else f"{stamp(moment)} ({age(moment)})"


def _show_step(step: Step) -> None:
    click.echo(printable(f"  {stamp(step.at) or 'now':<29}  {step.text}"))
