"""`jobmaster db`: the master's schema."""

from __future__ import annotations

import click

from jobmaster.cli.failures import FAILED
from jobmaster.cli.invocation import Invocation, common_options, pass_invocation
from jobmaster.cli.output import show_facts, show_json

DIALECTS = ("sqlite", "postgresql", "mysql", "mssql")


@click.group()
@common_options
def db() -> None:
    """The master's schema: its version, upgrade, and SQL for a DBA."""


@db.command("status")
@common_options
@pass_invocation
def status(invocation: Invocation, /) -> None:
    """Say which schema the master has. Exit code 0: this JobMaster can work on it."""
    settings = invocation.app().settings
    from jobmaster.database import schema_status

    found = schema_status(settings)
    if invocation.as_json:
        show_json({"database": found.database, "found": found.found, "expected": found.expected,
                   "current": found.is_current, "pending": found.pending})  # fmt: skip
    else:
        show_facts(
            [
                ("database", found.database),
                ("schema", found.found or "none yet"),
                ("expected", found.expected),
                ("pending", ", ".join(found.pending)),
                ("next", "" if found.is_current else "jobmaster db upgrade"),
            ]
        )
    if not found.is_current:
        raise click.exceptions.Exit(FAILED)


@db.command("upgrade")
@common_options
@pass_invocation
def upgrade(invocation: Invocation, /) -> None:
    """Make the schema, or bring it up to date."""
    settings = invocation.app().settings
    from jobmaster.database import schema_status, upgrade_schema

    before = schema_status(settings).found
    after = upgrade_schema(settings)
    if invocation.as_json:
        show_json({"database": after.database, "before": before, "after": after.found})
    elif before == after.found:
        click.echo(f"{after.database} has schema {after.found} already.")
    else:
        click.echo(f"{after.database} has schema {after.found} now (before: {before or 'none'}).")


@db.command("sql")
@common_options
@click.option("--dialect", type=click.Choice(DIALECTS), help="Default: that of the app's master.")
@pass_invocation
def sql(invocation: Invocation, /, dialect: str | None) -> None:
    """Print the statements that make the schema in an empty database, for a DBA. Nothing is changed."""
    chosen = dialect or invocation.app().settings.master.kind
    from jobmaster.database import schema_sql

    text = schema_sql(chosen)
    if invocation.as_json:
        show_json({"dialect": chosen, "sql": text})
    else:
        click.echo(text, nl=False)
