"""Schedules in code and files: what becomes of `@jm.every`, profiles and `[schedules.NAME]`, and faults of them."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from jobmaster import ConfigurationError, JobMaster, NotRegistered, ScheduleProfile, Task
from jobmaster.model.job import decode_envelope
from jobmaster.model.schedule import Misfire, Overlap, Schedule, ScheduleKind, static_key
from jobmaster.schedules import Cron, Never

HOUR = timedelta(hours=1)


@pytest.fixture
def app(tmp_path: Path) -> Iterator[JobMaster]:
    app = JobMaster("static", folder=str(tmp_path))
    yield app
    app.close()


def by_name(app: JobMaster) -> dict[str, Schedule]:
    return {schedule.name: schedule for schedule in app.static_schedules()}


def refused(app: JobMaster) -> str:
    with pytest.raises(ConfigurationError) as caught:
        app.static_schedules()
    return str(caught.value)


def line_of(text: str) -> int:
    """The line of this file that holds the text first, as a fault names it."""
    lines = Path(__file__).read_text(encoding="utf-8").splitlines()
    return next(number for number, line in enumerate(lines, 1) if text in line)


class TestEvery:
    """The decorator."""

    def test_a_line_in_a_loop_is_a_schedule_each_time_and_one_that_comes_again_is_the_same(
        self, app: JobMaster
    ) -> None:
        @app.task(name="report")
        def report(region: str) -> str:
            return region

        for _ in range(2):
            for region in ("eu", "us"):
                app.every("every day at 02:30", {"region": region})(report)
            for name in ("early", "late"):
                app.every("every day at 02:30", {"region": "all"}, name=name)(report)

        assert set(by_name(app)) == {"report", "report#2", "early", "late"}

    def test_a_function_becomes_a_task_with_a_schedule(self, app: JobMaster) -> None:
        @app.every("every day at 02:30", tz="Europe/Berlin")
        def report() -> str:
            return "done"

        (schedule,) = app.static_schedules()

        assert isinstance(report, Task)
        assert report() == "done"
        assert (schedule.task, schedule.name) == (report.name, report.name)
        assert (schedule.kind, schedule.key) == (ScheduleKind.STATIC, static_key("every", report.name))
        assert (schedule.rule.type_id, schedule.rule.text) == ("NaturalCron", "every day at 02:30")
        assert schedule.rule.zone == "Europe/Berlin"
        line = inspect.getsourcelines(TestEvery.test_a_function_becomes_a_task_with_a_schedule)[1] + 1
        assert schedule.source == f"{__file__}:{line}"

    def test_several_on_one_task_are_numbered_from_the_function_up(self, app: JobMaster) -> None:
        @app.every(Cron("0 3 * * *"), name="nightly")
        @app.every("every 2 hours")
        @app.every("every hour")
        @app.task(name="report", lane="reports", priority="high")
        def report() -> None: ...

        found = by_name(app)

        assert {name: one.rule.text for name, one in found.items()} == {
            "report": "every hour", "report#2": "every 2 hours", "nightly": "0 3 * * *"
        }  # fmt: skip
        assert {one.key for one in found.values()} == {
            static_key("every", name) for name in ("report", "report#2", "nightly")
        }
        assert {(one.lane, one.priority) for one in found.values()} == {("reports", 4)}

    def test_options_and_data_are_kept(self, app: JobMaster) -> None:
        @app.every(
            HOUR, {"region": "eu"}, lane="bulk", max_retries=2, timeout=30, metadata={"team": "a"}, jitter=5,
            misfire="all", misfire_limit=7, misfire_grace=1, overlap="queue",
            start_after=datetime(2026, 1, 1, tzinfo=UTC),
        )  # fmt: skip
        @app.task(name="report")
        def report(region: str) -> None: ...

        (schedule,) = app.static_schedules()
        envelope, rule = decode_envelope(schedule.template), schedule.rule

        assert app.codec.decode_call(envelope.call) == ((), {"region": "eu"})
        assert (envelope.lane, envelope.max_retries, envelope.timeout, envelope.metadata) == (
            "bulk",
            2,
            30,
            {"team": "a"},
        )
        assert (rule.misfire, rule.misfire_limit, rule.misfire_grace_us) == (Misfire.ALL, 7, 1_000_000)
        assert (rule.overlap, rule.jitter_us, rule.start_us) == (Overlap.QUEUE, 5_000_000, 1_767_225_600_000_000)

    def test_on_a_handler(self, app: JobMaster) -> None:
        @app.every("every hour", {"Name": "John"})
        @app.handler("HelloJob", lane="mail")
        class HelloHandler:
            def handle(self, job: Any) -> None: ...

        (schedule,) = app.static_schedules()

        assert (schedule.task, schedule.name, schedule.lane) == ("HelloJob", "HelloJob", "mail")
        assert HelloHandler.__name__ == "HelloHandler"

    def test_the_same_definition_gives_the_same_bytes_in_every_process(self, tmp_path: Path) -> None:
        def built() -> Schedule:
            app = JobMaster("static", folder=str(tmp_path))
            app.every("every hour", {"b": 1, "a": 2}, metadata={"x": 1}, name="n")(app.task(_both))
            (schedule,) = app.static_schedules()
            app.close()
            return schedule

        first, second = built(), built()

        assert (first.key, first.template, first.rule) == (second.key, second.template, second.rule)

    def test_a_module_that_is_imported_twice_declares_once(self, app: JobMaster) -> None:
        def declare() -> None:
            app.every("every hour")(_task_of(app))

        declare()
        declare()

        assert len(app.schedule_faults()) == 1, "its arguments are missing"

    def test_lanes_of_schedules_are_served(self, app: JobMaster) -> None:
        app.every(HOUR, {"a": 1, "b": 2}, lane="bulk")(_task_of(app))

        assert app.lanes() == {"", "bulk"}

    def test_an_archive_has_none(self, tmp_path: Path) -> None:
        app = JobMaster("archive", folder=str(tmp_path), mode="archived")
        app.every("every dya")(_task_of(app))

        assert app.static_schedules() == ()
        app.close()


class TestFaults:
    """What cannot work is told at once, with its line."""

    def test_every_fault_is_listed_with_its_line_and_its_caret(self, app: JobMaster) -> None:
        task = _task_of(app)
        app.every("every dya at 09:00", {"a": 1, "b": 2}, name="first")(task)  # fault one
        app.every("every hour", {"a": 1}, name="second")(task)  # fault two
        app.every("every hour", {"a": 1, "b": 2}, name="good")(task)
        app.every("every hour", {"a": 1, "b": 2}, tz="Europe/Brelin", name="third")(task)  # fault three

        told = refused(app)

        assert told.startswith("3 schedules in code cannot work:\n- ")
        assert f"{__file__}:{line_of('# fault one')} (first): " in told
        assert "    every dya at 09:00\n          ^^^" in told
        assert f"{__file__}:{line_of('# fault two')} (second): " in told
        assert "missing a required argument: 'b'" in told
        assert "did you mean 'Europe/Berlin'" in told
        assert "good" not in told

    @pytest.mark.parametrize(
        ("declare", "part"),
        [
            (lambda app, task: app.every(5)(task), "not 5"),
            (lambda app, task: app.every(HOUR, {"a": 1, "b": 2}, nam="x")(task), "has no option 'nam'"),
            (lambda app, task: app.every(HOUR, {"a": 1, "b": 2}, overlap="x")(task), "overlap is 'x'"),
            (lambda app, task: app.every(HOUR, {"a": {1}, "b": object()})(task), "object"),
            (lambda app, task: app.every(HOUR, {"a": 1, "b": "x" * 200_000})(task), "max_message_bytes"),
        ],
    )
    def test_one_fault(self, app: JobMaster, declare: Callable[[JobMaster, Any], Any], part: str) -> None:
        declare(app, _task_of(app))

        told = refused(app)

        assert told.startswith("A schedule in code cannot work:\n- ")
        assert part in told

    def test_two_of_one_name(self, app: JobMaster) -> None:
        for _ in range(2):
            app.every("every hour", {"a": 1, "b": 2}, name="n")(_task_of(app))
        app.every("every 2 hours", {"a": 1, "b": 2}, name="n")(_task_of(app))

        assert "The name 'n' is that of the schedule at" in refused(app)

    def test_one_that_never_fires_is_a_warning(self, app: JobMaster) -> None:
        app.every(datetime(2020, 1, 1, tzinfo=UTC), {"a": 1, "b": 2}, name="past")(_task_of(app))
        app.every(Never(), {"a": 1, "b": 2}, name="by hand")(_task_of(app))

        assert set(by_name(app)) == {"past", "by hand"}
        (warning,) = app.schedule_warnings()
        assert "(past)" in warning
        assert "never fires" in warning


class TestProfiles:
    """Classes with `configure`."""

    def test_a_profile_adds_schedules(self, app: JobMaster) -> None:
        task = _task_of(app)

        @app.profile
        class Reports(ScheduleProfile):
            profile_id = "reports"

            def configure(self, schedules: Any) -> None:
                schedules.add(task, "every hour", {"a": 1, "b": 2})  # in a profile
                schedules.add(task.name, ("Cron", "0 3 * * *"), {"a": 1, "b": 2}, name="nightly", tz="Europe/Berlin")

        found = by_name(app)

        assert Reports.profile_id == "reports"
        assert {one.key for one in found.values()} == {
            static_key("reports", task.name), static_key("reports", "nightly")
        }  # fmt: skip
        assert found[task.name].source == f"{__file__}:{line_of('# in a profile')}"

    def test_a_class_without_an_id_is_named_by_itself(self, app: JobMaster) -> None:
        task = _task_of(app)

        class Plain:
            def configure(self, schedules: Any) -> None:
                schedules.add(task, HOUR, {"a": 1, "b": 2})

        app.profile(Plain)  # type: ignore[type-var] # it need not be derived

        assert app.static_schedules()[0].key == static_key(f"{__name__}.{Plain.__qualname__}", task.name)

    def test_a_name_that_is_made_up_gives_way(self, app: JobMaster) -> None:
        task = _task_of(app)
        app.every(HOUR, {"a": 1, "b": 2})(task)

        @app.profile
        class Other(ScheduleProfile):
            def configure(self, schedules: Any) -> None:
                schedules.add(task, HOUR, {"a": 1, "b": 2})

        assert set(by_name(app)) == {task.name, f"{task.name}#2"}

    def test_faults_of_profiles_are_told_with_the_others(self, app: JobMaster) -> None:
        @app.profile
        class Bad(ScheduleProfile):
            def configure(self, schedules: Any) -> None:
                schedules.add("no.such.task", HOUR)
                raise RuntimeError("the disk is full")

        @app.profile
        class Empty(ScheduleProfile):
            pass

        told = refused(app)

        assert "No task or handler is registered as 'no.such.task'" in told
        assert "Bad.configure failed: RuntimeError: the disk is full" in told
        assert "Empty.configure failed: NotImplementedError" in told

    def test_what_is_no_profile_is_refused_at_once(self, app: JobMaster) -> None:
        for wrong in (object(), dict, lambda: None):
            with pytest.raises(ConfigurationError, match="configure"):
                app.profile(wrong)  # type: ignore[type-var]


class TestFiles:
    """`[schedules.NAME]`."""

    @pytest.fixture
    def made(self, tmp_path: Path) -> Callable[..., JobMaster]:
        def make(text: str, file: str = "jobmaster.toml", cluster: str = "static") -> JobMaster:
            (tmp_path / file).write_text(text, encoding="utf-8")
            app = JobMaster(cluster, folder=str(tmp_path), default=True)
            _task_of(app)
            return app

        return make

    def test_a_table_is_a_schedule(self, made: Callable[..., JobMaster], tmp_path: Path) -> None:
        app = made(
            '[schedules.nightly]\ntask = "both"\nevery = "every day at 02:30"\ndata = {a = 1, b = 2}\n'
            'tz = "Europe/Berlin"\nlane = "bulk"\njitter = "5m"\nmisfire-grace = 90\ntimeout = "1m"\n'
            "start_after = 2026-01-01T00:00:00Z\n"
            '[schedules.cronny]\ntask = "both"\ncron = "0 3 * * *"\ndata = {a = 1, b = 2}\n'
            '[schedules.often]\ntask = "both"\ninterval = "90s"\ndata = {a = 1, b = 2}\n'
            '[schedules.other]\ntask = "both"\ntype = "Cron"\nexpression = "0 4 * * *"\ndata = {a = 1, b = 2}\n'
        )

        found = by_name(app)

        assert {name: (one.rule.type_id, one.rule.text) for name, one in found.items()} == {
            "nightly": ("NaturalCron", "every day at 02:30"),
            "cronny": ("Cron", "0 3 * * *"),
            "often": ("TimeSpanInterval", "00:01:30"),
            "other": ("Cron", "0 4 * * *"),
        }
        nightly = found["nightly"]
        assert (nightly.rule.zone, nightly.lane, nightly.rule.jitter_us) == ("Europe/Berlin", "bulk", 300_000_000)
        assert (nightly.rule.misfire_grace_us, nightly.rule.start_us) == (90_000_000, 1_767_225_600_000_000)
        assert decode_envelope(nightly.template).timeout == 60
        assert nightly.source == f"{tmp_path}/jobmaster.toml: schedules.nightly"
        assert nightly.key == static_key("files", "nightly")

    def test_in_pyproject_and_for_one_cluster(self, made: Callable[..., JobMaster]) -> None:
        table = 'task = "both"\nevery = "every hour"\ndata = {a = 1, b = 2}\n'
        app = made(
            f"[tool.jobmaster.schedules.all]\n{table}[tool.jobmaster.clusters.static.schedules.own]\n{table}"
            f"[tool.jobmaster.clusters.another.schedules.not-ours]\n{table}",
            "pyproject.toml",
        )

        assert set(by_name(app)) == {"all", "own"}

    @pytest.mark.parametrize(
        ("table", "part"),
        [
            ("every = 'every hour'", "it names no task"),
            ("task = 'both'", "nothing says when it fires"),
            ("task = 'both'\nevery = 'every hour'\ncron = '0 3 * * *'", "both every and cron say"),
            ("task = 'both'\nevery = 5", "every is 5, but it is text"),
            ("task = 'both'\nevery = 'every dya'", "every dya"),
            ("task = 'both'\nexpression = 'x'", "type and expression belong together"),
            ("task = 'both'\nevry = 'every hour'", "Did you mean 'every'?"),
            ("task = 'both'\nevery = 'every hour'\njitter = 'soon'", "jitter is 'soon'"),
            ("task = 'both'\nevery = 'every hour'\ntimezone = 'UTC'", "Here it is tz."),
            ("task = 'both'\nevery = 'every hour'\nkwargs = {a = 1}", 'data = {region = "eu"}'),
            ("task = 'both'\nevery = 'every hour'\nname = 'y'", "the name of the table"),
            ("task = 'both'\nevery = '0 9 * * 1-5'", 'Write cron = "0 9 * * 1-5".'),
            (
                "task = 'both'\nevery = 'every hour'\nstart_after = 2026-12-01",
                "start_after = 2026-12-31T18:00:00+01:00",
            ),
            ("task = 'both'\nevery = 'every hour'\nend_before = 2026-12-01T00:00:00", "a moment with a time zone"),
            ("task = 'both'\nevery = 'every hour'\ndata = 5", "data is no table"),
            ("task = 'bothe'\nevery = 'every hour'", "Did you mean 'both'?"),
        ],
    )
    def test_a_table_that_is_no_schedule(self, made: Callable[..., JobMaster], table: str, part: str) -> None:
        told = refused(made(f"[schedules.x]\n{table}\n"))

        assert "jobmaster.toml: schedules.x" in told
        assert part in told

    def test_schedules_that_are_no_tables(self, made: Callable[..., JobMaster]) -> None:
        assert "it is no table" in refused(made("[schedules]\nx = 5\n"))
        with pytest.raises(ConfigurationError, match="schedules is no table"):
            made("schedules = 5\n")


def test_a_class_that_is_no_handler_is_named(app: JobMaster) -> None:
    stranger = type("NoHandler", (), {})
    app.every(HOUR)(stranger)

    assert "neither a task nor a registered handler" in refused(app)
    with pytest.raises(NotRegistered):
        app.scheduler.recurring(stranger, HOUR)


def _both(a: int, b: int) -> None: ...


def _task_of(app: JobMaster) -> Any:
    known = app.registry.find("both")
    return app.task(name="both")(_both) if known is None else Task(app, known, _both)
