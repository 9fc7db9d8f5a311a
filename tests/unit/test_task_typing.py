"""mypy and pyright infer what `delay` takes and returns, and refuse wrong calls."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SAMPLE = Path(__file__).parent / "typing_samples" / "calls.py"


def lines_marked_wrong() -> set[int]:
    text = SAMPLE.read_text(encoding="utf-8")
    return {number for number, line in enumerate(text.splitlines(), 1) if line.endswith("# wrong")}


def mypy_errors(folder: Path) -> dict[int, str]:
    command = [sys.executable, "-m", "mypy", "--strict", "--no-error-summary", "--show-column-numbers"]
    settings = ["--config-file", str(folder / "mypy.ini"), "--cache-dir", str(folder / "cache")]
    (folder / "mypy.ini").write_text("[mypy]\npython_version = 3.11\nfollow_imports = silent\n", encoding="utf-8")
    done = subprocess.run(
        [*command, *settings, str(SAMPLE)], cwd=ROOT, capture_output=True, text=True, check=False, timeout=110
    )
    found = re.findall(rf"{re.escape(SAMPLE.name)}:(\d+):\d+: error: (.*)", done.stdout)
    assert found, done.stdout + done.stderr
    return {int(line): message for line, message in found}


def pyright_errors(folder: Path) -> dict[int, str]:
    (folder / SAMPLE.name).write_text(SAMPLE.read_text(encoding="utf-8"), encoding="utf-8")
    settings = {"include": [SAMPLE.name], "pythonVersion": "3.11", "extraPaths": [str(ROOT)]}
    (folder / "pyrightconfig.json").write_text(json.dumps(settings), encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-m", "pyright", "--outputjson", "--pythonpath", sys.executable, "-p", str(folder)],
        cwd=folder, capture_output=True, text=True, check=False, timeout=110,
    )  # fmt: skip
    told = json.loads(done.stdout)
    assert told["summary"]["filesAnalyzed"] >= 1, done.stdout
    errors = [problem for problem in told["generalDiagnostics"] if problem["severity"] == "error"]
    return {problem["range"]["start"]["line"] + 1: problem["message"] for problem in errors}


@pytest.mark.parametrize("errors_of", [mypy_errors, pyright_errors], ids=["mypy", "pyright"])
def test_right_calls_are_inferred_and_each_wrong_call_is_an_error(errors_of, tmp_path: Path) -> None:
    errors = errors_of(tmp_path)
    wrong = lines_marked_wrong()

    unexpected = {line: message for line, message in errors.items() if line not in wrong}
    assert not unexpected, f"refused, or inferred as something else: {unexpected}"
    assert wrong - errors.keys() == set(), "accepted although it is wrong"
