"""Schedules of fractions of a second, what ran of them, and how they are stored."""

from __future__ import annotations

import asyncio
import time
from datetime import datetime, timedelta
from typing import Any, ClassVar

import pytest
from msgspec.structs import replace

from jobmaster.model.job import Envelope, encode_envelope
from jobmaster.model.schedule import Rule, Schedule, ScheduleKind, static_key
from tests.engine.pool_workload import FunctionWorkload

SECOND = 1_000_000
BY_ITSELF = pytest.mark.parametrize("store", ["memory"], indirect=True)
"""What no store has a part in."""


class Quick:
    """A provider of one's own: every so many seconds, also a fraction of one."""

    type_id: ClassVar[str] = "Quick"
    is_phased = True
    zone = None

    def __init__(self, text: str) -> None:
        self.text = text

    def in_zone(self, zone: Any) -> Quick:
        return self

    def next_after(self, moment: datetime) -> datetime:
        return moment + timedelta(seconds=float(self.text))

    def has_ended(self, moment: datetime) -> bool:
        return False

    def explain(self) -> str:
        return f"every {self.text} s"


class Runs:
    """What ran, by the test's clock, and for which moment."""

    def __init__(self, *, lasts: float = 0.0) -> None:
        self.started: list[tuple[float, float]] = []
        self.ended = 0
        self._lasts = lasts

    async def tick(self, argument: object, run: Any) -> None:
        self.started.append((time.time(), run.scheduled_us / SECOND))
        await asyncio.sleep(self._lasts)
        self.ended += 1

    @property
    def workload(self) -> FunctionWorkload:
        async def tick(argument: object, run: Any) -> None:
            await self.tick(argument, run)

        return FunctionWorkload(tick)

    @property
    def moments(self) -> list[float]:
        return [moment for _, moment in self.started]


class StayingRuns:
    """Runs of which one, by its number, stays until `go_on`."""

    def __init__(self, *, stays: int) -> None:
        self.moments: list[float] = []
        self.go_on = asyncio.Event()
        self._stays = stays

    @property
    def workload(self) -> FunctionWorkload:
        async def tick(argument: object, run: Any) -> None:
            self.moments.append(run.scheduled_us / SECOND)
            if len(self.moments) == self._stays:
                await self.go_on.wait()

        return FunctionWorkload(tick)


def numbers(runs: Runs, made: Schedule) -> list[int]:
    """Which occurrences of a schedule of 0.2 s have begun, counted from 1, in the order of their starts."""
    places = [(moment - made.since_us / SECOND) / 0.2 for moment in runs.moments]
    assert places == pytest.approx([round(place) for place in places], abs=0.001)
    return [round(place) for place in places]


def every(text: str = "0.2", *, name: str = "tick", type_id: str = "Quick", **rule: Any) -> Schedule:
    """A dynamic schedule of `tick`."""
    return Schedule(
        key=static_key("dynamic", name),
        name=name,
        kind=ScheduleKind.DYNAMIC,
        rule=Rule(type_id=type_id, text=text, **rule),
        task="tick",
        template=encode_envelope(Envelope(task="tick", call=b"\xc0", created_us=0, scheduled_us=0)),
    )


def static(text: str = "0.2", *, name: str = "tick") -> Schedule:
    return replace(every(text, name=name), key=static_key("app", name), kind=ScheduleKind.STATIC)


async def rows_of(store: Any, schedule: Schedule) -> list[Any]:
    """The jobs of its occurrences, the newest first."""
    records = await store.schedule_occurrences(schedule.key, limit=1000)
    found = await store.look_up([record.key for record in records])
    return [state for state in found if state is not None]


async def until_stored(store: Any, schedule: Schedule, condition: Any, *, timeout: float = 20.0) -> Schedule:
    """Wait until the schedule is so."""
    async with asyncio.timeout(timeout):
        while True:
            stored = await store.get_schedule(schedule.key)
            if stored is not None and condition(stored):
                return stored  # type: ignore[no-any-return]
            await asyncio.sleep(0.01)
