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
    lease = {"JOBMASTER_LEASE": "1", "JOBMASTER_RENEW_EVERY": "0.3"}

    with program("jobmaster", "worker", "-A", "kills", folder=tmp_path, log=log, **lease):
        done = subprocess.run(
            [sys.executable, "client.py", task], cwd=tmp_path, capture_output=True, text=True, check=False, timeout=60
        )

    assert done.stdout.strip() == told, done.stderr + log.read_text(encoding="utf-8")
    assert len((tmp_path / task).read_text(encoding="utf-8").split()) == runs
