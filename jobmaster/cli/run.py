"""`jobmaster run`: enqueue one job from a terminal."""

from __future__ import annotations

import json
import sys
from datetime import datetime
from typing import TYPE_CHECKING, Any

import click

from jobmaster.cli.awaiting import value_of
from jobmaster.cli.invocation import Invocation, common_options, pass_invocation
from jobmaster.cli.output import compact_json, printable, show_json
from jobmaster.model.states import Priority

if TYPE_CHECKING:
    from jobmaster.app import JobMaster
    from jobmaster.result import Result

PRIORITIES = tuple(priority.name.lower() for priority in Priority)


@click.command()
@common_options
@click.argument("task")
@click.argument("arguments", metavar="[JSON]", default="{}")
@click.option("--wait/--no-wait", default=False, help="Wait for the end and print the result.")
@click.option(
    "--timeout",
    type=click.FloatRange(0),
    metavar="SECONDS",
    help="With --wait: how long. Default: as long as it takes.",
)
@click.option("--delay", type=click.FloatRange(0), metavar="SECONDS", help="Start at the earliest after this time.")
@click.option("--at", metavar="MOMENT", help="Start at this moment: ISO 8601 with a zone, 2026-11-21T09:00:00+01:00.")
@click.option("--lane", "-Q", metavar="LANE", help="Instead of the task's lane.")
@click.option("--priority", type=click.Choice(PRIORITIES), help="Instead of the task's priority.")
@click.option("--job-id", metavar="ID", help="Your own id: the same id is the same job, so a repeat is safe.")
@pass_invocation
def run(invocation: Invocation, /, task: str, arguments: str, wait: bool, timeout: float | None, **given: Any) -> None:  # noqa: FBT001 - click calls by name
    """Enqueue a job of TASK and print its id.

    JSON are the arguments: an object by name, a list by position, `-` reads them from standard input. With --wait the
    result is printed as JSON, and a failed job ends with exit code 1.
    """
    if timeout is not None and not wait:
        raise click.UsageError("--timeout says how long to --wait: give both, or neither.")
    args, kwargs = _read_arguments(arguments)
    options = _options(given)
    app = invocation.app()
    result = _enqueue(app, task, args, kwargs, options)
    if not wait:
        if invocation.as_json:
            show_json({"id": result.id, "task": task})
        else:
            click.echo(result.id)
        return
    if not invocation.as_json:
        click.echo(f"job {result.id}", err=True)
    value = value_of(app, result, timeout=timeout, as_json=invocation.as_json)
    if invocation.as_json:
        show_json({"id": result.id, "task": task, "status": str(result.status), "result": value})
    else:
        click.echo(printable(compact_json(value)))


def _read_arguments(text: str) -> tuple[list[Any], dict[str, Any]]:
    source = sys.stdin.read() if text == "-" else text
    try:
        value = json.loads(source)
    except ValueError as error:
        raise click.UsageError(
            f"The arguments are no JSON: {error}. Quote them for the shell, as in "
            """jobmaster run shop.mail '{"order_id": 7}'."""
        ) from None
    if isinstance(value, dict):
        return [], value
    if isinstance(value, list):
        return value, {}
    raise click.UsageError(
        f'The arguments are a single JSON value. Give them by name, {{"name": {json.dumps(value)}}}, or by position, '
        f"[{json.dumps(value)}]."
    )


def _options(given: dict[str, Any]) -> dict[str, Any]:
    options = {name: value for name, value in given.items() if value is not None}
    if "at" in options:
        try:
            options["at"] = datetime.fromisoformat(options["at"])
        except ValueError:
            raise click.BadParameter(
                f"{options['at']!r} is no moment. Write it as 2026-11-21T09:00:00+01:00.", param_hint="--at"
            ) from None
        if options["at"].tzinfo is None:
            raise click.BadParameter("it has no time zone. Add one, as in 2026-11-21T09:00:00Z.", param_hint="--at")
    if "delay" in options and "at" in options:
        raise click.UsageError("--delay and --at both say when. Give one of them.")
    return options


def _enqueue(
    app: JobMaster, name: str, args: list[Any], kwargs: dict[str, Any], options: dict[str, Any]
) -> Result[Any]:
    definition = app.registry.find(name)
    if definition is not None and definition.handler is None:
        from jobmaster.task import Task

        try:
            return Task(app, definition, definition.function).apply_async(args, kwargs, **options)
        except TypeError as error:
            # The task cannot be called like that.
            raise click.UsageError(str(error)) from None
    if args and not options:
        return app.send(name, *args)
    if args:
        raise click.UsageError(
            f"{name!r} is not a task of this app: options need arguments by name. Give a JSON object."
        )
    return app.scheduler.once_now(name, kwargs, **options)
