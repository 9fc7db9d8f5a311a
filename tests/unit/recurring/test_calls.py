"""`jm.scheduler.recurring`: what is refused at the call, and what is stored."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest

from jobmaster import (
    ClusterArchived,
    ConfigurationError,
    JobStatus,
    MessageData,
    NotRegistered,
    Priority,
    ScheduleState,
    ScheduleSyntaxError,
)
from jobmaster.model.schedule import ScheduleKey, ScheduleKind, Trigger
from jobmaster.schedules import Cron, Every, Interval, NaturalCron, Never
from tests.unit.recurring.recurring_app import BERLIN, FAR, MINUTE, YEAR_2000, made
from tests.unit.schedule_app import App

pytestmark = pytest.mark.backend("memory")


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
            ("every day", {"max_instances": 1}, 'Here it is overlap="skip"'),
            ("every day", {"kwargs": {"name": "J"}}, "arguments as a dict after the rule"),
            ("every day", {"name": " "}, "printable characters"),
            ("every day", {"name": "nightly "}, "without spaces around it"),
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

    def test_arguments_without_names_are_refused_in_words(self, shop) -> None:
        app, hello = shop
        for call in (app.scheduler.recurring, app.schedules.add):
            with pytest.raises(TypeError, match=r"given by name, as in \{'name': 'John'\}, and this is a tuple"):
                call(hello, "every day at 9:00", ("John",))
        with pytest.raises(TypeError, match="given by name"):
            app.scheduler.once_now(hello, ["John"])
        app.scheduler.recurring(hello, "every day at 9:00", name="n")
        with pytest.raises(TypeError, match="given by name"):
            app.schedules.edit("n", data=["John"])

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

        with pytest.raises(ConfigurationError, match=r"defined in code \(.*test_calls.py:\d+\)"):
            app.scheduler.recurring(hello, MINUTE, name="n")

    def test_one_that_has_left_the_code_gives_its_name_away(self, shop) -> None:
        app, hello = shop
        app.every(MINUTE, name="n")(hello)
        (static,) = app.client.ask(lambda gate: gate.store.ensure_schedules(app.static_schedules()))
        app.client.ask(lambda gate: gate.store.expire_schedules(idle_us=-1, limit=1))

        made = app.scheduler.recurring(hello, MINUTE, name="n")

        assert (app.schedules.get("n").id, made.kind) == (made.id, "dynamic")
        old = app.schedules.get(str(UUID(bytes=static.key)))
        assert (old.name, old.state) == ("", ScheduleState.INACTIVE)


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
