"""The table of stores at the end of a run counts what ran, and with CI=true refuses a run that left a store out."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
BOTH_RUN = """
    import pytest

    @pytest.mark.parametrize("store", ["memory", "sqlite"])
    def test_a(store): pass

    @pytest.mark.backend("sqlite")
    def test_b(): pass
"""
ONE_SKIPPED = (
    BOTH_RUN
    + """
    @pytest.mark.backend("sqlite")
    def test_c(): pytest.skip("no disk")
"""
)
NONE_MARKED = "def test_a(): pass"
ONE_DIES = (
    BOTH_RUN
    + """
    @pytest.mark.backend("sqlite")
    def test_c():
        import os
        os._exit(3)
"""
)


def run(folder: Path, source: str, *arguments: str, ci: bool) -> subprocess.CompletedProcess[str]:
    (folder / "checks").mkdir()
    (folder / "checks" / "test_x.py").write_text(textwrap.dedent(source), encoding="utf-8")
    (folder / "pytest.ini").write_text(
        "[pytest]\ntestpaths = checks\nrequired_backends = memory sqlite\nmarkers = backend(name): a store\n",
        encoding="utf-8",
    )
    environment = {**os.environ, "CI": "true" if ci else "", "PYTHONPATH": str(ROOT)}
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "tests.conftest", "-p", "no:cacheprovider", *arguments],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )


@pytest.mark.parametrize("how", [[], ["-n", "2"]], ids=["alone", "two"])
def test_tests_are_counted_by_mark_and_by_parameter(tmp_path: Path, how: list[str]) -> None:
    done = run(tmp_path, BOTH_RUN, *how, ci=True)

    assert done.returncode == 0, done.stdout
    assert "memory       1 passed" in done.stdout
    assert "sqlite       2 passed" in done.stdout
    assert "nats         no tests in this run" in done.stdout
    assert "3 passed" in done.stdout.splitlines()[-1], "pytest's own line stays the last one"


@pytest.mark.parametrize(
    ("source", "told", "how"),
    [
        (ONE_SKIPPED, "sqlite: required, and 1 of its tests were skipped", []),
        (ONE_SKIPPED, "sqlite: required, and 1 of its tests were skipped", ["-n", "2"]),
        (NONE_MARKED, "memory: required, and no test ran", []),
    ],
    ids=["skipped", "skipped-two", "absent"],
)
def test_a_required_store_that_was_left_out_fails_the_run(
    tmp_path: Path, source: str, told: str, how: list[str]
) -> None:
    done = run(tmp_path, source, *how, ci=True)

    assert done.returncode == 1, done.stdout
    assert told in done.stdout


def test_a_helper_that_dies_fails_the_run_and_its_test_is_named(tmp_path: Path) -> None:
    done = run(tmp_path, ONE_DIES, "-n", "2", ci=True)

    assert done.returncode == 1, done.stdout
    assert "crashed while running 'checks/test_x.py::test_c'" in done.stdout
    assert "sqlite       2 passed" in done.stdout


@pytest.mark.parametrize(("arguments", "ci"), [((), False), (("-k", "test_a"), True), (("checks/test_x.py",), True)])
def test_a_partial_run_or_one_by_hand_requires_nothing(tmp_path: Path, arguments: tuple[str, ...], ci: bool) -> None:
    done = run(tmp_path, NONE_MARKED, *arguments, ci=ci)

    assert done.returncode == 0, done.stdout
