"""What came of a series is planned before somebody leaves it off: by a pause, an end, or another rule.

A moment that has come is the schedule's, and its misfire policy's, whether or not a planner was quick. So whoever stops
a series plans it first, as any planner may, a little further than now; the store refuses a change that comes later.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, TypeAlias

from jobmaster.errors import SerializationError
from jobmaster.model.schedule import Schedule
from jobmaster.rules.planning import plan
from jobmaster.rules.schedule_changes import leaves_off

if TYPE_CHECKING:
    from jobmaster.model.schedule import Plan
    from jobmaster.ports.schedules import ScheduleChange
    from jobmaster.ports.store import Store
    from jobmaster.schedules.expression import Expression

Rules: TypeAlias = Callable[[Schedule], "Expression"]
"""Reads a schedule's rule; raises what its language does."""

AHEAD_US: Final = 10_000_000
"""The change has so long to reach the store. What is planned for that time goes again with the change."""
_OLDEST_US: Final = 30_000_000
"""After so long the store refuses a plan: what was future when it was made may be past."""
_ROUNDS: Final = 8
_STEPS: Final = 200
"""Questions to a rule after which the event loop has its turn."""


async def change_schedule(
    store: Store, schedule: Schedule, wanted: ScheduleChange, rules: Rules, *, any_version: bool = False
) -> Schedule | None:
    """Change this version of a schedule. None: it has another by now, or this took too long; look at it again.

    Where this process cannot compute the rule, nothing is planned before: planners that can have most probably done it.

    Args:
        store: the master.
        schedule: as it was just now.
        wanted: the change.
        rules: reads its rule.
        any_version: a change that leaves no series off is made whatever others have made of the schedule meanwhile.
    """
    if leaves_off(schedule, wanted):
        planned_us = await _planned_until(store, schedule, rules)
        return await store.change_schedule(schedule.key, wanted, version=schedule.version, planned_us=planned_us)
    version = None if any_version else schedule.version
    return await store.change_schedule(schedule.key, wanted, version=version)


async def _planned_until(store: Store, schedule: Schedule, rules: Rules) -> int | None:
    """Plan what is not planned yet; until when it is then. None: nobody here can tell."""
    for _ in range(_ROUNDS):
        now_us = await store.now_us()
        try:
            made = await _computed(schedule, rules, now_us)
        except Exception:  # noqa: BLE001 - rules may be users' code; a planner parks such a schedule
            return None
        if not made.occurrences:
            return now_us + AHEAD_US
        try:
            await store.plan_schedules([made], as_of_us=now_us, max_age_us=_OLDEST_US)
        except SerializationError:  # no store keeps it; a planner parks such a schedule
            return None
        known = await store.get_schedule(schedule.key)
        if known is None or known.version != schedule.version:
            return now_us  # the change will be refused
        schedule = known
    return None


async def _computed(schedule: Schedule, rules: Rules, now_us: int) -> Plan:
    steps, taken = plan(schedule, rules(schedule), now_us=now_us, horizon_us=AHEAD_US), 0
    while True:
        try:
            next(steps)
        except StopIteration as end:
            made: Plan = end.value
            return made
        taken += 1
        if taken % _STEPS == 0:
            await asyncio.sleep(0)
