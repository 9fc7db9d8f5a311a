"""Stories about schedules: planners die, stop and lose their way, and every occurrence runs once all the same."""

from __future__ import annotations

import asyncio
import dataclasses
import itertools
import statistics
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from jobmaster.model.job import Envelope, encode_envelope
from jobmaster.model.schedule import Misfire, Rule, Schedule, ScheduleKey, ScheduleKind, ScheduleStatus
from jobmaster.model.states import JobStatus
from jobmaster.ports.schedules import ScheduleChange
from jobmaster.rules.compiling import compiled
from jobmaster.rules.series import Series
from tests.simulation.nemesis import Nemesis
from tests.simulation.network import NO_FAULTS, FaultRates
from tests.simulation.virtual_loop import Process
from tests.simulation.world import Config, World, run_world

if TYPE_CHECKING:
    from collections.abc import Callable

SECOND = 1_000_000
CONFIG = Config("schedules", hosts=2, common_lanes=2, jobs=0, slots=10, buffer=50, priorities=(3,), tempo=3.0)
PLANNER_FAULTS = (
    "child killed",
    "tree killed",
    "child paused",
    "host paused longer than the lease",
    "cut from the master",
)
RULES = (("TimeSpanInterval", "00:00:01"), ("Cron", "*/2 * * * * *"), ("TimeSpanInterval", "00:00:05"))


@dataclass
class Told:
    """What a story has shown."""

    strikes: int = 0
    expected: int = 0
    missed: list[str] = field(default_factory=list)
    doubled: list[str] = field(default_factory=list)
    lateness: list[float] = field(default_factory=list)
    violations: dict[str, str] = field(default_factory=dict)


def schedule(number: int, rule: tuple[str, str], **fields: Any) -> Schedule:
    """One that lets nothing be skipped, unless `fields` (of its rule) say otherwise."""
    terms = {"misfire": Misfire.ALL, "misfire_limit": 900} | fields
    template = Envelope(task="short", call=b"", created_us=0, scheduled_us=0)
    return Schedule(
        key=ScheduleKey(number.to_bytes(16, "big")),
        name=f"s{number}",
        kind=ScheduleKind.DYNAMIC,
        rule=Rule(type_id=rule[0], text=rule[1], **terms),
        task="short",
        template=encode_envelope(template),
    )


def master_of(world: World) -> Any:
    return next(iter(world.servers.values())).store


def tell(
    seed: int, *, strikes: int = 0, lasts: float = 60.0, config: Config = CONFIG, clock_steps: bool = False
) -> Told:
    """Schedules under so many faults; what became of their occurrences."""
    config = dataclasses.replace(
        config, rates=FaultRates() if strikes else NO_FAULTS, slow_commits=0.01 if strikes else 0.0
    )
    world, told = World(seed, config, guards_off=frozenset()), Told()
    run_world(world, _story(world, told, strikes=strikes, lasts=lasts, clock_steps=clock_steps))
    told.violations = world.checker.violations
    return told


@dataclass(frozen=True)
class Acceptance:
    """What a recurring acceptance run has shown (seconds)."""

    jobs: int
    succeeded: int
    interval: float
    """Mean distance of the moments that the jobs were for."""
    pace: float
    """Mean distance of their starts."""
    worst: float
    """The latest start after its moment."""
    schedules: set[bytes | None]
    overdue: int
    """Jobs that are due and have not ended."""
    violations: dict[str, str]


def accept(text: str, *, lasts: float, seed: int = 1) -> Acceptance:
    """An interval that runs for so long and is cancelled then, with the default horizon and nothing in its way."""
    config = dataclasses.replace(CONFIG, plan_ahead=600.0, rates=NO_FAULTS, slow_commits=0.0, tempo=0.0)
    world, found = World(seed, config, guards_off=frozenset()), []
    run_world(world, _acceptance(world, text, lasts, found))
    return found[0]


async def _acceptance(world: World, text: str, lasts: float, found: list[Acceptance]) -> None:
    world.add_host("w0")
    await asyncio.sleep(2.0)
    world.enqueue("warm-up")
    await asyncio.sleep(15.0)
    client = Process(world.loop, "client")
    world.clients.append(client)
    store = world.stores_of(client)["standalone"]
    made = await store.add_schedule(schedule(1, ("TimeSpanInterval", text), misfire=Misfire.ONCE))
    await asyncio.sleep(lasts)
    assert await store.change_schedule(made.key, ScheduleChange(status=ScheduleStatus.CANCELED), version=None)
    await asyncio.sleep(120.0)
    master = master_of(world)
    rows = [row for row in master.jobs if row.envelope.schedule == made.key]
    ran = [row for row in rows if row.status is JobStatus.SUCCEEDED]
    moments = sorted(row.envelope.scheduled_us / SECOND for row in ran)
    epoch = world.store_us() / SECOND - world.loop.virtual
    starts = sorted(world.checker.jobs[row.key].starts[0][0] + epoch for row in ran)
    found.append(
        Acceptance(
            jobs=sum(len(world.checker.jobs[row.key].starts) for row in rows),
            succeeded=len(ran),
            interval=statistics.mean(later - earlier for earlier, later in itertools.pairwise(moments)),
            pace=statistics.mean(later - earlier for earlier, later in itertools.pairwise(starts)),
            worst=max(start - moment for start, moment in zip(starts, moments, strict=True)),
            schedules={row.envelope.schedule for row in ran},
            overdue=sum(not row.status.is_final and row.due_us < world.store_us() for row in rows),
            violations=world.checker.violations,
        )
    )


async def _story(world: World, told: Told, *, strikes: int, lasts: float, clock_steps: bool) -> None:
    master = master_of(world)
    hosts = [world.add_host(f"w{number}") for number in range(world.config.hosts)]
    await asyncio.sleep(2.0)
    made = [await master.add_schedule(schedule(number, rule)) for number, rule in enumerate(RULES)]
    await asyncio.sleep(1.0)
    nemesis = Nemesis(world)
    for number in range(strikes):
        await asyncio.sleep(world.rng.expovariate(1 / world.config.tempo))
        nemesis.strike(PLANNER_FAULTS[number % len(PLANNER_FAULTS)])
        told.strikes += 1
    if clock_steps:
        each = lasts / 8
        for number in range(6):
            await asyncio.sleep(each)
            hosts[number % len(hosts)].clock.step(3600.0 if number % 4 < 2 else -3600.0)
            told.strikes += 1
            lasts -= each
    await asyncio.sleep(0.0 if strikes else lasts)
    world._mend()
    ends_us = world.store_us() + 5 * SECOND
    await _until(world, lambda: all((one.cursor_us or 0) >= ends_us for one in _rows(master, made)))
    await asyncio.sleep(10.0)
    for one in made:
        await _compare(world, told, one, ends_us)
    world.checker.verdict(world.ledger.stored(), world.ledger.overdue())
    world.checker.violations.pop("stuck", None)  # what comes later than `ends_us` is on its way


def _rows(master: Any, made: list[Schedule]) -> list[Schedule]:
    return [master.schedules.get(one.key) for one in made]


async def _until(world: World, condition: Callable[[], bool], *, most: float = 120.0) -> None:
    ends = world.loop.virtual + most
    while not condition() and world.loop.virtual < ends:
        await asyncio.sleep(1.0)
        for host in world.hosts:
            host.boot_if_down()


async def _compare(world: World, told: Told, made: Schedule, ends_us: int) -> None:
    """The occurrences that there are, against those that the rule says, and what their jobs did."""
    master = master_of(world)
    stored = master.schedules.get(made.key)
    expected = _moments(made, ends_us)
    told.expected += len(expected)
    there = {record.at_us: record.key for record in master.schedules.occurrences.get(made.key, {}).values()}
    told.missed += [f"{stored.name} at {at}" for at in expected if at not in there]
    told.doubled += [f"{stored.name} at {at}" for at in there if at <= ends_us and at not in expected]
    for at in expected:
        key = there.get(at)
        if key is None:
            continue
        seen = world.checker.jobs[key]
        row = world.checker.rows[key]
        if not row.status.is_final or not seen.starts:
            told.missed.append(f"{stored.name} at {at} has not run: {row}")
        else:
            # `offered` and all that follows count virtual seconds from the same moment as the stores' clock.
            first = seen.starts[0][0] - (at - (world.store_us() - world.loop.virtual * SECOND)) / SECOND
            told.lateness.append(first)


def _moments(made: Schedule, ends_us: int) -> list[int]:
    series = Series(compiled(made.rule, zone="UTC"))
    found = []
    at = series.after(made.since_us)
    while at is not None and at <= ends_us:
        found.append(at)
        at = series.after(at)
    return found
