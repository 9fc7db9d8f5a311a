"""Recurring schedules become jobs: any number of coordinators plan at once, and none of them leads (decision 0013).

A pass asks for the schedules whose turn it is, computes their next occurrences and saves them in batches. Between
passes the planner sleeps until the next schedule's turn, or until somebody changes one. All moments are the store's.
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from typing import TYPE_CHECKING
from uuid import UUID

from jobmaster.ports.answers import Refused
from jobmaster.rules.compiling import compiled
from jobmaster.rules.planning import parked, plan

if TYPE_CHECKING:
    from collections.abc import Callable

    from jobmaster.engine.lease import Lease
    from jobmaster.engine.persistence import Backoff
    from jobmaster.engine.store_clock import StoreClock
    from jobmaster.engine.tuning import Tuning
    from jobmaster.model.schedule import DueSchedules, Plan, Schedule
    from jobmaster.ports.clock import Clock
    from jobmaster.ports.store import Store
    from jobmaster.schedules.expression import Expression

logger = logging.getLogger("jobmaster.engine")

_AT_ONCE = 200
"""Schedules of one question, and at most so many plans of one write."""
_MOST_JOBS = 500
"""A write is sent once its plans have so many jobs: on SQLite nobody else writes meanwhile."""
_TURN = 0.004
"""Seconds of computing after which the event loop has its turn."""
_OLDEST_PLAN = 30.0
"""Seconds after which the store refuses a plan: what was future when it was made may be past."""
_SPREAD = 0.1
"""Seconds over which planners that wait for the same schedule wake up."""
_PLANNERS_PER_SECOND = 10
"""Most questions that nothing asked for, by all planners of the cluster together."""
_COMPILED_RULES = 8192
_EXPIRED_AT_ONCE = 200


class CompiledRules:
    """The rules that were computed lately, by language, text and zone; the one longest unused goes first.

    Args:
        zone: the cluster's, of rules that name none.
        most: how many are kept.
    """

    def __init__(self, *, zone: str, most: int = _COMPILED_RULES) -> None:
        self._zone = zone
        self._most = most
        self._rules: OrderedDict[tuple[str, str, str, bytes], Expression] = OrderedDict()
        self._languages: set[str] = set()

    async def of(self, schedule: Schedule) -> Expression:
        """The schedule's rule, computed; raises what its provider raises."""
        rule = schedule.rule
        # `H` of cron is some value that is derived from the schedule: such a rule is shared by no two of them.
        key = schedule.key if rule.type_id == "Cron" and "h" in rule.text.lower() else b""
        name = (rule.type_id, rule.text, rule.zone, key)
        known = self._rules.get(name)
        if known is not None:
            self._rules.move_to_end(name)
            return known
        if rule.type_id in self._languages:
            known = compiled(rule, zone=self._zone, key=key)
        else:  # the first rule of a language loads its parser, which would hold up the jobs on this loop
            known = await asyncio.to_thread(compiled, rule, zone=self._zone, key=key)
            self._languages.add(rule.type_id)
        self._rules[name] = known
        if len(self._rules) > self._most:
            self._rules.popitem(last=False)
        return known


class Planner:
    """Plans what is due, and retires the static schedules that no code has any more."""

    def __init__(
        self,
        *,
        tuning: Tuning,
        store: Store,
        clock: Clock,
        store_clock: StoreClock,
        lease: Lease,
        random: Callable[[], float],
        pauses: Callable[[str], Backoff],
    ) -> None:
        self._tuning = tuning
        self._store = store
        self._clock = clock
        self._store_clock = store_clock
        self._lease = lease
        self._rules = CompiledRules(zone=tuning.time_zone)
        self._random = random
        self._pause = pauses("plan")
        self._expiry_pause = pauses("expire_schedules")
        self._wake = asyncio.Event()
        self._turn_ends = 0.0
        self._in_touch_since = self._looked_at = self._now()

    async def run(self) -> None:
        """Plan until cancelled."""
        subscription = self._store.subscribe("schedules", self._wake.set)
        try:
            while True:
                self._wake.clear()
                try:
                    next_us = await self.plan_all()
                except Refused as answer:
                    logger.debug("chore_refused duty=plan answer=%s", answer)
                    next_us = None
                except Exception as error:  # noqa: BLE001 - no error of a store ends a worker (I8)
                    self._in_touch_since = self._now()
                    await self._pause.wait_after(error)
                    continue
                self._pause.succeeded()
                await self._sleep(next_us)
        finally:
            subscription.close()

    async def plan_all(self) -> int | None:
        """Plan every schedule whose turn has come; when the next one's turn comes, by the store's clock."""
        while True:
            due = await self._store.due_schedules(
                limit=_AT_ONCE,
                claim_us=round(self._tuning.plan_claim * 1e6),
                idle_us=round(self._tuning.static_idle_after * 1e6),
            )
            self._store_clock.learn(due.now_us)
            if not due.schedules:
                return due.next_us
            await self._plan(due)

    async def _plan(self, due: DueSchedules) -> None:
        self._turn_ends = self._clock.monotonic() + _TURN
        plans: list[Plan] = []
        jobs = 0
        for schedule in due.schedules:
            plans.append(await self._plan_of(schedule, due.now_us))
            jobs += len(plans[-1].occurrences)
            if jobs >= _MOST_JOBS:
                await self._save(plans, due.now_us)
                plans, jobs = [], 0
        await self._save(plans, due.now_us)

    async def _save(self, plans: list[Plan], now_us: int) -> None:
        if not plans:
            return
        answers = await self._store.plan_schedules(plans, as_of_us=now_us, max_age_us=round(_OLDEST_PLAN * 1e6))
        logger.debug(
            "schedules_planned count=%d refused=%d jobs=%d",
            len(plans),
            answers.count(False),
            sum(len(made.occurrences) for made in plans),
        )

    async def _plan_of(self, schedule: Schedule, now_us: int) -> Plan:
        """The plan; of a rule that cannot be computed one that parks its schedule, and no other."""
        try:
            rule = await self._rules.of(schedule)
            await self._breathe()
            steps = plan(schedule, rule, now_us=now_us, horizon_us=round(self._tuning.plan_ahead * 1e6))
            while True:
                try:
                    next(steps)
                except StopIteration as end:
                    made: Plan = end.value
                    return made
                await self._breathe()
        except Exception as error:  # noqa: BLE001 - rules may be users' code; a broken one stops no other
            logger.warning(
                "schedule_parked schedule=%s name=%s rule=%s:%r zone=%s error=%r: nobody plans it until it is edited "
                "or resumed",
                UUID(bytes=schedule.key), schedule.name, schedule.rule.type_id, schedule.rule.text,
                schedule.rule.zone or "-", error,
            )  # fmt: skip
            return parked(schedule, error)

    async def _breathe(self) -> None:
        if self._clock.monotonic() >= self._turn_ends:
            await asyncio.sleep(0)
            self._turn_ends = self._clock.monotonic() + _TURN

    async def _sleep(self, next_us: int | None) -> None:
        # Signals and known turns come first; what is asked without any is shared by all planners of the cluster.
        wait = max(self._tuning.plan_every, self._lease.workers / _PLANNERS_PER_SECOND)
        if next_us is not None:
            until = (next_us - self._store_clock.now_us()) / 1e6
            wait = min(wait, max(until, 0.0) + self._random() * _SPREAD)
        try:
            async with asyncio.timeout(wait):
                await self._wake.wait()
        except TimeoutError:
            pass

    # ---------------------------------------------------------------- static schedules that left the code

    async def expire(self) -> None:
        """Now and then, until cancelled, retire static schedules that no worker's code has had for long.

        Only somebody who was there all the time can tell: after an outage the others need a while to come back.
        """
        period, idle = self._tuning.static_kept_every, self._tuning.static_expires_after
        while True:
            await asyncio.sleep(period * (0.75 + self._random() / 2))
            now, before = self._now(), self._looked_at
            self._looked_at = now
            if now - before > 3 * period:  # this machine slept, or the process stood still
                self._in_touch_since = now
            if now - self._in_touch_since < idle:
                continue
            try:
                await self._expire(round(idle * 1e6))
            except Refused as answer:
                logger.debug("chore_refused duty=expire_schedules answer=%s", answer)
            except Exception as error:  # noqa: BLE001 - no error of a store ends a worker (I8)
                self._in_touch_since = self._now()
                await self._expiry_pause.wait_after(error)
            else:
                self._expiry_pause.succeeded()

    async def _expire(self, idle_us: int) -> None:
        expired = await self._store.expire_schedules(idle_us=idle_us, limit=_EXPIRED_AT_ONCE)
        for key in expired:
            logger.warning("schedule_inactive schedule=%s: no worker's code has it any more", UUID(bytes=key))

    def _now(self) -> float:
        """Seconds of a clock that goes on while the machine sleeps."""
        return self._clock.trust_ns() / 1e9
