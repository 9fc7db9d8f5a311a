"""The event loop that all jobs of a process share: no job's code ends it, or takes the outcome of another one."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from jobmaster.engine.pools.processes import ProcessPool
from jobmaster.engine.pools.sent import PoolLaunch
from jobmaster.event_loop import VARIABLE, new_event_loop, run_to_the_end
from jobmaster.model.run import End
from tests.engine.pool_workload import FunctionWorkload, Runs, value


async def _raise(error: BaseException) -> None:
    raise error


def _exit_in_a_task() -> None:
    asyncio.get_running_loop().create_task(_raise(SystemExit(5)))


def _press_control_c() -> None:
    asyncio.get_running_loop().create_task(_raise(KeyboardInterrupt()))


def _stop_the_loop() -> None:
    asyncio.get_running_loop().stop()


def _cancel_all() -> None:
    for task in asyncio.all_tasks():
        if task is not asyncio.current_task():
            task.cancel()


@pytest.mark.parametrize("loop_name", ["uvloop", "asyncio"])
@pytest.mark.parametrize("interrupt", [_exit_in_a_task, _press_control_c, _stop_the_loop])
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_loop_goes_on_until_its_own_task_has_ended(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, loop_name: str, interrupt: Callable[[], None]
) -> None:
    monkeypatch.setenv(VARIABLE, loop_name)
    loop = new_event_loop()

    async def goes_on() -> str:
        others = [asyncio.create_task(asyncio.sleep(0.01, result=number)) for number in range(3)]
        interrupt()
        await asyncio.sleep(0.02)
        return f"done {await asyncio.gather(*others)}"

    try:
        assert run_to_the_end(loop, loop.create_task(goes_on())) == "done [0, 1, 2]"
        with pytest.raises(ZeroDivisionError):
            run_to_the_end(loop, loop.create_task(_raise(ZeroDivisionError())))
    finally:
        loop.close()
    assert caplog.text.count("loop_interrupted") == 1


async def exits_in_a_task(_argument: object) -> str:
    _exit_in_a_task()
    await asyncio.sleep(0.05)
    return f"exits {os.getpid()}"


async def cancels_all(_argument: object) -> str:
    _cancel_all()
    await asyncio.sleep(0.05)
    return f"cancels {os.getpid()}"


async def other(_argument: object) -> str:
    await asyncio.sleep(0.1)
    return f"other {os.getpid()}"


def workload(_arguments: bytes) -> FunctionWorkload:
    """What the processes of the pool run."""
    return FunctionWorkload(exits_in_a_task, cancels_all, other)


async def test_in_a_process_of_a_pool_each_job_has_its_own_outcome() -> None:
    pool = ProcessPool(PoolLaunch(f"{__name__}:workload", b""), size=1, max_tasks_per_child=None, random=lambda: 0.5)
    runs = Runs(pool)
    try:
        ended = [await runs.run(task) for task in ("exits_in_a_task", "other", "cancels_all", "other")]
    finally:
        await pool.close()
    exits, after, cancels, last = ended
    assert str(value(exits)).startswith("exits "), "its task has ended, and nothing else"
    assert str(value(after)).startswith("other ")
    assert cancels.end is End.RAISED
    assert cancels.error is not None
    assert "CancelledError" in cancels.error.type
    assert str(value(last)).startswith("other ")
    assert value(last) != value(after), "what is left on the loop of the old process must not meet another job"


PROGRAM = """
import asyncio, sys
from jobmaster import JobMaster

jm = JobMaster("shop", master=f"sqlite:///{sys.argv[2]}/shop.db", lease=1, renew_every=0.3, default_max_retries=0)

@jm.task(name="hurt")
async def hurt():
    async def inner():
        sys.exit(5)
    if sys.argv[1] == "exit":
        asyncio.create_task(inner())
    elif sys.argv[1] == "stop":
        asyncio.get_running_loop().stop()
    else:
        for task in asyncio.all_tasks():
            if task is not asyncio.current_task():
                task.cancel()
    await asyncio.sleep(0.05)
    return "hurt has ended"

@jm.task(name="hello")
async def hello():
    return "hello"

with jm:
    result = hurt.delay()
    try:
        print(result.get(timeout=25))
    except Exception as error:
        print(error)
    print(hello.delay().get(timeout=25))
"""


@pytest.mark.parametrize(
    ("what", "told"), [("exit", "hurt has ended"), ("stop", "hurt has ended"), ("cancel", "its process died 9 times")]
)
def test_workers_inside_a_program_work_on(tmp_path: Path, what: str, told: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, what, str(tmp_path)], capture_output=True, text=True, timeout=60, check=True
    )
    first, second = done.stdout.splitlines()
    assert told in first
    assert second == "hello"
