"""A store, a clock and engine processes for the tests of keeper and supervisor, on virtual time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from jobmaster.model.ids import JobKey
from jobmaster.model.job import Blame
from jobmaster.model.worker import Grant, Renewal
from jobmaster.ports.link import Report
from tests.simulation.virtual_loop import VirtualLoop


def on_virtual_time(story: Callable[[VirtualLoop], Coroutine[Any, Any, None]]) -> float:
    """Run the story; the answer is how many virtual seconds it took."""
    loop = VirtualLoop()
    asyncio.set_event_loop(loop)
    try:
        loop.run_until_complete(story(loop))
        return loop.virtual
    finally:
        left = asyncio.all_tasks(loop)
        for task in left:
            task.cancel()
        if left:
            loop.run_until_complete(asyncio.wait(left))
        asyncio.set_event_loop(None)
        loop.close()


class VirtualClock:
    """All clocks are the loop's."""

    def __init__(self, loop: VirtualLoop) -> None:
        self._loop = loop

    def now_us(self) -> int:
        return round(self._loop.virtual * 1e6)

    def trust_ns(self) -> int:
        return round(self._loop.virtual * 1e9)

    def monotonic(self) -> float:
        return self._loop.virtual


class FakeStore:
    """Answers renewals after `latency` seconds, or as `trouble` says: an exception, or "hang"."""

    def __init__(self, loop: VirtualLoop, *, latency: float = 0.01) -> None:
        self._loop, self.latency = loop, latency
        self.trouble: object = None
        self.sent: list[tuple[float, list[Renewal]]] = []
        self.ended: list[tuple[float, int, list[Blame]]] = []
        self.refusals_to_end = 0
        self.under_way = self.most_under_way = 0
        self.gone: set[int] = set()
        self.number: int | None = None

    async def renew(self, renewals: list[Renewal]) -> list[Grant]:
        self.sent.append((self._loop.virtual, list(renewals)))
        self.under_way += 1
        self.most_under_way = max(self.most_under_way, self.under_way)
        try:
            await asyncio.sleep(self.latency)
            if self.trouble == "hang":
                await asyncio.Event().wait()
            if isinstance(self.trouble, BaseException):
                raise self.trouble
        finally:
            self.under_way -= 1
        return [
            Grant(self.number or renewal.number, round(self._loop.virtual * 1e6), gone=renewal.worker in self.gone)
            for renewal in renewals
        ]

    async def end_worker(self, worker: int, *, blame: list[Blame] = ()) -> None:
        await asyncio.sleep(self.latency)
        if self.refusals_to_end:
            self.refusals_to_end -= 1
            raise ConnectionError("no database")
        self.ended.append((self._loop.virtual, worker, list(blame)))


class FakeChild:
    """An engine process (ports.link.Child) that does what the test says. Its loop turns until `blocked_at`."""

    def __init__(self, loop: VirtualLoop, *, worker: int = 0) -> None:
        self._loop, self.worker = loop, worker
        self.pid = next(loop.numbers)
        self.report = Report(worker) if worker else None
        self.granted: list[tuple[float, Grant, int]] = []
        self.exit: str | None = None
        self.condemned_for: str | None = None
        self.places: list[JobKey] = []
        self.blocked_at: float | None = None
        self.blocker: tuple[JobKey | None, str] | None = None
        self.started_at = loop.virtual
        self.beating = True
        self.acts: list[tuple[float, str]] = []
        self.stops_after: float | None = 0.1
        self.deaf_to_kill = False

    def reports(self) -> Report | None:
        return self.report

    def grant(self, grant: Grant, *, trust_until_ns: int) -> None:
        self.granted.append((self._loop.virtual, grant, trust_until_ns))

    def beats(self) -> int:
        if not self.beating:
            return 0
        until = self._loop.virtual if self.blocked_at is None else self.blocked_at
        return 1 + int(until - self.started_at)

    def evidence(self) -> list[JobKey]:
        return list(self.places)

    def condemned(self) -> str | None:
        return self.condemned_for

    def accused(self) -> tuple[JobKey | None, str] | None:
        return self.blocker

    def exit_reason(self) -> str | None:
        return self.exit

    def dump_stacks(self) -> None:
        self.acts.append((self._loop.virtual, "dump"))

    def terminate(self) -> None:
        self.acts.append((self._loop.virtual, "terminate"))
        again = sum(act == "terminate" for _, act in self.acts) > 1
        if self.stops_after is not None:
            self._loop.call_later(0 if again else self.stops_after, self.die, "exit 0")

    def kill(self) -> None:
        self.acts.append((self._loop.virtual, "kill"))
        if not self.deaf_to_kill:
            self.die("SIGKILL")

    def die(self, reason: str) -> None:
        """The process ends, unless it has."""
        self.exit = self.exit or reason
