"""Guarded starts (R10): how many the master is asked about at once, and who waits for a slot with its yes."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from jobmaster.engine.life import Stage
from jobmaster.engine.starts_ahead import StartsAhead

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sized

    from jobmaster.engine.isolation import Isolation
    from jobmaster.engine.life import Entry
    from jobmaster.engine.starter import Starter
    from jobmaster.ports.clock import Clock


class GuardedStarts:
    """Those of one engine, between the moment at which their turn has come and their slot.

    Args:
        running: the engine's runs; only their number is asked for.
        hand_on: gives a job back to the master that will not start here after all.
        answered: called after each answer.

    Attributes:
        slots: of the engine; set before anything is asked.
        others: at so many runs in all none begins that does not run apart (`Isolation.slots_for_others`); the same.
        ready: with a yes, in the order of the answers. Those that run apart are in `Isolation.ready`.
        ahead: judges how many are asked about beyond the free slots.
    """

    def __init__(
        self,
        *,
        running: Sized,
        starter: Starter,
        isolation: Isolation,
        clock: Clock,
        hand_on: Callable[[Entry], None],
        answered: Callable[[], None],
    ) -> None:
        self._running = running
        self._starter = starter
        self._isolation = isolation
        self._clock = clock
        self._hand_on = hand_on
        self._told = answered
        self._releasing = False
        self.slots = self.others = 0
        self.asking = 0
        self.ready: deque[Entry] = deque()
        self.ahead = StartsAhead()
        starter.answered = self._answered

    def __len__(self) -> int:
        """How many are asked about, or wait for a slot with a yes."""
        return self.asking + len(self.ready) + len(self._isolation.ready)

    def fits(self, entry: Entry) -> bool:
        """Whether an entry that needs a guarded start may be asked about now."""
        isolation = self._isolation
        coming = self.asking - isolation.asking + len(self.ready)
        if entry.recoveries and isolation.must(entry):
            return isolation.has_room(self.slots - len(self._running) + isolation.running - coming + self.ahead.allowed)
        return coming < self.others - len(self._running) + self.ahead.allowed

    def ask(self, entry: Entry) -> None:
        """A guarded start. Of a job that runs here this is a second copy: the master knows whether it counts."""
        entry.stage = Stage.ASKING
        entry.granted_at = self._clock.monotonic()
        self.asking += 1
        self._isolation.asked(entry)
        self._starter.ask(entry)

    def release(self) -> None:
        """The stop's end is near: what waits for a slot with a yes, or will, goes back as it was."""
        self._releasing = True
        for entry in self._taken_out():
            if entry.alive:
                self._hand_on(entry)

    def _taken_out(self) -> Iterator[Entry]:
        for ready in (self._isolation.ready, self.ready):
            while ready:
                yield ready.popleft()

    def _answered(self, entry: Entry, *, yes: bool) -> None:
        self.asking -= 1
        now = self._clock.monotonic()
        self.ahead.answered(now - entry.granted_at)
        is_apart = self._isolation.answered(entry)
        if yes and entry.alive and self._releasing:
            self._hand_on(entry)
        elif yes and entry.alive:
            entry.stage = Stage.READY
            entry.granted_at = now
            (self._isolation.ready if is_apart else self.ready).append(entry)
        self._told()
