"""`jobmaster schedules`: what each command prints, in words and as JSON, and how it ends."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from tests.cli.terminal import APP, PROGRAM, Terminal, WorkerProcess

pytestmark = pytest.mark.backend("sqlite")

SCHEDULED = (
    APP
    + """
from jobmaster import current_job

@jm.every("every 1 second", name="ticks")
def tick() -> str:
    return current_job().scheduled_at.isoformat()

@jm.every("every day at 02:30", {"name": "night"}, tz="Europe/Berlin")
@jm.task(name="shop.nightly")
def nightly(name: str) -> str:
    return name
"""
)


class Cluster:
    """A project with schedules in code, and a worker."""

    def __init__(self, terminal: Terminal, worker: WorkerProcess) -> None:
        self.terminal, self.worker = terminal, worker

    def run(self, *arguments: str, code: int = 0) -> str:
        done = self.terminal.run("-A", "shop", "schedules", *arguments)
        assert done.returncode == code, done.stdout + done.stderr
        assert "Traceback" not in done.stderr
        return done.stdout if code == 0 else done.stdout + done.stderr

    def json(self, *arguments: str, code: int = 0) -> Any:
        return self.terminal.json("schedules", *arguments, code=code)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    terminal = Terminal(tmp_path_factory.mktemp("schedules"))
    terminal.write("shop.py", SCHEDULED)
    with terminal.worker("-A", "shop", "-n", "alpha") as worker:
        worker.ready()
        yield Cluster(terminal, worker)
        worker.signal()
        assert worker.end() == 0, worker.output


def test_the_banner_names_the_schedules(cluster: Cluster) -> None:
    assert "schedules  2 in code and files\n             . shop.nightly\n             . ticks" in cluster.worker.output


def test_a_schedule_in_code_fires_and_its_history_tells(cluster: Cluster) -> None:
    def shown() -> dict[str, Any]:
        told: dict[str, Any] = cluster.json("show", "ticks")
        return told

    cluster.terminal.until(lambda: sum(run["status"] == "Succeeded" for run in shown()["runs"]) >= 3, "three runs")
    told = shown()
    ended = [run for run in told["runs"] if run["status"] == "Succeeded"]
    job = cluster.terminal.json("jobs", "show", ended[0]["job_id"])

    assert (told["kind"], told["state"], told["expression"]) == ("static", "Active", "every 1 second")
    assert told["source"].startswith("shop.py:")
    assert (job["schedule"], job["trigger"]) == (told["id"], "schedule")
    assert job["result"] == ended[0]["at"]
    assert all(run["trigger"] == "schedule" and run["lateness"] >= 0 for run in ended)
    words = cluster.run("show", "ticks")
    assert "defined in code (shop.py:" in words
    assert "next runs" in words
    assert "Succeeded" in words


def test_runs_that_are_planned_ahead_are_among_the_jobs_when_their_moment_has_come(cluster: Cluster) -> None:
    def moments(*options: str) -> list[datetime]:
        page = cluster.terminal.json("jobs", "list", "--task", "shop.tick", *options)
        return [datetime.fromisoformat(job["scheduled_at"]) for job in page["jobs"]]

    def is_ahead() -> bool:
        now = datetime.now(UTC)
        return any(moment > now for moment in moments("--status", "queued"))

    cluster.terminal.until(is_ahead, "a worker fetches runs before their moment")
    so_far = moments()
    assert so_far
    assert max(so_far) <= datetime.now(UTC)


def test_list_filters_and_pages(cluster: Cluster) -> None:
    first = cluster.json("list", "--limit", "1", "--kind", "static")
    second = cluster.json("list", "--limit", "1", "--kind", "static", "--after", first["after"])
    words = cluster.run("list", "--task", "shop.nightly")

    assert [page["schedules"][0]["name"] for page in (first, second)] == ["shop.nightly", "ticks"]
    assert "shop.nightly  Active" in words
    assert "every day at 02:30" in words
    assert "Europe/Berlin" in words
    assert "No such schedules" in cluster.run("list", "--state", "broken")


def test_an_empty_list_says_what_a_worker_would_store(terminal: Terminal) -> None:
    nothing = terminal.run("-A", "shop", "schedules", "list").stdout
    terminal.write("shop.py", SCHEDULED)
    declared = terminal.run("-A", "shop", "schedules", "list").stdout
    filtered = terminal.run("-A", "shop", "schedules", "list", "--task", "shop.nightly").stdout

    assert "No such schedules. Put @jm.every" in nothing
    assert "None is stored yet. In code and files: shop.nightly, ticks; a worker stores them" in declared
    assert "No such schedules" in filtered


@pytest.mark.timeout(300)  # two dozen commands, each a process of its own
def test_add_edit_pause_resume_run_cancel(cluster: Cluster) -> None:
    said = cluster.run("add", "shop.hello", "every day at 9:00", '{"name": "Ann"}', "-n", "daily", "--tz", "Asia/Tokyo")
    again = cluster.json(
        "add", "shop.hello", "every day at 9:00", '{"name": "Ann"}', "-n", "daily", "--tz", "Asia/Tokyo"
    )
    assert "daily  every day at 9:00 in Asia/Tokyo, next in" in said
    assert again["version"] == 1

    edited = cluster.json("edit", "daily", "--when", "0 9 * * 1-5", "--clear", "tz", "--jitter", "2m", "--version", "1")
    assert (edited["type_id"], edited["zone"], edited["jitter"], edited["version"]) == ("Cron", "UTC", 120.0, 2)
    assert "it has version 2 now" in cluster.run("edit", "daily", "--jitter", "1s", "--version", "1", code=1)
    assert "Nothing is to be changed" in cluster.run("edit", "daily", code=2)
    assert "--lane: cleared and given" in cluster.run("edit", "daily", "--clear", "lane", "--lane", "slow", code=2)
    assert "'nam'. Did you mean 'name'?" in cluster.run("edit", "daily", "--data", '{"nam": "Ann"}', code=2)
    assert "give both" in cluster.run("run", "daily", "--timeout", "3", code=2)

    assert cluster.run("pause", "daily") == "daily  paused\n"
    assert cluster.run("next", "daily") == "None: it is Paused. To let it go on: jobmaster schedules resume daily\n"
    assert cluster.json("resume", "daily") == {"daily": True}
    assert len(cluster.json("next", "daily", "--count", "3")) == 3
    assert cluster.run("run", "daily", "--wait") == '"Hello Ann"\n'
    assert cluster.json("show", "daily")["runs"][0]["trigger"] == "run now"
    assert [cluster.run("run", "daily", "--job-id", "order-77") for _ in range(2)] == ["order-77\n"] * 2
    assert [run["job_id"] for run in cluster.json("show", "daily")["runs"]].count("order-77") == 1

    assert cluster.json("cancel", "daily", "nobody", code=1) == {"daily": True, "nobody": False}
    assert "nobody  not done: There is no schedule 'nobody'" in cluster.run("pause", "nobody", code=1)
    assert "Did you mean 'shop.nightly'?" in cluster.run("pause", "nigthly", code=1)
    assert "There is no schedule 'nigthly'" in cluster.run("show", "nigthly", code=1)
    assert "Did you mean 'shop.nightly'?" in cluster.run("show", "nigthly", code=1)
    assert cluster.json("show", "nightly")["name"] == "shop.nightly"


def test_a_backfill_makes_the_jobs_of_a_range(cluster: Cluster) -> None:
    cluster.run("add", "shop.hello", "every day at 9:00", '{"name": "Bob"}', "--name", "past")
    span = ("--from", "2026-03-01T00:00:00Z", "--to", "2026-03-03T00:00:00Z")

    made, again = cluster.json("backfill", "past", *span), cluster.json("backfill", "past", *span)

    assert (len(made), again) == (2, [])
    assert "more than 1 occurrences" in cluster.run("backfill", "past", *span, "--limit", "1", code=2)
    assert "it has no time zone" in cluster.run(
        "backfill", "past", "--from", "2026-03-01", "--to", "2026-03-02", code=2
    )


def test_what_cannot_be_added_says_why(cluster: Cluster) -> None:
    caret = cluster.run("add", "shop.hello", "every dya at 9:00", code=2)
    assert "  every dya at 9:00\n        ^^^" in caret
    assert "Did you mean 'shop.hello'" in cluster.run("add", "shop.helo", "every hour", code=1)
    assert "missing a required argument: 'name'" in cluster.run("add", "shop.hello", "every hour", code=2)
    assert "it is no JSON" in cluster.run("add", "shop.hello", "every hour", "{name", code=2)
    assert "by name, as a JSON object" in cluster.run("add", "shop.hello", "every hour", '["Ann"]', code=2)
    assert "is no duration" in cluster.run("add", "shop.hello", "every hour", "--jitter", "soon", code=2)
    assert "defined in code (shop.py:" in cluster.run("cancel", "ticks", code=2)


def test_a_worker_with_broken_schedules_does_not_start_and_names_all(terminal: Terminal) -> None:
    terminal.write(
        "shop.py",
        SCHEDULED.replace("every 1 second", "every 1 secnod").replace("Europe/Berlin", "Europe/Brelin"),
    )
    with terminal.worker("-A", "shop") as worker:
        assert worker.end() == 2
    doctor = terminal.run("-A", "shop", "doctor")

    lines = terminal.folder.joinpath("shop.py").read_text(encoding="utf-8").splitlines()
    first, second = (next(i for i, line in enumerate(lines, 1) if word in line) for word in ("secnod", "Brelin"))
    assert "2 schedules in code cannot work" in worker.output
    assert f"- shop.py:{first} (ticks): " in worker.output
    assert "every 1 secnod\n            ^^^^^^" in worker.output
    assert f"- shop.py:{second} (shop.nightly): " in worker.output
    assert not (terminal.folder / "jobmaster.db").exists()
    assert doctor.stdout.count("FAIL  schedules") == 2
    caret = next(i for i, line in enumerate(doctor.stdout.splitlines()) if line.strip() == "^^^^^^")
    shown, below = doctor.stdout.splitlines()[caret - 1 : caret + 1]
    assert shown[below.index("^") :] == "secnod"


@pytest.fixture
def terminal(tmp_path: Path) -> Terminal:
    return Terminal(tmp_path)


class TestExplain:
    """No app, no database, wherever one is."""

    def explain(self, folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [PROGRAM, "schedules", "explain", *arguments],
            cwd=folder, capture_output=True, text=True, check=False, timeout=30,
        )  # fmt: skip
        assert "Traceback" not in done.stderr
        assert list(folder.iterdir()) == []
        return done

    def told(self, folder: Path, *arguments: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.explain(folder, "--json", *arguments).stdout)
        return found

    def test_plain_english_next_runs_and_daylight_saving(self, tmp_path: Path) -> None:
        done = self.explain(
            tmp_path,
            "every day at 02:30",
            "--tz",
            "Europe/Berlin",
            "--after",
            "2026-03-27T00:00:00+01:00",
            "--count",
            "4",
        )
        assert done.returncode == 0
        for part in (
            "in English  every day at 2:30",
            "zone  Europe/Berlin",
            "cron  30 2 * * *",
            "Fri 2026-03-27 02:30:00 +0100",
            "! 02:30 does not exist on 2026-03-29 in Europe/Berlin: runs at 03:00",
            "around changes of clocks",
            "! 02:30 comes twice on 2026-10-25 in Europe/Berlin: runs at the first",
        ):
            assert part in done.stdout

    def test_for_programs(self, tmp_path: Path) -> None:
        told = self.told(tmp_path, "every day at 9:00", "--after", "2026-03-27T00:00:00Z", "--count", "2")

        assert told == {
            "expression": "every day at 9:00",
            "type_id": "NaturalCron",
            "explanation": "every day at 9:00",
            "zone": "UTC",
            "cron": "0 9 * * *",
            "no_cron_because": "",
            "next": [{"at": "2026-03-27T09:00:00+00:00", "note": ""}, {"at": "2026-03-28T09:00:00+00:00", "note": ""}],
            "around_changes_of_clocks": [],
        }

    @pytest.mark.parametrize(
        ("arguments", "type_id"),
        [
            (["*/15 * * * *"], "Cron"),
            (["0 3 * * *"], "Cron"),
            (["@daily", "--cron"], "Cron"),
            (["00:05:00", "--type", "TimeSpanInterval"], "TimeSpanInterval"),
            (["every", "5", "minutes"], "NaturalCron"),
        ],
    )
    def test_languages(self, tmp_path: Path, arguments: list[str], type_id: str) -> None:
        assert self.told(tmp_path, *arguments)["type_id"] == type_id

    def test_a_rule_that_fires_each_second_is_explained_in_no_time(self, tmp_path: Path) -> None:
        told = self.told(tmp_path, "every 1 second", "--tz", "Europe/Berlin")

        assert told["cron"] == "* * * * * *"
        assert len(told["around_changes_of_clocks"]) == 2

    @pytest.mark.parametrize(
        ("text", "cron"),
        [("every month on LastFriday at 9:00", "0 9 * * L5"), ("every month on LastDay at 0:00", "0 0 L * *"),
         ("every minute at second [0, 10, 20]", "0,10,20 * * * * *"), ("every day at 9:00:30", "30 0 9 * * *")],
    )  # fmt: skip
    def test_cron_is_what_our_cron_reads(self, tmp_path: Path, text: str, cron: str) -> None:
        assert self.told(tmp_path, text)["cron"] == cron

    @pytest.mark.parametrize(
        ("text", "because"),
        [("every 5 minutes", "Counted by the clock it is */5 * * * *"), ("every day", "when the schedule was made"),
         ("every 2 weeks on monday", "no field for the week"), ("every 1 second on feb 30th", "never fires"),
         ("every month on LastDay - 1 at 9:00", "0 9 L-1 * *, as other programs write it")],
    )  # fmt: skip
    def test_where_cron_would_fire_at_other_moments_there_is_none(
        self, tmp_path: Path, text: str, because: str
    ) -> None:
        told = self.told(tmp_path, text)

        assert told["cron"] is None
        assert because in told["no_cron_because"]

    def test_a_syntax_error_has_a_caret_a_suggestion_and_exit_code_2(self, tmp_path: Path) -> None:
        done = self.explain(tmp_path, "every 5 minutse")
        told = self.explain(tmp_path, "--json", "every 5 minutse")

        assert done.returncode == told.returncode == 2
        assert "  every 5 minutse\n          ^^^^^^^" in done.stderr
        assert "did you mean `minutes`?" in done.stderr
        error = json.loads(told.stderr)["error"]
        assert (error["type"], error["position"], error["length"], error["suggestion"]) == (
            "ScheduleSyntaxError", 8, 7, "minutes"
        )  # fmt: skip

    @pytest.mark.parametrize(
        ("arguments", "part"),
        [(["every day", "--tz", "Europe/Brelin"], "did you mean 'Europe/Berlin'"), (["61 * * * *"], "61 * * * *"),
         (["every day tz Asia/Tokyo", "--tz", "UTC"], "and --tz is UTC"),
         (["x", "--type", "Moon"], "no schedule language 'Moon'"), ([], "Missing argument")],
    )  # fmt: skip
    def test_what_cannot_be_explained(self, tmp_path: Path, arguments: list[str], part: str) -> None:
        done = self.explain(tmp_path, *arguments)

        assert done.returncode == 2
        assert part in done.stderr

    def test_with_an_app_the_zone_is_its_clusters(self, terminal: Terminal) -> None:
        terminal.write("shop.py", APP.replace('JobMaster("shop")', 'JobMaster("shop", time_zone="Asia/Tokyo")'))

        assert terminal.json("schedules", "explain", "every day at 9:00")["zone"] == "Asia/Tokyo"
        assert terminal.json("schedules", "explain", "every day at 9:00", "--tz", "UTC")["zone"] == "UTC"
        assert not (terminal.folder / "jobmaster.db").exists()
