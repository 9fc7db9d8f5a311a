"""The app that is measured: JobMaster with its default settings. BENCH_MASTER is the master's address."""

from __future__ import annotations

import asyncio
import os

from slots import ran

from jobmaster import JobMaster

jm = JobMaster("bench", master=os.environ["BENCH_MASTER"])


@jm.task(name="nothing")
async def nothing(number: int, who: str, due: float) -> None:
    ran(due)


@jm.task(name="nothing_sync")
def nothing_sync(number: int, who: str, due: float) -> None:
    ran(due)


@jm.task(name="five_ms")
async def five_ms(number: int) -> None:
    ran()
    await asyncio.sleep(0.005)


@jm.task(name="other_lane", lane="other")
async def other_lane(number: int, who: str, due: float) -> None:
    ran(due)


@jm.task(name="suspending")
async def suspending(number: int, who: str, due: float) -> None:
    ran(due)
    await asyncio.sleep(0)


@jm.task(name="at_most_once", acks_late=False)
async def at_most_once(number: int, who: str, due: float) -> None:
    ran(due)


KINDS = {"async": nothing, "sync": nothing_sync, "suspending": suspending, "at_most_once": at_most_once}
TASK = KINDS[os.environ.get("BENCH_TASK", "async")]
