"""Pushes that threads hand straight to the SQLite store's writer, and what the gateway does with what comes back."""

from __future__ import annotations

import asyncio
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
from jobmaster.engine.pools.injection import RunStopped
from jobmaster.errors import SerializationError, SoftTimeLimitExceeded
from jobmaster.model.job import NewJob
from jobmaster.ports.answers import Refused
from jobmaster.ports.direct import DirectAgent
from jobmaster.stores.memory.store import MemoryStore
from jobmaster.stores.sql.sqlite import writer
from jobmaster.stores.sql.sqlite.store import SqliteStore
from tests.unit.sqlite_place import ENVELOPE, in_loop, new_job, opened, owned_bucket
from tests.unit.test_sqlite_writer import Failing, count_commits

pytestmark = pytest.mark.backend("sqlite")


class Given:
    """Jobs that were handed over, and the answer."""

    def __init__(self, bucket: int, *jobs: NewJob) -> None:
        self.bucket = bucket
        self.jobs = jobs
        self.answers: list[Exception | None] = []
        self._answered = threading.Event()

    def answered(self, error: Exception | None) -> None:
        self.answers.append(error)
        self._answered.set()

    async def answer(self) -> Exception | None:
        await asyncio.to_thread(self._answered.wait, 10)
        (answer,) = self.answers
        return answer


def unstorable() -> NewJob:
    """A job that no database takes, and that is found only when it is written."""
    return NewJob(new_job().key, ENVELOPE, object())  # type: ignore[arg-type]


def test_the_store_says_that_it_offers_this_and_memory_that_it_does_not() -> None:
    assert issubclass(SqliteStore, DirectAgent)
    assert not issubclass(MemoryStore, DirectAgent)


@in_loop
async def test_pushes_from_threads_share_commits_with_each_other_and_with_verbs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with opened(tmp_path / "a.db") as store:
        bucket = await owned_bucket(store)
        sizes = count_commits(monkeypatch)
        given = [Given(bucket.id, new_job(), new_job()) for _ in range(100)]
        with store._writer.gate:
            verbs = [asyncio.ensure_future(store.push(bucket.id, [new_job()])) for _ in range(5)]
            await asyncio.sleep(0)
            threads = [threading.Thread(target=store.hand, args=(each,)) for each in given]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        assert [await each.answer() for each in given] == [None] * 100
        await asyncio.gather(*verbs)

        assert sum(sizes) == 105
        assert len(sizes) <= 3
        assert await store.depths([bucket.id]) == {bucket.id: 205}


@in_loop
async def test_a_push_whose_data_is_at_fault_fails_alone(tmp_path: Path) -> None:
    async with opened(tmp_path / "a.db") as store:
        bucket = await owned_bucket(store)
        good, bad, other = (
            Given(bucket.id, new_job()), Given(bucket.id, new_job(), unstorable()), Given(bucket.id, new_job())
        )  # fmt: skip
        with store._writer.gate:
            for each in (good, bad, other):
                store.hand(each)
        assert await good.answer() is None
        assert await bad.answer() is not None
        assert await other.answer() is None
        assert await store.depths([bucket.id]) == {bucket.id: 2}


@in_loop
async def test_a_push_into_a_closed_bucket_is_refused_and_the_others_are_not(tmp_path: Path) -> None:
    async with opened(tmp_path / "a.db") as store:
        bucket = await owned_bucket(store)
        given = [Given(bucket.id if number % 2 else 99, new_job()) for number in range(10)]
        with store._writer.gate:
            for each in given:
                store.hand(each)
        refused = [isinstance(await each.answer(), Refused) for each in given]
        assert refused == [number % 2 == 0 for number in range(10)]


@in_loop
async def test_what_cannot_be_stored_anywhere_is_said_at_once(tmp_path: Path) -> None:
    async with opened(tmp_path / "a.db") as store:
        given = Given(1, new_job(due_us=-1))
        with pytest.raises(SerializationError):
            store.hand(given)
        assert given.answers == []


@in_loop
async def test_a_push_that_was_not_begun_can_be_taken_back(tmp_path: Path) -> None:
    async with opened(tmp_path / "a.db") as store:
        bucket = await owned_bucket(store)
        first, second = Given(bucket.id, new_job()), Given(bucket.id, new_job())
        with store._writer.gate:
            store.hand(first)
            store.hand(second)
            assert store.take_back(second)
            assert not store.take_back(second)
        assert await first.answer() is None
        assert not store.take_back(first)
        assert second.answers == []
        assert await store.depths([bucket.id]) == {bucket.id: 1}


@in_loop
async def test_every_push_that_meets_the_close_of_the_store_has_one_certain_answer(tmp_path: Path) -> None:
    async with opened(tmp_path / "a.db") as store:
        bucket = await owned_bucket(store)
        given: list[Given] = []
        refused = []

        def produce() -> None:
            while True:
                each = Given(bucket.id, new_job())
                try:
                    store.hand(each)
                except StoreUnavailable:
                    refused.append(each)
                    return
                given.append(each)

        threads = [threading.Thread(target=produce) for _ in range(4)]
        for thread in threads:
            thread.start()
        while len(given) < 400:
            await asyncio.sleep(0.001)
        await store.close_store()
        for thread in threads:
            await asyncio.to_thread(thread.join)
        answers = [await each.answer() for each in given]

    assert all(each.answers == [] for each in refused)
    async with opened(tmp_path / "a.db") as store:
        [(stored,)] = await store._read(lambda tx: tx.rows("SELECT count(*) FROM jm_message"))
        assert stored == answers.count(None) > 0


# -- a caller's thread that does the writer's work


class Interrupted:
    """A connection at which Ctrl-C comes, before or after a statement that begins so."""

    def __init__(
        self, connection: sqlite3.Connection, word: str, *, after: bool, error: type[BaseException] = KeyboardInterrupt
    ) -> None:
        self._connection = connection
        self._word = word
        self._after = after
        self._error = error

    def execute(self, statement: str, values: Any = ()) -> Any:
        if not self._word or not statement.strip().startswith(self._word):
            return self._connection.execute(statement, values)
        self._word = ""
        if self._after:
            self._connection.execute(statement, values)
        raise self._error

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)


@in_loop
async def test_a_lone_caller_does_not_need_the_writers_thread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with opened(tmp_path / "a.db") as store:
        bucket = await owned_bucket(store)
        threads: list[int] = []
        run = writer.Writer._run_group

        def noted(self: Any, connection: Any) -> None:
            threads.append(threading.get_ident())
            run(self, connection)

        monkeypatch.setattr(writer.Writer, "_run_group", noted)
        await until_asleep(store)
        given = Given(bucket.id, new_job())
        await asyncio.to_thread(store.hand, given)
        assert given.answers == [None]
        assert threads != [store._writer._thread.ident]


async def until_asleep(store: Any) -> None:
    while not store._writer._asleep:
        await asyncio.sleep(0.001)


@pytest.mark.parametrize(
    ("word", "after", "expected"),
    [
        ("BEGIN", True, [None]),
        ("INSERT", False, [None]),
        ("INSERT", True, [None]),
        ("COMMIT", False, [None]),
        ("COMMIT", True, [OutcomeUnknown]),
    ],
)
@pytest.mark.parametrize("error", [KeyboardInterrupt, SoftTimeLimitExceeded, RunStopped])
@in_loop
async def test_ctrl_c_or_a_time_limit_in_the_thread_that_writes_leaves_the_others_with_an_answer(
    tmp_path: Path, word: str, after: bool, expected: list[Any], error: type[BaseException]
) -> None:
    async with opened(tmp_path / "a.db") as store:
        bucket = await owned_bucket(store)
        await until_asleep(store)
        others = [Given(bucket.id, new_job()) for _ in range(3)]
        mine = Given(bucket.id, new_job())
        original = store._writer._connection
        store._writer._queue.extend(others)
        store._writer._connection = Interrupted(original, word, after=after, error=error)
        with pytest.raises(error):
            store.hand(mine)
        store._writer._connection = original

        answers = [await each.answer() for each in [*others, mine]]
        assert [answer if answer is None else type(answer) for answer in answers] == expected * 4
        [(stored,)] = await store._read(lambda tx: tx.rows("SELECT count(*) FROM jm_message"))
        assert stored == 4
        last = Given(bucket.id, new_job())
        store.hand(last)
        assert await last.answer() is None


@in_loop
async def test_ctrl_c_after_the_commit_changes_no_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with opened(tmp_path / "a.db") as store:
        bucket = await owned_bucket(store)
        await until_asleep(store)

        def interrupted(_: Any) -> None:
            monkeypatch.undo()
            raise KeyboardInterrupt

        monkeypatch.setattr(store._writer, "_published", interrupted)
        others = [Given(bucket.id, new_job()) for _ in range(3)]
        store._writer._queue.extend(others)
        with pytest.raises(KeyboardInterrupt):
            store.hand(Given(bucket.id, new_job()))
        assert [await each.answer() for each in others] == [None] * 3


@in_loop
async def test_a_call_in_the_middle_of_a_call_is_refused_and_hangs_nobody(tmp_path: Path) -> None:
    async with opened(tmp_path / "a.db") as store:
        bucket = await owned_bucket(store)
        await until_asleep(store)
        errors: list[StoreUnavailable] = []

        class Nested(Given):
            def answered(self, error: Exception | None) -> None:
                try:
                    store.hand(Given(bucket.id, new_job()))
                except StoreUnavailable as refused:
                    errors.append(refused)
                super().answered(error)

        outer = Nested(bucket.id, new_job())
        store.hand(outer)
        assert await outer.answer() is None
        assert [str(error) for error in errors if "finalizer" in str(error)]


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
    run = writer.Writer._run_group
    wrapped: list[Failing] = []

    def failing(self: Any, connection: sqlite3.Connection) -> None:
        if not wrapped:
            wrapped.append(Failing(connection, code, applied=applied))
        run(self, wrapped[0])

    monkeypatch.setattr(writer.Writer, "_run_group", failing)


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


def test_a_store_that_is_locked_for_long_is_told_as_such_within_the_time(shop: tuple[JobMaster, Any]) -> None:
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
    assert time.monotonic() - begun < 5
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

jm = JobMaster("interrupted", master=sys.argv[1])

@jm.task
def hello(name: str) -> str: return name

class Alarm(BaseException): pass

def alarm(*_):
    if armed: raise Alarm

armed, end = False, time.monotonic() + 1.5
signal.signal(signal.SIGALRM, alarm)
hello.delay("opens")
counts, errors = [0, 0], []

def produce(number):
    try:
        while time.monotonic() < end:
            hello.delay("thread")
            counts[number] += 1
    except Exception as error:
        errors.append(error)

threads = [threading.Thread(target=produce, args=(number,)) for number in range(2)]
for thread in threads: thread.start()
signal.setitimer(signal.ITIMER_REAL, 0.005, 0.0041)
returned = interrupted = 0
while time.monotonic() < end:
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
