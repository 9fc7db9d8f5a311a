"""What `schedules add`, `edit` and `explain` are told: expressions, moments, durations, options of a schedule."""

from __future__ import annotations

import json
import re
from datetime import MAXYEAR, datetime
from typing import TYPE_CHECKING, Any, Final

import click

from jobmaster.errors import ScheduleSyntaxError
from jobmaster.model.states import Priority

if TYPE_CHECKING:
    from jobmaster.schedules import Expression

PRIORITIES: Final = tuple(priority.name.lower() for priority in Priority)
MISFIRES: Final = ("skip", "once", "all")
OVERLAPS: Final = ("allow", "skip", "queue", "cancel_previous")
UNITS: Final = {"ms": 0.001, "s": 1, "m": 60, "h": 3_600, "d": 86_400}
_CRON_FIELDS: Final = range(5, 8)
_CRON_BEGINS: Final = re.compile(r"\s*([0-9*?]|h[\s/(,])", re.IGNORECASE)


def read_expression(text: str, *, cron: bool = False, type_id: str | None = None) -> Expression:
    """The rule that was typed: NaturalCron, or cron where it is that.

    Raises:
        ScheduleSyntaxError: it cannot be read.
        ConfigurationError: there is no such language.
        UsageError: two languages are named.
    """
    from jobmaster.schedules import Cron, NaturalCron, compile_expression

    if cron and type_id not in {None, "Cron"}:
        raise click.UsageError(f"--cron and --type {type_id} name two languages. Give one of them.")
    if type_id is not None:
        return compile_expression(type_id, text)
    if cron:
        return Cron(text)
    try:
        return NaturalCron.parse(text)
    except ScheduleSyntaxError:
        if len(text.split()) in _CRON_FIELDS and _CRON_BEGINS.match(text):
            return Cron(text)
        raise


def read_duration(_ctx: click.Context, _param: click.Parameter, value: str | None) -> float | None:
    """Seconds, typed as 90, 90s, 5m, 2h, 1d or 500ms."""
    if value is None:
        return None
    unit = next((unit for unit in UNITS if value.endswith(unit)), "")
    try:
        return float(value.removesuffix(unit)) * UNITS[unit or "s"]
    except ValueError:
        raise click.BadParameter(f"{value!r} is no duration. Write 90, 90s, 5m, 2h or 1d.") from None


def read_moment(_ctx: click.Context, _param: click.Parameter, value: str | None) -> datetime | None:
    """An aware datetime, typed in ISO 8601."""
    if value is None:
        return None
    try:
        moment = datetime.fromisoformat(value)
    except ValueError:
        raise click.BadParameter(f"{value!r} is no moment. Write it as 2026-11-21T09:00:00+01:00.") from None
    if moment.tzinfo is None:
        raise click.BadParameter("it has no time zone. Add one, as in 2026-11-21T09:00:00Z.")
    if not 1 < moment.year < MAXYEAR:  # shown in another zone it may lie in no year at all
        raise click.BadParameter(f"it lies outside of the years 2 to {MAXYEAR - 1}. Give one in between.")
    return moment


def read_object(_ctx: click.Context, param: click.Parameter, value: str | None) -> dict[str, Any] | None:
    """A JSON object."""
    if value is None:
        return None
    try:
        read = json.loads(value)
    except ValueError as error:
        raise click.BadParameter(
            f"it is no JSON: {error}. Quote it for the shell, as in '{{\"region\": 7}}'."
        ) from None
    if not isinstance(read, dict):
        raise click.BadParameter(f"{param.name} is given by name, as a JSON object: '{{\"region\": 7}}'.")
    return read


def language_options(command: Any) -> Any:
    """Which language the expression is in."""
    command = click.option(
        "--type", "type_id", metavar="ID", help="The expression's language: Cron, TimeSpanInterval, Dates or your own."
    )(command)
    return click.option("--cron", is_flag=True, help="It is cron; five fields of cron are taken for it anyway.")(
        command
    )


def schedule_options(command: Any) -> Any:
    """The options of a schedule, under the names that they have in code."""
    for option in (
        click.option("--overlap", type=click.Choice(OVERLAPS), help="If the run before has not ended. Default: allow."),
        click.option(
            "--misfire-grace", metavar="TIME", callback=read_duration, help="Late by less is no misfire: 60s."
        ),
        click.option(
            "--misfire-limit",
            type=click.IntRange(1),
            metavar="N",
            help="With --misfire all or --overlap queue. Default: 100.",
        ),
        click.option("--misfire", type=click.Choice(MISFIRES), help="What becomes of missed runs. Default: once."),
        click.option("--jitter", metavar="TIME", callback=read_duration, help="Start each run up to so much later."),
        click.option("--metadata", metavar="JSON", callback=read_object, help="Plain data kept beside each job."),
        click.option("--timeout", metavar="TIME", callback=read_duration, help="Limit of one run."),
        click.option("--max-retries", type=click.IntRange(0), metavar="N"),
        click.option("--priority", type=click.Choice(PRIORITIES), help="Instead of the task's priority."),
        click.option("--lane", "-Q", metavar="LANE", help="Instead of the task's lane."),
        click.option("--end-before", metavar="MOMENT", callback=read_moment, help="No run after it."),
        click.option("--start-after", metavar="MOMENT", callback=read_moment, help="No run before: ISO 8601, a zone."),
        click.option("--tz", metavar="ZONE", help="Where the times are meant: Europe/Berlin. Default: the cluster's."),
        click.option("--name", "-n", metavar="NAME", help="Unique: the same name is the same schedule."),
    ):
        command = option(command)
    return command


def given_options(told: dict[str, Any]) -> dict[str, Any]:
    """Those that were given."""
    return {name: value for name, value in told.items() if value is not None}
