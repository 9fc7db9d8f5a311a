"""Time and randomness, injected: the engine never asks the operating system by itself."""

from __future__ import annotations

from typing import Protocol


class Clock(Protocol):
    """Three clocks of one process."""

    def now_us(self) -> int:
        """Wall clock, microseconds since the epoch (UTC). Only for logs, and as a first guess of the store's clock."""
        ...

    def trust_ns(self) -> int:
        """A clock that also runs while the machine sleeps, in nanoseconds: for leases (I7)."""
        ...

    def monotonic(self) -> float:
        """Seconds, never going back: for durations."""
        ...
