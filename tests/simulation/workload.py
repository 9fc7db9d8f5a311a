"""The users' code of a simulation: jobs that do what their plan says, in a pool that tells the checker of each run."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from jobmaster.model.backoff import Backoff
from jobmaster.model.ids import JobKey
from jobmaster.model.job import Envelope, ErrorInfo, encode_envelope
from jobmaster.model.policy import TaskPolicy
from jobmaster.model.run import End, Ended, Finished, Halt, Run

if TYPE_CHECKING:
    from tests.simulation.clocks import SimClock
    from tests.simulation.virtual_loop import Process
    from tests.simulation.world import World

MAX_RETRIES = 3
POLICIES = {
    name: TaskPolicy(
        name=name,
        is_async=True,
        timeout=30.0 if name == "deaf" else None,
        max_retries=MAX_RETRIES,
        backoff=Backoff(base=0.6, factor=1.5, cap=3.0, jitter=True),
        at_most_once=name == "once",
    )
    for name in ("short", "long", "once", "failing", "killer", "deaf")
}


@dataclass(frozen=True)
class Plan:
    """What a job is and does. `failures`: how many of its first runs raise. `lasts`: seconds of a run (mean)."""

    key: JobKey
    name: str
    task: str
    lane: str
    priority: int
    lasts: float
    failures: int = 0
    delay: float = 0.0
    hold: bool = False
    cancel_after: float | None = None

    @property
    def at_most_once(self) -> bool:
        return self.task == "once"

    def envelope(self, now_us: int) -> Envelope:
        """The job as its producer sends it."""
        return Envelope(
            task=self.task,
            call=b"",
            created_us=now_us,
            scheduled_us=now_us + round(self.delay * 1e6),
            lane=self.lane,
            priority=self.priority,
            at_most_once=self.at_most_once,
        )

    def payload(self, now_us: int) -> bytes:
        """The envelope in bytes."""
        return encode_envelope(self.envelope(now_us))


class SimWorkload:
    """Policies only: the simulated pool runs everything itself."""

    def policy(self, task: str) -> TaskPolicy | None:
        return POLICIES.get(task)

    def invoke_async(self, run: Run) -> Coroutine[Any, Any, Ended]:
        raise AssertionError("the simulated pool runs the jobs")

    def invoke_sync(self, run: Run) -> Ended:
        raise AssertionError("the simulated pool runs the jobs")


@dataclass
class _Place:
    run: Run
    timer: asyncio.TimerHandle | None = None
    told: float | None = None
    fields: dict[str, object] = field(default_factory=dict)


class SimPool:
    """Runs jobs by their plans, on the process's own loop (ports.workload.Pool).

    `apart`: each in a process of its own, which is the one that dies.
    """

    def __init__(self, world: World, process: Process, clock: SimClock, *, apart: bool = False) -> None:
        self._world, self._process, self._clock, self._apart = world, process, clock, apart
        self.finished: Callable[[list[Finished]], None] = lambda _finished: None
        self._places: dict[JobKey, _Place] = {}

    def submit(self, runs: Sequence[Run]) -> None:
        for run in runs:
            self._submit(run)

    def _submit(self, run: Run) -> None:
        self._process.check()
        world, plan = self._world, self._world.plans[run.key]
        world.checker.started(self._process, run)
        if run.key in self._places:
            world.checker.bad("two runs of a job in one process", run.key)
        place = _Place(run)
        self._places[run.key] = place
        lasts = plan.lasts * world.rng.uniform(0.5, 1.5)
        if plan.task == "killer" and world.network.on and world.config.tempo:
            if self._apart:
                world.strike("job killed its own process")
                place.timer = world.loop.call_later(lasts, self._end, place, Ended(End.CRASHED, reason="SIGSEGV"))
                return
            world.strike("job killed its process")
            world.network.later(lasts, self._process.kill, "SIGSEGV")
            return
        place.timer = world.loop.call_later(lasts, self._end, place, self._result(plan, run))

    def _result(self, plan: Plan, run: Run) -> Ended:
        if run.failures < plan.failures:
            return Ended(End.RAISED, error=ErrorInfo("ValueError", f"planned failure {run.failures + 1}"))
        return Ended(End.RETURNED, result=b"1")

    def _end(self, place: _Place, ended: Ended) -> None:
        self._process.check()
        if self._places.get(place.run.key) is not place:
            return
        del self._places[place.run.key]
        if place.timer is not None:
            place.timer.cancel()
        self._world.checker.ended(self._process, place.run, ended)
        self.finished([(place.run, ended, self._clock.monotonic())])

    def halt(self, key: JobKey, why: Halt) -> bool:
        self._process.check()
        place = self._places.get(key)
        if place is None:
            return False
        self._world.stats[f"halted: {why.name.lower()}"] += 1
        if self._world.plans[key].task == "deaf":
            place.told = self._world.loop.time() if place.told is None else place.told
            return True
        end = {Halt.CANCEL: End.CANCELLED, Halt.HARD_LIMIT: End.TIMED_OUT, Halt.SHUTDOWN: End.INTERRUPTED}.get(why)
        ended = Ended(End.RAISED, error=ErrorInfo("SoftTimeLimitExceeded")) if end is None else Ended(end)
        self._world.loop.call_later(self._world.rng.uniform(0, 0.05), self._end, place, ended)
        return True

    def stuck(self) -> list[JobKey]:
        now = self._world.loop.time()
        return [key for key, place in self._places.items() if place.told is not None and now - place.told >= 1.0]

    async def close(self) -> None:
        for place in list(self._places.values()):
            self._end(place, Ended(End.INTERRUPTED))
