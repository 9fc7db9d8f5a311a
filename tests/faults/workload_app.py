"""The app that the fault tests run for real. Every run leaves lines in a side log, written before and after it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import signal
import time
from pathlib import Path

from jobmaster import Backoff, JobMaster, Priority, Retry, current_job

jm = JobMaster(
    "faults", master=os.environ.get("FAULTS_MASTER", "sqlite:///faults.db"), default_timeout=60, testing=True
)


def note(event: str) -> None:
    """One line of the side log: event, job, attempt, process, time. A single write, so lines never mix."""
    job = current_job()
    line = f"{event} {job.id} {job.attempt} {os.getpid()} {time.time():.6f}\n"
    log = os.open(os.environ["FAULTS_LOG"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(log, line.encode())
    finally:
        os.close(log)


@jm.task
def work(seconds: float = 0.0) -> int:
    note("start")
    time.sleep(seconds)
    note("end")
    return os.getpid()


@jm.task
async def work_async(seconds: float = 0.0) -> int:
    note("start")
    if seconds:
        await asyncio.sleep(seconds)
    note("end")
    return os.getpid()


@jm.task(acks_late=False)
def once(seconds: float = 0.0) -> None:
    note("start")
    time.sleep(seconds)
    note("end")


@jm.task(max_retries=0, timeout=1.0)
def spin() -> None:
    note("start")
    while True:
        pass


@jm.task(max_retries=0, timeout=1.0)
def stubborn() -> None:
    note("start")
    while True:
        try:
            while True:
                time.sleep(0.01)
        except BaseException:  # noqa: BLE001 - the bad manners are the point
            note("swallowed")


@jm.task(max_retries=0, timeout=1.0)
def blocked_read() -> None:
    note("start")
    reader, _writer = os.pipe()
    os.read(reader, 1)


@jm.task(max_retries=0, timeout=1.0)
async def stubborn_async() -> None:
    note("start")
    while True:
        with contextlib.suppress(BaseException):
            await asyncio.sleep(3600)


@jm.task
def crash() -> None:
    note("start")
    os.kill(os.getpid(), 11)


@jm.task(priority=Priority.VERY_LOW)
def lowest() -> None:
    note("start")
    note("end")


@jm.task(max_retries=5)
def held() -> None:
    """Fails at first, waits on the master, and is claimed from there."""
    if current_job().attempt == 1:
        raise Retry(countdown=0)
    note("start")
    note("end")


@jm.task(acks_late=False, max_retries=0)
def only_once() -> None:
    note("once")
    note("end")


@jm.task
async def quiet() -> None:
    """One of a million."""


@jm.task
async def slow() -> None:
    """Takes as long as its process was told."""
    note("start")
    await asyncio.sleep(float(os.environ["FAULTS_SLOW"]))
    note("end")


@jm.task
def gated(gate: str) -> int:
    """Runs until a file of this name is there, in the folder where workers run; what stops it may come anywhere."""
    try:
        note("start")
        while not Path(gate).exists():
            time.sleep(0.01)
        note("end")
    except BaseException:
        note("stopped")
        raise
    return os.getpid()


@jm.task(max_retries=3, retry=Backoff(base=0.02, jitter=False))
def fails_once() -> int:
    """Its first failure is its only one, however often it is started."""
    note("start")
    if current_job().failures == 0:
        note("fail")
        raise ValueError("the first time")
    note("end")
    return os.getpid()


@jm.task(acks_late=False)
def ends_its_process(how: str) -> None:
    """Takes the process down: a signal's name, or a number to exit with."""
    note("start")
    if how.startswith("SIG"):
        os.kill(os.getpid(), getattr(signal, how))
    os._exit(int(how))


@jm.task(max_retries=0)
def wants_too_much(megabytes: int) -> None:
    """More memory than its process may have."""
    note("start")
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + (megabytes << 20), hard))
    try:
        bytearray(2 * megabytes << 20)
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


@jm.task
async def crash_async() -> None:
    note("start")
    await asyncio.sleep(0)
    os.kill(os.getpid(), 11)


@jm.task(max_retries=0)
async def cancel_everything() -> None:
    """What a clumsy clean-up does: the engine's own tasks are among them."""
    note("start")
    for task in asyncio.all_tasks():
        if task is not asyncio.current_task():
            task.cancel()
    await asyncio.sleep(0.05)


@jm.task
async def quiet_until(gate: str) -> None:
    note("start")
    while not os.path.exists(gate):  # noqa: ASYNC240, PTH110 - one look at a local folder
        await asyncio.sleep(0.01)
    note("end")
