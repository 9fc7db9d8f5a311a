"""The demo's app, as a user writes one: `jobmaster worker -A jobmaster.demo.app`.

JOBMASTER_MASTER names its database; without it, that is the file jobmaster-demo.db of the current folder.
"""

# ruff: noqa: PTH123 - the traceback that the demo shows has no frames of pathlib
from __future__ import annotations

import asyncio
import os
import re
import time
from collections import Counter
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from jobmaster import Backoff, JobContext, JobMaster, Priority, current_job

# Schedules are planned 10 s ahead instead of 10 minutes, so that a list of jobs shows few of their runs to come.
jm = JobMaster("demo", master=f"sqlite:///{Path.cwd()}/jobmaster-demo.db", transient_threshold=10)

HEARTBEAT = "demo.heartbeat"
EVERY = timedelta(seconds=2)

WORD = re.compile(r"[^\W\d_]+")
"""A run of letters."""


@dataclass(frozen=True, slots=True)
class WordCount:
    """What a job found in one file, which file that was, and in which process (and child of which) it ran."""

    counts: dict[str, int]
    size: int
    changed_ns: int
    ran_in: int
    child_of: int


@jm.task(name="demo.count_words", lane="files", give_up_on=(FileNotFoundError,))
def count_words(path: str) -> WordCount:
    """Count the words of a text file. A file that is not there is no reason to try again."""
    counts: Counter[str] = Counter()
    with open(path, encoding="utf-8", errors="replace") as file:
        about = os.fstat(file.fileno())
        for line in file:
            counts.update(word.lower() for word in WORD.findall(line))
    return WordCount(dict(counts), about.st_size, about.st_mtime_ns, os.getpid(), os.getppid())


@jm.task(name="demo.unreliable", lane="errands", bind=True, retry=Backoff(base=0.5, factor=1, cap=0.5, jitter=False))
def unreliable(ctx: JobContext) -> str:
    """Fails at its first attempt, as networks do."""
    if ctx.attempt == 1:
        raise ConnectionError("the line broke (the demo broke it, to show a retry)")
    return f"done at attempt {ctx.attempt}"


@jm.task(name="demo.remind", lane="errands")
async def remind() -> float:
    """Tell when it started, by this machine's clock."""
    return time.time()


@jm.task(name="demo.wait", lane="errands")
async def wait(seconds: float) -> None:
    """Do nothing for a while; an `async def` task occupies no thread."""
    await asyncio.sleep(seconds)


@jm.every("every 2 seconds", name=HEARTBEAT)
@jm.task(name=HEARTBEAT, lane="errands", priority=Priority.CRITICAL)
async def heartbeat() -> str:
    """Tell for which moment it runs."""
    return f"{current_job().scheduled_at:%H:%M:%S}"
