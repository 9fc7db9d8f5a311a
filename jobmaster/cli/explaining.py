"""`jobmaster schedules explain`: an expression in plain English, and when it fires. No app, no database."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import MAXYEAR, UTC, datetime, timedelta
from itertools import islice
from typing import TYPE_CHECKING, Any, Final
from zoneinfo import ZoneInfo

import click

from jobmaster.cli.invocation import Invocation, common_options, pass_invocation
from jobmaster.cli.output import age, printable, show_facts, show_json, terminal_width
from jobmaster.cli.schedule_options import language_options, read_expression, read_moment

if TYPE_CHECKING:
    from jobmaster.schedules import Expression, NaturalCron, Run

LOOKED_AHEAD: Final = timedelta(days=400)
"""Changes of clocks within so much time are looked at."""
_MOST_AROUND: Final = 150
_DAY: Final = timedelta(days=1)
_COMPARED: Final = 20
_LAST_WEEKDAY: Final = re.compile(r"\b([0-6])L\b")
"""Elsewhere the last Friday is `5L`, in our cron `L5`."""


@click.command("explain", short_help="Say an expression in plain English, with its next runs; needs no app.")
@common_options
@click.argument("words", metavar="EXPRESSION", nargs=-1, required=True)
@click.option("--tz", metavar="ZONE", help="Where the times are meant: Europe/Berlin. Default: UTC, or the zone of -A.")
@click.option("--count", type=click.IntRange(1, 1_000), default=10, show_default=True, metavar="N", help="Next runs.")
@click.option("--after", metavar="MOMENT", callback=read_moment, help="Runs after this moment instead of now.")
@language_options
@pass_invocation
def explain(
    invocation: Invocation,
    /,
    words: tuple[str, ...],
    tz: str | None,
    count: int,
    after: datetime | None,
    **language: Any,
) -> None:
    """Say an expression in plain English, and when it fires: the next runs, and what daylight saving does to them.

    Needs neither an app nor a database. A text that cannot be read is shown with a caret below the place; exit code 2.
    """
    from jobmaster.schedules import expression_of, next_runs

    # An app brings the languages that it has registered; ours need none.
    app = invocation.app() if invocation.place and (tz is None or language["type_id"]) else None
    rule = read_expression(" ".join(words), **language)
    if tz is not None and rule.zone is not None and rule.zone.key.lower() != tz.lower():
        raise click.UsageError(f"The expression is in the zone {rule.zone.key}, and --tz is {tz}. Name the zone once.")
    zone = tz or ("UTC" if app is None else app.settings.time_zone)
    rule = expression_of(rule, zone)
    after = after or datetime.now(UTC)
    runs = next_runs(rule, after, count)
    effects = [run for run in _around_changes(rule, after) if run.moment not in {known.moment for known in runs}]
    if invocation.as_json:
        show_json(_told(rule, runs, effects))
        return
    _show(rule, runs, effects)


def show_runs(runs: Sequence[tuple[datetime, str]]) -> None:
    """Print moments in their zone, with how far off they are and a note where there is one."""
    most = terminal_width()
    for at, note in runs:
        line = f"  {clock_time(at)}  {age(at):<10}"
        told = f"  ! {printable(note)}" if note else ""
        if told and most is not None and len(line) + len(told) > most:
            line = f"{line.rstrip()}\n  "
        click.echo(f"{line}{click.style(told, fg='yellow') if told else ''}".rstrip())


def clock_time(moment: datetime) -> str:
    """A moment as clocks of its zone show it: `Mon 2026-11-23 02:30:00 +0100`."""
    return f"{moment:%a %Y-%m-%d %H:%M:%S %z}"


def _show(rule: Expression, runs: Sequence[Run], effects: Sequence[Run]) -> None:
    click.secho(printable(rule.text or rule.type_id), bold=True)
    cron, why = _as_cron(rule, fires=bool(runs))
    show_facts(
        [
            ("in English", rule.explain()),
            ("language", rule.type_id),
            ("zone", _zone(rule)),
            ("cron", cron or f"none: {why}"),
            ("H", _hashed(rule)),
        ]
    )
    click.echo("\nnext runs" if runs else "\nIt never fires from then on.")
    show_runs([(run.moment, run.note) for run in runs])
    if effects:
        click.echo("\naround changes of clocks")
        show_runs([(run.moment, run.note) for run in effects])


def _hashed(rule: Expression) -> str:
    """What to know of cron's `H`, where the text has it and no schedule is asked about."""
    from jobmaster.schedules import Cron

    if not isinstance(rule, Cron) or all(rule.hashed(f"{n}").fields == rule.fields for n in range(8)):
        return ""
    return "each schedule gets a value of its own, not these: see jobmaster schedules next NAME"


def _told(rule: Expression, runs: Sequence[Run], effects: Sequence[Run]) -> dict[str, object]:
    cron, why = _as_cron(rule, fires=bool(runs))
    return {
        "expression": rule.text,
        "type_id": rule.type_id,
        "explanation": rule.explain(),
        "zone": _zone(rule),
        "cron": cron or None,
        "no_cron_because": why,
        "next": [{"at": run.moment, "note": run.note} for run in runs],
        "around_changes_of_clocks": [{"at": run.moment, "note": run.note} for run in effects],
    }


def _zone(rule: Expression) -> str:
    return "UTC" if rule.zone is None else rule.zone.key


def _as_cron(rule: Expression, *, fires: bool) -> tuple[str, str]:
    """The same as this program reads it in cron, or why there is none."""
    if rule.type_id == "Cron":
        return rule.text, ""
    if not fires:
        return "", "it never fires"
    from jobmaster.schedules import NaturalCron

    if not isinstance(rule, NaturalCron):
        return "", f"cron has nothing like {rule.type_id}"
    from jobmaster.schedules.natural import CronConversionError, CronDialect

    why = ""
    for dialect in (CronDialect.CRONTAB, CronDialect.CRONOS):
        try:
            found = _LAST_WEEKDAY.sub(r"L\1", rule.to_cron(dialect, seconds=True)).removeprefix("0 ")
        except CronConversionError as error:
            why = f"{'; '.join(error.reasons)}. Keep it as NaturalCron."
            continue
        if rule.is_phased:
            return "", f"it goes on from when the schedule was made. Counted by the clock it is {found}"
        if _is_same(rule, found):
            return found, ""
        why = f"{found}, as other programs write it, is not read here or means something else. Keep it as NaturalCron."
    return "", why


def _is_same(rule: NaturalCron, cron: str) -> bool:
    """Whether our cron reads the line, and means the same by it."""
    from jobmaster import ScheduleSyntaxError
    from jobmaster.schedules import Cron, occurrences

    start = datetime(2026, 1, 1, tzinfo=rule.zone or UTC)
    moments = list(islice(occurrences(rule, start), _COMPARED))
    try:
        return moments == list(islice(occurrences(Cron(cron, tz=rule.zone), start), _COMPARED))
    except ScheduleSyntaxError:
        return False


def _around_changes(rule: Expression, after: datetime) -> list[Run]:
    """The first run that each change of clocks within about a year does something to."""
    from jobmaster.schedules import next_runs

    found = []
    for change in _changes(rule.zone, after) if rule.zone is not None else ():
        # A rule that fires rarely is met from a day before, one that fires each second from close by.
        for before in (_DAY, timedelta(hours=2), timedelta(minutes=1)):
            runs = next_runs(rule, max(after, change - before), _MOST_AROUND)
            noted = [run for run in runs if run.note and run.moment.astimezone(UTC) < change + _DAY]
            if noted:
                found.append(noted[0])
                break
    return found


def _changes(zone: ZoneInfo, after: datetime) -> list[datetime]:
    """When the zone's clocks are changed, to the minute."""
    found = []
    day = after.astimezone(UTC)
    for _ in range(LOOKED_AHEAD // _DAY):
        if day.year >= MAXYEAR - 1:
            break
        low, high = day, day + _DAY
        if low.astimezone(zone).utcoffset() != high.astimezone(zone).utcoffset():
            while high - low > timedelta(minutes=1):
                middle = low + (high - low) / 2
                same = middle.astimezone(zone).utcoffset() == low.astimezone(zone).utcoffset()
                low, high = (middle, high) if same else (low, middle)
            found.append(high)
        day += _DAY
    return found
