"""Programs that are started without standard input, output or error, as some service managers do."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

APP = """
from pathlib import Path
from jobmaster import JobMaster

jm = JobMaster("shop", master="sqlite:///shop.db")

@jm.task
def hello():
    print("from the job")
    Path("hello").touch()
"""


@pytest.mark.parametrize("closed", [">&-", "2>&-", "<&-", ">&- 2>&-", "<&- >&- 2>&-"])
def test_a_worker_runs_jobs_without_them(tmp_path: Path, closed: str) -> None:
    (tmp_path / "app.py").write_text(APP)
    jobmaster = f"{sys.executable} -m jobmaster.cli"
    subprocess.run(f"{jobmaster} -A app run app.hello {closed}", shell=True, cwd=tmp_path, check=True, timeout=30)
    subprocess.run(f"{jobmaster} -A app worker --once {closed}", shell=True, cwd=tmp_path, check=True, timeout=30)
    assert (tmp_path / "hello").exists()
    assert (tmp_path / "shop.db").read_bytes().startswith(b"SQLite format 3")
