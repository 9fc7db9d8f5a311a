"""More tasks for the fault tests of load and data: `-A tests.faults.load_app:jm`."""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from pathlib import Path
from typing import Any

from tests.faults.workload_app import jm, note, work, work_async

__all__ = ["blob", "deaf", "echo", "gated", "jm", "work", "work_async"]


@jm.task
async def gated(gate: str) -> None:
    """Runs until somebody makes the file."""
    note("start")
    while not Path(gate).exists():  # noqa: ASYNC240 - a file of another process, on a local disk
        await asyncio.sleep(0.02)
    note("end")


@jm.task
async def echo(value: Any) -> Any:
    note("start")
    note("end")
    return value


@jm.task(max_retries=0)
def blob(size: int) -> str:
    note("start")
    note("end")
    return "x" * size


@jm.task
def deaf(gate: str) -> None:
    """Runs in its thread until somebody makes the file, whatever is raised in it."""
    note("start")
    while not Path(gate).exists():
        with contextlib.suppress(BaseException):
            time.sleep(0.01)
    note("end")


if os.environ.get("FAULTS_LATER"):  # the next version of the program

    @jm.task(name="later")
    async def later() -> None:
        note("start")
        note("end")
