"""Ten thousand schedules: the first plan, a later pass with nothing to do, memory, and the loop beside it."""

from __future__ import annotations

import asyncio
import gc
import time
from typing import Any

import psutil
import pytest

from tests.engine.many_schedules import LoopLags, chunks, many, planner_of

COUNT = 10_000


@pytest.mark.alone
@pytest.mark.parametrize("store", ["sqlite", "postgresql"], indirect=True)
async def test_ten_thousand_schedules(store: Any, capsys: pytest.CaptureFixture[str]) -> None:
    made = many(COUNT)
    for some in chunks(made, 500):
        await store.ensure_schedules(some)
    planner, lags = planner_of(store), LoopLags()
    gc.collect()
    gc.freeze()  # what all tests before have left: an engine's process does not have it
    memory = psutil.Process().memory_info().rss
    watching = asyncio.create_task(lags.watch())
    begun, used = time.monotonic(), time.process_time()
    next_us = await planner.plan_all()
    first, first_used = time.monotonic() - begun, time.process_time() - used
    watching.cancel()
    gc.unfreeze()
    memory = psutil.Process().memory_info().rss - memory
    begun, used = time.monotonic(), time.process_time()
    await planner.plan_all()
    later, later_used = time.monotonic() - begun, time.process_time() - used
    with capsys.disabled():
        print(
            f"\n{COUNT} schedules: first plan {first:.2f} s ({first_used:.2f} s of a processor), later "
            f"{1000 * later:.1f} ms, {memory / 1e6:.0f} MB, the loop was held {1000 * lags.longest:.1f} ms at most"
        )
    stored = [await store.get_schedule(one.key) for one in made[::100]]
    assert all(one.cursor_us is not None or one.rule.type_id == "TimeSpanInterval" for one in stored)
    assert not any(one.error for one in stored)
    assert next_us is not None
    # In processor time: what others do with this machine does not decide.
    assert first_used < 3.0
    assert later_used < 0.3
    assert memory < 100e6
    assert lags.third < 0.020
    assert lags.longest < 0.100
