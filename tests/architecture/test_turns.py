"""Where helpers run the tests side by side, a test that is `alone` has nobody beside it."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
import textwrap
import threading
from pathlib import Path

import pytest

from tests.turns import Turns

ROOT = Path(__file__).parents[2]

TOLD = """
    import time, pytest

    def tell(line):
        with open("story", "a") as file:
            file.write(f"{line}\\n")

    @pytest.mark.parametrize("number", range(6))
    def test_beside(number):
        tell("beside begins")
        time.sleep(0.05)
        tell("beside ends")

    @pytest.mark.alone
    @pytest.mark.parametrize("number", range(3))
    def test_alone(number):
        tell("alone begins")
        time.sleep(0.1)
        tell("alone ends")
"""


def run(folder: Path, *how: str) -> list[str]:
    (folder / "test_x.py").write_text(textwrap.dedent(TOLD), encoding="utf-8")
    (folder / "pytest.ini").write_text("[pytest]\nmarkers = alone: nobody beside it\n", encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "tests.conftest", "-p", "no:cacheprovider", *how],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), "TMPDIR": str(folder)},
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )
    assert done.returncode == 0, done.stdout
    return (folder / "story").read_text(encoding="utf-8").splitlines()


def test_nobody_runs_beside_a_test_that_is_alone(tmp_path: Path) -> None:
    story = run(tmp_path, "-n", "2", "--dist", "worksteal")

    assert len(story) == 18
    open_ones = 0
    for line, following in itertools.pairwise([*story, ""]):
        open_ones += {"begins": 1, "ends": -1}[line.split()[1]]
        if line == "alone begins":
            assert (open_ones, following) == (1, "alone ends"), story
    assert not list(tmp_path.glob("jobmaster-turns-*")), "the folder of the locks is gone"


def test_others_go_side_by_side_and_who_is_alone_waits_for_all_of_them(tmp_path: Path) -> None:
    others = [Turns(str(tmp_path)) for _ in range(3)]
    for turns in others:
        turns.enter(alone=False)
    entered, last = threading.Event(), Turns(str(tmp_path))
    waiting = threading.Thread(target=lambda: (last.enter(alone=True), entered.set()), daemon=True)
    waiting.start()
    for turns in others:
        assert not entered.wait(0.05)
        turns.leave()
    assert entered.wait(20)


@pytest.mark.parametrize("how", [(), ("-n", "0")])
def test_without_helpers_tests_run_in_their_order(tmp_path: Path, how: tuple[str, ...]) -> None:
    assert run(tmp_path, *how) == ["beside begins", "beside ends"] * 6 + ["alone begins", "alone ends"] * 3
