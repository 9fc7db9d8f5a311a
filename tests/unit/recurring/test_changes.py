"""`jm.scheduler` and `jm.schedules`: pauses, edits, ends, runs by hand and backfills of stored schedules."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from msgspec.structs import replace

from jobmaster import (
    ConfigurationError,
    DuplicateJob,
    JobStatus,
    NotRegistered,
    OutcomeUnknown,
    Priority,
    ScheduleConflict,
    ScheduleQuery,
    ScheduleState,
    ScheduleSyntaxError,
    SerializationError,
)
from jobmaster.model.ids import parse_key
from jobmaster.options import as_moment, moment_us
from jobmaster.rules import planning
from tests.unit.recurring.recurring_app import BERLIN, FAR, MINUTE, YEAR_2000, made

pytestmark = pytest.mark.backend("memory")


class TestChanges:
    """Edit, pause, resume, run now, backfill."""

    def test_an_edit_changes_what_it_names(self, shop) -> None:
        app, hello = shop
        before = app.scheduler.recurring(
            hello, "every day at 9:00", {"name": "x"}, name="n", tz="Europe/Berlin", jitter=5, lane="bulk", timeout=9
        )
        after = app.schedules.edit("n", when="every day at 10:00", max_retries=1, version=before.version)

        assert (after.expression, after.max_retries, after.version) == ("every day at 10:00", 1, 2)
        assert (after.zone, after.jitter, after.lane, after.timeout, after.kwargs) == (
            before.zone, before.jitter, before.lane, before.timeout, before.kwargs
        )  # fmt: skip

    def test_none_takes_an_option_back(self, shop) -> None:
        app, hello = shop
        app.scheduler.recurring(
            hello, "every day at 9:00", name="n", tz="Europe/Berlin", jitter=5, lane="bulk", timeout=9, end_before=FAR
        )
        after = app.schedules.edit("n", tz=None, jitter=None, lane=None, timeout=None, end_before=None, name=None)

        assert (after.zone, after.jitter, after.lane, after.timeout) == ("UTC", timedelta(0), "greetings", None)
        assert (after.end_before, after.name) == (None, "")

    def test_an_edit_of_another_version_is_refused_and_names_the_present_one(self, shop) -> None:
        app, hello = shop
        app.scheduler.recurring(hello, MINUTE, name="n")
        app.schedules.edit("n", jitter=1)

        with pytest.raises(ScheduleConflict, match="it has version 2 now") as caught:
            app.schedules.edit("n", jitter=2, version=1)
        with pytest.raises(ScheduleConflict):
            app.schedules.pause("n", version=1)

        assert caught.value.version == 2
        assert app.schedules.get("n").jitter == timedelta(seconds=1)

    def test_an_edit_is_checked_as_a_new_one(self, shop) -> None:
        app, hello = shop
        app.scheduler.recurring(hello, MINUTE, name="n")

        with pytest.raises(ScheduleSyntaxError):
            app.schedules.edit("n", when="every dya")
        with pytest.raises(TypeError):
            app.schedules.edit("n", data={"nam": 1})
        with pytest.raises(ConfigurationError, match="never fires"):
            app.schedules.edit("n", end_before=YEAR_2000)
        with pytest.raises(NotRegistered, match="no schedule 'm'"):
            app.schedules.edit("m", jitter=1)

    def test_one_in_code_can_be_paused_and_not_edited(self, shop) -> None:
        app, hello = shop
        app.every(MINUTE, name="n")(hello)
        app.client.ask(lambda gate: gate.store.ensure_schedules(app.static_schedules()))

        assert app.schedules.pause("n").state is ScheduleState.PAUSED
        for order in (lambda: app.schedules.edit("n", jitter=1), lambda: app.schedules.cancel("n")):
            with pytest.raises(ConfigurationError, match="Change it there, or pause it"):
                order()

    def test_one_that_has_ended_is_not_paused(self, shop) -> None:
        app, hello = shop
        app.scheduler.recurring(hello, MINUTE, name="n")
        key = app.schedules.get("n").id
        app.schedules.cancel("n")

        with pytest.raises(ConfigurationError, match="has ended"):
            app.schedules.pause(key)
        with pytest.raises(ConfigurationError, match="Add a new one"):
            app.schedules.edit(key, jitter=1)

    def test_resuming_tries_a_broken_one_again(self, shop) -> None:
        app, hello = shop
        app.scheduler.recurring(hello, MINUTE, name="n")
        schedule = app.client.ask(lambda gate: gate.store.find_schedule("n"))
        broken = planning.parked(schedule, RuntimeError("no such thing"))
        app.client.ask(lambda gate: gate.store.plan_schedules([broken], as_of_us=2**60, max_age_us=0))

        assert app.schedules.get("n").state is ScheduleState.BROKEN
        assert "no such thing" in app.schedules.get("n").error
        assert [one.name for one in app.schedules.list(ScheduleQuery(state="broken")).schedules] == ["n"]
        assert app.schedules.resume("n").state is ScheduleState.ACTIVE

    @pytest.mark.parametrize(
        "order",
        [
            lambda app, _: app.schedules.pause("n"),
            lambda app, _: app.schedules.cancel("n"),
            lambda app, _: app.schedules.edit("n", when="every day at 9:00"),
            lambda app, hello: app.scheduler.recurring(hello, "every day at 9:00", name="n"),
        ],
        ids=["pause", "cancel", "edit", "another rule of the name"],
    )
    def test_what_came_while_its_planner_was_dead_is_not_lost_by_it(self, shop, order: Any) -> None:
        app, hello = shop
        info = app.scheduler.recurring(hello, timedelta(seconds=1), name="n")
        stored = app.client.ask(lambda gate: gate.store.find_schedule("n"))
        app.store.schedules.put(replace(stored, since_us=stored.since_us - 4_000_000))
        app.client.ask(lambda gate: gate.store.due_schedules(limit=9, claim_us=5_000_000, idle_us=10**9))

        order(app, hello)

        runs = app.schedules.runs(info.id)
        assert [run.at for run in runs][::-1][:4] == [
            as_moment(stored.since_us + seconds * 1_000_000) for seconds in (-3, -2, -1, 0)
        ]
        assert {run.status for run in runs} == {JobStatus.HELD_ON_MASTER}

    def test_a_plan_that_cannot_be_kept_keeps_nobody_from_a_pause(self, shop, monkeypatch: pytest.MonkeyPatch) -> None:
        app, hello = shop
        app.scheduler.recurring(hello, timedelta(seconds=1), name="n")

        async def refuse(*_: Any, **__: Any) -> Any:
            raise SerializationError("a job of it cannot be stored")

        monkeypatch.setattr(app.store, "plan_schedules", refuse)

        assert app.schedules.pause("n").state is ScheduleState.PAUSED

    def test_pauses_and_resumptions_of_any_version_meet_no_conflict(self, shop, monkeypatch) -> None:
        app, hello = shop
        app.scheduler.recurring(hello, MINUTE, name="n")
        change_schedule = app.store.change_schedule

        async def beaten(*values: Any, version: int | None, **options: Any) -> Any:
            """Somebody else was faster, each time."""
            return None if version is not None else await change_schedule(*values, version=version, **options)

        monkeypatch.setattr(app.store, "change_schedule", beaten)

        assert app.schedules.pause("n").state is ScheduleState.PAUSED
        assert app.schedules.resume("n").state is ScheduleState.ACTIVE

    def test_a_run_now_is_beside_what_is_planned(self, shop) -> None:
        app, hello = shop
        info = app.scheduler.recurring(hello, MINUTE, name="n")
        app.schedules.pause("n")

        first, second = app.schedules.run_now("n"), app.schedules.run_now(info.id)

        assert first.id != second.id
        assert first.status is JobStatus.HELD_ON_MASTER
        assert [(run.job_id, run.trigger) for run in app.schedules.runs("n")] == [
            (second.id, "run now"), (first.id, "run now")
        ]  # fmt: skip

    def test_a_run_now_of_an_id_is_one_run(self, shop) -> None:
        app, hello = shop
        app.scheduler.recurring(hello, MINUTE, name="n")
        app.scheduler.recurring(hello, MINUTE, name="m")

        first, again = (app.scheduler.run_now("n", job_id="order-77") for _ in range(2))

        assert first.id == again.id == "order-77"
        assert [run.trigger for run in app.schedules.runs("n")] == ["run now"]
        assert app.jobs.get("order-77").status is JobStatus.HELD_ON_MASTER
        with pytest.raises(DuplicateJob, match="no run of Schedule 'm'") as caught:
            app.schedules.run_now("m", job_id="order-77")
        assert caught.value.existing == "order-77"
        with pytest.raises(ConfigurationError, match="job_id is ''"):
            app.schedules.run_now("n", job_id="")

    @pytest.mark.parametrize("reached", [True, False])
    @pytest.mark.parametrize("job_id", [None, "mine"])
    def test_a_run_now_whose_answer_was_lost_is_repeated_by_the_id_of_the_error(
        self, shop, monkeypatch: pytest.MonkeyPatch, job_id: str | None, *, reached: bool
    ) -> None:
        app, hello = shop
        app.scheduler.recurring(hello, MINUTE, name="n")
        add_occurrences = app.store.add_occurrences

        async def lost(*values: Any) -> Any:
            if reached:
                await add_occurrences(*values)
            raise OutcomeUnknown("The answer was lost.")

        monkeypatch.setattr(app.store, "add_occurrences", lost)
        with pytest.raises(OutcomeUnknown, match=r"Repeat it with job_id='.+': the same id is the same run") as caught:
            app.schedules.run_now("n", job_id=job_id)
        monkeypatch.setattr(app.store, "add_occurrences", add_occurrences)
        assert caught.value.job_id

        repeated = [app.schedules.run_now("n", job_id=caught.value.job_id) for _ in range(2)]

        assert {result.id for result in repeated} == {caught.value.job_id}
        assert [run.trigger for run in app.schedules.runs("n")] == ["run now"]
        assert job_id in {None, caught.value.job_id}

    def test_a_run_now_that_nobody_answered_in_time_may_be_there(self, monkeypatch: pytest.MonkeyPatch) -> None:
        app, hello = made(accept_timeout=0.2)
        app.scheduler.recurring(hello, MINUTE, name="n")
        add_occurrences = app.store.add_occurrences

        async def silent(*values: Any) -> Any:
            await add_occurrences(*values)
            await asyncio.Event().wait()

        monkeypatch.setattr(app.store, "add_occurrences", silent)
        with pytest.raises(OutcomeUnknown) as caught:
            app.schedules.run_now("n")
        monkeypatch.setattr(app.store, "add_occurrences", add_occurrences)

        assert app.schedules.run_now("n", job_id=caught.value.job_id).id == caught.value.job_id
        assert len(app.schedules.runs("n")) == 1
        app.close()

    def test_who_waits_for_a_run_now_or_a_backfill_is_told_of_its_end(self, shop) -> None:
        app, hello = shop
        app.scheduler.recurring(hello, "every day at 9:00", name="n")
        start = datetime(2026, 3, 1, 9, tzinfo=UTC)

        results = [app.schedules.run_now("n"), *app.schedules.backfill("n", start, start)]

        for result in results:
            key = parse_key(result.id)[0]
            job = app.client.ask(lambda gate, key=key: gate.questions.get_job(key))
            assert job.envelope.reply_to == app.client.token

    def test_a_backfill_makes_each_moment_once(self, shop) -> None:
        app, hello = shop
        app.scheduler.recurring(hello, "every day at 9:00", {"name": "x"}, name="n", tz="Europe/Berlin")
        start, end = datetime(2026, 3, 27, tzinfo=BERLIN), datetime(2026, 3, 30, 9, tzinfo=BERLIN)

        made_now, again = (app.schedules.backfill("n", start, end) for _ in range(2))

        jobs = [app.jobs.get(result.id) for result in made_now]
        assert again == []
        assert [job.scheduled_at.astimezone(BERLIN).strftime("%d %H:%M") for job in jobs] == [
            "27 09:00", "28 09:00", "29 09:00", "30 09:00"
        ]  # fmt: skip
        assert {(job.trigger, job.status) for job in jobs} == {("backfill", JobStatus.HELD_ON_MASTER)}

    def test_a_backfill_makes_up_for_what_nobody_started_in_time(self, shop) -> None:
        app, hello = shop
        app.scheduler.recurring(hello, "every day at 9:00", name="n")
        start = datetime(2026, 3, 1, 9, tzinfo=UTC)
        missed, _ = app.schedules.backfill("n", start, start + timedelta(days=1))
        row = app.store.jobs.get(parse_key(missed.id)[0])
        app.store.jobs.change(row, status=JobStatus.CANCELLED, reason="missed")

        (made_up,) = app.schedules.backfill("n", start, start + timedelta(days=1))

        assert made_up.id != missed.id
        assert app.jobs.get(made_up.id).status is JobStatus.HELD_ON_MASTER
        assert [run.job_id for run in app.schedules.runs("n")][-1] == made_up.id

    def test_a_backfill_of_a_series_keeps_its_beat(self, shop) -> None:
        app, hello = shop
        start = datetime.now(UTC).replace(microsecond=0) - timedelta(hours=5)
        app.scheduler.recurring(hello, timedelta(hours=1), name="n")
        made_long_ago = app.client.ask(lambda gate: gate.store.find_schedule("n"))
        app.store.schedules.put(replace(made_long_ago, since_us=moment_us(start, "start")))

        made_now = app.schedules.backfill("n", start + timedelta(minutes=90), start + timedelta(hours=4))

        moments = [app.jobs.get(result.id).scheduled_at for result in made_now]
        assert moments == [start + timedelta(hours=hours) for hours in (2, 3, 4)]
        with pytest.raises(ConfigurationError, match="has no moments before that"):
            app.schedules.backfill("n", start - timedelta(hours=3), start - timedelta(hours=1))

    @pytest.mark.parametrize(
        ("start", "end", "limit", "part"),
        [
            (FAR - timedelta(days=9), FAR, 10, "still to come"),
            (YEAR_2000 + timedelta(days=1), YEAR_2000, 10, "nothing lies between"),
            (YEAR_2000, YEAR_2000 + timedelta(days=9), 5, "more than 5 occurrences"),
            (YEAR_2000, YEAR_2000 + timedelta(days=9), 0, "1 to 900"),
            (YEAR_2000.replace(tzinfo=None), YEAR_2000, 5, "no time zone"),
        ],
    )
    def test_a_backfill_that_cannot_be_makes_nothing(self, shop, start, end, limit: int, part: str) -> None:
        app, hello = shop
        app.scheduler.recurring(hello, "every day at 9:00", name="n")

        with pytest.raises(ConfigurationError, match=part):
            app.schedules.backfill("n", start, end, limit=limit)
        assert app.schedules.runs("n") == []


def test_a_schedule_is_edited_through_the_scheduler(shop) -> None:
    app, hello = shop
    app.scheduler.recurring(hello, MINUTE, {"name": "x"}, name="n")

    edited = app.scheduler.edit_recurring("n", version=1, when="every day at 9:00", priority="high")

    assert (edited.expression, edited.priority, edited.version) == ("every day at 9:00", Priority.HIGH, 2)
