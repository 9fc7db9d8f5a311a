"""How many due jobs an engine claims: those that it starts soon; the others it leaves for a moment to other engines.

What is claimed waits for a slot of the engine that claimed it. Where a process has died, its jobs are held again at
once, and its siblings hear of it before its successor has begun. Their slots may be taken for hours, while the
successor comes with as many free ones as there are jobs.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final

from jobmaster.engine.life import Stage

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from jobmaster.engine.life import Entry
    from jobmaster.ports.clock import Clock

SOON_S: Final = 1.0
"""What starts here within so many seconds is claimed at once: elsewhere it would hardly start sooner."""
LEAVE_S: Final = 3.0
"""So long it is left to others what starts later here. A process starts in less; then it is claimed all the same."""
_LOOKS, _LATELY = 10, 3


class Restraint:
    """One engine's. It holds back nothing where the engine is alone, or runs as fast as it claims.

    Args:
        clock: the process's.
        free: how many slots nothing runs in, nor is about to.
        ended: how many runs have ended here so far.
        alone: whether no other worker of the cluster lives. One that just died may be about to have a successor.
    """

    def __init__(
        self, *, clock: Clock, free: Callable[[], int], ended: Callable[[], int], alone: Callable[[], bool]
    ) -> None:
        self._clock = clock
        self._free = free
        self._ended = ended
        self._alone = alone
        self._company_at: float | None = None
        """When (monotonic) another worker was last known to live."""
        self._looks: deque[tuple[float, int]] = deque(maxlen=_LOOKS)
        """When, and how many had ended: one a second."""
        self._claimed: list[Entry] = []
        self._left_since: float | None = None
        """Since when (monotonic) due jobs are seen that are left to others; None: there are none."""

    def look(self) -> None:
        """To be called about once a second."""
        self._looks.append((self._clock.monotonic(), self._ended()))
        self._look_around()

    def most(self) -> int | None:
        """How many due jobs may be claimed now, also 0; None: as many as there is room for."""
        left_for = self.left_for()
        if self._look_around() or (left_for is not None and left_for <= 0):
            return None
        self._claimed = [entry for entry in self._claimed if entry.stage is Stage.WAITING and entry.alive]
        return max(0, self._free() + int(self._ending_soon()) - len(self._claimed))

    def may_go_on(self) -> bool:
        """Whether some are left, and so many more would start soon now that another claim is worth it."""
        if self._left_since is None:
            return False
        most = self.most()
        return most is not None and most >= max(1.0, self._ending_soon() / 2)

    def answered(self, claimed: Iterable[Entry], now_us: int, *, is_left: bool, is_restrained: bool) -> None:
        """A claim was answered.

        Args:
            claimed: what it brought.
            now_us: when, by the master's clock.
            is_left: jobs that are due are still held.
            is_restrained: it might have brought more, but for this.
        """
        if not is_left:
            self._left_since = None
        elif is_restrained and self._left_since is None:
            self._left_since = self._clock.monotonic()
        if is_restrained:
            self._claimed += [entry for entry in claimed if entry.due_us <= now_us]

    def left_for(self) -> float | None:
        """For how many more seconds due jobs are left to others; None: there are none."""
        if self._left_since is None:
            return None
        return self._left_since + LEAVE_S - self._clock.monotonic()

    def _look_around(self) -> bool:
        """Whether there has been no other worker for a while."""
        now = self._clock.monotonic()
        if not self._alone():
            self._company_at = now
        return self._company_at is None or now - self._company_at > LEAVE_S

    def _ending_soon(self) -> float:
        """How many runs end within SOON_S: as few as lately, or as over a while. Long runs end in waves."""
        looks = self._looks
        return (
            min(self._ended_since(*looks[0]), self._ended_since(*looks[max(0, len(looks) - _LATELY)])) if looks else 0.0
        )

    def _ended_since(self, since: float, before: int) -> float:
        return (self._ended() - before) / max(self._clock.monotonic() - since, 1.0) * SOON_S
