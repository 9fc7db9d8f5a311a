"""Which jobs run in a process of their own, and how many of these at once (docs/decisions/0011-who-is-to-blame.md)."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from jobmaster.model.ids import key_text
from jobmaster.rules.recovery import runs_apart

if TYPE_CHECKING:
    from collections.abc import Iterable

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
PAROLE_S = 1.0
"""Whoever has run alone for so long makes room for the next one: a long innocent must not hold up all others."""


class Isolation:
    """The runs of one engine that are apart.

    Args:
        pool: where they run; None: there are no such processes, and one a second runs among the others.
        max_recoveries: after so many deaths a job is given up.

    Attributes:
        pool: as given.
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

    def __bool__(self) -> bool:
        """Whether anything runs apart."""
        return bool(self._running)

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

    def has_room(self, granted: Iterable[Entry]) -> bool:
        """Whether one more may be asked about.

        What is asked about counts, and what was granted and waits for a slot: it stands as Processing in the master,
        and would be counted at a death.
        """
        return self.may_begin(len(self._asked) + sum(map(self.must, granted)) + 1)

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

    def answered(self, entry: Entry) -> None:
        """It is not any more."""
        self._asked.discard(entry)

    def began(self, entry: Entry, now: float) -> None:
        """It runs apart from `now` (monotonic) on."""
        self._running[entry] = now
        logger.info("job_apart job=%s attempt=%d recoveries=%d", key_text(entry.key), entry.attempts, entry.recoveries)

    def ended(self, entry: Entry) -> None:
        """It runs no more, if it did."""
        self._running.pop(entry, None)
