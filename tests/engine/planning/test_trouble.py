"""Whatever a rule, a plan or the store does wrong, the other schedules go on."""

from __future__ import annotations

import asyncio
import time
from datetime import datetime
from typing import Any

import pytest
from msgspec.structs import replace

from jobmaster.errors import ConfigurationError, SerializationError, StoreUnavailable
from jobmaster.model.schedule import ScheduleStatus
from jobmaster.ports.schedules import ScheduleChange
from jobmaster.ports.store import Store
from tests.engine.many_schedules import LoopLags, planner_of
from tests.engine.one_engine import running_engine, until
from tests.engine.planning.quick_schedules import BY_ITSELF, SECOND, Quick, Runs, every, until_stored
from tests.engine.wrapped_store import Wrapped


@pytest.mark.fault("S6")
async def test_a_broken_rule_parks_its_schedule_and_no_other(store: Store, caplog: pytest.LogCaptureFixture) -> None:
    runs = Runs()
    broken = [
        every("no cron", name="text", type_id="Cron"),
        every("", name="language", type_id="Klingon"),
        every(name="zone", zone="Atlantis/Capital"),
    ]
    async with running_engine(store, runs.workload, park_after=0.0):
        for one in broken:
            await store.add_schedule(one)
        await store.add_schedule(every())
        parked = [await until_stored(store, one, lambda stored: stored.error) for one in broken]
        await until(lambda: runs.started)
    assert {(one.plan_at_us, one.status) for one in parked} == {(None, ScheduleStatus.ACTIVE)}
    assert "Atlantis/Capital" in parked[2].error
    assert [record.levelname for record in caplog.records if "schedule_parked" in record.message] == ["WARNING"] * 3
    assert "name=text rule=Cron:'no cron'" in caplog.text


@pytest.mark.fault("S6")
async def test_one_that_was_mended_runs_again(store: Store) -> None:
    runs = Runs()
    async with running_engine(store, runs.workload, plan_every=60.0, park_after=0.0):
        made = await store.add_schedule(every("no cron", type_id="Cron"))
        stored = await until_stored(store, made, lambda stored: stored.error)
        rule = replace(stored.rule, type_id="Quick", text="0.2")
        assert await store.change_schedule(made.key, ScheduleChange(rule=rule, clear_error=True), version=None)
        await until(lambda: runs.started)


@BY_ITSELF
async def test_what_this_process_cannot_read_is_left_to_the_others(
    store: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """A rolling deploy adds a language: workers of the old release must not park the new one's schedules."""
    made = await store.add_schedule(every("", name="language", type_id="Klingon"))
    planner = planner_of(store, plan_claim=0.0)
    for _ in range(3):
        await planner._plan(await store.due_schedules(limit=10, claim_us=0, idle_us=10**12))
    stored = await store.get_schedule(made.key)
    assert (stored.error, stored.cursor_us, stored.plan_at_us is None) == ("", None, False)
    assert caplog.text.count("schedule_unreadable") == 1
    impatient = planner_of(store, park_after=0.0)
    await impatient.plan_all()
    assert "Klingon" in (await store.get_schedule(made.key)).error


@BY_ITSELF
async def test_a_provider_that_hangs_holds_up_neither_the_loop_nor_the_others(
    store: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jobmaster.engine.planner._LONGEST_RULE", 0.3)
    hanging = await store.add_schedule(every("60", name="a hangs"))
    good = await store.add_schedule(every("00:01:00", name="b", type_id="TimeSpanInterval"))
    monkeypatch.setattr(Quick, "next_after", lambda self, moment: time.sleep(1.0))
    lags = LoopLags()
    watching = asyncio.create_task(lags.watch())
    await planner_of(store).plan_all()
    watching.cancel()
    assert "take longer" in (await store.get_schedule(hanging.key)).error
    assert (await store.get_schedule(good.key)).cursor_us is not None
    assert lags.longest < 0.1


@BY_ITSELF
async def test_slow_rules_do_not_let_the_plans_of_others_grow_old(store: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jobmaster.engine.planner._LONGEST_GROUP", 0.05)
    groups = []

    async def save(plans: Any, *, as_of_us: int, max_age_us: int) -> Any:
        groups.append((len(plans), as_of_us))
        return await store.plan_schedules(plans, as_of_us=as_of_us, max_age_us=max_age_us)

    for number in range(4):
        await store.add_schedule(every("600", name=f"slow{number}"))
    quick = Quick.next_after

    def slow(self: Quick, moment: datetime) -> datetime:
        time.sleep(0.1)
        return quick(self, moment)

    monkeypatch.setattr(Quick, "next_after", slow)
    await planner_of(Wrapped(store, plan_schedules=save)).plan_all()
    assert [count for count, _ in groups] == [1, 1, 1, 1]
    assert [at for _, at in groups] == sorted({at for _, at in groups}), "each as of its own time"


async def test_a_plan_that_no_store_can_keep_parks_its_schedule_and_no_other(store: Any) -> None:
    bad = await store.add_schedule(every("60", name="bad"))
    good = await store.add_schedule(every("60", name="good"))

    async def save(plans: Any, **options: Any) -> Any:
        if any(made.key == bad.key and not made.error for made in plans):
            raise SerializationError("too large for a column")
        return await store.plan_schedules(plans, **options)

    await planner_of(Wrapped(store, plan_schedules=save)).plan_all()
    assert "too large for a column" in (await store.get_schedule(bad.key)).error
    assert (await store.get_schedule(good.key)).cursor_us is not None


@BY_ITSELF
async def test_a_store_that_is_away_is_asked_again(store: Any, caplog: pytest.LogCaptureFixture) -> None:
    answers = [StoreUnavailable("away"), ValueError("a bug"), ConfigurationError("another")]

    async def due(**options: Any) -> Any:
        if answers:
            raise answers.pop()
        return await store.due_schedules(**options)

    runs = Runs()
    async with running_engine(Wrapped(store, due_schedules=due), runs.workload):
        await store.add_schedule(every())
        await until(lambda: runs.started)
    assert "duty=plan" in caplog.text


@BY_ITSELF
async def test_a_signal_that_was_lost_delays_a_schedule_by_the_fallback_at_most(store: Any) -> None:
    class Silent:
        def close(self) -> None:
            pass

    def subscribe(topic: str, callback: Any) -> Any:
        return Silent() if topic == "schedules" else store.subscribe(topic, callback)

    runs = Runs()
    async with running_engine(Wrapped(store, subscribe=subscribe), runs.workload, plan_every=0.3):
        await store.add_schedule(every())
        await until(lambda: runs.started, timeout=4.5)  # the default is 5 s


@BY_ITSELF
async def test_many_plans_are_saved_in_pieces(store: Any) -> None:
    saved = []

    async def save(plans: Any, **options: Any) -> Any:
        saved.append(sum(len(plan.occurrences) for plan in plans))
        return await store.plan_schedules(plans, **options)

    for number in range(10):
        await store.add_schedule(every("60", name=f"tick{number}"))
    await planner_of(Wrapped(store, plan_schedules=save), plan_ahead=18_000.0).plan_all()
    assert sum(saved) == 3000
    assert max(saved) < 900


@BY_ITSELF
async def test_what_a_slow_planner_decided_is_refused(store: Any) -> None:
    async def save(plans: Any, *, as_of_us: int, max_age_us: int) -> Any:
        return await store.plan_schedules(plans, as_of_us=as_of_us - 31 * SECOND, max_age_us=max_age_us)

    made = await store.add_schedule(every())
    await planner_of(Wrapped(store, plan_schedules=save)).plan_all()
    assert (await store.get_schedule(made.key)).cursor_us is None
