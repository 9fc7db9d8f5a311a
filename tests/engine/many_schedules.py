"""Very many schedules of all languages, and a planner by itself."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from typing import Any

from jobmaster.engine.persistence import Backoff
from jobmaster.engine.planner import Planner
from jobmaster.engine.store_clock import StoreClock
from jobmaster.engine.tuning import Tuning
from jobmaster.model.job import Envelope, encode_envelope
from jobmaster.model.schedule import Rule, Schedule, ScheduleKind, static_key
from tests.engine.one_engine import RealClock

TEMPLATE = encode_envelope(Envelope(task="at_once", call=b"\xc0", created_us=0, scheduled_us=0))


def schedule_of(name: str, type_id: str, text: str, **rule: Any) -> Schedule:
    """A static one that calls `at_once`."""
    return Schedule(
        key=static_key("test", name),
        name=name,
        kind=ScheduleKind.STATIC,
        rule=Rule(type_id=type_id, text=text, **rule),
        task="at_once",
        template=TEMPLATE,
    )


def many(count: int) -> list[Schedule]:
    """A third each of cron, intervals and NaturalCron, 3,000 different rules, mostly of some minutes or hours."""
    made = []
    for number in range(count):
        minute, hour, every = number % 60, number % 24, number % 500
        type_id, text = (
            ("Cron", f"{minute} {hour} * * *"),
            ("TimeSpanInterval", f"00:{5 + every // 60 % 50:02}:{every % 60:02}"),
            ("NaturalCron", f"every day at {hour:02}:{minute:02}"),
        )[number % 3]
        made.append(schedule_of(f"s{number}", type_id, text))
    return made


class _Alone:
    workers = 1


def planner_of(store: Any, **tuning: Any) -> Planner:
    clock = RealClock()
    return Planner(
        tuning=Tuning(**tuning),
        store=store,
        clock=clock,
        store_clock=StoreClock(clock),
        lease=_Alone(),  # type: ignore[arg-type]
        random=lambda: 0.5,
        pauses=lambda duty: Backoff(duty=duty, random=lambda: 0.5),
    )


class LoopLags:
    """How long the loop was held by what this thread computed, in seconds: what other processes took does not count."""

    def __init__(self) -> None:
        self._held: list[float] = [0.0]

    @property
    def longest(self) -> float:
        return max(self._held)

    @property
    def third(self) -> float:
        """The third longest: what one collection of garbage takes does not decide."""
        return sorted(self._held)[-3:][0]

    async def watch(self) -> None:
        before, used = time.perf_counter(), time.thread_time()
        while True:
            await asyncio.sleep(0.001)
            now, uses = time.perf_counter(), time.thread_time()
            self._held.append(min(now - before, uses - used))
            before, used = now, uses


def chunks(items: list[Schedule], size: int) -> Iterator[list[Schedule]]:
    for at in range(0, len(items), size):
        yield items[at : at + size]
