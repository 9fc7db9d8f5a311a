"""`jobmaster config`: each setting, and where its value came from."""

from __future__ import annotations

import click

from jobmaster.cli.invocation import Invocation, common_options, pass_invocation
from jobmaster.cli.output import printable, show_json, show_table


@click.group()
@common_options
def config() -> None:
    """Show the settings."""


@config.command("show")
@common_options
@click.option("--changed", is_flag=True, help="Only settings that are not at their default.")
@pass_invocation
def show(invocation: Invocation, /, changed: bool) -> None:  # noqa: FBT001 - click calls by name
    """Show each setting, its value and where it came from. Passwords are hidden."""
    resolved = invocation.app().resolved
    rows = [row for row in resolved.rows() if not changed or row[2] != "default"]
    if invocation.as_json:
        settings = [{"name": name, "value": value, "origin": origin} for name, value, origin in rows]
        show_json({"settings": settings, "warnings": list(resolved.warnings)})
        return
    show_table(["setting", "value", "from"], rows, empty="Everything is at its default.")
    for warning in resolved.warnings:
        click.secho(f"Warning: {printable(warning)}", fg="yellow", err=True)
