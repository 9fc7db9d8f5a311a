"""`jobmaster buckets`: which buckets there are, who owns them, how deep they are."""

from __future__ import annotations

import click

from jobmaster.cli.invocation import Invocation, common_options, pass_invocation
from jobmaster.cli.output import show_json, show_table


@click.command()
@common_options
@click.option("--lane", "-Q", metavar="LANE", help="Only those of this lane.")
@pass_invocation
def buckets(invocation: Invocation, /, lane: str | None) -> None:
    """List buckets with owner, status and depth."""
    found = [bucket for bucket in invocation.app().buckets.list() if lane in {None, bucket.lane}]
    if invocation.as_json:
        show_json(found)
        return
    show_table(
        ["id", "agent", "lane", "priority", "status", "epoch", "owner", "depth"],
        [
            (bucket.id, bucket.agent, bucket.lane, bucket.priority, str(bucket.status), bucket.epoch,
             bucket.owner or "-", bucket.depth)
            for bucket in found
        ],
        empty="There are no buckets: no worker has run, and nothing was enqueued." if lane is None
        else f"There are no buckets of the lane {lane!r}: no worker has served it, and nothing was enqueued there.",
    )  # fmt: skip
