"""Calls of `jm.scheduler.recurring` on an app of a memory store, and a coordinator that plans once."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from jobmaster.rules import planning
from jobmaster.rules.compiling import compiled
from tests.unit.schedule_app import App

BERLIN = ZoneInfo("Europe/Berlin")
YEAR_2000 = datetime(2000, 1, 1, tzinfo=UTC)
FAR = datetime(2100, 1, 1, tzinfo=UTC)
MINUTE = timedelta(minutes=1)


def made(**settings: Any) -> tuple[App, Any]:
    app = App(**settings)

    @app.task(name="hello", lane="greetings", max_retries=7, metadata={"team": "a"})
    def hello(name: str = "J") -> str:
        return name

    return app, hello


def plan_once(app: App, name: str) -> list[int]:
    """What a coordinator does, once; the moments that it planned."""

    async def plan(gate: Any) -> list[int]:
        due = await gate.store.due_schedules(limit=10, claim_us=1, idle_us=10**9)
        (schedule,) = [one for one in due.schedules if one.name == name]
        rule = compiled(schedule.rule, zone="UTC")
        steps = planning.plan(schedule, rule, now_us=due.now_us, horizon_us=600_000_000)
        made = planning.finish(steps)
        assert await gate.store.plan_schedules([made], as_of_us=due.now_us, max_age_us=10**9) == [True]
        return [one.at_us for one in made.occurrences]

    return app.client.ask(plan)
