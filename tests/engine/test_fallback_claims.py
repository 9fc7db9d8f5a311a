"""How often workers ask the master for held jobs when nothing tells them to: bounded for the cluster, not for each."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from jobmaster.engine.claimer import Claimer
from jobmaster.engine.tuning import Tuning
from jobmaster.runtime import plan_workers, tuning_of
from tests.engine.one_engine import final, new_job, push, running_engine, until
from tests.engine.pool_workload import FunctionWorkload


@pytest.mark.parametrize(
    ("workers", "per_second", "period"), [(1, 50, 2.0), (100, 50, 2.0), (1000, 50, 20.0), (30, 3, 10.0)]
)
def test_the_period_grows_with_the_number_of_workers(
    monkeypatch: pytest.MonkeyPatch, workers: int, per_second: float, period: float
) -> None:
    waits: list[float] = []

    def noted(seconds: float) -> Any:
        waits.append(seconds)
        return real(0)

    real = asyncio.timeout
    lease: Any = SimpleNamespace(workers=workers)
    nothing: Any = None
    restraint: Any = SimpleNamespace(left_for=lambda: None)
    claimer = Claimer(
        tuning=Tuning(claim_every=2.0, claims_per_second=per_second),
        store=nothing, store_clock=nothing, lease=lease, waiting=nothing, restraint=restraint, pause=nothing,
    )  # fmt: skip
    monkeypatch.setattr(asyncio, "timeout", noted)

    asyncio.run(claimer._sleep())

    assert waits == [period]


def test_the_setting_reaches_the_engine(tmp_path: Any) -> None:
    from jobmaster import JobMaster

    app = JobMaster("claims", master=f"sqlite:///{tmp_path}/x.db", claims_per_second=7)
    app.task(name="x")(lambda: None)

    assert tuning_of(app.settings, plan_workers(app)[0]).claims_per_second == 7.0


async def test_what_the_master_holds_is_claimed_beside_a_backlog_that_fills_the_buffer(store: Any) -> None:
    starts: list[object] = []
    is_claimed = asyncio.Event()

    async def note(argument: object) -> None:
        starts.append(argument)
        if len(starts) == 20:
            await is_claimed.wait()

    held = new_job("note", "held")
    tuning = {"slots": 1, "buffer_per_bucket": 20, "read_limit": 20, "claim_limit": 10}
    async with running_engine(store, FunctionWorkload(note), **tuning) as running:
        for at in range(0, 600, 100):
            await push(store, *(new_job("note", at + number) for number in range(100)))
        await until(lambda: len(starts) == 20 and len(running.engine.waiting) >= 20)
        await store.hold([held])
        await store.signal(["held"])
        await until(lambda: len(running.engine.waiting) > 20)
        is_claimed.set()
        await final(store, held.key)
    assert starts.index("held") < 500, "it did not wait for the end of the backlog"
