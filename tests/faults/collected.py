"""Which tests there are, which rows of the fault catalogue they are marked with, and on which stores they run."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Final, NamedTuple

ROOT: Final = Path(__file__).resolve().parents[2]

COLLECTED: Final = "FAULTS_COLLECTED"
"""The environment's name for the file that a collection is written to (tests/faults/recording.py)."""


class Case(NamedTuple):
    """A case of a test: its file below tests/, its name without parameters, its rows, and the stores it runs on."""

    file: str
    name: str
    rows: tuple[str, ...]
    stores: tuple[str, ...]

    @property
    def test(self) -> str:
        """As pages name it."""
        return f"{self.file}::{self.name}"


def cases(files: Iterable[str], *options: str) -> list[Case]:
    """What pytest collects from these files below tests/, in a process of its own.

    Args:
        files: the files.
        options: of pytest's command line.

    Raises:
        RuntimeError: a file can't be collected.
    """
    with tempfile.TemporaryDirectory() as folder:
        collected = Path(folder) / "collected"
        paths = [f"tests/{file}" for file in files]
        done = subprocess.run(
            [sys.executable, "-m", "pytest", "--collect-only", "-qq", "-p", "no:cacheprovider", *options, *paths],
            cwd=ROOT,
            env={**os.environ, COLLECTED: str(collected)},
            capture_output=True,
            text=True,
            timeout=100,
            check=False,
        )
        if done.returncode or not collected.exists():
            raise RuntimeError(f"The tests can't be collected: {done.stdout[-2000:]}{done.stderr[-2000:]}")
        found = json.loads(collected.read_text())
    return [Case(case["file"], case["name"], tuple(case["rows"]), tuple(case["stores"])) for case in found]


def marked() -> list[Case]:
    """All cases that are marked with rows of the fault catalogue."""
    tests = ROOT / "tests"
    paths = [path for path in sorted(tests.rglob("test_*.py")) if "mark.fault(" in path.read_text(encoding="utf-8")]
    return cases([path.relative_to(tests).as_posix() for path in paths], "-m", "fault")
