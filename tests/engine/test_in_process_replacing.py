"""An engine in the user's own process is replaced, even where its store is away at that moment."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from jobmaster import JobMaster, in_process
from jobmaster.errors import StoreUnavailable


class Away:
    """Opens stores, but for the calls whose numbers are named."""

    def __init__(self, *away: int) -> None:
        self.away = away
        self.calls = 0

    async def __call__(self, *_: object) -> Any:
        self.calls += 1
        if self.calls in self.away:
            raise StoreUnavailable("The store is away.")
        return self

    store = None

    async def close(self) -> None: ...


async def replaced_once(monkeypatch: pytest.MonkeyPatch, opened: Away, *, is_ready: bool) -> list[int]:
    """Keep an engine running that has to be given up once; at which openings it has run."""
    runs: list[int] = []

    async def run_one(*_: object) -> str | None:
        runs.append(opened.calls)
        return "blocked" if len(runs) == 1 else None

    async def start_up(*_: object) -> None: ...

    workers = in_process.InProcessWorkers(JobMaster("shop", folder="/"))
    monkeypatch.setattr(in_process, "open_for_worker", opened)
    monkeypatch.setattr(in_process, "start_up", start_up)
    monkeypatch.setattr(workers, "_run_one", run_one)
    ready = asyncio.Event()
    if is_ready:
        ready.set()
    plan: Any = SimpleNamespace(agent="", name="w")
    await workers._keep_running(plan, ready)
    return runs


async def test_a_store_that_is_away_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    assert await replaced_once(monkeypatch, Away(2, 3), is_ready=True) == [1, 4]


async def test_one_that_is_stopped_before_it_is_ready_holds_nobody_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """The stop of a program may come just after its workers had to begin again."""

    async def run_one(*_: object) -> None: ...

    workers = in_process.InProcessWorkers(JobMaster("shop", folder="/"))
    monkeypatch.setattr(in_process, "open_for_worker", Away())
    monkeypatch.setattr(workers, "_run_one", run_one)
    ready = asyncio.Event()
    plan: Any = SimpleNamespace(agent="", name="w")
    await workers._keep_running(plan, ready)
    assert ready.is_set()


async def test_at_the_first_start_the_caller_hears_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(StoreUnavailable):
        await replaced_once(monkeypatch, Away(1), is_ready=False)
