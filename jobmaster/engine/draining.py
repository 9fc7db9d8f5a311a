"""`--once`: when nothing is left to do for a worker that serves until then."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from jobmaster.model.schedule import Trigger

if TYPE_CHECKING:
    from jobmaster.engine.lease import Lease
    from jobmaster.engine.life import Entry
    from jobmaster.engine.runner import Runner
    from jobmaster.engine.store_clock import StoreClock

_LOOK_EVERY = 0.1
_QUIET_LOOKS = 5
"""How many looks in a row find nothing to do before it is over."""


async def until_drained(*, ready: asyncio.Event, runner: Runner, lease: Lease, store_clock: StoreClock) -> None:
    """Wait until nothing runs and nothing waits for a while. What schedules have ahead is no reason to stay."""
    await ready.wait()
    quiet = 0
    while quiet < _QUIET_LOOKS:
        await asyncio.sleep(_LOOK_EVERY)
        now_us = store_clock.now_us()
        lives = lease.lives.values()
        busy = (
            not runner.idle()
            or any(not life.open or life.more for life in lives)
            or any(not _is_ahead(entry, now_us) for life in lives for entry in life.entries.values())
        )
        quiet = 0 if busy else quiet + 1


def _is_ahead(entry: Entry, now_us: int) -> bool:
    """Whether it is a planned run whose moment has not come."""
    return entry.due_us > now_us and entry.envelope.trigger == Trigger.SCHEDULE and not entry.attempts
