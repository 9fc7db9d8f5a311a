"""How many guarded starts are asked for beyond the free slots, so that short jobs do not wait for each answer."""

from __future__ import annotations

from typing import Final

LONGEST_WAIT_S: Final = 0.05
"""A job whose start was granted waits for its slot about so long at most, or twice as long as answers take where that
is more (but for a second at most): a crash would find it as running."""
_LONGEST_S, _LEAST, _MOST = 1.0, 16, 500


class StartsAhead:
    """Judges once for each batch of answers, by what slots and granted jobs waited for.

    Nothing is asked for ahead of runs that do not end: at most as many as ended lately find a slot in time. Lately is
    twice the time that an answer takes: where slots wait for answers, runs end in waves that are so far apart.

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
        """Runs that ended since then, and in the `_lately_s` before."""
        self._lately_s = LONGEST_WAIT_S
        self._slowest_s = 0.0
        """The answer that took longest, of those since the last look."""

    def look(self, now: float) -> None:
        """Starts are about to be asked for, at `now` (monotonic seconds)."""
        if self._slowest_s:
            self._lately_s = min(max(2 * self._slowest_s, LONGEST_WAIT_S), _LONGEST_S)
            self._slowest_s = 0.0
        self.allowed = min(self._wanted, self._lately(now))

    def answered(self, seconds: float) -> None:
        """An answer came, so long after it was asked for."""
        self._was_answered = True
        self._slowest_s = max(self._slowest_s, seconds)

    def ended(self, count: int, now: float) -> None:
        """So many runs are over."""
        if now - self._since >= self._lately_s:
            self._ended_before = self._ended if now - self._since < 2 * self._lately_s else 0
            self._ended, self._since = 0, now
        self._ended += count

    def slots_waited(self) -> None:
        """Slots are free, and the answers for the jobs that might take them are under way."""
        if self._was_answered:
            self._was_answered = False
            self._wanted = min(2 * max(self.allowed, _LEAST), _MOST)

    def job_waited(self, seconds: float) -> None:
        """A granted job waited so long for its slot."""
        if self._was_answered and seconds > self._lately_s:
            self._was_answered = False
            self._wanted //= 2

    def _lately(self, now: float) -> int:
        if now - self._since >= 2 * self._lately_s:
            return 0
        return max(self._ended, self._ended_before)
