"""Where helpers run the tests side by side, a test that is `alone` has nobody beside it."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

TOLD = """
    import os, time, pytest

    def story(name):
        with open("story", "a") as file:
            file.write(f"{name} begins\\n")
        time.sleep(0.15)
        with open("story", "a") as file:
            file.write(f"{name} ends\\n")

    @pytest.mark.parametrize("number", range(6))
    def test_beside(number): story("beside")

    @pytest.mark.alone
    @pytest.mark.timeout(1)
    @pytest.mark.parametrize("number", range(3))
    def test_alone(number): story("alone")
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
        timeout=60,
    )
    assert done.returncode == 0, done.stdout
    return (folder / "story").read_text(encoding="utf-8").splitlines()


def test_nobody_runs_beside_a_test_that_is_alone(tmp_path: Path) -> None:
    story = run(tmp_path, "-n", "2", "--dist", "worksteal")

    assert len(story) == 18
    assert story[:6] == ["alone begins", "alone ends"] * 3
    assert not list(tmp_path.glob("jobmaster-turns-*")), "the folder of the locks is gone"


@pytest.mark.parametrize("how", [(), ("-n", "0")])
def test_without_helpers_tests_run_in_their_order(tmp_path: Path, how: tuple[str, ...]) -> None:
    assert run(tmp_path, *how) == ["beside begins", "beside ends"] * 6 + ["alone begins", "alone ends"] * 3
