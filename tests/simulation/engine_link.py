"""The simulated shared memory and pipes between an engine process and the keeper of its lease (ports.link)."""

from __future__ import annotations

from collections.abc import Callable

from jobmaster.model.ids import JobKey
from jobmaster.model.worker import Grant
from jobmaster.ports.link import Report
from tests.simulation.network import Network
from tests.simulation.virtual_loop import Process


class SharedMemory:
    """What both sides see. It survives the process."""

    def __init__(self) -> None:
        self.beats = 0
        self.trust_until_ns = 0
        self.places: dict[int, JobKey] = {}
        self.condemned: str | None = None
        self.report: Report | None = None


class Pipe:
    """Messages to one process, in order, each after a short while; a dead reader loses them."""

    def __init__(self, network: Network) -> None:
        self._network, self._last = network, 0.0

    def send(self, reader: Process, callback: Callable[..., object], *args: object) -> None:
        now = self._network.loop.virtual
        self._last = max(self._last, now + self._network.rng.expovariate(2000))
        self._network.later(self._last - now, reader.call, callback, *args)


class SimEngineLink:
    """The engine's end."""

    def __init__(self, process: Process, keeper: Process, memory: SharedMemory, network: Network) -> None:
        self._process, self._keeper, self._memory = process, keeper, memory
        self._network, self._up = network, Pipe(network)
        self._callback: Callable[[Grant], None] | None = None
        self._early: list[Grant] = []

    def report(self, report: Report) -> None:
        self._process.check()
        self._up.send(self._keeper, self._arrived, report)

    def _arrived(self, report: Report) -> None:
        self._memory.report = report

    def trust_until_ns(self) -> int:
        self._process.check()
        return self._memory.trust_until_ns

    def on_grant(self, callback: Callable[[Grant], None]) -> None:
        self._callback = callback
        early, self._early = self._early, []
        for grant in early:
            self._process.call(callback, grant)

    def granted(self, grant: Grant) -> None:
        """The grant has come out of the pipe."""
        if self._callback is None:
            self._early.append(grant)
        else:
            self._callback(grant)

    def beat(self) -> None:
        self._process.check()
        self._memory.beats += 1

    def running(self, key: JobKey) -> int:
        self._process.check()
        place = next(self._process.loop.numbers)
        self._memory.places[place] = key
        return place

    def ended(self, place: int) -> None:
        self._process.check()
        self._memory.places.pop(place, None)

    def condemn(self, reason: str) -> None:
        self._process.check()
        self._network.stats["condemned"] += 1
        self._memory.condemned = self._memory.condemned or reason


class SimChild:
    """The keeper's end."""

    def __init__(
        self,
        process: Process,
        link: SimEngineLink,
        memory: SharedMemory,
        network: Network,
        on_terminate: Callable[[], None],
    ) -> None:
        self.process, self._link, self._memory = process, link, memory
        self._down, self._on_terminate = Pipe(network), on_terminate
        self._network = network

    @property
    def pid(self) -> int:
        return self.process.pid

    def reports(self) -> Report | None:
        return self._memory.report

    def grant(self, grant: Grant, *, trust_until_ns: int) -> None:
        self._memory.trust_until_ns = trust_until_ns
        self._down.send(self.process, self._link.granted, grant)

    def beats(self) -> int:
        return self._memory.beats

    def evidence(self) -> list[JobKey]:
        return list(self._memory.places.values())

    def accused(self) -> tuple[JobKey | None, str] | None:
        return None

    def condemned(self) -> str | None:
        return self._memory.condemned

    def exit_reason(self) -> str | None:
        return None if self.process.alive else self.process.died

    def dump_stacks(self) -> None:
        self._network.stats["stacks dumped"] += 1

    def terminate(self) -> None:
        if self.process.alive:
            self.process.call(self._on_terminate)

    def kill(self) -> None:
        self.process.kill("SIGKILL")
