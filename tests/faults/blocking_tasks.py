"""Tasks with bad manners towards the process that they run in, beside those of `workload_app`."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
import time
from pathlib import Path

from tests.faults.workload_app import jm, note

_kept: list[bytes] = []


@jm.task
async def block_the_loop(seconds: float) -> int:
    note("start")
    time.sleep(seconds)  # noqa: ASYNC251 - the bad manners are the point
    note("end")
    return os.getpid()


@jm.task
def hold_the_interpreter(seconds: float) -> None:
    """As C code does that forgets to let others run."""
    note("start")
    ctypes.PyDLL(None).usleep(int(seconds * 1_000_000))
    note("end")


@jm.task(max_retries=0)
async def spin_on_the_loop() -> None:
    note("start")
    while True:
        pass


@jm.task
def wait_for_release() -> None:
    """Until somebody makes a file `release` in the worker's folder."""
    note("start")
    while not Path("release").exists():
        time.sleep(0.01)
    note("end")


@jm.task
def keep_memory(mib: int, seconds: float = 0.0) -> int:
    note("start")
    _kept.append(b"x" * (mib * 1024 * 1024))
    time.sleep(seconds)
    note("end")
    return os.getpid()


@jm.task
def leave_a_program_behind() -> None:
    """Its parent ends at once: the program, and what it leaves as a zombie, belong to whoever reaps orphans."""
    note("start")
    code = "import os, subprocess, sys; subprocess.Popen([sys.executable, '-c', 'pass'])"
    subprocess.run([sys.executable, "-c", code], check=True)
    note("end")
