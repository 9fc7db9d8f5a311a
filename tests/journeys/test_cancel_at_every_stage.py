"""Cancel and reschedule a job wherever it is: held, waiting in a bucket, waiting in a worker, running in each pool."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from importlib import util
from pathlib import Path

import pytest

from jobmaster import CancelOutcome, JobCancelled, JobMaster, JobStatus, Result
from tests.cli.terminal import Terminal, WorkerProcess

APP = """
import asyncio, os, time
from jobmaster import JobMaster

jm = JobMaster("stages")
HERE = os.path.dirname(__file__)

def note(text):
    with open(os.path.join(HERE, "ran.txt"), "a") as file:
        file.write(text + "\\n")

@jm.task(max_retries=3, timeout=None)
async def sleeps(name: str) -> None:
    note(name)
    await asyncio.sleep(600)

@jm.task(max_retries=3, timeout=None)
def spins(name: str) -> None:
    note(name)
    while True: pass

@jm.task(max_retries=3, timeout=None)
def blocks(name: str) -> None:
    note(name)
    reader, _ = os.pipe()
    os.read(reader, 1)

@jm.task
def says(name: str) -> str:
    note(name)
    return name
"""


@pytest.fixture
def terminal(tmp_path: Path, usual_master: str | None) -> Terminal:
    made = Terminal(tmp_path)
    # Said in the app: of several apps in one process, the environment speaks to the first one only.
    master = f'"stages", master={usual_master!r}' if usual_master else '"stages"'
    made.write("stages.py", APP.replace('"stages"', master))
    return made


@pytest.fixture
def app(terminal: Terminal) -> Iterator[JobMaster]:
    spec = util.spec_from_file_location("stages", terminal.folder / "stages.py")
    assert spec is not None
    assert spec.loader is not None
    module = util.module_from_spec(spec)
    sys.modules["stages"] = module
    spec.loader.exec_module(module)
    yield module.jm
    module.jm.close()
    del sys.modules["stages"]


def soon() -> datetime:
    return datetime.now(UTC) + timedelta(hours=1)


def running(terminal: Terminal, result: Result[object], name: str) -> None:
    terminal.until(lambda: name in terminal.ran(), f"{name} runs")
    terminal.until(lambda: result.status is JobStatus.PROCESSING, "its row says so")


def cancelled(terminal: Terminal, result: Result[object], worker: WorkerProcess) -> None:
    with pytest.raises(JobCancelled):
        result.get(timeout=30)
    assert result.status is JobStatus.CANCELLED, worker.output
    assert result.cancel() is not CancelOutcome.TOO_LATE, "asked again, the answer is the same"


def test_before_any_worker_a_cancel_is_certain_and_a_moment_can_be_changed(terminal: Terminal, app: JobMaster) -> None:
    held, waiting = (app.scheduler.once_after("stages.says", wait, {"name": "never"}) for wait in (7200, 0))
    moved = app.scheduler.once_after("stages.says", 7200, {"name": "moved"})
    away = app.scheduler.once_now("stages.says", {"name": "away"})

    assert [held.cancel(), waiting.cancel()] == [CancelOutcome.CANCELLED] * 2
    assert app.jobs.reschedule(moved.id, datetime.now(UTC)) is True
    assert app.jobs.reschedule(away.id, soon()) is True
    assert app.jobs.reschedule(held.id, soon()) is False
    assert terminal.run("-A", "stages", "worker", "--once").returncode == 0

    assert terminal.ran() == ["moved"]
    assert [result.status for result in (held, waiting, moved)] == [
        JobStatus.CANCELLED, JobStatus.CANCELLED, JobStatus.SUCCEEDED,
    ]  # fmt: skip
    assert not away.ready()


@pytest.mark.parametrize(
    ("pool", "task"),
    [("threads", "sleeps"), ("threads", "spins"), ("processes", "spins"), ("processes", "blocks")],
)
def test_a_running_job_is_stopped_and_not_repeated_and_one_behind_it_never_starts(
    terminal: Terminal, app: JobMaster, pool: str, task: str
) -> None:
    with terminal.worker("-A", "stages", "-P", pool, "-c", "1") as worker:
        worker.ready()
        first = app.send(f"stages.{task}", name="first")
        running(terminal, first, "first")
        second = app.send("stages.says", name="second")
        assert app.jobs.reschedule(first.id, soon()) is False
        assert second.cancel() is not CancelOutcome.TOO_LATE
        assert first.cancel() is CancelOutcome.REQUESTED
        cancelled(terminal, first, worker)
        cancelled(terminal, second, worker)
        assert app.send("stages.says", name="third").get(timeout=30) == "third"
        worker.signal()
        assert worker.end() == 0
    assert terminal.ran() == ["first", "third"]


def test_a_thread_that_is_blocked_is_ended_with_its_process_and_its_job_is_cancelled(
    terminal: Terminal, app: JobMaster
) -> None:
    with terminal.worker("-A", "stages", "-c", "2") as worker:
        worker.ready()
        first = app.send("stages.blocks", name="first")
        running(terminal, first, "first")
        first.cancel()
        cancelled(terminal, first, worker)
        assert app.send("stages.says", name="second").get(timeout=30) == "second"
        worker.signal()
        assert worker.end() == 0
    assert terminal.ran() == ["first", "second"]
