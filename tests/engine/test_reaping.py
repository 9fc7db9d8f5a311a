"""Orphans that become children of a supervisor are reaped, and the ends of its own children are not stolen."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from jobmaster.engine.links.reaping import gets_orphans

ROOT = Path(__file__).parents[2]

PROGRAM = """
import asyncio, ctypes, json, os, signal, subprocess, sys, psutil
from jobmaster.engine.links.processes import ProcessSpawner
from jobmaster.engine.links.reaping import OrphanReaper, gets_orphans
from tests.engine.one_child import launch

LEAVE = "import subprocess, sys; subprocess.Popen([sys.executable, '-c', 'pass'])"

def zombies():
    children = psutil.Process().children()
    return [child.pid for child in children if child.status() == psutil.STATUS_ZOMBIE]

async def until(condition):
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.005)

async def leave_orphans(count):
    strangers = [subprocess.Popen([sys.executable, "-c", LEAVE], start_new_session=True) for _ in range(count)]
    # Strangers in the reaper's eyes, too: nobody told it of them.
    await until(lambda: not any(psutil.pid_exists(one.pid) for one in strangers))

async def main():
    ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)  # PR_SET_CHILD_SUBREAPER
    told = {"gets_orphans": gets_orphans()}
    before = OrphanReaper() if sys.argv[1] == "reaping" else None
    child = await ProcessSpawner(lambda engine: launch()).spawn(0)
    await until(child.reports)
    if before:
        await leave_orphans(5)
        await until(lambda: {c.pid for c in psutil.Process().children()} <= {child.pid})
        told["living"] = child.exit_reason()
        orphans = asyncio.create_task(leave_orphans(3))
        os.kill(child.pid, signal.SIGUSR2)
        await until(child.exit_reason)
        await orphans
        told["word"] = child.exit_reason()
        await until(lambda: not psutil.Process().children())
        before.close()
        handler = signal.getsignal(signal.SIGCHLD)
        told["handler"] = handler in (signal.SIG_DFL, signal.SIG_IGN)
    else:
        orphan = subprocess.Popen([sys.executable, "-c", LEAVE])
        orphan.wait()
        await until(zombies)
        told["zombies"] = len(zombies())
        child.kill()
    print(json.dumps(told))

asyncio.run(main())
"""

linux = pytest.mark.skipif(sys.platform != "linux", reason="only Linux has child subreapers")


def told_by(mode: str) -> dict[str, object]:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, mode], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    answer: dict[str, object] = json.loads(done.stdout)
    return answer


@linux
def test_orphans_are_reaped_and_the_end_of_an_own_child_is_not_stolen() -> None:
    assert told_by("reaping") == {"gets_orphans": True, "living": None, "word": "SIGUSR2", "handler": True}


@linux
def test_without_a_reaper_they_would_stay() -> None:
    assert told_by("not")["zombies"] == 1


def test_an_ordinary_process_gets_no_orphans() -> None:
    assert not gets_orphans()
