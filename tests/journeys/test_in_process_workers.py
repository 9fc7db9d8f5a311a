"""Workers in the process of an app: when they do not start, what they are told, and what they survive."""

from __future__ import annotations

import asyncio
import shutil
import threading
import time
from pathlib import Path

import pytest

from jobmaster import ConfigurationError, JobCancelled, JobMaster, NotRegistered, TimeLimitExceeded

pytestmark = pytest.mark.backend("sqlite")


def test_workers_answer_and_obey(jm: JobMaster) -> None:
    @jm.task
    def hello() -> str:
        return "hi"

    with jm:
        (worker,) = jm.workers.list()
        (reply,) = jm.workers.ping(worker.name)
        assert reply.ok
        assert jm.workers.set_concurrency(3)[0].reply["slots"] == 3
        assert jm.workers.set_concurrency(0)[0].ok is False
        jm.workers.pause()
        result = hello.delay()
        time.sleep(0.3)
        assert not result.ready()
        jm.workers.resume()
        assert result.get(timeout=30) == "hi"
        with pytest.raises(NotRegistered, match="No living worker is called 'nobody'"):
            jm.workers.ping("nobody")


def test_a_worker_is_told_to_revoke_what_it_runs_and_what_waits_there(jm: JobMaster) -> None:
    running = threading.Event()

    @jm.task
    async def long() -> None:
        running.set()
        await asyncio.sleep(60)

    with jm:
        jm.workers.set_concurrency(1)
        first = long.delay()
        assert running.wait(30)
        second = long.options(job_id="chosen").delay()
        assert jm.workers.revoke([])[0].ok is False
        revoked: set[str] = set()
        deadline = time.monotonic() + 30
        while len(revoked) < 2 and time.monotonic() < deadline:
            revoked |= set(jm.workers.revoke([first.id, second.id, "unknown"])[0].reply["revoked"])
        assert revoked == {first.id, "chosen"}
        for result in (first, second):
            with pytest.raises(JobCancelled):
                result.get(timeout=30)


def test_an_app_without_tasks_cannot_start(jm: JobMaster) -> None:
    with pytest.raises(ConfigurationError, match="has no task"):
        jm.start()


def test_starting_twice_is_refused(jm: JobMaster) -> None:
    @jm.task
    def hello() -> None: ...

    with jm, pytest.raises(ConfigurationError, match="run already"):
        jm.start()
    jm.stop()


def test_a_thread_that_cannot_be_ended_does_not_take_the_worker_along(jm: JobMaster) -> None:
    entered = threading.Event()
    leave = threading.Event()

    @jm.task(timeout=0.2, max_retries=0)
    def stuck() -> None:
        entered.set()
        while not leave.is_set():
            try:
                leave.wait(0.05)
            except BaseException:  # noqa: BLE001, S112 - a task that swallows everything that is meant to end it
                continue

    @jm.task
    def hello() -> str:
        return "hi"

    with jm:
        result = stuck.delay()
        assert entered.wait(30)
        with pytest.raises(TimeLimitExceeded):
            result.get(timeout=30)
        assert hello.delay().get(timeout=30) == "hi"
        leave.set()


def test_workers_go_on_with_the_file_that_replaced_their_database(tmp_path: Path) -> None:
    master = f"sqlite:///{tmp_path}/journey.db"
    jm, producer = (JobMaster("journey", master=master, lease=2, renew_every=0.5) for _ in range(2))

    def greet(name: str) -> str:
        return f"Hello {name}"

    old, new = (app.task(greet, name="greet") for app in (jm, producer))
    with jm:
        assert old.delay(name="old").get(timeout=30) == "Hello old"
        for file in tmp_path.glob("journey.db*"):
            shutil.rmtree(file) if file.is_dir() else file.unlink()
        assert new.delay(name="new").get(timeout=30) == "Hello new"
    producer.close()
