"""Whatever people do to a schedule whose planners die: each moment at which it ran has its run, and no other has."""

from __future__ import annotations

import random
from typing import Any

import pytest

from jobmaster import schedule_settling
from jobmaster.model.job import Envelope, encode_envelope
from jobmaster.model.schedule import MOST_OCCURRENCES, Misfire, Rule, Schedule
from jobmaster.ports.schedules import ScheduleChange
from jobmaster.rules.compiling import compiled
from jobmaster.rules.planning import finish, plan
from jobmaster.rules.series import Series
from tests.conformance.cluster import SECOND, Cluster
from tests.conformance.schedule_cases import AGE, CANCELED, CLAIM, IDLE, added, due, known, moments

TEXTS = (
    ("TimeSpanInterval", "00:00:01"),
    ("TimeSpanInterval", "00:00:07"),
    ("Cron", "*/2 * * * * *"),
    ("NaturalCron", "every 3 seconds"),
    ("NaturalCron", "every minute at second [5, 10, 40]"),
)
HORIZON = 20 * SECOND
STEPS = 20


def rules(schedule: Schedule) -> Any:
    return compiled(schedule.rule, zone="UTC")


def terms(form: tuple[str, str]) -> Rule:
    """A rule that lets nothing be skipped: what is late is no misfire."""
    return Rule(*form, misfire_grace_us=10_000 * SECOND)


def template(task: str) -> bytes:
    return encode_envelope(Envelope(task=task, call=b"", created_us=0, scheduled_us=0))


class Life:
    """A schedule, what is done to it, and the moments that it is to have."""

    def __init__(self, cluster: Cluster, schedule: Schedule, seed: int) -> None:
        self.cluster = cluster
        self.schedule = schedule
        self.random = random.Random(seed)
        self.expected: list[int] = []

    async def step(self) -> str:
        acts = {"later": 6, "planner_dies": 3, "plan": 3, "pause": 3, "resume": 3, "edit": 2, "retune": 1}
        act: str = self.random.choices(list(acts), list(acts.values()))[0]
        await getattr(self, f"_{act}")()
        return act

    async def _later(self) -> None:
        self.cluster.later(self.random.choice([0.3, 1, 4, 6, 25, 70]))

    async def _planner_dies(self) -> None:
        """After it was handed the schedule: nobody else gets it for a while."""
        await due(self.cluster)

    async def _plan(self) -> None:
        store = self.cluster.store
        found = await store.due_schedules(limit=10, claim_us=CLAIM, idle_us=IDLE)
        plans = [finish(plan(one, rules(one), now_us=found.now_us, horizon_us=HORIZON)) for one in found.schedules]
        self.cluster.later(self.random.choice([0, 0, 2, 40]))
        await store.plan_schedules(plans, as_of_us=found.now_us, max_age_us=AGE)

    async def _pause(self) -> None:
        await self._change(ScheduleChange(paused=True))

    async def _resume(self) -> None:
        await self._change(ScheduleChange(paused=False, clear_error=True))

    async def _edit(self) -> None:
        await self._change(ScheduleChange(rule=terms(self.random.choice(TEXTS)), clear_error=True))

    async def _retune(self) -> None:
        """Another call with the moments as they are."""
        await self._change(ScheduleChange(template=template(self.random.choice("abc"))))

    async def end(self) -> None:
        await self._change(ScheduleChange(status=CANCELED))

    async def _change(self, change: ScheduleChange) -> None:
        before = await known(self.cluster, self.schedule)
        after = await schedule_settling.change_schedule(self.cluster.store, before, change, rules)
        assert after is not None
        if not before.paused and (after.since_us != before.since_us or after.paused or after.status is CANCELED):
            self.expected += self._moments(before)

    def _moments(self, before: Schedule) -> list[int]:
        """Those at which it was to run before this change."""
        series, found = Series(rules(before)), []
        at = series.after(before.since_us)
        while at is not None and at <= self.cluster.now_us:
            found.append(at)
            at = series.after(at)
        return found


async def life(cluster: Cluster, seed: int) -> tuple[list[int], list[int], list[str]]:
    """The moments that a schedule has had, those that it is to have had, and what was done."""
    schedule = await added(cluster, rule=terms(TEXTS[seed % len(TEXTS)]), template=template("a"))
    one = Life(cluster, schedule, seed)
    acts = [await one.step() for _ in range(STEPS)]
    await one.end()
    return await moments(cluster, one.schedule), sorted(one.expected), acts


@pytest.mark.parametrize("seed", range(4))
async def test_what_came_before_a_change_has_its_run_whoever_had_died(cluster: Cluster, seed: int) -> None:
    found, expected, acts = await life(cluster, seed)
    assert found == expected, f"after {', '.join(acts)}"


async def test_a_change_without_that_would_be_found_out(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(schedule_settling, "leaves_off", lambda *_: False)
    found, expected, _ = await life(cluster, 1)
    assert set(found) < set(expected)


async def test_more_than_one_plan_holds_is_planned_before_a_pause_all_the_same(cluster: Cluster) -> None:
    schedule = await added(cluster, rule=terms(TEXTS[0]), template=template("a"))
    cluster.later(1_000)
    await Life(cluster, schedule, 1)._pause()
    assert len(await moments(cluster, schedule)) == 1_000 > MOST_OCCURRENCES


async def test_a_pause_right_after_a_resumption_whose_planner_died_keeps_the_moments_between(cluster: Cluster) -> None:
    schedule = await added(cluster, rule=terms(TEXTS[0]), template=template("a"))
    one = Life(cluster, schedule, 1)
    await one._pause()
    await one._resume()
    assert await due(cluster) == ["report"], "the planner that got it dies"
    begun_us = cluster.now_us
    cluster.later(4)
    await one._pause()
    assert await moments(cluster, schedule) == [begun_us + number * SECOND for number in (1, 2, 3, 4)]


async def test_what_nobody_planned_before_a_pause_is_a_matter_of_the_misfire_policy(cluster: Cluster) -> None:
    for misfire, kept in ((Misfire.SKIP, 0), (Misfire.ONCE, 1), (Misfire.ALL, 7)):
        rule = Rule(*TEXTS[0], misfire=misfire, misfire_limit=7, misfire_grace_us=60 * SECOND)
        schedule = await added(cluster, misfire.value, rule=rule, template=template("a"))
        cluster.later(3_600)
        await Life(cluster, schedule, 1)._pause()
        assert await moments(cluster, schedule) == [cluster.now_us - number * SECOND for number in range(kept)][::-1]


async def test_a_rule_that_cannot_be_read_here_keeps_nobody_from_a_pause(cluster: Cluster) -> None:
    schedule = await added(cluster, rule=Rule("Mayan", "baktun"), template=template("a"))
    paused = await schedule_settling.change_schedule(cluster.store, schedule, ScheduleChange(paused=True), rules)
    assert paused is not None
    assert paused.paused


async def test_a_change_that_comes_later_than_what_is_planned_is_repeated(cluster: Cluster) -> None:
    schedule = await added(cluster, rule=terms(TEXTS[0]), template=template("a"))
    store, slow = cluster.store, [0.0, 70.0]
    now_us = store.now_us

    async def late() -> int:
        answer: int = await now_us()
        cluster.later(slow.pop(0) if slow else 0.0)
        return answer

    store.now_us = late
    wanted = ScheduleChange(paused=True)
    assert await schedule_settling.change_schedule(store, schedule, wanted, rules) is None
    before = await known(cluster, schedule)
    assert not before.paused
    assert await schedule_settling.change_schedule(store, before, wanted, rules) is not None
    assert await moments(cluster, schedule) == [schedule.since_us + number * SECOND for number in range(1, 71)]
