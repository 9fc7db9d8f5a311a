"""Whole programs: how they begin and end."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

pytestmark = pytest.mark.usefixtures("usual_master")

HEAD = """
    import sys, time
    from jobmaster import JobMaster
    jm = JobMaster("programs")

    @jm.task
    def hello(name: str) -> str:
        return name

    @jm.task
    def slow(seconds: float) -> str:
        time.sleep(seconds)
        return "done"
"""


def run(folder: Path, body: str) -> str:
    (folder / "program.py").write_text(textwrap.dedent(HEAD) + textwrap.dedent(body), encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-W", "error", "program.py"],
        cwd=folder, capture_output=True, text=True, check=False, timeout=100,
    )  # fmt: skip
    # The tests' own PostgreSQL promises little, and a worker says so.
    told = [line for line in done.stderr.splitlines() if not line.startswith("weak_durability ")]
    assert (done.returncode, told) == (0, []), done.stderr
    return done.stdout.strip()


def test_a_producer_that_forgets_to_close_ends_silently(tmp_path: Path) -> None:
    assert run(tmp_path, 'print(hello.delay("J").status)') == "SavePending"


def test_an_async_producer_that_forgets_to_close_ends_silently(tmp_path: Path) -> None:
    body = """
        import asyncio
        async def main():
            print((await hello.adelay("J")).id != "")
        asyncio.run(main())
    """
    assert run(tmp_path, body) == "True"


def test_workers_that_nobody_stops_end_gracefully_with_the_program(tmp_path: Path) -> None:
    body = """
        jm.start()
        print(hello.delay("J").get(timeout=30))
        started = slow.delay(0.5)
        while not started.ready() and jm.workers.ping(timeout=30)[0].reply["running"] == 0:
            time.sleep(0.01)
        print(started.id)
    """
    told, job_id = run(tmp_path, body).splitlines()
    assert told == "J"

    body = f"""
        print(jm.result({job_id!r}).status, jm.workers.list()[0].status.name)
        jm.close()
    """
    assert run(tmp_path, body) == "Succeeded DEAD"


def test_a_program_may_do_everything_from_one_script(tmp_path: Path) -> None:
    body = """
        with jm:
            print([result.get(timeout=30) for result in jm.enqueue_many([hello.job(n) for n in "abc"])])
    """
    assert run(tmp_path, body) == "['a', 'b', 'c']"
