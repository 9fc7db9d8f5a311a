"""Old occurrences of schedules go with the retention, also where jobs move to an archive."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from jobmaster.engine import janitor
from jobmaster.model.job import Envelope, NewJob, encode_envelope
from jobmaster.model.schedule import Occurrence, Rule, Schedule, ScheduleKey, ScheduleKind, Trigger, occurrence_key
from jobmaster.stores.memory import MemoryStore
from tests.engine.one_engine import running_engine
from tests.engine.pool_workload import FunctionWorkload

KEY = ScheduleKey(bytes(16))
PAUSED = Schedule(KEY, "old", ScheduleKind.DYNAMIC, Rule("Never", ""), "send", b"", paused=True)


def occurrence(at_us: int) -> Occurrence:
    envelope = Envelope("send", b"", at_us, at_us, schedule=KEY, trigger=Trigger.BACKFILL.value)
    job = NewJob(occurrence_key(KEY, at_us), envelope, encode_envelope(envelope), due_us=at_us)
    return Occurrence(at_us, job, Trigger.BACKFILL)


@pytest.mark.parametrize("archived", [False, True], ids=["deleted", "archived"])
async def test_more_old_occurrences_than_one_batch_has_are_forgotten(
    store: Any, monkeypatch: pytest.MonkeyPatch, *, archived: bool
) -> None:
    monkeypatch.setattr(janitor, "_BATCH", 10)
    monkeypatch.setattr(janitor, "_PAUSE", 0.0)
    now_us = await store.now_us()
    await store.add_schedule(PAUSED)
    ahead = now_us + 3_600_000_000
    await store.add_occurrences(KEY, [occurrence(now_us - number) for number in range(1, 35)] + [occurrence(ahead)])
    archive = MemoryStore() if archived else None
    async with running_engine(store, FunctionWorkload(), janitor_every=0.02, retention=0.0, archive=archive) as running:
        latest = now_us - 1  # stays with its schedule
        async with asyncio.timeout(10):
            while [one.at_us for one in await store.schedule_occurrences(KEY, limit=100)] != [ahead, latest]:
                await asyncio.sleep(0.005)
        assert not running.task.done()
    assert await store.get_schedule(KEY) is not None
