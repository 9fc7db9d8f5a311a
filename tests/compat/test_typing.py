"""What type checkers know of a compat task: the arguments of `delay`, and the result of `get`."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

PROGRAM = """
from typing import Any
from jobmaster.compat import Celery, Task

app = Celery("proj")

@app.task
def bare(x: int, y: str = "") -> float: return 0.0

@app.task(max_retries=5)
def with_options(x: int) -> float: return 0.0

@app.task(bind=True, max_retries=5)
def bound(self: Task[..., Any], x: int) -> float:
    if self.request.retries: raise self.retry(countdown=1)
    return 0.0

reveal_type(bare.delay(1, y="a").get())
reveal_type(with_options.delay(1).get(timeout=5))
reveal_type(bound.delay(x=1).get())
reveal_type(bound(1))
bare.delay("no")
with_options.delay()
bound.delay(1, 2)
"""


def test_mypy_infers_arguments_and_results(tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text(PROGRAM, encoding="utf-8")
    root = Path(__file__).parents[2]

    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "mypy",
            "--strict",
            "--cache-dir",
            str(root / ".mypy_cache"),
            str(tmp_path / "program.py"),
        ],
        cwd=root,
        capture_output=True,
        text=True,
        check=False,
        timeout=110,
    )

    told = [line.split(":", 2)[1:] for line in done.stdout.splitlines() if "program.py:" in line]
    revealed = [text for _, text in told if "Revealed type" in text]
    errors = {int(line) for line, text in told if " error:" in text}
    last = len(PROGRAM.splitlines())
    assert len(revealed) == 4, done.stdout
    assert all("float" in text for text in revealed), revealed
    assert errors == {last - 2, last - 1, last}, done.stdout
