"""A run that forks and goes on in the copy: the copy ends, and takes nothing that is its parent's."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from jobmaster.engine.pools.loop import LoopPool
from jobmaster.engine.pools.processes import ProcessPool
from jobmaster.engine.pools.sent import PoolLaunch
from jobmaster.engine.pools.threads import ThreadPool
from jobmaster.event_loop import new_event_loop, run_to_the_end
from tests.engine.pool_workload import FunctionWorkload, Runs, value

ROOT = Path(__file__).parents[2]
OTHERS = 20


def note(file: str, line: str) -> None:
    """One line, whole, from any process."""
    descriptor = os.open(file, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.write(descriptor, f"{line}\n".encode())
    os.close(descriptor)


def fork(file: str) -> int:
    time.sleep(0.2)  # until the others wait behind it
    pid = os.fork()
    note(file, f"forked {pid > 0}")
    return pid


def other(file: str) -> str:
    note(file, "other")
    return "other"


async def fork_async(file: str) -> int:
    pid = fork(file)
    await asyncio.sleep(0.01)
    note(file, f"awaited {pid > 0}")
    return pid


async def other_async(file: str) -> str:
    await asyncio.sleep(0)
    return other(file)


def workload(_arguments: bytes) -> FunctionWorkload:
    """For the processes of a pool."""
    return FunctionWorkload(fork, other, fork_async, other_async)


def _pool(kind: str) -> ThreadPool | LoopPool | ProcessPool:
    if kind == "threads":
        return ThreadPool(workload(b""), size=1)
    if kind == "loop":
        return LoopPool(workload(b""))
    return ProcessPool(
        PoolLaunch("tests.engine.test_forked_runs:workload", b""), size=1, max_tasks_per_child=None, random=lambda: 0.5
    )


async def run_all(kind: str, file: str) -> None:
    """Run the one that forks, and others that wait behind it."""
    pool = _pool(kind)
    runs = Runs(pool)
    suffix = "_async" if kind == "loop" else ""
    first = runs.submit(f"fork{suffix}", file)
    others = [runs.submit(f"other{suffix}", file) for _ in range(OTHERS)]
    copy = value(await runs.end(first))
    assert isinstance(copy, int)
    assert copy > 0
    assert [value(await runs.end(key)) for key in others] == ["other"] * OTHERS
    if kind != "processes":  # there it is a child of the process of the pool
        _, status = await asyncio.to_thread(os.waitpid, copy, 0)
        assert status == 0
    await pool.close()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
@pytest.mark.parametrize("loop_name", ["uvloop", "asyncio"])
@pytest.mark.parametrize("kind", ["threads", "loop", "processes"])
def test_the_copy_ends_and_what_waits_runs_once(tmp_path: Path, kind: str, loop_name: str) -> None:
    file = tmp_path / "noted"
    done = subprocess.run(
        [sys.executable, "-m", "tests.engine.test_forked_runs", kind, str(file)],
        cwd=ROOT, env=os.environ | {"JOBMASTER_EVENT_LOOP": loop_name}, capture_output=True, text=True,
        timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    lines = file.read_text().splitlines()
    assert lines.count("other") == OTHERS
    assert sorted(line for line in lines if line.startswith("forked")) == ["forked False", "forked True"]
    assert lines.count("awaited False") == 0, "the copy ends where it would wait on its parent's loop"


if __name__ == "__main__":
    loop = new_event_loop()
    run_to_the_end(loop, loop.create_task(run_all(sys.argv[1], sys.argv[2])))
