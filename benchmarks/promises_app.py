"""The app that `promises.py` measures."""

from __future__ import annotations

import os
import time

from jobmaster import JobMaster

jm = JobMaster("promises", master=os.environ["PROMISES_MASTER"])
LOG = os.environ["PROMISES_LOG"]


def note(*words: object) -> None:
    """Append one line in one write."""
    log = os.open(LOG, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(log, (" ".join(map(str, words)) + "\n").encode())
    finally:
        os.close(log)


@jm.task
async def started(sent: float) -> None:
    note("started", time.time() - sent)


@jm.task
async def due(moment: float) -> None:
    note("late", time.time() - moment)


@jm.task
async def share(level: int) -> None:
    import asyncio

    note("share", level, time.time())
    await asyncio.sleep(0.005)


@jm.task
async def nothing() -> None:
    return None
