"""Processes that have run enough, or hold enough memory, ask for a successor."""

from __future__ import annotations

import asyncio
import itertools
import logging
from pathlib import Path

import pytest

from jobmaster.engine import wear as wear_module
from jobmaster.engine.wear import MIB, Wear, resident_bytes


class Engine:
    def __init__(self) -> None:
        self.ready = asyncio.Event()
        self.worn: list[str] = []
        self.condemned: list[str] = []

    def wear_out(self, reason: str) -> None:
        self.worn.append(reason)

    def condemn(self, reason: str) -> None:
        self.condemned.append(reason)


class Pool:
    def __init__(self) -> None:
        self.limits: list[tuple[int, int]] = []

    def limit_memory(self, *, most: int, too_much: int) -> None:
        self.limits.append((most // MIB, too_much // MIB))


def looks(*seen: tuple[int, int | None], max_tasks: int | None = None, max_memory: int | None = None) -> Engine:
    """An engine that began with the first of these pairs of runs and MiB, and was looked at once for each other."""
    engine = Engine()
    state: tuple[int, int | None] = (0, 0)
    wear = Wear(
        engine,
        max_tasks=max_tasks,
        max_memory=max_memory,
        runs=lambda: state[0],
        resident=lambda: None if state[1] is None else state[1] * MIB,
    )
    state = seen[0]
    wear.begin()
    for each in seen[1:]:
        state = each
        wear.look()
    return engine


def test_so_many_runs_are_told_once() -> None:
    engine = looks((0, 50), (99, 50), (103, 50), (120, 50), max_tasks=100)

    assert engine.worn == ["103 runs, and max_tasks_per_child is 100"]
    assert engine.condemned == []


def test_so_much_memory_is_told_once() -> None:
    engine = looks((0, 50), (1, 100), (2, 101), (3, 180), max_memory=100)

    assert engine.worn == ["holds 101 MiB, and max_memory_per_child is 100 MiB"]
    assert engine.condemned == []


def test_twice_the_limit_is_not_waited_for() -> None:
    engine = looks((0, 50), (1, 201), (2, 300), max_memory=100)

    assert engine.condemned == ["holds 201 MiB, and max_memory_per_child is 100 MiB, more than 2 times as much"]


def test_a_limit_below_a_fresh_process_is_an_error_and_replaces_nothing(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.ERROR):
        engine = looks((0, 101), (1, 500), max_memory=100)

    assert (engine.worn, engine.condemned) == ([], [])
    assert "memory_limit_too_low used_mib=101 limit_mib=100" in caplog.text


def test_a_first_job_that_is_large_is_no_reason_to_ignore_the_limit(caplog: pytest.LogCaptureFixture) -> None:
    engine = looks((0, 50), (1, 150), max_memory=100)

    assert engine.worn == ["holds 150 MiB, and max_memory_per_child is 100 MiB"]
    assert "memory_limit_too_low" not in caplog.text


def test_where_nobody_knows_the_memory_nothing_happens() -> None:
    engine = looks((0, None), (5, None), max_memory=100)

    assert (engine.worn, engine.condemned) == ([], [])


def test_each_process_of_the_pool_has_the_limit_for_itself() -> None:
    pool = Pool()

    Wear(Engine(), max_tasks=None, max_memory=100, runs=lambda: 0, pools=[pool], resident=lambda: 0).look()

    assert pool.limits == [(100, 200)]


async def test_an_engine_is_looked_at_from_the_moment_on_that_it_is_ready() -> None:
    engine = Engine()
    wear = Wear(engine, max_tasks=1, max_memory=None, runs=lambda: 5)
    watching = asyncio.create_task(wear.run())
    await asyncio.sleep(0.01)
    assert engine.worn == []
    engine.ready.set()
    while not engine.worn:
        await asyncio.sleep(0.001)
    watching.cancel()

    await Wear(engine, max_tasks=None, max_memory=None, runs=lambda: 5).run()  # nothing to look at: it ends


async def test_an_error_while_looking_is_told_once_and_the_next_look_happens(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wear_module, "LOOK_EVERY", 0.001)
    engine, looks = Engine(), itertools.count()
    engine.ready.set()

    def runs() -> int:
        if next(looks) < 3:
            raise RuntimeError("a pool that says nothing")
        return 5

    with caplog.at_level(logging.ERROR):
        watching = asyncio.create_task(Wear(engine, max_tasks=1, max_memory=None, runs=runs).run())
        async with asyncio.timeout(5):
            while not engine.worn:
                await asyncio.sleep(0.001)
        watching.cancel()
    assert [record.message.split(":")[0] for record in caplog.records] == ["wear_not_seen failures=1"]
    assert "a pool that says nothing" in caplog.text


def test_resident_memory_is_what_the_system_says(tmp_path: Path) -> None:
    held = resident_bytes()
    assert held is None or 5 * MIB < held < 4096 * MIB
    assert resident_bytes(2**22 + 1) is None
    (tmp_path / "7").mkdir()
    (tmp_path / "7" / "statm").write_text("nonsense")
    assert resident_bytes(7, folder=tmp_path) is None
