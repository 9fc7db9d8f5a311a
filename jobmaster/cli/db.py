"""`jobmaster db`: the master's schema."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from jobmaster.cli.failures import FAILED
from jobmaster.cli.invocation import Invocation, common_options, pass_invocation
from jobmaster.cli.output import show_facts, show_json, show_table

if TYPE_CHECKING:
    from jobmaster.database import SchemaStatus

DIALECTS = ("sqlite", "postgresql", "mysql", "mssql")
UNSEEN = "Producers are listed nowhere: replace those of the older version, too, before you go on."


@click.group()
@common_options
def db() -> None:
    """The master's schema: its version, upgrade, and SQL for a DBA."""


@db.command("status")
@common_options
@pass_invocation
def status(invocation: Invocation, /) -> None:
    """Say which schema the master has, what an upgrade would do, and which workers run with which version.

    Exit code 0: this JobMaster can work on it.
    """
    settings = invocation.app().settings
    from jobmaster.database import agent_statuses, schema_status

    master, agents = schema_status(settings), agent_statuses(settings)
    if invocation.as_json:
        parts = {name: _as_data(found) for name, found in agents.items()}
        show_json({**_as_data(master), "agents": parts})
    else:
        _show(master)
        for name, found in agents.items():
            click.echo(f"\nagent {name}")
            _show(found)
        if master.workers:
            click.echo("")
            rows = [(one.name, one.version or "unknown", one.schema_version or "unknown") for one in master.workers]
            show_table(["worker", "version", "knows schema"], rows, empty="")
    if not all(found.works for found in (master, *agents.values())):
        raise click.exceptions.Exit(FAILED)


def _show(found: SchemaStatus) -> None:
    show_facts(
        [
            ("database", found.database),
            ("schema", found.found or "none yet"),
            ("expected", found.expected),
            ("state", found.state),
            ("next", found.next_step),
        ]
    )
    for step in found.steps:
        click.echo(f"{'would run':>10}  {step.number} {step.title}")
        if step.contracts:
            click.echo(
                f"{'':>10}  takes away what code of schemas before {step.oldest_code} needs" + _waits(found, step)
            )


def _waits(found: SchemaStatus, step: Any) -> str:
    names = ", ".join(worker.name for worker in found.in_the_way_of(step))
    return f"; waits for the end of {names}" if names else ""


def _as_data(found: SchemaStatus) -> dict[str, Any]:
    return {
        "database": found.database,
        "found": found.found,
        "expected": found.expected,
        "current": found.is_current,
        "works": found.works,
        "state": found.state,
        "pending": [
            {
                "version": step.number,
                "title": step.title,
                "contracts": step.contracts,
                "waits_for": [worker.name for worker in found.in_the_way_of(step)],
            }
            for step in found.steps
        ],
        "workers": [{"name": one.name, "version": one.version, "schema": one.schema_version} for one in found.workers],
        "next": found.next_step,
    }


@db.command("upgrade")
@common_options
@click.option(
    "--expand", is_flag=True, help="Only what running workers of the older version survive: before a rollout."
)
@click.option("--force", is_flag=True, help="Also what breaks living older workers. They fail until they are replaced.")
@pass_invocation
def upgrade(invocation: Invocation, /, *, expand: bool, force: bool) -> None:
    """Make the schema, or bring it up to date, while workers run on.

    What would break living workers of an older version is refused (exit code 1); what comes before it is done.
    """
    if expand and force:
        raise click.UsageError("--expand and --force contradict each other. Leave one of them out.")
    settings = invocation.app().settings
    from jobmaster.database import schema_status, upgrade_schema

    before = schema_status(settings).found
    after = upgrade_schema(settings, expand_only=expand, force=force)
    if invocation.as_json:
        show_json({"database": after.database, "before": before, "after": after.found, "pending": after.pending})
        return
    if before == after.found:
        click.echo(f"{after.database} has schema {after.found} already.")
    else:
        click.echo(f"{after.database} has schema {after.found} now (before: {before or 'none'}).")
    if after.steps:
        left = ", ".join(f"{step.number} {step.title}" for step in after.steps)
        click.echo(f"Left for when no older version runs any more: {left}. {UNSEEN} Then: jobmaster db upgrade")


@db.command("sql")
@common_options
@click.option("--dialect", type=click.Choice(DIALECTS), help="Default: that of the app's master.")
@click.option("--from", "since", metavar="VERSION", help="The schema that the database has. Default: it is empty.")
@pass_invocation
def sql(invocation: Invocation, /, dialect: str | None, since: str | None) -> None:
    """Print the statements that make the schema, for a DBA. Nothing is changed."""
    chosen = dialect or invocation.app().settings.master.kind
    from jobmaster.database import schema_sql

    text = schema_sql(chosen, since=since)
    if invocation.as_json:
        show_json({"dialect": chosen, "from": since, "sql": text})
    else:
        click.echo(text, nl=False)
