"""Which jobs run in a process of their own, and how many of these at once (docs/decisions/0011-who-is-to-blame.md)."""

from __future__ import annotations

import logging
from collections import deque
from typing import TYPE_CHECKING

from jobmaster.model.ids import key_text
from jobmaster.rules.recovery import runs_apart

if TYPE_CHECKING:
    from jobmaster.engine.life import Entry
    from jobmaster.model.ids import JobKey
    from jobmaster.model.worker import Grant
    from jobmaster.ports.clock import Clock
    from jobmaster.ports.workload import Pool

logger = logging.getLogger("jobmaster.engine")

PLACES_APART = 4
"""So many jobs at once begin to run in processes of their own: each costs the start and the memory of one more."""
MOST_APART = 16
"""So many run in processes of their own in all, whatever happens: their memory is bounded. The others wait."""
BESIDE = 4
"""For so many slots one run apart goes without a slot, beside them, and at most as many as begin at once: what was
interrupted must not wait for the end of long runs. With fewer slots there is none: one slot may be meant as a lock."""
PAROLE_S = 1.0
"""Whoever has run alone for so long makes room for the next one: a long innocent must not hold up all others."""


class Isolation:
    """The runs of one engine that are apart.

    Args:
        pool: where they run; None: there are no such processes, and one a second runs among the others.
        max_recoveries: after so many deaths a job is given up.

    Attributes:
        pool: as given.
        ready: those that wait for a slot with the master's yes.
    """

    def __init__(self, *, pool: Pool | None, max_recoveries: int, clock: Clock) -> None:
        self.pool = pool
        self._max_recoveries = max_recoveries
        self._clock = clock
        self._suspects: frozenset[JobKey] = frozenset()
        self._running: dict[Entry, float] = {}
        """Since when (monotonic)."""
        self._asked: set[Entry] = set()
        """Those that a guarded start is under way for."""
        self.ready: deque[Entry] = deque()
        self._slots = self._beside = 0

    def __bool__(self) -> bool:
        """Whether anything runs apart, or is about to."""
        return bool(self._running or self._asked or self.ready)

    def __contains__(self, entry: Entry) -> bool:
        """Whether this run is apart."""
        return entry in self._running

    def granted(self, grant: Grant) -> None:
        """A renewal's reply says who is suspected."""
        if grant.suspects or self._suspects:
            self._suspects = frozenset(grant.suspects)

    def must(self, entry: Entry) -> bool:
        """Whether its next death is to name it alone: then it runs apart. Nobody who was never counted does."""
        if not entry.recoveries:
            return False
        return entry.key in self._suspects or runs_apart(entry.recoveries, max_recoveries=self._max_recoveries)

    @property
    def asking(self) -> int:
        """So many guarded starts of them are under way."""
        return len(self._asked)

    @property
    def running(self) -> int:
        """So many run apart."""
        return len(self._running)

    def slots_for_others(self, slots: int, *, waiting: int) -> int:
        """At how many runs in all none of the others begins: those apart go beside the slots, or get the next ones.

        Args:
            slots: of the engine, by which this object judges until it is asked again.
            waiting: so many may run apart only, and are due.
        """
        self._slots = slots
        self._beside = 0 if self.pool is None else min(PLACES_APART, slots // BESIDE)
        running = len(self._running)
        coming = len(self._asked) + len(self.ready)
        # Those that begin now, and those that begin when these are on parole.
        coming += min(waiting, 2 * self._beside, max(0, MOST_APART - running - coming))
        return slots - max(0, running + coming - self._beside) + running

    def has_slot(self, running: int) -> bool:
        """Whether one of those that are ready finds a slot beside so many runs of the engine."""
        apart = len(self._running)
        return running - apart + max(0, apart + 1 - self._beside) <= self._slots

    def has_room(self, free: int) -> bool:
        """Whether one more may be asked about, with so many slots that the others neither have nor are to get.

        What is asked about counts, and what waits for a slot with a yes: it stands as Processing in the master,
        and would be counted at a death.
        """
        coming = len(self._asked) + len(self.ready)
        wanted = max(0, len(self._running) + coming + 1 - self._beside)
        return wanted <= max(free, 0) and self.may_begin(coming + 1)

    def may_begin(self, count: int) -> bool:
        """Whether so many more may begin now."""
        after = self._clock.monotonic() - PAROLE_S
        lately = sum(at > after for at in self._running.values())
        places = 1 if self.pool is None else PLACES_APART
        return lately + count <= places and len(self._running) + count <= MOST_APART

    def asked(self, entry: Entry) -> None:
        """A guarded start of it is under way."""
        if self.must(entry):
            self._asked.add(entry)

    def answered(self, entry: Entry) -> bool:
        """It is not any more; whether it was."""
        if entry in self._asked:
            self._asked.remove(entry)
            return True
        return False

    def began(self, entry: Entry, now: float) -> None:
        """It runs apart from `now` (monotonic) on."""
        self._running[entry] = now
        logger.info("job_apart job=%s attempt=%d recoveries=%d", key_text(entry.key), entry.attempts, entry.recoveries)

    def ended(self, entry: Entry) -> None:
        """It runs no more, if it did."""
        self._running.pop(entry, None)
