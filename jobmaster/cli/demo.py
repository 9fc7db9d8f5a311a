"""`jobmaster demo`: everything about it stands in the package `jobmaster.demo`."""

from __future__ import annotations

import click


@click.command(
    context_settings={"ignore_unknown_options": True, "allow_extra_args": True, "help_option_names": []},
    add_help_option=False,
)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
@click.pass_context
def demo(ctx: click.Context, /, arguments: tuple[str, ...]) -> None:
    """Run a small real workload on an SQLite file and watch it."""
    from jobmaster.demo import main

    ctx.exit(main(list(arguments)) or 0)
