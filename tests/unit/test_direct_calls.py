"""Calls of an app that hand their messages straight to the SQLite writer, when something goes wrong there."""

from __future__ import annotations

import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from jobmaster import JobMaster, JobStatus, OutcomeUnknown, StoreUnavailable
from jobmaster.stores.sql.sqlite import writer
from tests.unit.test_sqlite_writer import Failing

pytestmark = pytest.mark.backend("sqlite")


# -- through the public API


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[tuple[JobMaster, Any]]:
    app = JobMaster("direct", master=f"sqlite:///{tmp_path}/x.db", accept_timeout=2)

    @app.task
    def hello(name: str = "J") -> str:
        return name

    hello.delay("opens")
    yield app, hello
    app.close()


def store_of(app: JobMaster) -> Any:
    background = app.client._background
    assert background is not None
    return background.gateway.store


def break_commit(monkeypatch: pytest.MonkeyPatch, code: int, *, applied: bool) -> None:
    """The next commit fails."""
    run = writer.Writer._run_on
    wrapped: list[Failing] = []

    def failing(self: Any, connection: sqlite3.Connection) -> None:
        if not wrapped:
            wrapped.append(Failing(connection, code, applied=applied))
        run(self, wrapped[0])

    monkeypatch.setattr(writer.Writer, "_run_on", failing)


@pytest.mark.parametrize("applied", [True, False], ids=["it was stored", "it was not"])
def test_after_an_unknown_outcome_the_same_message_is_repeated_to_the_same_bucket_and_marked(
    shop: tuple[JobMaster, Any], monkeypatch: pytest.MonkeyPatch, applied: bool
) -> None:
    app, hello = shop
    break_commit(monkeypatch, sqlite3.SQLITE_IOERR, applied=applied)
    result = hello.delay("doubtful")

    assert app.jobs.count() == {JobStatus.SAVE_PENDING: 2}
    assert result.status is JobStatus.SAVE_PENDING


def test_the_copy_of_a_doubtful_job_is_marked(shop: tuple[JobMaster, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    app, hello = shop
    break_commit(monkeypatch, sqlite3.SQLITE_IOERR, applied=False)
    result = hello.delay("doubtful")

    async def marks() -> list[tuple[bytes, int]]:
        store = store_of(app)
        return await store._read(lambda tx: tx.rows("SELECT job_id, verify FROM jm_message ORDER BY seq"))

    found = app.client.ask(lambda _: marks())
    assert [verify for _, verify in found] == [0, 1]
    assert found[1][0] == result._key


def test_a_store_that_is_locked_for_long_is_told_as_such_within_the_time(
    shop: tuple[JobMaster, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    # Who has that much time left when the first one is told asks once more, and may not hear an answer in time.
    monkeypatch.setattr("jobmaster.gateway.WORTH_A_TRY", 1.9)
    app, hello = shop
    other = sqlite3.connect(store_of(app)._path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    errors: list[BaseException] = []

    def call() -> None:
        try:
            hello.delay("never")
        except StoreUnavailable as error:
            errors.append(error)

    begun = time.monotonic()
    threads = [threading.Thread(target=call) for _ in range(6)]
    for thread in threads:
        thread.start()
        time.sleep(0.02)  # so that some are begun and some still wait
    for thread in threads:
        thread.join(10)
    assert time.monotonic() - begun < 9
    other.execute("ROLLBACK")
    other.close()

    assert len(errors) == 6
    assert not [error for error in errors if isinstance(error, OutcomeUnknown)]
    assert app.jobs.count() == {JobStatus.SAVE_PENDING: 1}
    hello.delay("later")
    assert app.jobs.count() == {JobStatus.SAVE_PENDING: 2}


def test_a_bucket_that_was_closed_meanwhile_costs_nobody_a_job(shop: tuple[JobMaster, Any]) -> None:
    app, hello = shop

    async def close_buckets() -> None:
        await store_of(app)._write(
            lambda tx: tx.execute("UPDATE jm_bucket SET status = 6, token = token || '-closed'") and None
        )

    app.client.ask(lambda _: close_buckets())
    hello.delay("elsewhere")
    assert sum(app.jobs.count().values()) == 2


INTERRUPTED = """
import signal, sys, threading, time
from jobmaster import JobMaster

jm = JobMaster("interrupted", master=sys.argv[1], accept_timeout=30)

@jm.task
def hello(name: str) -> str: return name

class Alarm(BaseException): pass

def alarm(*_):
    global armed
    if armed:
        armed = False
        raise Alarm

armed, over, begun = False, threading.Event(), time.monotonic()
signal.signal(signal.SIGALRM, alarm)
hello.delay("opens")
counts, errors = [0, 0], []

def produce(number):
    try:
        while not over.is_set():
            hello.delay("thread")
            counts[number] += 1
    except Exception as error:
        errors.append(error)

threads = [threading.Thread(target=produce, args=(number,)) for number in range(2)]
for thread in threads: thread.start()
signal.setitimer(signal.ITIMER_REAL, 0.005, 0.0041)
returned = interrupted = 0
while time.monotonic() < begun + 1.5 or (interrupted <= 5 and time.monotonic() < begun + 30):
    try:
        armed = True
        hello.delay("main")
        returned += 1
        armed = False
    except Alarm:
        interrupted += 1
    finally:
        armed = False
signal.setitimer(signal.ITIMER_REAL, 0)
over.set()
for thread in threads: thread.join()
stored, certain = sum(jm.jobs.count().values()) - 1, returned + sum(counts)
print(errors, certain <= stored <= certain + interrupted, interrupted > 5)
jm.close()
"""


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="no interval timers here")
def test_calls_that_are_interrupted_all_the_time_lose_nothing_and_hold_up_nobody(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", INTERRUPTED, f"sqlite:///{tmp_path}/x.db"],
        capture_output=True, text=True, check=False, timeout=60, cwd=tmp_path,
    )  # fmt: skip
    assert done.stderr == ""
    assert done.stdout.strip() == "[] True True"
