"""The link as the engine process sees it (ports.link.EngineLink)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
from msgspec.structs import replace

from jobmaster.engine.links import framing
from jobmaster.engine.links.frames import Frames
from jobmaster.model.worker import Grant

if TYPE_CHECKING:
    from collections.abc import Callable

    from jobmaster.engine.links.memory import SharedMemory
    from jobmaster.model.ids import JobKey
    from jobmaster.ports.link import Report

_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Grant)


class ProcessEngineLink:
    """Shared memory, and messages to the supervisor.

    Args:
        shared: the memory that the supervisor sees, too.
        on_hurry: called on the loop when a second signal wants an end now.
    """

    def __init__(self, shared: SharedMemory, *, on_hurry: Callable[[], None]) -> None:
        self._memory = shared
        self._on_hurry = on_hurry
        self._deliver: Callable[[Grant], None] | None = None
        self._early: list[Grant] = []
        self._soon = False
        """The last report said so."""
        self.frames = Frames(self._arrived, lambda: None)  # a supervisor that is gone: see orphans.py

    def report(self, report: Report) -> None:
        """See `EngineLink.report`. What replaces an unsent wish for a renewal is one, too."""
        if self._soon and self.frames.waiting and not report.soon:
            report = replace(report, soon=True)
        self._soon = report.soon
        self.frames.send_latest(framing.REPORT, _encoder.encode(report))

    def trust_until_ns(self) -> int:
        """See `EngineLink.trust_until_ns`."""
        return self._memory.trust_until_ns()

    def on_grant(self, callback: Callable[[Grant], None]) -> None:
        """See `EngineLink.on_grant`."""
        self._deliver = callback
        early, self._early = self._early, []
        for grant in early:
            callback(grant)

    def beat(self) -> None:
        """See `EngineLink.beat`."""
        self._memory.beat()

    def beats(self) -> int:
        """The liveness counter."""
        return self._memory.beats()

    def accuse(self, key: JobKey | None, what: str) -> None:
        """Say in shared memory what holds the loop up. For any thread."""
        self._memory.accuse(key, what)

    def acquit(self) -> None:
        """Nothing does any more."""
        self._memory.acquit()

    def running(self, key: JobKey) -> int:
        """See `EngineLink.running`."""
        return self._memory.note(key)

    def ended(self, place: int) -> None:
        """See `EngineLink.ended`."""
        self._memory.clear(place)

    def condemn(self, reason: str) -> None:
        """See `EngineLink.condemn`."""
        self._memory.condemn(reason)
        self.frames.send(framing.NEWS)

    def _arrived(self, kind: bytes, payload: bytes) -> None:
        if kind == framing.HURRY:
            self._on_hurry()
        elif kind == framing.GRANT:
            grant = _decoder.decode(payload)
            if self._deliver is None:
                self._early.append(grant)
            else:
                self._deliver(grant)
