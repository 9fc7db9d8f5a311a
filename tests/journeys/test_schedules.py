"""Recurring schedules as a user has them: made by calls and in code, run by workers of the own process."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from jobmaster import (
    Backoff,
    ConfigurationError,
    JobMaster,
    JobStatus,
    MessageData,
    Retry,
    ScheduleProfile,
    ScheduleState,
    current_job,
)
from jobmaster.schedules import Cron, register_provider
from jobmaster.views import ScheduleRun

SECOND = timedelta(seconds=1)
LATEST = timedelta(seconds=10)
"""Other tests use this machine at the same time; tests/engine measures what is promised."""


@pytest.fixture(params=["sqlite", "postgresql"])
def jm(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[JobMaster]:
    master = f"sqlite:///{tmp_path}/journey.db"
    if request.param == "postgresql":
        master = request.getfixturevalue("postgres_database")
    app = JobMaster("journey", master=master, time_zone="Europe/Berlin", accept_timeout=30, folder=str(tmp_path))
    yield app
    app.close()


def until(found: Callable[[], Any], what: str, within: float = 60) -> Any:
    """What `found` answers, once that is something."""
    deadline = time.monotonic() + within
    while not (answer := found()):
        assert time.monotonic() < deadline, what
        time.sleep(0.02)
    return answer


def ended(jm: JobMaster, name: str, count: int) -> Sequence[ScheduleRun]:
    """The first runs of a schedule, once so many have ended; oldest first."""

    def found() -> list[ScheduleRun]:
        first = jm.schedules.runs(name, 100)[::-1][:count]
        return list(first) if sum(bool(run.status and run.status.is_final) for run in first) == count else []

    runs: list[ScheduleRun] = until(found, f"{name} never had {count} runs")
    return runs


def started(jm: JobMaster, name: str) -> set[datetime]:
    """The moments of runs that began."""
    return {run.at for run in jm.schedules.runs(name, 200) if run.started_at is not None}


def test_a_schedule_made_by_a_call_fires_each_moment_once_and_on_time(jm: JobMaster) -> None:
    seen: list[tuple[str, datetime, str | None, str]] = []

    @jm.task
    def tick(name: str) -> None:
        job = current_job()
        seen.append((name, job.scheduled_at, job.schedule, job.trigger))

    with jm:
        info = jm.scheduler.recurring(tick, "every 1 second", {"name": "J"}, name="ticks")
        runs = ended(jm, "ticks", 4)

    assert {after.at - before.at for before, after in pairwise(runs)} == {SECOND}
    assert {run.status for run in runs} == {JobStatus.SUCCEEDED}
    assert all(run.lateness is not None and timedelta(0) <= run.lateness < LATEST for run in runs)
    assert sorted(moment for _, moment, *_ in seen)[:4] == [run.at for run in runs]
    assert {(name, schedule, trigger) for name, _, schedule, trigger in seen} == {("J", info.id, "schedule")}


def test_schedules_in_code_in_a_profile_and_in_a_file_fire(jm: JobMaster, tmp_path: Path) -> None:
    (tmp_path / "jobmaster.toml").write_text(
        '[clusters.journey.schedules.from-file]\ntask = "note"\nevery = "every 1 second"\ndata = {name = "file"}\n',
        encoding="utf-8",
    )
    jm.resolve_again()
    seen: set[str] = set()

    @jm.every(SECOND, {"name": "code"}, name="from-code")
    @jm.task(name="note")
    def note(name: str) -> None:
        seen.add(name)

    @jm.profile
    class Profile(ScheduleProfile):
        def configure(self, schedules: Any) -> None:
            schedules.add(note, Cron("* * * * * *"), {"name": "profile"}, name="from-profile")

    with jm:
        until(lambda: seen == {"code", "profile", "file"}, "not all have fired")
        kinds = {one.name: one.kind for one in jm.schedules.list().schedules}

    assert kinds == dict.fromkeys(("from-code", "from-file", "from-profile"), "static")


def test_a_paused_one_is_silent_and_goes_on_from_now(jm: JobMaster) -> None:
    @jm.task
    def tick() -> None: ...

    with jm:
        jm.scheduler.recurring(tick, "every 1 second", name="ticks")
        ended(jm, "ticks", 1)
        assert jm.scheduler.pause_recurring("ticks").state is ScheduleState.PAUSED
        until(lambda: all(run.status and run.status.is_final for run in jm.schedules.runs("ticks")), "one hangs")
        before = started(jm, "ticks")
        time.sleep(1.5)  # nothing can be awaited where nothing may happen
        assert started(jm, "ticks") == before
        resumed_at = datetime.now(UTC)
        assert jm.scheduler.resume_recurring("ticks").state is ScheduleState.ACTIVE
        after = until(lambda: started(jm, "ticks") - before, "it never went on")

    assert all(at > resumed_at - timedelta(seconds=0.1) for at in after)


def test_an_edit_replaces_what_was_planned(jm: JobMaster) -> None:
    seen: list[str] = []

    @jm.task
    def note(name: str) -> None:
        seen.append(name)

    with jm:
        jm.scheduler.recurring(note, "every 1 second", {"name": "old"}, name="n")
        until(lambda: "old" in seen, "it never fired")
        jm.schedules.edit("n", when=2 * SECOND, data={"name": "new"})
        until(lambda: seen.count("new") >= 2, "the edited one never fired")
        assert "old" not in seen[seen.index("new") :]
        assert jm.scheduler.cancel_recurring("n") is True
        info = jm.schedules.list().schedules[0]

    assert (info.state, info.version >= 3, info.next_run) == (ScheduleState.CANCELED, True, None)


def test_a_run_now_and_a_backfill_return_results(jm: JobMaster) -> None:
    @jm.task
    def report(region: str) -> str:
        return f"{region} {current_job().scheduled_at:%Y-%m-%d %H:%M} {current_job().trigger}"

    march = datetime(2026, 3, 1, tzinfo=UTC)
    with jm:
        jm.scheduler.recurring(report, "every day at 9:00", {"region": "eu"}, name="daily")
        now = jm.scheduler.run_now("daily").get(timeout=30)
        made = [result.get(timeout=30) for result in jm.scheduler.backfill("daily", march, march + timedelta(days=2))]

    assert now.startswith("eu ")
    assert now.endswith(" run now")
    # 9 in Berlin
    assert made == ["eu 2026-03-01 08:00 backfill", "eu 2026-03-02 08:00 backfill"]


def test_a_run_that_fails_is_retried_and_its_history_says_so(jm: JobMaster) -> None:
    @jm.task(retry=Backoff(base=0.1, factor=1, cap=0.1, jitter=False))
    def flaky() -> None:
        if current_job().attempt == 1:
            raise Retry("the line broke")

    with jm:
        jm.scheduler.recurring(flaky, "every 2 seconds", name="n")
        (run,) = ended(jm, "n", 1)

    assert (run.status, run.attempts) == (JobStatus.SUCCEEDED, 2)
    assert run.lateness is not None
    assert run.lateness < LATEST, "lateness is that of its first start"


def test_a_handler_on_a_loop(jm: JobMaster) -> None:
    seen: list[str] = []

    @jm.every("every 1 second", MessageData().set_str("Name", "John"), name="hello")
    @jm.handler("HelloJob", lane="mail")
    class HelloHandler:
        async def handle(self, job: Any) -> None:
            seen.append(f"{job.msg_data.get_str('Name')} {job.trigger} {job.lane}")

    async def scenario() -> None:
        async with jm:
            while not seen:
                await asyncio.sleep(0.02)
            assert (await jm.schedules.aget("hello")).task == HelloHandler.__name__.replace("Handler", "Job")

    asyncio.run(asyncio.wait_for(scenario(), 60))
    assert seen[0] == "John schedule mail"


def test_a_broken_one_is_parked_and_the_others_go_on(jm: JobMaster) -> None:
    language = f"Moon-{uuid4()}"  # a language is registered once in a process

    class Moon:
        """A language whose rules fail when they are asked."""

        type_id = language
        text = "full"
        zone = None
        is_phased = False

        def in_zone(self, zone: Any) -> Moon:
            return self

        def next_after(self, moment: datetime) -> datetime | None:
            if broken:
                raise RuntimeError("clouds")
            return moment + timedelta(hours=1)

        def has_ended(self, moment: datetime) -> bool:
            return False

        def explain(self) -> str:
            return "at full moon"

    broken: list[bool] = []
    register_provider(language, lambda _text: Moon())

    @jm.task
    def tick() -> None: ...

    moon = jm.scheduler.recurring(tick, (language, "full"), name="moon")
    broken.append(True)
    with jm:
        jm.scheduler.recurring(tick, "every 1 second", name="ticks")
        until(lambda: jm.schedules.get("moon").state is ScheduleState.BROKEN, "it was never parked")
        ended(jm, "ticks", 2)
        parked = jm.schedules.get("moon")
        broken.clear()
        jm.schedules.resume("moon")
        until(lambda: jm.schedules.get("moon").next_run, "it was never planned again")
        again = jm.schedules.get("moon")

    assert moon.explanation == "at full moon"
    assert "RuntimeError: clouds" in parked.error
    assert (again.state, again.error) == (ScheduleState.ACTIVE, "")


@pytest.mark.backend("sqlite")
def test_workers_with_broken_schedules_do_not_start(tmp_path: Path) -> None:
    app = JobMaster("journey", folder=str(tmp_path))

    @app.every("every dya", name="one")
    @app.every("every hour", name="two", tz="Europe/Brelin")
    def tick() -> None: ...

    with pytest.raises(ConfigurationError, match="2 schedules in code cannot work") as caught:
        app.start()
    app.close()

    assert "  every dya\n" in str(caught.value)
    assert not (tmp_path / "jobmaster.db").exists()
