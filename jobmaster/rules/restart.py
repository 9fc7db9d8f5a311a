"""When a dead engine process is started again, and when that is hopeless."""

from __future__ import annotations

LONG_LIFE = 60.0
"""Seconds after which a process counts as having worked, whatever ended it."""
HOPELESS_STARTS = 5
"""So many starts in a row that never became ready, and the supervisor gives up."""
AT_ONCE = 10
"""So many deaths that took running jobs along are each followed by a start at once, however short the lives were..."""
AGAIN_EVERY = 6.0
"""...and one more for each so many seconds."""

_FIRST, _LAST = 0.5, 30.0


def restart_delay(*, short_lives: int, random: float) -> float:
    """Seconds before the next start, after so many processes in a row that did not live long.

    The first one is replaced at once: its jobs are to run again within a second. `random` is in [0, 1).
    """
    if short_lives <= 1:
        return 0.0
    delay = min(_FIRST * 2.0 ** min(short_lives - 2, 10), _LAST)
    return delay * (0.5 + random / 2)


class Restarts:
    """How soon the next process of one engine starts, by how the last ones ended.

    A death that took running jobs along, as a job's crash and a kill under load, keeps nobody waiting unless such
    deaths come one after the other. A process that dies of nothing else is started ever more slowly.
    """

    def __init__(self) -> None:
        self._left = float(AT_ONCE)
        self._counted_at: float | None = None
        self._wait = 0.0
        self._short_lives = 0

    def ended(self, now: float, *, lived: float, with_jobs: bool) -> None:
        """A process has ended.

        Args:
            now: `Clock.monotonic`.
            lived: for so many seconds; 0 where it could not be started.
            with_jobs: some ran in it.
        """
        if self._counted_at is not None:
            self._left = min(self._left + (now - self._counted_at) / AGAIN_EVERY, AT_ONCE)
        self._counted_at = now
        self._wait = 0.0
        if lived >= LONG_LIFE:
            self._short_lives = 1
        elif with_jobs:
            self._short_lives = 1
            self._left -= 1
            self._wait = max(0.0, -self._left * AGAIN_EVERY)
        else:
            self._short_lives += 1

    def delay(self, *, random: float) -> float:
        """Seconds before the next start; `random` is in [0, 1)."""
        return max(self._wait, restart_delay(short_lives=self._short_lives, random=random))
