"""How many guarded starts are asked for beyond the free slots, so that short jobs do not wait for each answer."""

from __future__ import annotations

from typing import Final

LONGEST_WAIT_S: Final = 0.05
"""A job whose start was granted waits for its slot about so long at most: a crash would find it as running."""
_LEAST, _MOST = 16, 500


class StartsAhead:
    """Judges once for each batch of answers, by what slots and granted jobs waited for.

    Nothing is asked for ahead of runs that do not end: at most as many as ended lately find a slot in time.

    Attributes:
        allowed: so many jobs more than there are free slots may be asked about, or wait for a slot with a yes.
    """

    def __init__(self) -> None:
        self.allowed = 0
        self._wanted = 0
        self._was_answered = False
        """Some answer has come since it was judged."""
        self._since = 0.0
        self._ended = self._ended_before = 0
        """Runs that ended since then, and in the `LONGEST_WAIT_S` before."""

    def look(self, now: float) -> None:
        """Starts are about to be asked for, at `now` (monotonic seconds)."""
        self.allowed = min(self._wanted, self._lately(now))

    def answered(self) -> None:
        """An answer came."""
        self._was_answered = True

    def ended(self, count: int, now: float) -> None:
        """So many runs are over."""
        if now - self._since >= LONGEST_WAIT_S:
            self._ended_before = self._ended if now - self._since < 2 * LONGEST_WAIT_S else 0
            self._ended, self._since = 0, now
        self._ended += count

    def slots_waited(self) -> None:
        """Slots are free, and the answers for the jobs that might take them are under way."""
        if self._was_answered:
            self._was_answered = False
            self._wanted = min(2 * max(self.allowed, _LEAST), _MOST)

    def job_waited(self, seconds: float) -> None:
        """A granted job waited so long for its slot."""
        if self._was_answered and seconds > LONGEST_WAIT_S:
            self._was_answered = False
            self._wanted //= 2

    def _lately(self, now: float) -> int:
        if now - self._since >= 2 * LONGEST_WAIT_S:
            return 0
        return max(self._ended, self._ended_before)
