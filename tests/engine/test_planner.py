"""The real engine plans recurring schedules: on time, once, whatever one of them or the store does wrong."""

from __future__ import annotations

import asyncio
import time
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, ClassVar

import pytest
from msgspec.structs import replace

from jobmaster.errors import ConfigurationError, SerializationError, StoreUnavailable
from jobmaster.model.job import Envelope, encode_envelope
from jobmaster.model.schedule import Overlap, Rule, Schedule, ScheduleKind, ScheduleStatus, static_key
from jobmaster.model.states import ClusterMode, JobStatus, WorkerMode
from jobmaster.ports.schedules import ScheduleChange
from jobmaster.ports.store import Store
from jobmaster.schedules import register_provider
from tests.engine.conftest import StoreToOpen
from tests.engine.many_schedules import LoopLags, planner_of
from tests.engine.one_engine import RealClock, running_engine, until
from tests.engine.pool_workload import FunctionWorkload
from tests.engine.wrapped_store import Wrapped

SECOND = 1_000_000
BY_ITSELF = pytest.mark.parametrize("store", ["memory"], indirect=True)
"""What no store has a part in."""


class Quick:
    """A provider of one's own: every so many seconds, also a fraction of one."""

    type_id: ClassVar[str] = "Quick"
    is_phased = True
    zone = None

    def __init__(self, text: str) -> None:
        self.text = text

    def in_zone(self, zone: Any) -> Quick:
        return self

    def next_after(self, moment: datetime) -> datetime:
        return moment + timedelta(seconds=float(self.text))

    def has_ended(self, moment: datetime) -> bool:
        return False

    def explain(self) -> str:
        return f"every {self.text} s"


@pytest.fixture(params=["memory", "sqlite", "postgresql"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> StoreToOpen:
    """Those that have schedules themselves: a master with separate agents hands their verbs on."""
    on_a_server = request.param == "postgresql"
    return StoreToOpen(request.param, tmp_path, [request.getfixturevalue("postgres_database")] if on_a_server else [])


@pytest.fixture(autouse=True, scope="module")
def _quick_rules() -> None:
    register_provider("Quick", Quick)


class Runs:
    """What ran, by the test's clock, and for which moment."""

    def __init__(self, *, lasts: float = 0.0) -> None:
        self.started: list[tuple[float, float]] = []
        self.ended = 0
        self._lasts = lasts

    async def tick(self, argument: object, run: Any) -> None:
        self.started.append((time.time(), run.scheduled_us / SECOND))
        await asyncio.sleep(self._lasts)
        self.ended += 1

    @property
    def workload(self) -> FunctionWorkload:
        async def tick(argument: object, run: Any) -> None:
            await self.tick(argument, run)

        return FunctionWorkload(tick)

    @property
    def moments(self) -> list[float]:
        return [moment for _, moment in self.started]


def every(text: str = "0.2", *, name: str = "tick", type_id: str = "Quick", **rule: Any) -> Schedule:
    """A dynamic schedule of `tick`."""
    return Schedule(
        key=static_key("dynamic", name),
        name=name,
        kind=ScheduleKind.DYNAMIC,
        rule=Rule(type_id=type_id, text=text, **rule),
        task="tick",
        template=encode_envelope(Envelope(task="tick", call=b"\xc0", created_us=0, scheduled_us=0)),
    )


def static(text: str = "0.2", *, name: str = "tick") -> Schedule:
    return replace(every(text, name=name), key=static_key("app", name), kind=ScheduleKind.STATIC)


async def rows_of(store: Any, schedule: Schedule) -> list[Any]:
    """The jobs of its occurrences, the newest first."""
    records = await store.schedule_occurrences(schedule.key, limit=1000)
    found = await store.look_up([record.key for record in records])
    return [state for state in found if state is not None]


class TestOnTime:
    async def test_a_schedule_made_while_a_worker_runs_fires_from_its_first_occurrence(self, store: Store) -> None:
        runs = Runs()
        async with running_engine(store, runs.workload, plan_every=60.0):
            made = await store.add_schedule(every())
            await until(lambda: len(runs.started) >= 3)
        first = made.since_us / SECOND
        assert runs.moments[:3] == pytest.approx([first + 0.2, first + 0.4, first + 0.6])

    @pytest.mark.alone
    @pytest.mark.parametrize("store", ["sqlite", "postgresql"], indirect=True)
    async def test_one_second_schedules_start_within_a_tenth_of_a_second(
        self, store: Store, capsys: pytest.CaptureFixture[str]
    ) -> None:
        runs = Runs()
        async with running_engine(store, runs.workload, lease=10.0, plan_ahead=4.0):
            for number in range(20):
                await store.add_schedule(every("00:00:01", name=f"tick{number}", type_id="TimeSpanInterval"))
            await until(lambda: len(runs.started) >= 100, timeout=30)
        late = sorted(at - moment for at, moment in runs.started)
        p50, p99 = late[len(late) // 2], late[int(len(late) * 0.99)]
        with capsys.disabled():
            print(
                f"\n{len(late)} starts: p50 {1000 * p50:.1f} ms late, p99 {1000 * p99:.1f} ms, {1000 * late[-1]:.1f} ms"
            )
        assert p99 < 0.1
        assert late[0] > -0.05
        assert len(set(runs.started)) == len(runs.started)

    async def test_planners_of_two_workers_make_each_occurrence_once(self, store: Store) -> None:
        runs = Runs()
        async with (
            running_engine(store, runs.workload, name="w1", plan_ahead=0.4, plan_every=0.1),
            running_engine(store, runs.workload, name="w2", plan_ahead=0.4, plan_every=0.1),
        ):
            made = await store.add_schedule(every())
            await until(lambda: len(runs.started) >= 4)
        first = made.since_us / SECOND
        assert sorted(runs.moments) == pytest.approx(
            [first + 0.2 * number for number in range(1, len(runs.moments) + 1)]
        )

    async def test_a_coordinator_plans_without_running_jobs(self, store: Store) -> None:
        async with running_engine(store, Runs().workload, mode=WorkerMode.COORDINATOR):
            made = await store.add_schedule(every())
            await until_stored(store, made, lambda stored: stored.last_at_us is not None)

    @pytest.mark.parametrize(
        "idle", [{"mode": WorkerMode.EXECUTION}, {"cluster_mode": ClusterMode.PASSIVE}], ids=["execution", "passive"]
    )
    @BY_ITSELF
    async def test_others_plan_nothing(self, store: Store, idle: dict[str, Any]) -> None:
        asked = []

        async def due(**options: Any) -> Any:
            asked.append(options)

        async with running_engine(Wrapped(store, due_schedules=due), Runs().workload, **idle):
            await asyncio.sleep(0.2)
        assert not asked

    async def test_a_schedule_whose_end_comes_is_completed(self, store: Store) -> None:
        runs = Runs()
        async with running_engine(store, runs.workload):
            now_us = time.time_ns() // 1000
            made = await store.add_schedule(every(end_us=now_us + 500_000))
            await until_stored(store, made, lambda stored: stored.status is ScheduleStatus.COMPLETED)
            await until(lambda: len(runs.started) == 2)


async def until_stored(store: Any, schedule: Schedule, condition: Any, *, timeout: float = 10.0) -> Schedule:
    """Wait until the schedule is so."""
    async with asyncio.timeout(timeout):
        while True:
            stored = await store.get_schedule(schedule.key)
            if stored is not None and condition(stored):
                return stored  # type: ignore[no-any-return]
            await asyncio.sleep(0.01)


class TestTrouble:
    @pytest.mark.fault("S6")
    async def test_a_broken_rule_parks_its_schedule_and_no_other(
        self, store: Store, caplog: pytest.LogCaptureFixture
    ) -> None:
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
    async def test_one_that_was_mended_runs_again(self, store: Store) -> None:
        runs = Runs()
        async with running_engine(store, runs.workload, plan_every=60.0, park_after=0.0):
            made = await store.add_schedule(every("no cron", type_id="Cron"))
            stored = await until_stored(store, made, lambda stored: stored.error)
            rule = replace(stored.rule, type_id="Quick", text="0.2")
            assert await store.change_schedule(made.key, ScheduleChange(rule=rule, clear_error=True), version=None)
            await until(lambda: runs.started)

    @BY_ITSELF
    async def test_what_this_process_cannot_read_is_left_to_the_others(
        self, store: Any, caplog: pytest.LogCaptureFixture
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
        self, store: Any, monkeypatch: pytest.MonkeyPatch
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
    async def test_slow_rules_do_not_let_the_plans_of_others_grow_old(
        self, store: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
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

    async def test_a_plan_that_no_store_can_keep_parks_its_schedule_and_no_other(self, store: Any) -> None:
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
    async def test_a_store_that_is_away_is_asked_again(self, store: Any, caplog: pytest.LogCaptureFixture) -> None:
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
    async def test_a_signal_that_was_lost_delays_a_schedule_by_the_fallback_at_most(self, store: Any) -> None:
        class Silent:
            def close(self) -> None:
                pass

        def subscribe(topic: str, callback: Any) -> Any:
            return Silent() if topic == "schedules" else store.subscribe(topic, callback)

        runs = Runs()
        async with running_engine(Wrapped(store, subscribe=subscribe), runs.workload, plan_every=0.3):
            await store.add_schedule(every())
            await until(lambda: runs.started, timeout=3.0)
        assert runs.started[0][0] - runs.started[0][1] < 0.5

    @BY_ITSELF
    async def test_many_plans_are_saved_in_pieces(self, store: Any) -> None:
        saved = []

        async def save(plans: Any, **options: Any) -> Any:
            saved.append(sum(len(plan.occurrences) for plan in plans))
            return await store.plan_schedules(plans, **options)

        for number in range(10):
            await store.add_schedule(every("1", name=f"tick{number}"))
        await planner_of(Wrapped(store, plan_schedules=save), plan_ahead=300.0).plan_all()
        assert sum(saved) == 3000
        assert max(saved) < 900

    @BY_ITSELF
    async def test_what_a_slow_planner_decided_is_refused(self, store: Any) -> None:
        async def save(plans: Any, *, as_of_us: int, max_age_us: int) -> Any:
            return await store.plan_schedules(plans, as_of_us=as_of_us - 31 * SECOND, max_age_us=max_age_us)

        made = await store.add_schedule(every())
        await planner_of(Wrapped(store, plan_schedules=save)).plan_all()
        assert (await store.get_schedule(made.key)).cursor_us is None


class TestStatic:
    async def test_those_of_the_code_run_and_are_kept(self, store: Store) -> None:
        runs, made = Runs(), static()
        async with running_engine(store, runs.workload, schedules=lambda: [made], static_kept_every=0.2):
            first = await until_stored(store, made, lambda stored: stored.ensured_us)
            await until_stored(store, made, lambda stored: stored.ensured_us > first.ensured_us)
            await until(lambda: runs.started)
        stored = await store.get_schedule(made.key)
        assert stored is not None
        assert (stored.version, stored.status) == (1, ScheduleStatus.ACTIVE)

    async def test_one_that_left_the_code_becomes_inactive_and_comes_back_without_what_it_missed(
        self, store: Store
    ) -> None:
        old, runs = static(name="old"), Runs()
        life = {"static_kept_every": 0.1, "static_idle_after": 0.5, "static_expires_after": 1.0}
        async with running_engine(store, runs.workload, schedules=lambda: [old], **life):
            await until(lambda: runs.started)
        async with running_engine(store, runs.workload, name="new code", **life):
            gone = await until_stored(store, old, lambda stored: stored.status is ScheduleStatus.INACTIVE)
            before = len(runs.started)
        assert gone.ended_us is not None
        async with running_engine(store, runs.workload, name="old code", schedules=lambda: [old], **life):
            back = await until_stored(store, old, lambda stored: stored.status is ScheduleStatus.ACTIVE)
            await until(lambda: len(runs.started) > before)
        assert all(moment > back.since_us / SECOND for moment in runs.moments[before:])

    async def test_a_worker_that_has_just_come_retires_nobody(self, store: Store) -> None:
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
    async def test_nor_does_one_that_could_not_reach_the_store(self, store: Any) -> None:
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
    async def test_one_that_no_store_keeps_holds_up_no_other(
        self, store: Any, caplog: pytest.LogCaptureFixture
    ) -> None:
        good, bad = static(name="good"), replace(static(name="bad"), source="nul \0")
        async with running_engine(store, Runs().workload, schedules=lambda: [bad, good]):
            await until_stored(store, good, lambda stored: True)
        assert "schedule_refused name=bad" in caplog.text

    @BY_ITSELF
    async def test_those_that_an_older_backup_does_not_have_are_told_anew(self, store: Any) -> None:
        made, told = static(), []

        async def ensure(schedules: Any) -> Any:
            told.append(len(schedules))
            return await store.ensure_schedules(schedules)

        async def keep(keys: Any, *, fresh_us: int) -> int:
            return 0 if len(told) == 1 else len(keys)

        async with running_engine(
            Wrapped(store, ensure_schedules=ensure, keep_schedules=keep),
            Runs().workload,
            schedules=lambda: [made],
            static_kept_every=0.05,
        ):
            await until(lambda: len(told) == 2)
            await asyncio.sleep(0.2)
        assert len(told) == 2


class TestOverlap:
    """Runs of 0.32 s, every 0.2 s."""

    @pytest.mark.fault("S5")
    async def test_skip_leaves_out_what_falls_due_meanwhile(self, store: Store) -> None:
        runs, made = Runs(lasts=0.32), every(overlap=Overlap.SKIP)
        async with running_engine(store, runs.workload):
            await store.add_schedule(made)
            await until(lambda: len(runs.started) >= 2)
            states = await rows_of(store, made)
        left_out = [state for state in states if state.status is JobStatus.CANCELLED]
        assert {state.reason for state in left_out} == {"overlap"}
        first, second = runs.moments[:2]
        assert second - first > 0.3, "one at least was left out"

    @pytest.mark.fault("S5")
    async def test_queue_lets_the_next_one_go_as_soon_as_the_run_has_ended(self, store: Store) -> None:
        runs, made = Runs(lasts=0.32), every(overlap=Overlap.QUEUE)
        async with running_engine(store, runs.workload):
            await store.add_schedule(made)
            await until(lambda: len(runs.started) >= 3)
        starts = [at for at, _ in runs.started]
        assert runs.moments[1] - runs.moments[0] == pytest.approx(0.2)
        assert runs.moments[2] - runs.moments[1] == pytest.approx(0.2)
        assert 0.32 <= starts[1] - starts[0] < 1.3
        assert 0.32 <= starts[2] - starts[1] < 1.3

    @pytest.mark.fault("S5")
    async def test_cancel_previous_ends_the_run_and_starts_the_newer_one(self, store: Store) -> None:
        runs, made = Runs(lasts=30.0), every(overlap=Overlap.CANCEL_PREVIOUS)
        async with running_engine(store, runs.workload):
            await store.add_schedule(made)
            await until(lambda: len(runs.started) >= 2, timeout=20)
            states = await rows_of(store, made)
        assert runs.ended == 0
        assert JobStatus.CANCELLED in {state.status for state in states}

    async def test_allow_runs_them_beside_each_other(self, store: Store) -> None:
        runs, made = Runs(lasts=0.32), every()
        async with running_engine(store, runs.workload):
            await store.add_schedule(made)
            await until(lambda: len(runs.started) >= 3)
        starts = [at for at, _ in runs.started]
        assert starts[2] - starts[0] < 0.6


class Wrong(RealClock):
    """A wall clock that is wrong by so many seconds."""

    def __init__(self, seconds: float = 0.0) -> None:
        self.wrong = seconds

    def now_us(self) -> int:
        return super().now_us() + round(self.wrong * 1e6)


class TestClocks:
    @pytest.mark.fault("F1")
    async def test_workers_whose_clocks_differ_by_twenty_minutes_plan_and_run_on_time(self, store: Store) -> None:
        runs, early, late = Runs(), Wrong(-600.0), Wrong(600.0)
        async with (
            running_engine(store, runs.workload, name="w1", clock=early, plan_ahead=0.4, plan_every=0.1) as first,
            running_engine(store, runs.workload, name="w2", clock=late, plan_ahead=0.4, plan_every=0.1) as second,
        ):
            made = await store.add_schedule(every())
            await until(lambda: len(runs.started) >= 8)
            shown = [one.engine.describe()["clock_ahead"] for one in (first, second)]
        begun = made.since_us / SECOND
        assert sorted(runs.moments) == pytest.approx(
            [begun + 0.2 * number for number in range(1, len(runs.moments) + 1)]
        )
        assert all(at - moment > -0.05 for at, moment in runs.started)
        assert shown == pytest.approx([-600.0, 600.0], abs=1.0)

    @pytest.mark.fault("F2")
    @pytest.mark.parametrize("step", [-3600.0, 3600.0])
    async def test_a_wall_clock_that_jumps_by_an_hour_changes_nothing(self, store: Store, step: float) -> None:
        runs, clock = Runs(), Wrong()
        async with running_engine(store, runs.workload, clock=clock, plan_ahead=0.4, plan_every=0.2):
            made = await store.add_schedule(every())
            await until(lambda: len(runs.started) >= 2)
            clock.wrong = step
            await until(lambda: len(runs.started) >= 5)
        first = made.since_us / SECOND
        assert runs.moments == pytest.approx([first + 0.2 * number for number in range(1, len(runs.moments) + 1)])
        assert all(-0.05 < at - moment < 60.0 for at, moment in runs.started)
