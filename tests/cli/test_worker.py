"""`jobmaster worker` as users start it: real processes on an SQLite file."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import urllib.error
import urllib.request

import psutil
import pytest

from tests.cli.terminal import PROGRAM, Terminal

pytestmark = pytest.mark.backend("sqlite")


def test_a_job_of_another_process_runs_and_sigterm_ends_with_0(terminal: Terminal) -> None:
    with terminal.worker() as worker:
        banner = worker.ready()
        done = terminal.run("-A", "shop", "run", "shop.hello", '{"name": "John"}', "--wait", "--timeout", "50")
        worker.signal()
        code = worker.end()

    assert (done.returncode, done.stdout) == (0, '"Hello John"\n'), done.stderr
    assert code == 0
    assert terminal.ran() == ["hello John"]
    for part in ["shop", "sqlite:///", str(terminal.folder / "jobmaster.db"), "standalone", "default, mail", "4 found"]:
        assert part in banner


@pytest.mark.parametrize("spelling", [["worker", "-A", "shop"], ["-A", "shop", "worker"]])
def test_the_app_may_be_named_before_or_after_the_command(terminal: Terminal, spelling: list[str]) -> None:
    terminal.enqueue("shop.hello", name="Ann")

    done = terminal.run(*spelling, "--once")

    assert done.returncode == 0, done.stdout + done.stderr
    assert terminal.ran() == ["hello Ann"]


@pytest.mark.parametrize("source", ["environment", "pyproject"])
def test_the_app_may_be_named_once_for_all(terminal: Terminal, source: str) -> None:
    environment = {"JOBMASTER_APP": "shop:jm"} if source == "environment" else {}
    if source == "pyproject":
        terminal.write("pyproject.toml", '[tool.jobmaster]\napp = "shop:jm"\n')
    terminal.enqueue("shop.hello", name="Ann")

    done = terminal.run("worker", "--once", **environment)

    assert done.returncode == 0, done.stdout + done.stderr
    assert terminal.ran() == ["hello Ann"]


def test_the_supervisor_imports_no_code_of_the_user(terminal: Terminal) -> None:
    terminal.write(
        "shop.py",
        """
import os
with open("pids.txt", "a") as file:
    file.write(f"{os.getpid()}\\n")
from jobmaster import JobMaster
jm = JobMaster("shop")
@jm.task
def pid() -> int:
    return os.getpid()
""",
    )
    with terminal.worker() as worker:
        worker.ready()
        told = terminal.json("run", "shop.pid", "--wait", "--timeout", "50")
        supervisor = worker.process.pid
        children = {child.pid for child in psutil.Process(supervisor).children()}
        worker.signal()
        assert worker.end() == 0

    importers = {int(line) for line in (terminal.folder / "pids.txt").read_text().split()}
    assert supervisor not in importers
    assert told["result"] in children


def test_an_engine_carries_no_library_that_it_does_not_need(terminal: Terminal) -> None:
    heavy = ["alembic", "click", "croniter", "flask", "kombu", "rich", "sqlalchemy"]
    terminal.write(
        "shop.py",
        f"""
import sys
from jobmaster import JobMaster
jm = JobMaster("shop")
@jm.task
def heavy() -> list:
    return [name for name in {heavy} if name in sys.modules]
""",
    )
    job = terminal.enqueue("shop.heavy")
    done = terminal.run("-A", "shop", "worker", "--once")
    supervisor = subprocess.run(
        [sys.executable, "-c", f"import sys, jobmaster.supervising; print([n for n in {heavy} if n in sys.modules])"],
        capture_output=True, text=True, check=True, timeout=30,
    )  # fmt: skip

    assert done.returncode == 0, done.stdout + done.stderr
    assert terminal.json("jobs", "show", job)["result"] == []
    assert supervisor.stdout == "[]\n"


def test_a_worker_whose_output_nobody_reads_goes_on(terminal: Terminal) -> None:
    command = f"{PROGRAM} worker -A shop --once | true"
    job = terminal.enqueue("shop.hello", name="J")

    subprocess.run(["sh", "-c", command], cwd=terminal.folder, env=terminal.environment, check=True, timeout=30)

    assert terminal.json("jobs", "show", job)["status"] == "Succeeded"


@pytest.mark.parametrize("pool", ["threads", "processes", "solo"])
def test_every_pool_runs_sync_and_async_tasks(terminal: Terminal, pool: str) -> None:
    sync, awaited = terminal.enqueue("shop.hello", name=pool), terminal.enqueue("shop.mail", order_id=7)

    done = terminal.run("-A", "shop", "worker", "-P", pool, "--once")

    assert done.returncode == 0, done.stdout + done.stderr
    assert terminal.json("jobs", "show", sync)["result"] == f"Hello {pool}"
    assert terminal.json("jobs", "show", awaited)["result"] == 7


def test_the_pool_asyncio_runs_async_tasks(terminal: Terminal) -> None:
    terminal.write(
        "waiter.py",
        """
from jobmaster import JobMaster
jm = JobMaster("shop")
@jm.task
async def wait() -> str:
    return "waited"
""",
    )
    job = terminal.json("run", "-A", "waiter", "waiter.wait")["id"]

    done = terminal.run("-A", "waiter", "worker", "-P", "asyncio", "--once")

    assert done.returncode == 0, done.stdout + done.stderr
    assert terminal.json("jobs", "show", job)["result"] == "waited"


def test_a_killed_engine_is_replaced_and_its_job_runs_again(terminal: Terminal) -> None:
    with terminal.worker() as worker:
        worker.ready()
        job = terminal.enqueue("shop.until_released", n=1)
        terminal.until(lambda: "began 1" in terminal.ran(), "the job runs")
        (engine,) = psutil.Process(worker.process.pid).children()
        engine.kill()
        terminal.until(lambda: terminal.ran().count("began 1") == 2, "the job runs again")
        terminal.write("release", "")
        terminal.until(lambda: "ended 1" in terminal.ran(), "the job has ended")
        worker.signal()
        assert worker.end() == 0

    told = terminal.json("jobs", "show", job)
    assert (told["status"], told["recoveries"], told["failures"]) == ("Succeeded", 1, 0)


def test_lanes_may_be_repeated_or_listed(terminal: Terminal) -> None:
    done = terminal.run("-A", "shop", "--json", "worker", "-Q", "mail,bulk", "-Q", "default", "--once")

    told = json.loads(done.stdout)
    assert (done.returncode, told["lanes"]) == (0, ["bulk", "default", "mail"])


def test_a_lane_that_is_not_served_is_named_and_its_jobs_wait(terminal: Terminal) -> None:
    job = terminal.enqueue("shop.mail", order_id=1)

    done = terminal.run("-A", "shop", "worker", "-Q", "default", "--once")

    assert "'mail'" in done.stderr
    assert "-Q mail" in done.stderr
    assert terminal.json("jobs", "show", job)["status"] == "SavePending"


def test_json_logs_carry_the_fields_of_the_job(terminal: Terminal) -> None:
    terminal.write(
        "shop.py",
        """
import logging
from jobmaster import JobMaster, current_job
jm = JobMaster("shop")
def deep() -> None:
    logging.getLogger("mine").warning("deep below %s", current_job().task)
@jm.task
def sync_one() -> None:
    deep()
@jm.task
async def async_one() -> None:
    deep()
""",
    )
    jobs = {name: terminal.enqueue(f"shop.{name}") for name in ("sync_one", "async_one")}

    done = terminal.run("-A", "shop", "worker", "--once", "--log-format", "json", "-l", "warning")

    lines = [json.loads(line) for line in done.stderr.splitlines()]
    mine = {line["task"]: line for line in lines if line["logger"] == "mine"}
    for name, job in jobs.items():
        line = mine[f"shop.{name}"]
        assert (line["job_id"], line["attempt"], line["message"]) == (job, 1, f"deep below shop.{name}")
    assert done.stdout == ""


def test_as_json_each_line_is_an_object_also_what_is_said_before_the_first_job(terminal: Terminal) -> None:
    terminal.write(
        "shop.py",
        """
from jobmaster import JobMaster
jm = JobMaster("shop", survives="host")
@jm.task(lane="mail")
def send() -> None: ...
""",
    )
    terminal.write("broken.py", "import nothing_of_this_name")

    warned = terminal.run("-A", "shop", "worker", "--once", "-Q", "default", "--log-format", "json")
    refused = terminal.run("-A", "broken", "worker", "--log-format", "json")

    assert "does not serve the lane 'mail'" in _event(warned.stderr, "worker_warns")
    assert refused.returncode == 2
    assert "nothing_of_this_name" in _event(refused.stderr, "command_failed")


def _event(lines: str, name: str) -> str:
    """The only line of this event, of those that are each an object."""
    (found,) = [one for one in map(json.loads, lines.splitlines()) if one.get("event") == name]
    return str(found["message"])


def test_the_debug_log_has_the_events_of_all_processes(terminal: Terminal) -> None:
    terminal.enqueue("shop.hello", name="J")

    done = terminal.run("-A", "shop", "worker", "--once", "-l", "error", JOBMASTER_DEBUG_LOG="logs")

    files = list((terminal.folder / "logs").iterdir())
    events = [json.loads(line) for file in files for line in file.read_text().splitlines()]
    names = {event["event"] for event in events if "event" in event}
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == ""
    assert {"engine_started", "worker_registered", "worker_ready", "stop_ended", "engine_ended"} <= names
    assert len({event["process"] for event in events}) == 2
    assert {file.stat().st_mode & 0o777 for file in files} == {0o600}


def get(url: str) -> tuple[int, dict[str, object]]:
    try:
        with urllib.request.urlopen(url, timeout=10) as answer:  # noqa: S310 - our own server
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.load(error)


def test_health_is_answered_on_the_loopback_only(terminal: Terminal) -> None:
    with terminal.worker("-A", "shop", "--health-port", "0") as worker:
        text = worker.ready()
        url = text.partition("url=")[2].split()[0].removesuffix("/healthz")
        port = url.rpartition(":")[2]
        terminal.until(lambda: get(f"{url}/readyz")[1].get("buckets") == 10, "all its buckets are there")
        alive, ready = get(f"{url}/healthz"), get(f"{url}/readyz")
        listening = {
            connection.laddr.ip
            for connection in psutil.Process(worker.process.pid).net_connections("inet")
            if connection.status == psutil.CONN_LISTEN
        }
        command = terminal.run("health", "--port", port, "--ready")
        missing, posted = get(f"{url}/nothing"), None
        try:
            urllib.request.urlopen(f"{url}/healthz", data=b"x", timeout=10)  # noqa: S310 - as above
        except urllib.error.HTTPError as error:
            with error:
                posted = error.code
        worker.signal()
        assert worker.end() == 0
    after = terminal.run("health", "--port", port)

    assert (alive[0], alive[1]["ok"], alive[1]["engines"]) == (200, True, 1)
    assert (ready[0], ready[1]["trusted"], ready[1]["buckets"]) == (200, 1, 10)
    assert (missing[0], posted) == (404, 405)
    assert listening == {"127.0.0.1"}
    assert (command.returncode, after.returncode) == (0, 3)


def remove_database(terminal: Terminal) -> None:
    for file in terminal.folder.glob("jobmaster.db*"):
        shutil.rmtree(file) if file.is_dir() else file.unlink()


def living(terminal: Terminal) -> list[str]:
    return [told["name"] for told in terminal.json("workers", "list") if told["status"] == "active"]


@pytest.mark.parametrize("engines", ["1", "2"])
def test_a_worker_goes_on_with_the_file_that_replaced_its_database(terminal: Terminal, engines: str) -> None:
    short = {"JOBMASTER_LEASE": "2", "JOBMASTER_RENEW_EVERY": "0.5"}
    with terminal.worker("-A", "shop", "-n", "alpha", "--engines", engines, **short) as worker:
        worker.ready()
        remove_database(terminal)
        job = terminal.json("run", "shop.hello", '{"name": "new"}')["id"]
        terminal.until(lambda: "hello new" in terminal.ran(), "a job in the new file runs")
        worker.wait_for("Ctrl-C stops gracefully", times=2)
        names = ["alpha"] if engines == "1" else ["alpha.1", "alpha.2"]
        terminal.until(lambda: living(terminal) == names, "all engines live in the new file")
        worker.signal()
        code = worker.end(20)

    assert code == 0
    assert "store_replaced" in worker.output
    assert terminal.json("jobs", "show", job)["status"] == "Succeeded"


def test_an_idle_worker_without_its_database_stops_at_once(terminal: Terminal) -> None:
    with terminal.worker() as worker:
        worker.ready()
        remove_database(terminal)
        worker.signal()
        assert worker.end(20) == 0

    assert "stop_leaves" in worker.output
