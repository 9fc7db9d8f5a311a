"""Commands that ask and order, against a real worker: what they print, in words and as JSON, and their exit codes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.cli.terminal import Terminal, WorkerProcess

pytestmark = pytest.mark.backend("sqlite")


PATIENTLY = ("--timeout", "30")
"""Other tests run at the same time."""


class Cluster(NamedTuple):
    """A project with a worker called alpha, and jobs that have ended in each way."""

    terminal: Terminal
    worker: WorkerProcess
    good: str
    bad: str


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    terminal = Terminal(tmp_path_factory.mktemp("cluster"))
    with terminal.worker("-A", "shop", "-n", "alpha", "-c", "3") as worker:
        worker.ready()
        good = terminal.json("run", "shop.hello", '{"name": "John"}', "--wait", "--timeout", "50")["id"]
        bad = terminal.enqueue("shop.broken")
        assert terminal.run("-A", "shop", "jobs", "tail", bad).returncode == 1
        yield Cluster(terminal, worker, good, bad)
        worker.signal()
        assert worker.end() == 0


def test_run_prints_the_id_and_with_wait_the_result(cluster: Cluster) -> None:
    plain = cluster.terminal.run("-A", "shop", "run", "shop.hello", '["Ann"]')
    waited = cluster.terminal.run("-A", "shop", "run", "shop.hello", "-", "--wait", input='{"name": "Bob"}')

    assert plain.returncode == 0
    assert len(plain.stdout.strip()) == 36
    assert (waited.returncode, waited.stdout) == (0, '"Hello Bob"\n')
    assert "job " in waited.stderr


def test_run_takes_the_options_of_a_call(cluster: Cluster) -> None:
    options = ["--delay", "3600", "--lane", "bulk", "--priority", "high", "--job-id", "order-7"]

    told = cluster.terminal.json("run", "shop.hello", '{"name": "later"}', *options)
    job = cluster.terminal.json("jobs", "show", "order-7")

    assert told["id"] == "order-7"
    assert (job["lane"], job["priority"], job["status"]) == ("bulk", "high", "HeldOnMaster")
    assert (job["args"], job["kwargs"]) == ([], {"name": "later"})
    assert cluster.terminal.json("jobs", "cancel", "order-7") == {"order-7": "cancelled"}


def test_a_failed_job_ends_run_with_1_and_its_own_traceback(cluster: Cluster) -> None:
    done = cluster.terminal.run("-A", "shop", "run", "shop.broken", "--wait", "--timeout", "50")

    assert done.returncode == 1
    assert "ValueError: no stock left" in done.stderr
    assert 'raise ValueError("no stock left")' in done.stderr
    assert "jobmaster/cli" not in done.stderr


def test_jobs_list_filters_and_pages(cluster: Cluster) -> None:
    failed = cluster.terminal.json("jobs", "list", "--status", "failed", "--task", "shop.broken")
    first = cluster.terminal.json("jobs", "list", "--limit", "1", "--since", "1h")
    second = cluster.terminal.json("jobs", "list", "--limit", "1", "--after", first["after"])
    none = cluster.terminal.run("-A", "shop", "jobs", "list", "--text", "nobody-has-this")

    assert cluster.bad in [job["id"] for job in failed["jobs"]]
    assert {job["status"] for job in failed["jobs"]} == {"Failed"}
    assert first["jobs"][0]["id"] != second["jobs"][0]["id"]
    assert (none.returncode, none.stdout) == (0, "No such jobs.\n")


def test_jobs_list_is_a_table_for_people(cluster: Cluster) -> None:
    done = cluster.terminal.run("-A", "shop", "jobs", "list", "--status", "ended")

    head, *rows = done.stdout.splitlines()
    assert head.split() == [
        "ID", "STATUS", "TASK", "LANE", "PRIORITY", "ATTEMPTS", "CREATED", "DUE", "ENDED", "REASON"
    ]  # fmt: skip
    assert any(cluster.good in row and "Succeeded" in row and "shop.hello" in row for row in rows)
    assert "\x1b[" not in done.stdout  # no colour without a terminal


def test_the_story_of_a_job_that_was_run_again_names_what_it_does_not_know(cluster: Cluster) -> None:
    job = cluster.terminal.json("run", "shop.hello", '{"name": "A"}', "--wait", "--timeout", "50")["id"]
    assert cluster.terminal.json("jobs", "retry", job) == {job: True}
    cluster.terminal.until(lambda: cluster.terminal.json("jobs", "show", job)["attempts"] == 2, "it runs again")

    told = cluster.terminal.json("jobs", "show", job)["story"]

    assert [(step["event"], step["attempt"]) for step in told][:3] == [
        ("accepted", None),
        ("unrecorded", 1),
        ("started", 2),
    ]


def test_jobs_list_says_when_a_job_is_due(cluster: Cluster) -> None:
    cluster.terminal.run("-A", "shop", "run", "shop.hello", '{"name": "J"}', "--delay", "10800", "--job-id", "in-3-h")

    done = cluster.terminal.run("-A", "shop", "jobs", "list", "--text", "in-3-h")

    (row,) = done.stdout.splitlines()[1:]
    assert "HeldOnMaster" in row
    assert " in 3 h" in row
    assert cluster.terminal.json("jobs", "cancel", "in-3-h") == {"in-3-h": "cancelled"}
    assert " in 3 h" not in cluster.terminal.run("-A", "shop", "jobs", "list", "--text", "in-3-h").stdout


def test_jobs_show_tells_that_no_worker_serves_the_lane(cluster: Cluster) -> None:
    run = ("run", "shop.hello", '{"name": "X"}', "--lane", "nowhere")
    job = cluster.terminal.json(*run)["id"]

    shown = cluster.terminal.run("-A", "shop", "jobs", "show", job).stdout
    assert "No living worker serves the lane 'nowhere'" in shown
    assert "jobmaster worker -A myapp -Q nowhere" in shown
    later = cluster.terminal.json(*run, "--delay", "3600")["id"]
    assert "No living worker" not in cluster.terminal.run("-A", "shop", "jobs", "show", later).stdout
    assert "No living worker" not in cluster.terminal.run("-A", "shop", "jobs", "show", cluster.good).stdout
    assert cluster.terminal.run("-A", "shop", "jobs", "cancel", job, later).returncode == 0


def test_jobs_show_has_arguments_result_and_error(cluster: Cluster) -> None:
    good = cluster.terminal.run("-A", "shop", "jobs", "show", cluster.good).stdout
    bad = cluster.terminal.run("-A", "shop", "jobs", "show", cluster.bad).stdout

    for part in ["Succeeded", "shop.hello", 'name="John"', '"Hello John"', "alpha"]:
        assert part in good
    for part in ["Failed", "ValueError: no stock left", "Traceback", "shop.py"]:
        assert part in bad


def test_jobs_retry_runs_an_ended_job_again(cluster: Cluster) -> None:
    yes = cluster.terminal.json("jobs", "retry", cluster.bad)
    followed = cluster.terminal.run("-A", "shop", "jobs", "tail", cluster.bad)
    no = cluster.terminal.run("-A", "shop", "jobs", "retry", "01a20054-285f-712d-baa0-8128c6f45ca9")

    assert yes == {cluster.bad: True}
    assert (followed.returncode, "Failed" in followed.stdout) == (1, True)
    assert no.returncode == 1
    assert cluster.terminal.json("jobs", "show", cluster.bad)["attempts"] >= 2


def test_jobs_cancel_says_what_is_certain(cluster: Cluster) -> None:
    running = cluster.terminal.enqueue("shop.until_released", n=7)
    cluster.terminal.until(lambda: "began 7" in cluster.terminal.ran(), "the job runs")

    told = cluster.terminal.json("jobs", "cancel", running)
    followed = cluster.terminal.run("-A", "shop", "jobs", "tail", running)
    late = cluster.terminal.json("jobs", "cancel", cluster.good, code=1)

    assert told == {running: "requested"}
    assert (followed.returncode, "Cancelled" in followed.stdout) == (1, True)
    assert late == {cluster.good: "too_late"}


def test_jobs_cancel_does_not_promise_a_worker_for_an_id_that_nobody_knows(cluster: Cluster) -> None:
    done = cluster.terminal.run("-A", "shop", "jobs", "cancel", "no-such-job")

    assert done.returncode == 1
    assert "no-such-job  nobody knows it" in done.stdout


def test_jobs_tail_follows_all_jobs(cluster: Cluster) -> None:
    done = cluster.terminal.run("-A", "shop", "--json", "jobs", "tail", "-n", "2")

    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert [{"id", "status", "task"} <= line.keys() for line in lines] == [True, True]


def test_workers_are_listed_and_take_orders(cluster: Cluster) -> None:
    listed = cluster.terminal.json("workers", "list")
    ping = cluster.terminal.json("workers", "ping", *PATIENTLY)
    paused = cluster.terminal.json("workers", "pause", "alpha", *PATIENTLY)
    waiting = cluster.terminal.enqueue("shop.hello", name="paused")
    pinged = cluster.terminal.json("workers", "ping", "alpha", *PATIENTLY)
    cluster.terminal.until(
        lambda: "active, paused" in cluster.terminal.run("-A", "shop", "workers", "list").stdout, "it is seen as paused"
    )
    checked = cluster.terminal.run("-A", "shop", "doctor").stdout
    resumed = cluster.terminal.json("workers", "resume", "alpha", *PATIENTLY)
    followed = cluster.terminal.run("-A", "shop", "jobs", "tail", waiting)
    slots = cluster.terminal.json("workers", "concurrency", "2", "alpha", *PATIENTLY)
    table = cluster.terminal.run("-A", "shop", "workers", "list").stdout

    (alpha,) = [worker for worker in listed if worker["name"] == "alpha"]
    assert (alpha["status"], alpha["mode"], alpha["slots"], alpha["lanes"]) == (
        "active",
        "full",
        3,
        ["default", "mail"],
    )
    assert [(reply["worker"], reply["ok"]) for reply in ping] == [("alpha", True)]
    assert 0 <= ping[0]["answered_after"] < 30
    assert (paused[0]["reply"]["paused"], pinged[0]["reply"]["paused"], resumed[0]["reply"]["paused"]) == (
        True, True, False,
    )  # fmt: skip
    assert "workers resume alpha" in checked
    assert followed.returncode == 0
    assert slots[0]["reply"]["slots"] == 2
    assert "alpha" in table


def test_a_lane_without_buckets_is_told_as_such(cluster: Cluster) -> None:
    assert "no buckets of the lane 'nope'" in cluster.terminal.run("-A", "shop", "buckets", "--lane", "nope").stdout


def test_buckets_have_owner_and_depth(cluster: Cluster) -> None:
    found = cluster.terminal.json("buckets", "--lane", "mail")
    table = cluster.terminal.run("-A", "shop", "buckets").stdout

    assert {(bucket["lane"], bucket["status"], bucket["owner"]) for bucket in found} == {("mail", "Active", "alpha")}
    assert {bucket["priority"] for bucket in found} == {"very_low", "low", "medium", "high", "critical"}
    assert table.splitlines()[0].split() == "ID AGENT LANE PRIORITY STATUS EPOCH OWNER DEPTH".split()  # noqa: SIM905


def test_doctor_finds_a_well_cluster_well(cluster: Cluster) -> None:
    told = cluster.terminal.json("doctor")
    words = cluster.terminal.run("-A", "shop", "doctor")

    assert told["ok"] is True
    checks = {check["check"]: check for check in told["checks"]}
    assert {"python", "sqlite", "app", "tasks", "schema", "master", "clock", "durability", "workers"} <= checks.keys()
    assert checks["workers"]["state"] == "ok"
    assert "synchronous = FULL" in checks["durability"]["fact"]
    assert words.returncode == 0
    assert "0 faults" in words.stdout


def test_health_of_the_cluster(cluster: Cluster) -> None:
    assert cluster.terminal.json("health") == {"ok": True, "master": "answers", "workers": 1}


def test_db_says_the_schema_and_an_upgrade_finds_nothing_to_do(cluster: Cluster) -> None:
    status = cluster.terminal.json("db", "status")
    upgrade = cluster.terminal.run("-A", "shop", "db", "upgrade")
    sql = cluster.terminal.run("-A", "shop", "db", "sql")

    assert (status["current"], status["pending"]) == (True, [])
    assert (upgrade.returncode, "already" in upgrade.stdout) == (0, True)
    assert "CREATE TABLE jm_job" in sql.stdout


@pytest.mark.parametrize("dialect", ["sqlite", "postgresql", "mysql", "mssql"])
def test_the_sql_of_every_dialect_can_be_printed_without_an_app(terminal: Terminal, dialect: str) -> None:
    done = terminal.run("db", "sql", "--dialect", dialect)

    assert done.returncode == 0, done.stderr
    assert "jm_job" in done.stdout


def test_a_new_database_is_made_by_db_upgrade_only_once(terminal: Terminal) -> None:
    before = terminal.json("db", "status", code=1)
    made = terminal.json("db", "upgrade")
    after = terminal.json("db", "status")

    assert (before["found"], before["current"]) == (None, False)
    assert (made["before"], made["after"]) == (None, before["expected"])
    assert after["current"] is True
    assert (terminal.folder / "jobmaster.db").stat().st_mode & 0o777 == 0o600


def test_doctor_changes_nothing_in_a_new_project(terminal: Terminal) -> None:
    before = sorted(path.name for path in terminal.folder.iterdir())
    told = terminal.json("doctor")

    schema = next(check for check in told["checks"] if check["check"] == "schema")
    assert (schema["state"], "db upgrade" in schema["advice"]) == ("warning", True)
    assert sorted(path.name for path in terminal.folder.iterdir()) == before


def test_config_show_names_the_origin_of_each_value(terminal: Terminal) -> None:
    terminal.write("jobmaster.toml", 'lease = "20s"\n')
    rows = {
        row["name"]: (row["value"], row["origin"])
        for row in json.loads(terminal.run("-A", "shop", "--json", "config", "show", JOBMASTER_GRACE="7").stdout)[
            "settings"
        ]
    }
    warned = terminal.run("-A", "shop", "config", "show", "--changed", JOBMASTER_LAESE="3")

    assert rows["grace"] == ("7s", "environment JOBMASTER_GRACE")
    assert rows["lease"] == ("20s", f"{terminal.folder}/jobmaster.toml: lease")
    assert rows["master"] == (f"sqlite:///{terminal.folder}/jobmaster.db", "default")
    assert "JOBMASTER_LAESE" in warned.stderr
    assert "JOBMASTER_LEASE" in warned.stderr


def test_passwords_are_never_printed(terminal: Terminal) -> None:
    secret = "s3cr3tpass"
    dsn = f"postgresql://shop:{secret}@127.0.0.1:1/shop"
    commands = [["config", "show"], ["doctor"], ["worker"], ["jobs", "list"], ["db", "status"]]

    done = [terminal.run("-A", "shop", *command, JOBMASTER_MASTER=dsn) for command in commands]

    assert [secret in one.stdout + one.stderr for one in done] == [False] * len(commands)
    assert "postgresql://shop:***@127.0.0.1" in done[0].stdout


def test_a_job_cannot_steer_the_terminal(cluster: Cluster) -> None:
    evil = "\x1b]0;owned\x07\x1b[2J\nnext"
    job = cluster.terminal.json("run", "shop.hello", json.dumps({"name": evil}), "--wait", "--timeout", "50")["id"]

    shown = cluster.terminal.run("-A", "shop", "jobs", "show", job).stdout

    assert "\x1b" not in shown
    assert "\x07" not in shown
    assert Path(cluster.terminal.folder, "ran.txt").read_text().count("owned") == 1
