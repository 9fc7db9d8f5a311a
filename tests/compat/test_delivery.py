"""What docs/migration.md says about workers that die, with workers that are killed for real."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.journeys.programs import program

pytestmark = pytest.mark.backend("sqlite")

APP = """
import os, pathlib, signal
from jobmaster.compat import Celery

app = Celery("kills", broker="sqlite:///kills.db")
FOLDER = pathlib.Path(__file__).parent


def die_the_first_time(name):
    with (FOLDER / name).open("a") as runs:
        runs.write("run\\n")
    if len((FOLDER / name).read_text().split()) == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    return "survived"


@app.task
def early():
    return die_the_first_time("early")


@app.task(acks_late=True)
def late():
    return die_the_first_time("late")
"""
CLIENT = """
import sys, kills
from jobmaster.compat.exceptions import WorkerLostError
result = getattr(kills, sys.argv[1]).delay()
try:
    print(result.get(timeout=40), result.state)
except WorkerLostError as error:
    print("lost", result.state)
"""


@pytest.mark.parametrize(("task", "told", "runs"), [("early", "lost FAILURE", 1), ("late", "survived SUCCESS", 2)])
def test_a_task_whose_worker_is_killed(tmp_path: Path, task: str, told: str, runs: int) -> None:
    (tmp_path / "kills.py").write_text(APP, encoding="utf-8")
    (tmp_path / "client.py").write_text(CLIENT, encoding="utf-8")
    log = tmp_path / "worker.log"
    lease = {"JOBMASTER_LEASE": "3", "JOBMASTER_RENEW_EVERY": "0.5"}

    with program("jobmaster", "worker", "-A", "kills", folder=tmp_path, log=log, **lease):
        done = subprocess.run(
            [sys.executable, "client.py", task], cwd=tmp_path, capture_output=True, text=True, check=False, timeout=60
        )

    assert done.stdout.strip() == told, done.stderr + log.read_text(encoding="utf-8")
    assert len((tmp_path / task).read_text(encoding="utf-8").split()) == runs


LIMITS = """
import asyncio
from jobmaster.compat import Celery

app = Celery("limits", broker="sqlite:///limits.db")


@app.task(time_limit=4, max_retries=3)
def spin():
    print("spin runs", flush=True)
    while True: pass


@app.task
async def sleep():
    await asyncio.sleep(600)
"""
LIMITS_CLIENT = """
import time, limits
from jobmaster.compat.exceptions import TaskRevokedError, TimeLimitExceeded
spin, sleep = limits.spin.delay(), limits.sleep.delay()
print(type(spin.get(timeout=40, propagate=False)).__name__, spin.state)
while sleep.state != "STARTED": time.sleep(0.05)
sleep.revoke()
print(sleep.state)
sleep.revoke(terminate=True)
print(repr(sleep.get(timeout=40, propagate=False)), sleep.state)
"""


def test_hard_limits_and_terminate_stop_a_run_for_good(tmp_path: Path) -> None:
    (tmp_path / "limits.py").write_text(LIMITS, encoding="utf-8")
    (tmp_path / "client.py").write_text(LIMITS_CLIENT, encoding="utf-8")
    log = tmp_path / "worker.log"

    with program("jobmaster", "worker", "-A", "limits", "-P", "processes", "-c", "2", folder=tmp_path, log=log):
        done = subprocess.run(
            [sys.executable, "client.py"], cwd=tmp_path, capture_output=True, text=True, check=False, timeout=60
        )

    text = log.read_text(encoding="utf-8")
    assert done.stdout.splitlines() == [
        "TimeLimitExceeded FAILURE",
        "STARTED",
        "TaskRevokedError('revoked') REVOKED",
    ], done.stderr + text
    assert text.count("spin runs") == 1
