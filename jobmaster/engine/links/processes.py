"""Engine processes, as their supervisor sees them (ports.link.Spawner and ports.link.Child). For Linux and macOS."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

import msgspec

from jobmaster.engine.links import framing
from jobmaster.engine.links.spawned import SpawnedProcess
from jobmaster.engine.links.starting import Launch, StartedEngine, start_engine
from jobmaster.ports.link import CANNOT_START, EXIT_TOLD, Report

if TYPE_CHECKING:
    from collections.abc import Callable

    from jobmaster.model.ids import JobKey
    from jobmaster.model.worker import Grant

_TOLD = f"exit {EXIT_TOLD}"
_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Report)


class ProcessSpawner:
    """Starts engine processes.

    Args:
        launch: what engine number n is to run.

    Attributes:
        on_news: called on the supervisor's loop when something changed at a child.
        on_hurry: called on the supervisor's loop when a report wants a renewal soon.
    """

    def __init__(self, launch: Callable[[int], Launch]) -> None:
        self._launch = launch
        self.on_news: Callable[[], None] = lambda: None
        self.on_hurry: Callable[[], None] = lambda: None

    async def spawn(self, engine: int) -> ProcessChild:
        """See `Spawner.spawn`. To be called on the main thread."""
        child = ProcessChild(start_engine(self._launch(engine)))
        self.adopt(child)
        await child.listen()
        return child

    def adopt(self, child: ProcessChild) -> None:
        """Be told of this child's news from now on."""
        child.on_news, child.on_hurry = self.on_news, self.on_hurry


class ProcessChild:
    """One engine process, to which nobody listens before `listen`. To be made on the loop that does.

    Attributes:
        on_news: called when it changed: it ended, was condemned, or answered.
        on_hurry: called when a report wants a renewal soon.
        answer: what it said of itself before it was told to go on, for entries that do so; None before.
    """

    def __init__(self, started: StartedEngine) -> None:
        self.on_news: Callable[[], None] = lambda: None
        self.on_hurry: Callable[[], None] = lambda: None
        self.answer: bytes | None = None
        self._process = SpawnedProcess(
            started.started, on_frame=self._arrived, on_end=lambda _word: self.on_news(), must_hear=True
        )
        self._memory = started.shared
        self._report: Report | None = None
        self._failure: str | None = None
        self._terminations = 0

    async def listen(self) -> None:
        """Begin to hear it."""
        await self._process.listen()

    def go_on(self) -> None:
        """What it answered is good: let it run its engine."""
        self._process.frames.send(framing.GO)

    @property
    def pid(self) -> int:
        """See `Child.pid`."""
        return self._process.pid

    def reports(self) -> Report | None:
        """See `Child.reports`."""
        return self._report

    def grant(self, grant: Grant, *, trust_until_ns: int) -> None:
        """See `Child.grant`."""
        self._memory.trust(trust_until_ns)
        self._process.frames.send(framing.GRANT, _encoder.encode(grant))

    def beats(self) -> int:
        """See `Child.beats`."""
        return self._memory.beats()

    def evidence(self) -> list[JobKey]:
        """See `Child.evidence`."""
        return self._memory.evidence()

    def condemned(self) -> str | None:
        """See `Child.condemned`."""
        return self._memory.condemned()

    def accused(self) -> tuple[JobKey | None, str] | None:
        """See `Child.accused`."""
        return self._memory.accused()

    def exit_reason(self) -> str | None:
        """See `Child.exit_reason`."""
        word = self._process.word
        if word == _TOLD:  # its supervisor is the only one whose word ends a worker
            return "exit 0" if self._terminations else signal.SIGTERM.name
        return word if word is None or self._failure is None else CANNOT_START + self._failure

    def dump_stacks(self) -> None:
        """See `Child.dump_stacks`: faulthandler listens to SIGUSR1 in the child."""
        self._process.signal(signal.SIGUSR1)

    def terminate(self) -> None:
        """See `Child.terminate`. systemd sends SIGTERM to children, too, so that a second wish goes another way."""
        self._terminations += 1
        if self._terminations == 1:
            self._process.signal(signal.SIGTERM)
        else:
            self._process.frames.send(framing.HURRY)

    def kill(self) -> None:
        """See `Child.kill`."""
        self._process.kill()

    def _arrived(self, kind: bytes, payload: bytes) -> None:
        if kind == framing.REPORT:
            self._report = _decoder.decode(payload)
            if self._report.soon:
                self.on_hurry()
        elif kind == framing.ANSWER:
            self.answer = payload
            self.on_news()
        elif kind == framing.FAILURE:
            self._failure = payload.decode(errors="replace")
        elif kind == framing.NEWS:
            self.on_news()
