"""The engine stores the schedules of its code, keeps them, and retires those that nobody has."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest
from msgspec.structs import replace

from jobmaster.errors import StoreUnavailable
from jobmaster.model.schedule import ScheduleKey, ScheduleKind, ScheduleStatus
from jobmaster.ports.store import Store
from tests.engine.one_engine import running_engine, until
from tests.engine.planning.quick_schedules import BY_ITSELF, SECOND, Runs, static, until_stored
from tests.engine.wrapped_store import Wrapped


async def test_those_of_the_code_run_and_are_kept(store: Store) -> None:
    runs, made = Runs(), static()
    async with running_engine(store, runs.workload, schedules=lambda: [made], static_kept_every=0.2):
        first = await until_stored(store, made, lambda stored: stored.ensured_us)
        await until_stored(store, made, lambda stored: stored.ensured_us > first.ensured_us)
        await until(lambda: runs.started)
    stored = await store.get_schedule(made.key)
    assert stored is not None
    assert (stored.version, stored.status) == (1, ScheduleStatus.ACTIVE)


async def test_one_that_left_the_code_becomes_inactive_and_comes_back_without_what_it_missed(store: Store) -> None:
    old, runs = static(name="old"), Runs()
    life = {"static_kept_every": 0.1, "static_idle_after": 0.5, "static_expires_after": 1.0}
    async with running_engine(store, runs.workload, schedules=lambda: [old], **life):
        await until(lambda: runs.started)
    async with running_engine(store, runs.workload, name="new code", **life):
        gone = await until_stored(store, old, lambda stored: stored.status is ScheduleStatus.INACTIVE)
    before = len(runs.started)  # what was planned is taken from its owner a moment later
    assert gone.ended_us is not None
    async with running_engine(store, runs.workload, name="old code", schedules=lambda: [old], **life):
        back = await until_stored(store, old, lambda stored: stored.status is ScheduleStatus.ACTIVE)
        await until(lambda: len(runs.started) > before)
    assert all(moment > back.since_us / SECOND for moment in runs.moments[before:])


async def test_a_worker_that_has_just_come_retires_nobody(store: Store) -> None:
    """After an outage of an hour the first worker must not take the others' schedules for gone."""
    old = static(name="old")
    await store.ensure_schedules([old])
    life = {"static_kept_every": 0.02, "static_idle_after": 0.02, "static_expires_after": 0.4}
    await asyncio.sleep(0.4)
    begun = time.monotonic()
    async with running_engine(store, Runs().workload, **life):
        await until_stored(store, old, lambda stored: stored.status is ScheduleStatus.INACTIVE)
    assert time.monotonic() - begun > 0.4


@BY_ITSELF
async def test_nor_does_one_that_could_not_reach_the_store(store: Any) -> None:
    away, failed, expired = [True], [], []

    def answer() -> None:
        if away[0]:
            failed.append(time.monotonic())
            raise StoreUnavailable("away")

    async def due(**options: Any) -> Any:
        answer()
        return await store.due_schedules(**options)

    async def expire(**options: Any) -> Any:
        answer()
        expired.append(time.monotonic())
        return []

    life: dict[str, Any] = {"static_kept_every": 0.05, "static_expires_after": 0.5, "plan_every": 0.05}
    async with running_engine(Wrapped(store, due_schedules=due, expire_schedules=expire), Runs().workload, **life):
        await until(lambda: failed and time.monotonic() - failed[0] > 0.8)
        away[0] = False
        await until(lambda: expired)
    assert expired[0] - failed[-1] > 0.45


@BY_ITSELF
async def test_one_that_no_store_keeps_holds_up_no_other(store: Any, caplog: pytest.LogCaptureFixture) -> None:
    good, bad = static(name="good"), replace(static(name="bad"), source="nul \0")
    async with running_engine(store, Runs().workload, schedules=lambda: [bad, good]):
        await until_stored(store, good, lambda stored: True)
    assert "schedule_refused name=bad" in caplog.text


@BY_ITSELF
async def test_one_whose_name_is_taken_is_told(store: Any, caplog: pytest.LogCaptureFixture) -> None:
    bearer = replace(static(name="other"), kind=ScheduleKind.DYNAMIC, name="taken")
    await store.add_schedule(bearer)
    mine = static(name="taken")
    async with running_engine(store, Runs().workload, schedules=lambda: [mine]):
        await until_stored(store, mine, lambda stored: True)
        await until(lambda: "schedule_name_taken name=taken" in caplog.text)


async def test_the_last_release_alive_has_its_own_definition_though_another_started_later(store: Store) -> None:
    old, new = static(), replace(static(), priority=5)
    life = {"static_kept_every": 1.0}  # one that is held up for 2.5 s has lost it to the other
    async with running_engine(store, Runs().workload, name="new", schedules=lambda: [new], **life):
        await until_stored(store, new, lambda stored: stored.priority == new.priority)
        async with running_engine(store, Runs().workload, name="old", schedules=lambda: [old], **life):
            first = await until_stored(store, old, lambda stored: stored.priority == old.priority)
            await until_stored(store, old, lambda stored: stored.ensured_us > first.ensured_us + SECOND // 2)
            stays = await until_stored(store, old, lambda stored: True)
            assert stays.version == first.version, "while both live they don't take it from each other"
        await until_stored(store, new, lambda stored: stored.priority == new.priority)


@BY_ITSELF
async def test_those_that_an_older_backup_does_not_have_are_told_anew(store: Any) -> None:
    made, told = static(), []

    async def ensure(schedules: Any) -> Any:
        told.append(len(schedules))
        return await store.ensure_schedules(schedules)

    async def keep(schedules: Any, **_: Any) -> list[ScheduleKey]:
        return [made.key] if len(told) == 1 else []

    async with running_engine(
        Wrapped(store, ensure_schedules=ensure, keep_schedules=keep),
        Runs().workload,
        schedules=lambda: [made],
        static_kept_every=0.05,
    ):
        await until(lambda: len(told) == 2)
        await asyncio.sleep(0.2)
    assert len(told) == 2
