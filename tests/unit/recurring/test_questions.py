"""`jm.schedules`: lists, the next runs, the history."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from msgspec.structs import replace

from jobmaster import ConfigurationError, JobStatus, NotRegistered, ScheduleQuery, ScheduleState, schedule_finding
from jobmaster.options import as_moment, moment_us
from jobmaster.ports.schedules import ScheduleChange
from jobmaster.rules.series import Series
from jobmaster.schedules import Cron
from jobmaster.views import ScheduleRun
from tests.unit.recurring.recurring_app import BERLIN, FAR, MINUTE, plan_once

pytestmark = pytest.mark.backend("memory")


def put_back(app: Any, name: str, *, since: datetime, cursor: datetime | None = None) -> None:
    """As if the schedule had been made at `since`, and its last occurrence had been planned for `cursor`."""
    stored = app.client.ask(lambda gate: gate.store.find_schedule(name))
    cursor_us = None if cursor is None else moment_us(cursor, "cursor")
    app.store.schedules.put(replace(stored, since_us=moment_us(since, "since"), cursor_us=cursor_us))


def count_steps(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Filled with a moment for each question to a rule."""
    asked: list[int] = []
    after = Series.after

    def counted(self: Series, at_us: int) -> int | None:
        asked.append(at_us)
        return after(self, at_us)

    monkeypatch.setattr(Series, "after", counted)
    return asked


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

        def alone() -> dict[str, Any]:
            return {name: (one.next_run, one.last_run) for name in rules if (one := app.schedules.get(name))}

        asked = []
        listed, before = {}, alone()
        while before != (after := alone()) or not listed:  # where a moment has come meanwhile, once more
            before = after
            with monkeypatch.context() as counted:
                counted.setattr(app.store, "schedule_occurrences", lambda *given, **_more: asked.append(given))
                listed = {one.name: (one.next_run, one.last_run) for one in app.schedules.list().schedules}

        assert asked == []
        assert listed == after
        assert [listed[name][1] is not None for name in rules] == [True, True, True, False]

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

    def test_a_list_goes_on_from_what_is_stored_where_reckoning_from_the_beginning_is_long(self, shop) -> None:
        app, hello = shop
        text = "every 7 seconds upto second 56"
        app.scheduler.recurring(hello, text, name="n")
        long_ago = datetime.now(UTC).replace(microsecond=0) - timedelta(days=365)
        put_back(app, "n", since=long_ago, cursor=datetime.now(UTC) - timedelta(minutes=1))
        planned = [as_moment(at) for at in plan_once(app, "n")]

        (listed,) = app.schedules.list().schedules

        came = [moment for moment in planned if moment <= datetime.now(UTC)]
        assert listed.last_run == came[-1]
        assert listed.next_run == planned[len(came)] == app.schedules.get("n").next_run

    def test_a_list_is_told_soon_where_nobody_has_planned_for_a_year(self, shop, monkeypatch) -> None:
        app, hello = shop
        long_ago = datetime.now(UTC).replace(microsecond=0) - timedelta(days=365)
        for number in range(8):
            app.scheduler.recurring(hello, "every 7 seconds upto second 56", name=f"a{number}")
            put_back(app, f"a{number}", since=long_ago)
        app.scheduler.recurring(hello, "every day", name="daily")
        put_back(app, "daily", since=long_ago)
        app.scheduler.recurring(hello, "every 30 minutes", name="leaps")
        put_back(app, "leaps", since=long_ago)
        asked = count_steps(monkeypatch)

        shown = {one.name: one.next_run for one in app.schedules.list().schedules}

        assert len(asked) < 25_000, "steps along all rules"
        assert shown["a0"] is None
        assert all(shown[name] is not None for name in ("daily", "leaps"))

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

    def test_what_is_no_name_is_refused_with_what_to_write(self, shop) -> None:
        app, hello = shop
        info = app.scheduler.recurring(hello, MINUTE, name="n")

        for order in (app.schedules.get, app.schedules.pause, app.schedules.cancel, app.scheduler.run_now):
            with pytest.raises(TypeError, match=r"named by its id or its name, .* ScheduleInfo: write \.id or"):
                order(info)

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

    def test_of_very_many_not_all_are_looked_at_for_one_name(self, shop, monkeypatch: pytest.MonkeyPatch) -> None:
        app, hello = shop
        for name in ("a", "b", "c", "z.tick", "z.tock"):
            app.scheduler.recurring(hello, MINUTE, name=name)
        monkeypatch.setattr(schedule_finding, "_PAGE", 2)
        asked: list[str | None] = []
        list_schedules = app.store.list_schedules

        async def counted(query: Any, **page: Any) -> Any:
            asked.append(query.text)
            return await list_schedules(query, **page)

        monkeypatch.setattr(app.store, "list_schedules", counted)

        assert app.schedules.get("tick").name == "z.tick"
        assert asked == [".tick"]
        with pytest.raises(NotRegistered, match=r"Did you mean 'z\.tick'"):
            app.schedules.run_now("z.tikc")
        assert len(asked) < 7

    def test_one_that_is_added_while_it_is_looked_for_is_found(self, shop, monkeypatch: pytest.MonkeyPatch) -> None:
        app, hello = shop
        find_schedule = app.store.find_schedule

        async def first_seen_then_added(name: str) -> Any:
            monkeypatch.setattr(app.store, "find_schedule", find_schedule)
            assert await find_schedule(name) is None
            await app.scheduler.arecurring(hello, MINUTE, name=name)

        monkeypatch.setattr(app.store, "find_schedule", first_seen_then_added)

        assert app.schedules.pause("shop.tick").name == "shop.tick"

    def test_nobody_knows_it(self, shop) -> None:
        app, _ = shop

        assert app.schedules.get("n") is None
        assert app.schedules.get("00000000-0000-0000-0000-000000000000") is None
        for order in (app.schedules.next, app.schedules.runs, app.schedules.run_now, app.schedules.resume):
            with pytest.raises(NotRegistered):
                order("n")
