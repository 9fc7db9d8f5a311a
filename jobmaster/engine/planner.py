"""Recurring schedules become jobs: any number of coordinators plan at once, and none of them leads (decision 0013).

A pass asks for the schedules whose turn it is, computes their next occurrences and saves them in batches. Between
passes the planner sleeps until the next schedule's turn, or until somebody changes one. All moments are the store's.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING
from uuid import UUID

from jobmaster.engine.compiled_rules import BUILT_IN, CompiledRules, aside
from jobmaster.errors import SerializationError
from jobmaster.ports.answers import Refused
from jobmaster.rules.planning import finish, parked, plan

if TYPE_CHECKING:
    from collections.abc import Callable

    from jobmaster.engine.lease import Lease
    from jobmaster.engine.persistence import Backoff
    from jobmaster.engine.store_clock import StoreClock
    from jobmaster.engine.tuning import Tuning
    from jobmaster.model.schedule import DueSchedules, Plan, Schedule
    from jobmaster.ports.clock import Clock
    from jobmaster.ports.store import Store
    from jobmaster.rules.series import Steps
    from jobmaster.schedules.expression import Expression

logger = logging.getLogger("jobmaster.engine")

_AT_ONCE = 200
"""Schedules of one question, and at most so many plans of one write."""
_MOST_JOBS = 500
"""A write is sent once its plans have so many jobs: on SQLite nobody else writes meanwhile."""
_MOST_BYTES = 4_000_000
"""Or so many bytes of arguments."""
_LONGEST_GROUP = 1.0
"""Or took so many seconds to compute: one slow rule must not let the others grow old."""
_TURN = 0.004
"""Seconds of computing after which the event loop has its turn."""
_OLDEST_PLAN = 30.0
"""Seconds after which the store refuses a plan: what was future when it was made may be past."""
_SPREAD = 0.1
"""Seconds over which planners that wait for the same schedule wake up."""
_PLANNERS_PER_SECOND = 10
"""Most questions that nothing asked for, by all planners of the cluster together."""
_LONGEST_RULE = 10.0
"""Seconds after which a rule is given up."""
_EXPIRED_AT_ONCE = 200


class _Group:
    """Plans that are written together."""

    def __init__(self, begun: float) -> None:
        self.begun = begun
        self.plans: list[tuple[Schedule, Plan]] = []
        self._jobs = self._bytes = 0

    def add(self, schedule: Schedule, made: Plan) -> None:
        """One more."""
        self.plans.append((schedule, made))
        self._jobs += len(made.occurrences)
        self._bytes += len(made.occurrences) * len(schedule.template)

    @property
    def is_full(self) -> bool:
        """More would keep everybody else from writing for too long."""
        return self._jobs >= _MOST_JOBS or self._bytes >= _MOST_BYTES


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
        group, now_us = _Group(self._clock.monotonic()), due.now_us
        for schedule in due.schedules:
            made = await self._plan_of(schedule, now_us)
            if made is not None:
                group.add(schedule, made)
            if group.is_full or self._clock.monotonic() - group.begun > _LONGEST_GROUP:
                await self._save(group.plans, now_us)
                group = _Group(self._clock.monotonic())
                now_us = max(now_us, self._store_clock.now_us())
        await self._save(group.plans, now_us)

    async def _save(self, plans: list[tuple[Schedule, Plan]], now_us: int) -> None:
        """Write them; where the store cannot keep one of them, that one alone is parked."""
        if not plans:
            return
        only = [made for _, made in plans]
        try:
            answers = await self._store.plan_schedules(only, as_of_us=now_us, max_age_us=round(_OLDEST_PLAN * 1e6))
        except SerializationError as error:
            if len(plans) > 1:
                for one in plans:
                    await self._save([one], now_us)
            elif only[0].error:
                raise
            else:
                await self._save([(plans[0][0], self._park(plans[0][0], error))], now_us)
            return
        jobs = sum(len(made.occurrences) for made in only)
        logger.debug("schedules_planned count=%d refused=%d jobs=%d", len(only), answers.count(False), jobs)

    async def _plan_of(self, schedule: Schedule, now_us: int) -> Plan | None:
        """The plan; of a rule that cannot be computed one that parks its schedule, and no other.

        None: this process cannot read the rule. Another one may know the language, the zone or the newer grammar, so
        that it is left to the others for a while.
        """
        horizon_us = round(self._tuning.plan_ahead * 1e6)
        rule: Expression | None = None
        try:
            rule = await self._rules.of(schedule)
            steps = plan(schedule, rule, now_us=now_us, horizon_us=horizon_us)
            if schedule.rule.type_id in BUILT_IN:
                return await self._computed(steps)
            return await aside(lambda: finish(steps), seconds=_LONGEST_RULE)
        except Exception as error:  # noqa: BLE001 - rules may be users' code; a broken one stops no other
            if rule is None and not self._rules.is_given_up(schedule, self._clock.monotonic(), self._tuning.park_after):
                return None
            return self._park(schedule, error)

    async def _computed(self, steps: Steps[Plan]) -> Plan:
        ends = self._clock.monotonic() + _LONGEST_RULE
        while True:
            try:
                next(steps)
            except StopIteration as end:
                made: Plan = end.value
                return made
            if await self._breathe() > ends:
                raise TimeoutError(f"its next occurrences take longer than {_LONGEST_RULE:g} s to compute")

    def _park(self, schedule: Schedule, error: Exception) -> Plan:
        logger.warning(
            "schedule_parked schedule=%s name=%s rule=%s:%r zone=%s error=%r: nobody plans it until it is edited "
            "or resumed",
            UUID(bytes=schedule.key), schedule.name, schedule.rule.type_id, schedule.rule.text,
            schedule.rule.zone or "-", error,
        )  # fmt: skip
        return parked(schedule, error)

    async def _breathe(self) -> float:
        """Give the loop its turn where it is due; the time (monotonic)."""
        now = self._clock.monotonic()
        if now >= self._turn_ends:
            await asyncio.sleep(0)
            now = self._clock.monotonic()
            self._turn_ends = now + _TURN
        return now

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
