"""`jobmaster worker --reload`: new code takes over when it can be imported, and no run is lost."""

from __future__ import annotations

import json

import pytest

from tests.cli.terminal import Terminal

pytestmark = pytest.mark.backend("sqlite")


def test_reload_keeps_the_old_code_until_the_new_one_can_be_imported(terminal: Terminal) -> None:
    # A producer without the tasks' code: it looks the name up in the master.
    terminal.write("client.py", 'from jobmaster import JobMaster\njm = JobMaster("shop")\n')

    def answer() -> object:
        done = terminal.run("-A", "client", "run", "shop.hello", '{"name": "J"}', "--wait", "--timeout", "50")
        return json.loads(done.stdout)

    good = (terminal.folder / "shop.py").read_text()
    with terminal.worker("-A", "shop", "--reload") as worker:
        worker.ready()
        terminal.write("shop.py", good + "\ndef (\n")
        refused = worker.wait_for("goes on with the code of before")
        before = answer()
        terminal.write("shop.py", good.replace("Hello {name}", "Goodbye {name}"))
        worker.wait_for("Ctrl-C stops gracefully", times=2)
        after = answer()
        worker.signal()
        code = worker.end()

    assert "SyntaxError" in refused
    assert "shop.py" in refused
    assert (before, after, code) == ("Hello J", "Goodbye J", 0)


def test_reload_ends_a_run_that_does_not_end_by_itself_and_runs_it_again(terminal: Terminal) -> None:
    good = (terminal.folder / "shop.py").read_text()
    with terminal.worker("-A", "shop", "--reload") as worker:
        worker.ready()
        job = terminal.enqueue("shop.until_released", n=1)
        terminal.until(lambda: "began 1" in terminal.ran(), "the job runs")
        terminal.write("shop.py", good.replace("began {n}", "began anew {n}"))
        terminal.until(lambda: "began anew 1" in terminal.ran(), "the job runs in the new code")
        terminal.write("release", "")
        terminal.until(lambda: "ended 1" in terminal.ran(), "the job has ended")
        worker.signal()
        assert worker.end() == 0

    assert terminal.json("jobs", "show", job)["status"] == "Succeeded"


def test_an_app_that_ends_its_process_while_a_worker_reloads_is_told(terminal: Terminal) -> None:
    good = (terminal.folder / "shop.py").read_text()
    with terminal.worker("-A", "shop", "--reload") as worker:
        worker.ready()
        terminal.write("shop.py", "import os\nos._exit(9)\n")
        worker.wait_for("exit code 9")
        terminal.write("shop.py", good + "\n")
        worker.wait_for("Ctrl-C stops gracefully", times=2)
        worker.signal()
        assert worker.end() == 0
