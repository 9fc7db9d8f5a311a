"""Group commit: what waits together is made durable together, and each caller gets its own end."""

from __future__ import annotations

import asyncio
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from jobmaster.errors import OutcomeUnknown, SerializationError, StoreUnavailable
from jobmaster.ports.answers import Refused
from jobmaster.stores.sql.sqlite import faults, writer
from jobmaster.stores.sql.sqlite.transaction import Transaction
from tests.unit.sqlite_place import copy, in_loop, move, new_job, opened, owned_bucket

pytestmark = pytest.mark.backend("sqlite")


def count_commits(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The sizes of the groups that are committed from now on."""
    sizes: list[int] = []
    commit = writer.Writer._commit

    def counting(self: Any, connection: Any, group: Any) -> Any:
        sizes.append(len(group.answers) + len(group.pushes))
        return commit(self, connection, group)

    monkeypatch.setattr(writer.Writer, "_commit", counting)
    return sizes


@in_loop
async def test_callers_that_wait_together_share_a_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with opened(tmp_path / "a.db") as store:
        bucket = await owned_bucket(store)
        sizes = count_commits(monkeypatch)
        await asyncio.gather(*(store.push(bucket.id, [new_job()]) for _ in range(200)))
        assert sum(sizes) == 200
        assert len(sizes) <= 20
        assert await store.depths([bucket.id]) == {bucket.id: 200}


@in_loop
async def test_a_caller_that_fails_is_undone_alone(tmp_path: Path) -> None:
    async with opened(tmp_path / "a.db") as store:
        bucket = await owned_bucket(store)
        ends = await asyncio.gather(
            *(store.push(bucket.id if number % 3 else 99, [new_job()]) for number in range(30)), return_exceptions=True
        )
        refused = [isinstance(end, Refused) for end in ends]
        assert refused == [number % 3 == 0 for number in range(30)]
        assert await store.depths([bucket.id]) == {bucket.id: 20}


@in_loop
async def test_what_a_failing_verb_wrote_before_it_failed_is_gone(tmp_path: Path) -> None:
    async with opened(tmp_path / "a.db") as store:
        bucket = await owned_bucket(store)

        def half(tx: Transaction) -> None:
            tx.execute("DELETE FROM jm_bucket")
            raise Refused("no")

        good = store.push(bucket.id, [new_job()])
        ends = await asyncio.gather(store._write(half), good, return_exceptions=True)
        assert isinstance(ends[0], Refused)
        assert ends[1] is None
        assert [found.id for found in await store.list_buckets()] == [bucket.id]


@in_loop
async def test_a_cancelled_caller_is_not_written_if_it_was_not_begun(tmp_path: Path) -> None:
    async with opened(tmp_path / "a.db") as store:
        bucket = await owned_bucket(store)
        with store._writer.gate:
            # The first keeps the thread at the gate, the second waits in the queue.
            first = asyncio.ensure_future(store.push(bucket.id, [new_job()]))
            await asyncio.sleep(0.05)
            second = asyncio.ensure_future(store.push(bucket.id, [new_job()]))
            await asyncio.sleep(0)
            second.cancel()
            await asyncio.sleep(0)
        await first
        with pytest.raises(asyncio.CancelledError):
            await second
        assert await store.depths([bucket.id]) == {bucket.id: 1}


@in_loop
@pytest.mark.fault("D14")
async def test_a_lock_that_is_held_for_long_makes_the_store_unavailable_and_nothing_is_stored(tmp_path: Path) -> None:
    async with opened(tmp_path / "a.db", timeout=0.2) as store:
        bucket = await owned_bucket(store)
        other = sqlite3.connect(tmp_path / "a.db", isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreUnavailable, match=r"another process has held its lock.*Nothing was stored") as caught:
            await store.push(bucket.id, [new_job()])
        assert not isinstance(caught.value, OutcomeUnknown)
        assert await store.depths([bucket.id]) == {bucket.id: 0}, "a reader does not wait for a writer"
        other.execute("ROLLBACK")
        other.close()
        await store.push(bucket.id, [new_job()])
        assert await store.depths([bucket.id]) == {bucket.id: 1}


@in_loop
@pytest.mark.fault("D14")
async def test_a_lock_that_is_held_for_a_moment_is_waited_for(tmp_path: Path) -> None:
    async with opened(tmp_path / "a.db", timeout=5) as store:
        bucket = await owned_bucket(store)
        other = sqlite3.connect(tmp_path / "a.db", isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        pushing = asyncio.ensure_future(store.push(bucket.id, [new_job()]))
        await asyncio.sleep(0.1)
        assert not pushing.done()
        other.execute("ROLLBACK")
        other.close()
        await pushing


@in_loop
async def test_a_full_disk_is_said_and_leaves_nothing_behind(tmp_path: Path) -> None:
    async with opened(tmp_path / "a.db") as store:
        bucket = await owned_bucket(store)

        def pages(tx: Transaction, limit: int) -> None:
            (now,) = tx.rows("PRAGMA page_count")[0]
            tx.rows(f"PRAGMA max_page_count = {now + limit}")

        await store._write(lambda tx: pages(tx, 3))
        with pytest.raises(StoreUnavailable, match=r"the disk is full.*Nothing was stored. Free space"):
            await store.push(bucket.id, [new_job() for _ in range(2_000)])
        assert await store.depths([bucket.id]) == {bucket.id: 0}
        await store._write(lambda tx: pages(tx, 10_000))
        await store.push(bucket.id, [new_job() for _ in range(2_000)])
        assert await store.depths([bucket.id]) == {bucket.id: 2_000}


class Failing:
    """A connection whose COMMIT fails."""

    def __init__(self, connection: sqlite3.Connection, code: int, *, applied: bool) -> None:
        self._connection = connection
        self._code = code
        self._applied = applied
        self.failed = 0

    def execute(self, statement: str, values: Any = ()) -> Any:
        if statement == "COMMIT" and not self.failed:
            self.failed += 1
            if self._applied:
                self._connection.execute("COMMIT")
            error = sqlite3.OperationalError("made by the test")
            error.sqlite_errorcode = self._code
            error.sqlite_errorname = "SQLITE_TEST"
            raise error
        return self._connection.execute(statement, values)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)


@pytest.mark.parametrize(
    ("code", "applied", "expected", "stored"),
    [
        (sqlite3.SQLITE_IOERR, True, OutcomeUnknown, 1),
        (sqlite3.SQLITE_IOERR, False, OutcomeUnknown, 0),
        (sqlite3.SQLITE_FULL, False, StoreUnavailable, 0),
    ],
    ids=["error after the commit", "error before the commit", "disk full"],
)
@in_loop
async def test_a_failed_commit_is_certain_only_where_sqlite_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, code: int, applied: bool, expected: type, stored: int
) -> None:
    async with opened(tmp_path / "a.db") as store:
        bucket = await owned_bucket(store)
        run = writer.Writer._run_on
        wrapped: list[Failing] = []

        def failing(self: Any, connection: sqlite3.Connection) -> Any:
            if not wrapped:
                wrapped.append(Failing(connection, code, applied=applied))
            return run(self, wrapped[0])

        monkeypatch.setattr(writer.Writer, "_run_on", failing)
        with pytest.raises(expected) as caught:
            await store.push(bucket.id, [new_job()])
        assert type(caught.value) is expected
        assert await store.depths([bucket.id]) == {bucket.id: stored}
        await store.push(bucket.id, [new_job()])


@in_loop
async def test_a_number_that_no_column_holds_is_the_callers_mistake(tmp_path: Path) -> None:
    async with opened(tmp_path / "a.db") as store:
        with pytest.raises(SerializationError, match="64 bits"):
            await store.answer_command(2**63, b"{}")


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
@in_loop
async def test_nobody_waits_for_a_thread_that_has_ended_by_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with opened(tmp_path / "a.db") as store:
        bucket = await owned_bucket(store)

        def no_memory() -> float:
            raise MemoryError

        monkeypatch.setattr(store._writer, "_idle", no_memory)
        store._writer.ring()
        store._writer._thread.join(10)
        with pytest.raises(StoreUnavailable, match="was closed"):
            await store.push(bucket.id, [new_job()])


@in_loop
async def test_a_closed_store_says_so(tmp_path: Path) -> None:
    async with opened(tmp_path / "a.db") as store:
        waiting = [asyncio.ensure_future(store.hold([new_job()])) for _ in range(20)]
        await asyncio.sleep(0)
        await store.close_store()
        await store.close_store()
        assert await asyncio.gather(*waiting) == [[True]] * 20, "what was asked before the end is done"
        for verb in (
            store.open_buckets(),
            store.hold([new_job()]),
            store.now_us(),
            store.list_workers(),
            store.signal(["held"]),
        ):
            with pytest.raises(StoreUnavailable, match="was closed"):
                await verb


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (sqlite3.SQLITE_CORRUPT, "damaged.*Restore a backup"),
        (sqlite3.SQLITE_READONLY, "read-only.*right to write"),
        (sqlite3.SQLITE_IOERR, "disk reported an error.*Check the disk"),
        (sqlite3.SQLITE_CANTOPEN | (1 << 8), "cannot be opened.*Check its folder"),
    ],
)
def test_while_it_runs_each_fault_is_unavailability_with_a_next_step(code: int, words: str) -> None:
    error = sqlite3.OperationalError("made by the test")
    error.sqlite_errorcode = code
    answer = faults.translated(error, "/x/a.db")
    assert type(answer) is StoreUnavailable
    with pytest.raises(StoreUnavailable, match=words):
        raise answer


@pytest.mark.fault("D14")
@pytest.mark.parametrize("replaced", [False, True], ids=["removed", "replaced"])
@in_loop
async def test_nothing_is_acknowledged_into_a_file_that_is_gone(tmp_path: Path, replaced: bool) -> None:
    async with opened(tmp_path / "a.db") as store:
        bucket = await owned_bucket(store)
        move(tmp_path / "a.db", tmp_path / "kept.db")
        if replaced:
            copy(tmp_path / "kept.db", tmp_path / "a.db")
        with pytest.raises(StoreUnavailable, match=r"removed or replaced while it was in use.*Nothing was stored"):
            await store.push(bucket.id, [new_job()])
        move(tmp_path / "kept.db", tmp_path / "a.db")
        await store.push(bucket.id, [new_job()])
