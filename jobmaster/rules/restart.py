"""When a dead engine process is started again, and when that is hopeless."""

from __future__ import annotations

LONG_LIFE = 60.0
"""Seconds after which a process counts as having worked, whatever ended it."""
HOPELESS_STARTS = 5
"""So many starts in a row that never became ready, and the supervisor gives up."""

_FIRST, _LAST = 0.5, 30.0


def restart_delay(*, short_lives: int, random: float) -> float:
    """Seconds before the next start, after so many processes in a row that did not live long.

    The first one is replaced at once: its jobs are to run again within a second. `random` is in [0, 1).
    """
    if short_lives <= 1:
        return 0.0
    delay = min(_FIRST * 2.0 ** min(short_lives - 2, 10), _LAST)
    return delay * (0.5 + random / 2)
