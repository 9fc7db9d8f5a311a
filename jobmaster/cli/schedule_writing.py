"""`jobmaster schedules add` and `edit`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

import click

from jobmaster.cli.invocation import Invocation, common_options, pass_invocation
from jobmaster.cli.output import age, printable, show_json
from jobmaster.cli.schedule_options import (
    given_options,
    language_options,
    read_expression,
    read_object,
    schedule_options,
)
from jobmaster.errors import ScheduleSyntaxError

if TYPE_CHECKING:
    from jobmaster.views import ScheduleInfo

CLEARED: Final = (
    "name", "tz", "start-after", "end-before", "lane", "priority", "max-retries", "timeout", "metadata", "jitter",
    "misfire", "misfire-limit", "misfire-grace", "overlap",
)  # fmt: skip

LIMITS_NOTHING: Final = (
    "--misfire-limit counts only with --misfire all, or with --overlap queue. Give one of them, or leave it out."
)


def _read_arguments(ctx: click.Context, param: click.Parameter, value: str | None) -> dict[str, Any] | None:
    """The task's arguments; what was left over of an expression without quotes is none."""
    words = (str(ctx.params.get("expression", "")), value or "")
    if value and not value.lstrip().startswith(("{", "[")) and not any(" " in word for word in words):
        raise click.UsageError(
            f"EXPRESSION is {words[0]!r}, and what comes behind it, {value!r}, is no JSON object. Quote the whole "
            "expression, as in 'every day at 9:00'."
        )
    return read_object(ctx, param, value)


@click.command("add")
@common_options
@click.argument("task")
@click.argument("expression")
@click.argument("data", metavar="[JSON]", required=False, callback=_read_arguments)
@language_options
@schedule_options
@pass_invocation
def add(
    invocation: Invocation,
    /,
    *,
    task: str,
    expression: str,
    data: dict[str, Any] | None,
    cron: bool,
    type_id: str | None,
    **told: Any,
) -> None:
    """Add a schedule: TASK at the moments of EXPRESSION, with the arguments of a JSON object.

    With --name it may be repeated: the same name is the same schedule, and another definition replaces what it was.
    """
    try:
        rule = read_expression(expression, cron=cron, type_id=type_id)
    except ScheduleSyntaxError:
        if " " in task:
            raise click.UsageError(f"TASK comes first, then EXPRESSION; {task!r} is no task.") from None
        raise
    if told["misfire_limit"] is not None and told["misfire"] != "all" and told["overlap"] != "queue":
        raise click.UsageError(LIMITS_NOTHING)
    app = invocation.app()
    with _wrong_arguments():
        added = app.schedules.add(task, rule, data, **given_options(told))
    _tell(invocation, added)


@click.command("edit")
@common_options
@click.argument("schedule")
@click.option("--when", "expression", metavar="EXPRESSION", help="Another rule.")
@click.option("--data", metavar="JSON", callback=read_object, help="Other arguments: a JSON object.")
@click.option("--version", type=click.IntRange(1), metavar="N", help="Refuse it if the schedule has another version.")
@click.option("--clear", "cleared", multiple=True, type=click.Choice(CLEARED), help="Take an option back; repeatable.")
@language_options
@schedule_options
@pass_invocation
def edit(
    invocation: Invocation,
    /,
    *,
    schedule: str,
    expression: str | None,
    data: dict[str, Any] | None,
    version: int | None,
    cleared: tuple[str, ...],
    cron: bool,
    type_id: str | None,
    **told: Any,
) -> None:
    """Change what is given of a schedule, and nothing else."""
    given, gone = given_options(told), {name.replace("-", "_") for name in cleared}
    if contradicted := sorted(gone & given.keys()):
        names = " and ".join(f"--{name.replace('_', '-')}" for name in contradicted)
        raise click.UsageError(f"{names}: cleared and given at once. Do one of both.")
    options = {**given, **dict.fromkeys(gone)}
    if expression is None and data is None and not options:
        raise click.UsageError("Nothing is to be changed. Give --when, --data or an option; see --help.")
    if expression is None and (cron or type_id is not None):
        raise click.UsageError(
            "--cron and --type say in which language --when is. Give --when, too, or leave them out."
        )
    rule = None if expression is None else read_expression(expression, cron=cron, type_id=type_id)
    app = invocation.app()
    with _wrong_arguments():
        edited = app.schedules.edit(schedule, version=version, when=rule, data=data, **options)
    _tell(invocation, edited)
    if "misfire_limit" in given and edited.misfire != "all" and edited.overlap != "queue":
        click.echo(f"Note: it is kept, but {LIMITS_NOTHING}", err=True)


@contextmanager
def _wrong_arguments() -> Iterator[None]:
    try:
        yield
    except TypeError as error:
        # The task cannot be called like that.
        raise click.UsageError(str(error)) from None


def _tell(invocation: Invocation, info: ScheduleInfo) -> None:
    if invocation.as_json:
        show_json(info)
        return
    following = f", next {age(info.next_run)}" if info.next_run else ""
    click.echo(
        printable(f"{info.name or info.id}  {info.explanation} in {info.zone}{following}  (version {info.version})")
    )
