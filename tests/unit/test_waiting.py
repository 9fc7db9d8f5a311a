"""Waiting for results: how often the store is asked, and that everybody hears of their job's end."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from jobmaster import waiting as waiting_module
from jobmaster.model.ids import JobKey, new_job_key
from jobmaster.model.job import JobState
from jobmaster.model.states import JobStatus
from jobmaster.stores.sql.sqlite.transaction import padded
from jobmaster.waiting import FEW, MOST_KEYS, Waiters
from tests.unit.sqlite_place import in_loop, new_job, opened, owned_bucket

CROWD = 1_000


class Board:
    """A store of which only the look-up and the signals are there."""

    def __init__(self) -> None:
        self.ended: set[JobKey] = set()
        self.looks: list[tuple[float, list[JobKey]]] = []
        self.signal: Any = None

    def subscribe(self, _: str, callback: Any) -> Any:
        self.signal = callback
        return type("Subscription", (), {"close": lambda _: None})()

    async def look_up(self, keys: list[JobKey]) -> list[JobState | None]:
        self.looks.append((time.monotonic(), keys))
        await asyncio.sleep(0)
        return [JobState(key, JobStatus.SUCCEEDED) if key in self.ended else None for key in keys]


async def crowd(waiters: Waiters, count: int) -> tuple[list[JobKey], list[asyncio.Task[JobState | None]]]:
    keys = [new_job_key() for _ in range(count)]
    return keys, [asyncio.create_task(waiters.wait(key, 60)) for key in keys]


@in_loop
async def test_a_crowd_of_waiters_costs_ten_questions_a_second_however_often_jobs_end() -> None:
    board = Board()
    waiters = Waiters(board, topic="client:x")  # type: ignore[arg-type]
    keys, waiting = await crowd(waiters, CROWD)
    others: list[asyncio.Task[JobState | None]] = []
    begun = time.monotonic()
    while time.monotonic() < begun + 1.5:
        await asyncio.sleep(0.002)
        board.signal()
        joined, more = await crowd(waiters, 1)
        board.ended.update(joined)
        others += more

    looks = [moment for moment, _ in board.looks if moment > begun + 0.2]
    assert len(looks) <= 10 * (time.monotonic() - begun - 0.2) + 2
    assert all(len(asked) <= MOST_KEYS for _, asked in board.looks)

    board.ended.update(keys)
    board.signal()
    states = await asyncio.gather(*waiting, *others)
    assert all(state is not None and state.status is JobStatus.SUCCEEDED for state in states)
    await waiters.close()


@in_loop
async def test_a_few_waiters_are_looked_for_at_every_signal() -> None:
    with mock.patch.object(waiting_module, "SOONEST", 60.0):  # nothing but a signal makes it look
        await _each_signal_is_followed_by_a_look()


async def _each_signal_is_followed_by_a_look() -> None:
    board = Board()
    waiters = Waiters(board, topic="client:x")  # type: ignore[arg-type]
    keys, waiting = await crowd(waiters, FEW)
    while not board.looks:
        await asyncio.sleep(0)
    await asyncio.sleep(0.02)
    for key, task in zip(keys, waiting, strict=True):
        board.ended.add(key)
        board.signal()
        before = len(board.looks)
        await task
        assert len(board.looks) == before + 1, "at once, and not when a pause was over"
    await waiters.close()


@in_loop
async def test_a_newcomer_is_no_reason_to_ask_for_everybody_again() -> None:
    board = Board()
    waiters = Waiters(board, topic="client:x")  # type: ignore[arg-type]
    with mock.patch.object(waiting_module, "ALL_AGAIN", 60.0):
        _, waiting = await crowd(waiters, 5)
        await asyncio.sleep(0.001)
        [newcomer], [joined] = await crowd(waiters, 1)
        board.ended.add(newcomer)
        await joined
    asked = [keys for _, keys in board.looks if newcomer in keys]
    assert asked[0] == [newcomer]
    for task in waiting:
        task.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)
    await waiters.close()


@in_loop
async def test_an_end_without_a_signal_is_found_among_newcomers_too() -> None:
    board = Board()
    waiters = Waiters(board, topic="client:x")  # type: ignore[arg-type]
    [key], [waiting] = await crowd(waiters, 1)
    await asyncio.sleep(0.01)
    board.ended.add(key)
    others: list[asyncio.Task[JobState | None]] = []
    begun = time.monotonic()
    while not waiting.done() and time.monotonic() < begun + 20:
        others += (await crowd(waiters, 1))[1]
        await asyncio.sleep(0.001)

    assert waiting.done()
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)
    await waiters.close()


@pytest.mark.parametrize("count", [1, 2, 3, 255, 257, 1_000, 1_024, 1_025, 3_000])
def test_lists_of_keys_have_few_sizes_and_all_keys(count: int) -> None:
    keys = [new_job_key() for _ in range(count)]
    lists = list(padded(keys))
    assert [key for each in lists for key in dict.fromkeys(each)] == keys
    assert all(len(each).bit_count() == 1 for each in lists)
    assert len(lists) == -(-count // 1_024)


@pytest.mark.backend("sqlite")
@in_loop
async def test_a_thousand_keys_are_two_statements(tmp_path: Path) -> None:
    async with opened(tmp_path / "a.db") as store:
        bucket = await owned_bucket(store)
        jobs = [new_job() for _ in range(CROWD)]
        await store.push(bucket.id, jobs[:600])
        await store.hold(jobs[600:700])
        statements: list[str] = []
        connection = store._reader._connection
        assert connection is not None
        connection.set_trace_callback(statements.append)
        states = await store.look_up([job.key for job in jobs])
        connection.set_trace_callback(None)

        assert sum(statement.startswith("SELECT") for statement in statements) == 2
        found = [None if state is None else state.status for state in states]
        assert found == [JobStatus.SAVE_PENDING] * 600 + [JobStatus.HELD_ON_MASTER] * 100 + [None] * 300
