"""Pushes that threads hand straight to the SQLite store's writer."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from pathlib import Path
from typing import Any

import pytest

from jobmaster import OutcomeUnknown, StoreUnavailable
from jobmaster.engine.pools.injection import RunStopped
from jobmaster.errors import SerializationError, SoftTimeLimitExceeded
from jobmaster.model.job import NewJob
from jobmaster.ports.answers import Refused
from jobmaster.ports.direct import DirectAgent
from jobmaster.stores.memory.store import MemoryStore
from jobmaster.stores.sql.sqlite import writer
from jobmaster.stores.sql.sqlite.store import SqliteStore
from tests.unit.sqlite_place import ENVELOPE, in_loop, new_job, opened, owned_bucket
from tests.unit.test_sqlite_writer import count_commits

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
        run = writer.Writer._run_on

        def noted(self: Any, connection: Any) -> None:
            threads.append(threading.get_ident())
            run(self, connection)

        monkeypatch.setattr(writer.Writer, "_run_on", noted)
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
