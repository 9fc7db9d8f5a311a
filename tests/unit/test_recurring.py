"""`jm.scheduler.recurring` and `jm.schedules`: what is refused at the call, what is stored, what people are told."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from msgspec.structs import replace

from jobmaster import (
    ClusterArchived,
    ConfigurationError,
    JobStatus,
    MessageData,
    NotRegistered,
    Priority,
    ScheduleConflict,
    ScheduleQuery,
    ScheduleState,
    ScheduleSyntaxError,
)
from jobmaster.model.ids import parse_key
from jobmaster.model.schedule import ScheduleKey, ScheduleKind, Trigger
from jobmaster.options import as_moment, moment_us
from jobmaster.ports.schedules import ScheduleChange
from jobmaster.rules import planning
from jobmaster.rules.compiling import compiled
from jobmaster.schedules import Cron, Every, Interval, NaturalCron, Never
from jobmaster.views import ScheduleRun
from tests.unit.schedule_app import App

pytestmark = pytest.mark.backend("memory")

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


@pytest.fixture
def shop() -> Iterator[tuple[App, Any]]:
    app, hello = made()
    yield app, hello
    app.close()


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


class TestWhen:
    """What `when` may be, and what is stored of it."""

    @pytest.mark.parametrize(
        ("when", "type_id", "text"),
        [
            ("every day at 02:30", "NaturalCron", "every day at 02:30"),
            (NaturalCron.parse("every 5 minutes"), "NaturalCron", "every 5 minutes"),
            (Every(30).minutes().between("09:00", "18:00").build(), "NaturalCron", None),
            (Cron("0 3 * * *"), "Cron", "0 3 * * *"),
            (timedelta(minutes=5), "TimeSpanInterval", "00:05:00"),
            (Interval(90), "TimeSpanInterval", "00:01:30"),
            (("Cron", "0 3 * * *"), "Cron", "0 3 * * *"),
            (("NaturalCron", "every 1 minutes"), "NaturalCron", "every 1 minutes"),
            (FAR, "Dates", "2100-01-01T00:00:00Z"),
            ([FAR, FAR + MINUTE], "Dates", "2100-01-01T00:00:00Z, 2100-01-01T00:01:00Z"),
            (Never(), "Never-Recurs", ""),
        ],
    )
    def test_every_form_is_stored_as_type_id_and_text(self, shop, when, type_id: str, text: str | None) -> None:
        app, hello = shop

        info = app.scheduler.recurring(hello, when, name="x")

        assert info.type_id == type_id
        assert text is None or info.expression == text
        assert info.state is ScheduleState.ACTIVE

    def test_a_text_that_cannot_be_read_is_shown_with_a_caret(self, shop) -> None:
        app, hello = shop

        with pytest.raises(ScheduleSyntaxError) as caught:
            app.scheduler.recurring(hello, "every dya at 09:00")

        assert caught.value.position == 6
        assert "  every dya at 09:00\n        ^^^" in str(caught.value)
        assert app.schedules.list().schedules == ()

    @pytest.mark.parametrize(
        ("when", "options", "part"),
        [
            (5, {}, "not 5"),
            ("every day", {"tz": "Europe/Brelin"}, "did you mean 'Europe/Berlin'"),
            ("every day", {"start_after": FAR, "end_before": YEAR_2000}, "nothing lies between"),
            ("every day", {"end_before": YEAR_2000}, "never fires before 2000-01-01"),
            (YEAR_2000, {}, "never fires from now on"),
            ("every day", {"start_after": FAR.replace(tzinfo=None)}, "no time zone"),
            (Cron("0 3 * * *", tz="Europe/Berlin"), {"tz": "Europe/Paris"}, "Name the zone once"),
            ("every day at 9:00 tz Europe/Berlin", {"tz": "Europe/Paris"}, "Name the zone once"),
            ("every day", {"misfire": "sometimes"}, "'skip' or 'once' or 'all'"),
            ("every day", {"misfire_limit": 0}, "from 1 to 900"),
            ("every day", {"misfire_limit": 5}, "nothing goes by it"),
            ("every day", {"misfire_limit": 5, "misfire": "once"}, "misfire='all'"),
            ("every day", {"misfire_grace": -1}, "0 to 366 days"),
            ("every day", {"overlap": "maybe"}, "'cancel_previous'"),
            ("every day", {"jitter": timedelta(days=2)}, "0 to 1 days"),
            ("every day", {"priority": 9}, "Priority.HIGH"),
            ("every day", {"max_retry": 9}, "Did you mean 'max_retries'?"),
            ("every day", {"name": " "}, "printable characters"),
            ("every day", {"lane": "a b"}, "lane 'a b'"),
            (timedelta(milliseconds=1), {}, "at least one second"),
        ],
    )
    def test_what_cannot_be_is_refused_at_the_call(self, shop, when, options, part: str) -> None:
        app, hello = shop

        with pytest.raises(ConfigurationError) as caught:
            app.scheduler.recurring(hello, when, **options)

        assert part in str(caught.value)
        assert app.schedules.list().schedules == ()

    def test_arguments_that_the_task_cannot_take_are_refused(self, shop) -> None:
        app, hello = shop

        with pytest.raises(TypeError, match="nam"):
            app.scheduler.recurring(hello, MINUTE, {"nam": "x"})

    def test_a_name_that_nobody_registered_is_refused_with_the_nearest(self, shop) -> None:
        app, _ = shop

        with pytest.raises(NotRegistered, match="Did you mean 'hello'"):
            app.scheduler.recurring("helo", MINUTE)

    def test_an_archived_cluster_takes_none(self) -> None:
        app, hello = made(mode="archived")

        with pytest.raises(ClusterArchived):
            app.scheduler.recurring(hello, MINUTE)
        app.close()

    @pytest.mark.parametrize(
        ("when", "options", "zone"),
        [
            ("every day at 9:00", {}, "Asia/Tokyo"),
            ("every day at 9:00", {"tz": "Europe/Berlin"}, "Europe/Berlin"),
            ("every day at 9:00", {"tz": BERLIN}, "Europe/Berlin"),
            ("every day at 9:00 tz Europe/Berlin", {}, "Europe/Berlin"),
            (Cron("0 9 * * *", tz="Europe/Berlin"), {}, "Europe/Berlin"),
        ],
    )
    def test_the_zone_is_the_texts_the_options_or_the_clusters(self, when, options, zone: str) -> None:
        app, hello = made(time_zone="Asia/Tokyo")

        info = app.scheduler.recurring(hello, when, **options)

        assert info.zone == zone
        assert info.next_run is not None
        assert info.next_run.astimezone(ZoneInfo(zone)).hour == 9
        app.close()


class TestJobs:
    """What the jobs of a schedule will be."""

    def test_options_of_the_call_come_before_those_of_the_task(self, shop) -> None:
        app, hello = shop
        info = app.scheduler.recurring(
            hello,
            MINUTE,
            {"name": "x"},
            lane="bulk",
            priority="high",
            max_retries=2,
            timeout=30,
            metadata={"tenant": 1},
        )

        run = app.jobs.get(app.schedules.run_now(info.id).id)

        assert (info.lane, info.priority, info.max_retries) == ("bulk", Priority.HIGH, 2)
        assert info.timeout == timedelta(seconds=30)
        assert (run.lane, run.priority, run.kwargs) == ("bulk", Priority.HIGH, {"name": "x"})
        assert run.metadata == {"team": "a", "tenant": 1}
        assert (run.schedule, run.trigger) == (info.id, "run now")

    def test_what_is_not_said_is_the_tasks(self, shop) -> None:
        app, hello = shop

        info = app.scheduler.recurring(hello, MINUTE)

        assert (info.lane, info.priority) == ("greetings", Priority.MEDIUM)
        assert (info.max_retries, info.timeout) == (None, None)

    def test_a_handler_gets_its_data(self) -> None:
        app = App()

        @app.handler("HelloJob", lane="mail")
        class HelloHandler:
            def handle(self, job) -> str:
                return job.msg_data.get_str("Name")

        info = app.scheduler.recurring(HelloHandler, MINUTE, MessageData().set_str("Name", "John"))

        assert (info.task, info.lane) == ("HelloJob", "mail")
        assert app.schedules.get(info.id).kwargs == {"Name": "John"}
        app.close()

    def test_a_task_that_only_the_master_knows(self, shop) -> None:
        app, _ = shop
        other = App()
        other._client = app._client  # the same master, without the code
        app.client.ask(lambda gate: gate.store.save_definitions([known.stored(app.settings) for known in app.registry]))

        info = other.scheduler.recurring("hello", MINUTE, {"name": "x"})

        assert (info.task, info.lane) == ("hello", "greetings")

    def test_another_cluster(self) -> None:
        here, hello = made()
        there = App("elsewhere", time_zone="Asia/Tokyo")

        info = here.scheduler.recurring(hello, "every day at 9:00", cluster="elsewhere", name="x")

        assert info.zone == "Asia/Tokyo"
        assert there.schedules.get("x") is not None
        assert here.schedules.get("x") is None
        here.close()
        there.close()


class TestNames:
    """The same name is the same schedule."""

    def test_a_repetition_changes_nothing(self, shop) -> None:
        app, hello = shop
        first = app.scheduler.recurring(hello, "every day at 9:00", {"name": "x"}, name="n", metadata={"a": 1})
        again = app.scheduler.recurring(hello, "every day at 9:00", {"name": "x"}, name="n", metadata={"a": 1})

        assert (again.id, again.version) == (first.id, 1)

    @pytest.mark.parametrize(
        "change",
        [{"when": "every day at 10:00"}, {"data": {"name": "y"}}, {"lane": "bulk"}, {"tz": "Europe/Berlin"},
         {"overlap": "skip"}, {"max_retries": 1}],
    )  # fmt: skip
    def test_another_definition_replaces_it(self, shop, change) -> None:
        app, hello = shop
        given: dict[str, Any] = {"when": "every day at 9:00", "data": {"name": "x"}, "name": "n"}
        first = app.scheduler.recurring(hello, **given)
        changed = app.scheduler.recurring(hello, **{**given, **change})

        assert (changed.id, changed.version) == (first.id, 2)
        page = app.schedules.list()
        assert len(page) == 1
        assert [one.id for one in page] == [first.id]

    def test_one_that_is_paused_stays_paused(self, shop) -> None:
        app, hello = shop
        app.scheduler.recurring(hello, MINUTE, name="n")
        app.scheduler.pause_recurring("n")

        assert app.scheduler.recurring(hello, 2 * MINUTE, name="n").state is ScheduleState.PAUSED

    def test_a_cancelled_ones_name_is_free(self, shop) -> None:
        app, hello = shop
        first = app.scheduler.recurring(hello, MINUTE, name="n")

        assert app.scheduler.cancel_recurring("n") is True
        assert app.scheduler.cancel_recurring(first.id) is False
        assert app.scheduler.recurring(hello, MINUTE, name="n").id != first.id

    def test_without_a_name_each_call_makes_one(self, shop) -> None:
        app, hello = shop

        assert app.scheduler.recurring(hello, MINUTE).id != app.scheduler.recurring(hello, MINUTE).id

    def test_the_name_of_one_in_code_is_not_taken_over(self, shop) -> None:
        app, hello = shop
        app.every(MINUTE, name="n")(hello)
        app.client.ask(lambda gate: gate.store.ensure_schedules(app.static_schedules()))

        with pytest.raises(ConfigurationError, match=r"defined in code \(.*test_recurring.py:\d+\)"):
            app.scheduler.recurring(hello, MINUTE, name="n")


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


class TestQuestions:
    """Lists, next runs, history."""

    def test_a_list_is_filtered_and_paged(self, shop) -> None:
        app, hello = shop
        for name in ("c", "a", "b"):
            app.scheduler.recurring(hello, MINUTE, name=name, lane="bulk" if name == "b" else None)
        app.schedules.pause("c")
        app.every(MINUTE, name="zeta")(hello)
        app.client.ask(lambda gate: gate.store.ensure_schedules(app.static_schedules()))

        def names(**query: Any) -> list[str]:
            return [one.name for one in app.schedules.list(ScheduleQuery(**query)).schedules]

        first = app.schedules.list(limit=2)
        rest = app.schedules.list(limit=2, after=first.after)
        assert [[one.name for one in page.schedules] for page in (first, rest)] == [["a", "b"], ["c", "zeta"]]
        assert names(state="paused") == ["c"]
        assert names(state=ScheduleState.ACTIVE, kind="dynamic") == ["a", "b"]
        assert names(kind="static") == ["zeta"]
        assert names(lane="bulk") == ["b"]
        assert names(task="hello", text="ZET") == ["zeta"]
        for wrong in ({"state": "gone"}, {"kind": "x"}):
            with pytest.raises(ConfigurationError):
                names(**wrong)
        with pytest.raises(ConfigurationError):
            app.schedules.list(limit=0)

    def test_a_list_asks_the_store_once_and_tells_what_one_schedule_tells(self, shop, monkeypatch) -> None:
        app, hello = shop
        rules = {"a": timedelta(seconds=90), "b": "every 7 seconds", "c": Cron("* * * * *"), "d": FAR}
        for name, rule in rules.items():
            app.scheduler.recurring(hello, rule, name=name)
            row = app.client.ask(lambda gate, name=name: gate.store.find_schedule(name))
            app.store.schedules.put(replace(row, since_us=row.since_us - 3_600_000_000))
            plan_once(app, name)
        alone = {name: app.schedules.get(name) for name in rules}
        asked = []
        monkeypatch.setattr(app.store, "schedule_occurrences", lambda *given, **_more: asked.append(given))

        listed = {one.name: one for one in app.schedules.list().schedules}

        assert asked == []
        assert {name: one.next_run for name, one in listed.items()} == {n: one.next_run for n, one in alone.items()}
        assert {name: one.last_run for name, one in listed.items()} == {n: one.last_run for n, one in alone.items()}
        assert [listed[name].last_run is not None for name in rules] == [True, True, True, False]

    def test_the_next_runs_have_the_zone_and_notes_of_daylight_saving(self, shop) -> None:
        app, hello = shop
        around = datetime(2100, 3, 27, tzinfo=BERLIN)
        app.scheduler.recurring(hello, "every day at 02:30", name="n", tz="Europe/Berlin", start_after=around)

        runs = app.schedules.next("n", 3)

        assert [run.at.strftime("%d %H:%M %z") for run in runs] == [
            "27 02:30 +0100",
            "28 03:00 +0200",
            "29 02:30 +0200",
        ]
        assert ["does not exist" in run.note for run in runs] == [False, True, False]

    def test_next_runs_end_with_the_schedule(self, shop) -> None:
        app, hello = shop
        end = datetime.now(UTC) + 3.5 * MINUTE
        app.scheduler.recurring(hello, MINUTE, name="n", end_before=end)

        assert len(app.schedules.next("n")) == 3
        app.schedules.pause("n")
        assert app.schedules.next("n") == []
        assert app.schedules.get("n").next_run is None

    def test_an_interval_that_is_planned_ahead_tells_what_was_planned(self, shop) -> None:
        app, hello = shop
        app.scheduler.recurring(hello, timedelta(seconds=90), name="n")
        planned = plan_once(app, "n")

        runs = app.schedules.next("n", len(planned) + 2)

        assert [run.at for run in runs[: len(planned)]] == [as_moment(at) for at in planned]
        assert runs[-1].at - runs[-2].at == timedelta(seconds=90)
        assert app.schedules.get("n").next_run == as_moment(planned[0])
        assert app.schedules.runs("n") == []

    def test_history_tells_what_became_of_each_moment(self, shop) -> None:
        app, hello = shop
        app.scheduler.recurring(hello, "every day at 9:00", name="n")
        start = datetime(2026, 3, 1, 9, tzinfo=UTC)
        (result,) = app.schedules.backfill("n", start, start)
        result.cancel()

        (run,) = app.schedules.runs("n")

        assert run == ScheduleRun(
            at=start, trigger="backfill", job_id=result.id, status=JobStatus.CANCELLED, finished_at=run.finished_at,
            reason=run.reason,
        )  # fmt: skip
        with pytest.raises(ConfigurationError):
            app.schedules.runs("n", 0)

    def test_one_whose_language_is_not_known_here_is_shown_all_the_same(self, shop) -> None:
        app, hello = shop
        app.scheduler.recurring(hello, MINUTE, name="n")
        foreign = app.client.ask(lambda gate: gate.store.find_schedule("n"))
        rule = replace(foreign.rule, type_id="Moon", text="full")
        app.client.ask(lambda gate: gate.store.change_schedule(foreign.key, ScheduleChange(rule=rule), version=None))

        info = app.schedules.get("n")

        assert (info.type_id, info.expression, info.explanation, info.next_run) == ("Moon", "full", "", None)
        with pytest.raises(ConfigurationError, match="no schedule language 'Moon'"):
            app.schedules.next("n")

    def test_the_last_part_of_a_name_is_enough_where_it_is_the_only_one(self, shop) -> None:
        app, hello = shop
        for name in ("shop.tick", "shop.tock", "mail.tock"):
            app.scheduler.recurring(hello, MINUTE, name=name)

        assert app.schedules.get("tick").name == "shop.tick"
        assert app.schedules.pause("tick").name == "shop.tick"
        for reference, meant in (
            ("tock", "'mail.tock' or 'shop.tock'"),
            ("tikc", "'shop.tick'"),
            ("shop.tik", "'shop.tick"),
        ):
            with pytest.raises(NotRegistered, match=f"Did you mean {meant}"):
                app.schedules.run_now(reference)

    def test_nobody_knows_it(self, shop) -> None:
        app, _ = shop

        assert app.schedules.get("n") is None
        assert app.schedules.get("00000000-0000-0000-0000-000000000000") is None
        for order in (app.schedules.next, app.schedules.runs, app.schedules.run_now, app.schedules.resume):
            with pytest.raises(NotRegistered):
                order("n")


def test_a_schedule_is_edited_through_the_scheduler(shop) -> None:
    app, hello = shop
    app.scheduler.recurring(hello, MINUTE, {"name": "x"}, name="n")

    edited = app.scheduler.edit_recurring("n", version=1, when="every day at 9:00", priority="high")

    assert (edited.expression, edited.priority, edited.version) == ("every day at 9:00", Priority.HIGH, 2)


def test_the_async_twins_do_the_same(shop) -> None:
    app, hello = shop
    start = datetime(2026, 3, 1, 9, tzinfo=UTC)

    async def all_of_them() -> None:
        info = await app.scheduler.arecurring(hello, "every day at 9:00", {"name": "x"}, name="n")
        assert (await app.schedules.aget("n")).id == info.id
        assert (await app.scheduler.apause_recurring("n")).state is ScheduleState.PAUSED
        assert (await app.scheduler.aresume_recurring("n")).state is ScheduleState.ACTIVE
        assert (await app.scheduler.aedit_recurring("n", jitter=1)).jitter == timedelta(seconds=1)
        assert (await (await app.scheduler.arun_now("n")).astatus()) is JobStatus.HELD_ON_MASTER
        assert len(await app.scheduler.abackfill("n", start, start)) == 1
        assert [run.trigger for run in await app.schedules.aruns("n")] == ["run now", "backfill"]
        assert len(await app.schedules.anext("n", 2)) == 2
        assert [one.name for one in (await app.schedules.alist()).schedules] == ["n"]
        assert await app.scheduler.acancel_recurring("n")
        await app.aclose()

    asyncio.run(all_of_them())


def test_triggers_and_kinds_are_those_of_the_dotnet_system() -> None:
    assert (ScheduleKind.STATIC, ScheduleKind.DYNAMIC) == (2, 3)
    assert [int(one) for one in Trigger] == [1, 2, 3, 4]
    assert len(ScheduleKey(b"0" * 16)) == 16
