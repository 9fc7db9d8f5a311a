"""How `jobmaster worker` ends: signals, grace, a terminal that closes, another of its name."""

from __future__ import annotations

import contextlib
import signal
import socket
import subprocess
import sys

import psutil
import pytest

from tests.cli.terminal import Terminal

pytestmark = pytest.mark.backend("sqlite")


def test_sigterm_under_load_loses_nothing_and_runs_nothing_twice(terminal: Terminal) -> None:
    jobs = 300
    code = f"from shop import jm, hello; jm.enqueue_many([hello.job(name=str(n)) for n in range({jobs})])"
    subprocess.run([sys.executable, "-c", code], cwd=terminal.folder, env=terminal.environment, check=True, timeout=30)

    with terminal.worker("-A", "shop", "-c", "4") as worker:
        terminal.until(lambda: len(terminal.ran()) > 20, "some jobs have run")
        worker.signal()
        assert worker.end() == 0
    first = terminal.ran()
    done = terminal.run("-A", "shop", "worker", "--once")

    assert done.returncode == 0, done.stdout + done.stderr
    assert 20 < len(first) <= jobs
    assert sorted(terminal.ran()) == sorted(f"hello {n}" for n in range(jobs))
    assert {job["status"] for job in terminal.json("jobs", "list", "--limit", "1000")["jobs"]} == {"Succeeded"}


def test_a_running_job_may_finish_within_the_grace_period(terminal: Terminal) -> None:
    with terminal.worker() as worker:
        worker.ready()
        job = terminal.enqueue("shop.until_released", n=1)
        terminal.until(lambda: "began 1" in terminal.ran(), "the job runs")
        worker.signal(signal.SIGINT)
        worker.wait_for("stop_begins")
        terminal.write("release", "")
        assert worker.end() == 0

    assert terminal.ran() == ["began 1", "ended 1"]
    assert terminal.json("jobs", "show", job)["status"] == "Succeeded"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP])
def test_what_a_terminal_sends_to_all_processes_stops_gracefully(terminal: Terminal, number: signal.Signals) -> None:
    with terminal.worker("-A", "shop", "--engines", "2") as worker:
        worker.ready()
        job = terminal.enqueue("shop.until_released", n=1)
        terminal.until(lambda: "began 1" in terminal.ran(), "the job runs")
        worker.signal_all(number)
        worker.wait_for("stop_begins", times=2)
        terminal.write("release", "")
        assert worker.end() == 0

    assert terminal.json("jobs", "show", job)["status"] == "Succeeded"
    assert "KeyboardInterrupt" not in worker.output


def test_a_second_signal_hands_running_jobs_back_at_once(terminal: Terminal) -> None:
    with terminal.worker() as worker:
        worker.ready()
        job = terminal.enqueue("shop.until_released", n=1)
        terminal.until(lambda: "began 1" in terminal.ran(), "the job runs")
        worker.signal()
        worker.wait_for("stop_begins")
        worker.signal()
        assert worker.end(20) == 0

    told = terminal.json("jobs", "show", job)
    assert (told["status"], told["failures"]) == ("HeldOnMaster", 0)
    terminal.write("release", "")
    assert terminal.run("-A", "shop", "worker", "--once").returncode == 0
    assert terminal.json("jobs", "show", job)["status"] == "Succeeded"


def test_signals_that_come_once_its_engines_have_ended_change_nothing(terminal: Terminal) -> None:
    with terminal.worker() as worker:
        worker.ready()
        worker.signal()
        worker.wait_for("engine_ended")
        while worker.process.poll() is None:
            worker.signal()
            with contextlib.suppress(subprocess.TimeoutExpired):
                worker.process.wait(0.002)

        assert worker.end() == 0, worker.output


def test_sigusr1_shows_where_the_supervisor_is_and_ends_nobody(terminal: Terminal) -> None:
    with terminal.worker() as worker:
        worker.ready()
        worker.signal(signal.SIGUSR1)
        worker.wait_for("worker_life.py")
        worker.signal()

        assert worker.end() == 0, worker.output


def test_the_engines_end_with_a_killed_supervisor(terminal: Terminal) -> None:
    with terminal.worker("-A", "shop", "--engines", "2") as worker:
        worker.ready()
        engines = psutil.Process(worker.process.pid).children()
        worker.signal(signal.SIGKILL)
        worker.end()

        gone, alive = psutil.wait_procs(engines, timeout=30)

    assert (len(gone), alive) == (2, [])


def test_an_order_from_another_terminal_stops_the_worker(terminal: Terminal) -> None:
    with terminal.worker("-A", "shop", "-n", "alpha") as worker:
        worker.ready()
        told = terminal.json("workers", "stop", "alpha", "--timeout", "30")
        code = worker.end()

    assert [(reply["worker"], reply["ok"]) for reply in told] == [("alpha", True)]
    assert code == 0


def test_of_two_workers_of_one_name_the_newer_stays_and_both_say_so(terminal: Terminal) -> None:
    with terminal.worker("-A", "shop", "-n", "twin") as old, contextlib.ExitStack() as stack:
        old.ready()
        (engine,) = psutil.Process(old.process.pid).children()
        new = stack.enter_context(terminal.worker("-A", "shop", "-n", "twin"))
        banner = new.wait_for("another with --name")
        code = old.end()
        told = terminal.json("workers", "list")
        done = terminal.run("-A", "shop", "run", "shop.hello", '{"name": "J"}', "--wait", "--timeout", "50")
        newer = psutil.Process(new.process.pid).children()[0].pid
        new.signal()
        assert new.end() == 0

    assert code == 0
    assert f"pid {engine.pid}" in banner
    assert f"worker_replaced name=twin by_host={socket.gethostname()} by_pid={newer}" in old.output
    assert [worker["status"] for worker in told] == ["active", "dead"]
    assert done.stdout == '"Hello J"\n'


def test_control_c_while_the_app_is_imported_ends_all_processes_without_a_traceback(terminal: Terminal) -> None:
    terminal.write("shop.py", "import time\nopen('importing', 'w').close()\ntime.sleep(60)\n")
    with terminal.worker() as worker:
        terminal.until((terminal.folder / "importing").exists, "the app is being imported")
        engines = psutil.Process(worker.process.pid).children()
        worker.signal_all(signal.SIGINT)
        code = worker.end(20)
        gone, alive = psutil.wait_procs(engines, timeout=30)

    assert code in {0, 130}
    assert (len(gone), alive) == (1, [])
    assert "Traceback" not in worker.output
    assert "KeyboardInterrupt" not in worker.output
