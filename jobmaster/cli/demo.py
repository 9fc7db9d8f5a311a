"""`jobmaster demo`: everything about it stands in the package `jobmaster.demo`."""

from __future__ import annotations

import click

from jobmaster.cli.invocation import Invocation, pass_invocation


@click.command(
    context_settings={"ignore_unknown_options": True, "allow_extra_args": True, "help_option_names": []},
    add_help_option=False,
)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
@pass_invocation
@click.pass_context
def demo(ctx: click.Context, invocation: Invocation, /, arguments: tuple[str, ...]) -> None:
    """Run a small real workload on an SQLite file and watch it."""
    from jobmaster.demo import main

    if invocation.as_json and "--json" not in arguments:
        arguments = (*arguments, "--json")
    invocation.as_json = "--json" in arguments  # errors, too
    ctx.exit(main(arguments))
