"""The JSON log of a real worker: each line is one object, and together they tell how a job was recovered."""

from __future__ import annotations

import json
import os
import signal
from datetime import datetime
from typing import Any

import psutil
import pytest

from tests.cli.terminal import Terminal

pytestmark = pytest.mark.backend("sqlite")

ALWAYS = {"time", "level", "logger", "message", "process", "thread", "worker"}
LEVELS = {"DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"}

NOISY = """
import logging
log = logging.getLogger("shop")

@jm.task(max_retries=0)
def noisy(n: int) -> None:
    note(f"noisy {n} {os.getpid()}")
    log.warning("two\\nlines, \\u2028 and a \\udc80 surrogate", extra={"fields": {"n": n}})
    try:
        raise ValueError("no stock\\nleft")
    except ValueError:
        log.exception("it failed")
    while not os.path.exists(os.path.join(HERE, "release")):
        time.sleep(0.01)
"""


def test_the_log_of_a_recovery_is_json_line_by_line_and_tells_the_story(terminal: Terminal) -> None:
    terminal.write("shop.py", (terminal.folder / "shop.py").read_text() + NOISY)
    options = ("-A", "shop", "-n", "alpha", "--log-format", "json", "-l", "debug")
    with terminal.worker(*options) as worker:
        worker.wait_for("worker_ready")
        job = terminal.enqueue("shop.noisy", n=1)
        running = ("jobs", "list", "--status", "running")
        terminal.until(lambda: terminal.json(*running)["jobs"] != [], "its row says that it runs")
        (engine,) = psutil.Process(worker.process.pid).children()
        killed = engine.pid
        os.kill(killed, signal.SIGKILL)
        terminal.until(lambda: len(terminal.ran()) == 2, "it runs again")
        terminal.write("release", "")
        done = terminal.run("-A", "shop", "jobs", "tail", job)
        worker.signal()
        assert worker.end() == 0
    told = [json.loads(line) for line in worker.output.splitlines()]

    assert done.returncode == 0
    assert [line for line in told if ALWAYS - line.keys()] == []
    assert {line["level"] for line in told} <= LEVELS
    assert {line["worker"] for line in told} == {"alpha"}
    assert all(datetime.fromisoformat(line["time"]).utcoffset() is not None for line in told)
    own = [line for line in told if line["logger"].startswith("jobmaster")]
    assert [line for line in own if "event" not in line] == []
    story(own, killed)
    users = [line for line in told if line["logger"] == "shop"]
    assert {(line["job_id"], line["task"], line["attempt"]) for line in users} == {
        (job, "shop.noisy", 1), (job, "shop.noisy", 2),
    }  # fmt: skip
    assert {line["fields"]["n"] for line in users if "fields" in line} == {1}
    assert sum("no stock" in line.get("exception", "") for line in users) == 2


def story(lines: list[dict[str, Any]], killed: int) -> None:
    """The engine begins, is killed, its death is reported with a job to blame, another begins, and all of it ends."""
    events = [line["event"] for line in lines]
    place = -1
    for name in ("worker_registered", "worker_ready", "engine_ended", "engine_started", "worker_registered", "signal",
                 "stop_begins", "stop_ended"):  # fmt: skip
        assert name in events[place + 1 :], f"{name} does not follow in {events}"
        place = events.index(name, place + 1)
    (ended,) = [line for line in lines if line["event"] == "engine_ended" and line["fields"]["pid"] == killed]
    assert "SIGKILL" in ended["fields"]["reason"] or "9" in str(ended["fields"]["reason"])
    reported = [line for line in lines if line["event"] == "death_reported"]
    assert [line["fields"]["blamed"] for line in reported][:1] == [1]
