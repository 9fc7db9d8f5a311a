"""examples/hello as its README says: a worker, a schedule that fires, and a program that enqueues and waits."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.journeys.programs import program

pytestmark = pytest.mark.backend("sqlite")

EXAMPLE = Path(__file__).parents[2] / "examples" / "hello"


def test_the_shortest_program_says_hello(tmp_path: Path) -> None:
    shutil.copy(EXAMPLE / "myapp.py", tmp_path)
    log = tmp_path / "worker.log"

    with program("jobmaster", "worker", "-A", "myapp", folder=tmp_path, log=log) as worker:
        done = subprocess.run(
            [sys.executable, "myapp.py"], cwd=tmp_path, capture_output=True, text=True, check=False, timeout=60
        )

    accepted, hello = done.stdout.splitlines()
    assert accepted.startswith("accepted as "), done.stderr + log.read_text(encoding="utf-8")
    assert hello == "Hello John"
    assert worker.returncode == 0
    assert (tmp_path / "jobmaster.db").exists()
    assert "`Hello John`" in (EXAMPLE / "README.md").read_text(encoding="utf-8")


def test_its_schedule_fires_and_can_be_paused(tmp_path: Path) -> None:
    shutil.copy(EXAMPLE / "myapp.py", tmp_path)
    log = tmp_path / "worker.log"
    readme = (EXAMPLE / "README.md").read_text(encoding="utf-8")
    command = [str(Path(sys.executable).with_name("jobmaster")), "-A", "myapp", "schedules"]

    with program("jobmaster", "worker", "-A", "myapp", folder=tmp_path, log=log):
        deadline = time.monotonic() + 60
        while "Hello from a schedule" not in log.read_text(encoding="utf-8"):
            assert time.monotonic() < deadline, log.read_text(encoding="utf-8")
            time.sleep(0.05)
        for name, answer in (("show", "every 5 seconds"), ("pause", "myapp.say_hello  paused")):
            assert f"jobmaster -A myapp schedules {name} myapp.say_hello" in readme
            done = subprocess.run(
                [*command, name, "myapp.say_hello"],
                cwd=tmp_path,
                capture_output=True,
                text=True,
                check=True,
                timeout=60,
            )
            assert answer in done.stdout
