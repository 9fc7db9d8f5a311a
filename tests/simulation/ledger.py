"""Looks at the stores' tables after every call and tells the checker what has changed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tests.simulation.checker import BucketView, RowView
from tests.simulation.network import Call

if TYPE_CHECKING:
    from jobmaster.model.ids import JobKey
    from tests.simulation.world import World

READS = frozenset(
    {"now_us", "load_cluster", "definitions", "open_buckets", "look_up", "read", "reread", "depths", "orphans",
     "durability", "signal", "all_buckets", "take_commands", "register"}
)  # fmt: skip
"""Verbs that change nothing that the checker looks at."""
