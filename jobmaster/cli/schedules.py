"""`jobmaster schedules`: look at recurring schedules, explain expressions, add, change and run schedules."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, tzinfo
from typing import TYPE_CHECKING, Any, Final, Literal
from zoneinfo import ZoneInfo

import click

from jobmaster.cli.awaiting import value_of
from jobmaster.cli.explaining import clock_time, explain, show_runs
from jobmaster.cli.failures import FAILED, Failure
from jobmaster.cli.invocation import Invocation, common_options, pass_invocation
from jobmaster.cli.output import age, compact_json, plain, printable, show_facts, show_json, show_table, span, stamp
from jobmaster.cli.schedule_options import read_moment
from jobmaster.cli.schedule_writing import add, edit
from jobmaster.errors import ConfigurationError, NotRegistered

if TYPE_CHECKING:
    from jobmaster.app import JobMaster
    from jobmaster.views import ScheduleInfo, ScheduleRun, UpcomingRun

STATES: Final = ("active", "paused", "broken", "inactive", "completed", "canceled")
RUNS_SHOWN: Final = 10
NEXT_SHOWN: Final = 5


@click.group()
@common_options
def schedules() -> None:
    """Recurring schedules. Each is named by its name or its id."""


schedules.add_command(explain)
schedules.add_command(add)
schedules.add_command(edit)


@schedules.command("list")
@common_options
@click.option("--state", "-s", type=click.Choice(STATES, case_sensitive=False))
@click.option("--kind", type=click.Choice(["static", "dynamic"]), help="Defined in code or files, or made by a call.")
@click.option("--task", metavar="NAME", help="The task's name.")
@click.option("--lane", "-Q", metavar="LANE")
@click.option("--text", metavar="TEXT", help="Part of the name, the task, the expression or the id.")
@click.option("--limit", type=click.IntRange(1, 1_000), default=50, show_default=True, metavar="N")
@click.option("--after", metavar="TOKEN", help="The next page: what the page before named.")
@pass_invocation
def list_schedules(invocation: Invocation, /, limit: int, after: str | None, **given: Any) -> None:
    """List schedules by name."""
    from jobmaster.views import ScheduleQuery

    app = invocation.app()
    page = app.schedules.list(ScheduleQuery(**given), limit=limit, after=after)
    if invocation.as_json:
        show_json({"schedules": [_short(schedule) for schedule in page.schedules], "after": page.after})
        return
    show_table(
        ["name", "state", "fires", "zone", "next", "last", "task", "kind", "error"],
        [
            (one.name or one.id, str(one.state), one.expression or one.type_id, one.zone, age(one.next_run),
             age(one.last_run), one.task, one.kind, one.error.partition("\n")[0])
            for one in page.schedules
        ],
        empty=_none(app, filtered=any(value is not None for value in given.values())),
    )  # fmt: skip
    if page.after:
        click.echo(f"More: --after {page.after}")


def _none(app: JobMaster, *, filtered: bool) -> str:
    """Why a list is empty, and what to do."""
    declared = [] if filtered else sorted(one.name for one in app.static_schedules())
    if declared:
        return f"None is stored yet. In code and files: {', '.join(declared)}; a worker stores them when it starts."
    return "No such schedules. Put @jm.every('every day at 02:30') on a task, or: jobmaster schedules add --help"


@schedules.command("show")
@common_options
@click.argument("schedule", metavar="SCHEDULE")
@pass_invocation
def show(invocation: Invocation, /, schedule: str) -> None:
    """Show one schedule: its rule, its options, its next runs and its history."""
    app = invocation.app()
    past = app.schedules.runs(schedule, RUNS_SHOWN)  # of one that nobody knows it says which was probably meant
    info = app.schedules.get(schedule)
    if info is None:
        raise Failure(f"The schedule {schedule!r} was there a moment ago. See jobmaster schedules list.")
    # A rule in a language that only workers have is shown all the same.
    coming = app.schedules.next(info.id, NEXT_SHOWN) if info.next_run else ()
    if invocation.as_json:
        show_json({**plain(info), "next": coming, "runs": past})
        return
    show_facts(_facts(info))
    if "\n" in info.error:  # an expression with a caret below the place
        click.echo(f"\n{printable(info.error, keep_lines=True)}")
    if coming:
        click.echo("\nnext runs")
        show_runs([(run.at, run.note) for run in coming])
    if past:
        click.echo("\nhistory")
        _show_history(past, info.zone)


@schedules.command("next")
@common_options
@click.argument("schedule", metavar="SCHEDULE")
@click.option("--count", type=click.IntRange(1, 1_000), default=10, show_default=True, metavar="N")
@pass_invocation
def next_runs(invocation: Invocation, /, schedule: str, count: int) -> None:
    """Show the next runs of a schedule, and what daylight saving does to them."""
    coming: Sequence[UpcomingRun] = invocation.app().schedules.next(schedule, count)
    if invocation.as_json:
        show_json(coming)
    elif coming:
        show_runs([(run.at, run.note) for run in coming])
    else:
        click.echo(printable(_why_none(schedule, invocation.app().schedules.get(schedule))))


def _why_none(schedule: str, info: ScheduleInfo | None) -> str:
    """Why there are no next runs, and what to do about it."""
    state = None if info is None else info.state
    if state in {"Paused", "Broken"}:
        what = "To let it go on" if state == "Paused" else "When its error (`schedules show`) is mended"
        return f"None: it is {state}. {what}: jobmaster schedules resume {schedule}"
    why = "its rule names none" if state == "Active" else f"it is {state or 'gone'}"
    return f"None: {why}. See jobmaster schedules show {schedule}"


def _several(command: Any) -> Any:
    return common_options(click.argument("names", metavar="SCHEDULE...", nargs=-1, required=True)(command))


@schedules.command("pause")
@_several
@pass_invocation
def pause(invocation: Invocation, /, names: tuple[str, ...]) -> None:
    """Let schedules make no more runs until `resume`."""
    _each(invocation, names, invocation.app().schedules.pause, "paused")


@schedules.command("resume")
@_several
@pass_invocation
def resume(invocation: Invocation, /, names: tuple[str, ...]) -> None:
    """Let schedules go on from now; also tries broken ones again."""
    _each(invocation, names, invocation.app().schedules.resume, "goes on")


@schedules.command("cancel")
@_several
@pass_invocation
def cancel(invocation: Invocation, /, names: tuple[str, ...]) -> None:
    """End schedules for good. One that is defined in code is removed there."""
    app = invocation.app()

    def end(name: str) -> bool:
        return app.schedules.cancel(name)

    _each(invocation, names, end, "cancelled: no run comes any more", "not done: it was cancelled before")


@schedules.command("run")
@common_options
@click.argument("schedule", metavar="SCHEDULE")
@click.option("--wait/--no-wait", default=False, help="Wait for the end and print the result.")
@click.option("--timeout", type=click.FloatRange(0), metavar="SECONDS", help="With --wait: how long.")
@click.option(
    "--job-id", metavar="ID", help="An id of your own: the same id is the same run, so that a repeat is safe."
)
@pass_invocation
def run(invocation: Invocation, /, *, schedule: str, wait: bool, timeout: float | None, job_id: str | None) -> None:
    """Make one run more, due now, and print its job's id."""
    if timeout is not None and not wait:
        raise click.UsageError("--timeout says how long to --wait: give both, or neither.")
    app = invocation.app()
    result = app.schedules.run_now(schedule, job_id=job_id)
    if not wait:
        show_json({"id": result.id, "schedule": schedule}) if invocation.as_json else click.echo(result.id)
        return
    value = value_of(app, result, timeout=timeout, as_json=invocation.as_json)
    if invocation.as_json:
        show_json({"id": result.id, "schedule": schedule, "status": str(result.status), "result": value})
    else:
        click.echo(printable(compact_json(value)))


@schedules.command("backfill")
@common_options
@click.argument("schedule", metavar="SCHEDULE")
@click.option("--from", "start", metavar="MOMENT", required=True, callback=read_moment, help="ISO 8601 with a zone.")
@click.option("--to", "end", metavar="MOMENT", required=True, callback=read_moment, help="Not later than now.")
@click.option("--limit", type=click.IntRange(1, 900), default=100, show_default=True, metavar="N",
              help="Make nothing where there would be more.")  # fmt: skip
@pass_invocation
def backfill(invocation: Invocation, /, schedule: str, start: datetime, end: datetime, limit: int) -> None:
    """Make up for moments that have passed: a job, due now, for each that has none, or one that was missed.

    Repeating it makes no second.
    """
    made = invocation.app().schedules.backfill(schedule, start, end, limit=limit)
    if invocation.as_json:
        show_json([result.id for result in made])
        return
    for result in made:
        click.echo(result.id)
    click.echo(f"{len(made):,} jobs", err=True)


def _each(
    invocation: Invocation,
    names: tuple[str, ...],
    order: Callable[[str], ScheduleInfo | bool],
    done: str,
    not_done: str = "",
) -> None:
    """Give an order for each schedule; those of which it cannot be keep the others from nothing."""
    told: dict[str, str] = {}
    for name in names:
        try:
            told[name] = done if order(name) else not_done
        except NotRegistered as error:
            told[name] = f"not done: {error}"
        except ConfigurationError as error:
            if len(names) == 1:
                raise
            told[name] = f"not done: {error}"
        if not invocation.as_json:  # at once: the store may be gone before the next one
            click.echo(printable(f"{name}  {told[name]}"))
    failed = [f"{name}: {word}" for name, word in told.items() if word != done]
    if invocation.as_json:
        show_json({name: word == done for name, word in told.items()})
        if failed:
            raise Failure("\n".join(failed))
    if failed:
        raise click.exceptions.Exit(FAILED)


def _short(schedule: ScheduleInfo) -> dict[str, object]:
    """The schedule without what only `show` has."""
    told: dict[str, object] = plain(schedule)
    return {name: value for name, value in told.items() if name not in {"args", "kwargs", "metadata", "payload_error"}}


def _facts(info: ScheduleInfo) -> list[tuple[str, object]]:
    return [
        ("name", info.name),
        ("id", info.id),
        ("state", str(info.state)),
        ("error", info.error.partition("\n")[0]),
        ("fires", info.expression),
        ("in English", info.explanation),
        ("language", info.type_id),
        ("zone", info.zone),
        ("task", info.task),
        ("arguments", compact_json(info.kwargs) if info.kwargs else None),
        ("unreadable", info.payload_error),
        ("metadata", compact_json(info.metadata) if info.metadata else None),
        ("lane", info.lane),
        ("priority", info.priority.name.lower()),
        ("max retries", info.max_retries),
        ("timeout", span(info.timeout.total_seconds()) if info.timeout else None),
        ("starts after", _when(info.start_after)),
        ("ends before", _when(info.end_before)),
        ("misfire", _misfire(info)),
        ("overlap", info.overlap),
        ("jitter", span(info.jitter.total_seconds()) if info.jitter else None),
        ("kind", _kind(info)),
        ("version", info.version),
        ("made", _when(info.created_at)),
        ("ended", _when(info.ended_at)),
    ]


def _kind(info: ScheduleInfo) -> str:
    kind: Literal["static", "dynamic"] = info.kind
    if kind == "dynamic":
        return "dynamic: made by a call"
    return f"static: defined in code ({info.source}); pause it here, change it there"


def _misfire(info: ScheduleInfo) -> str:
    limit = f", the latest {info.misfire_limit}" if info.misfire == "all" else ""
    return f"{info.misfire}{limit} (late by more than {span(info.misfire_grace.total_seconds())})"


def _show_history(runs: Sequence[ScheduleRun], zone: str) -> None:
    """Past runs, by the clocks that the rule goes by."""
    try:
        clocks: tzinfo = ZoneInfo(zone)
    except (KeyError, ValueError, OSError):  # removed from this machine, or none was ever known
        clocks = UTC
    show_table(
        ["moment", "status", "late", "took", "made by", "job", "reason"],
        [
            (clock_time(run.at.astimezone(clocks)), "gone" if run.status is None else str(run.status),
             "" if run.lateness is None else span(max(run.lateness.total_seconds(), 0)),
             "" if run.duration is None else span(run.duration.total_seconds()),
             run.trigger, run.job_id, run.reason or (run.error.type if run.error else ""))
            for run in runs
        ],
        empty="",
    )  # fmt: skip


def _when(moment: datetime | None) -> str | None:
    return None if moment is None else f"{stamp(moment)} ({age(moment)})"
