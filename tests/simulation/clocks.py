"""The clocks of a simulated machine: its wall clock is wrong, its other clocks run a little fast or slow."""

from __future__ import annotations

from tests.simulation.virtual_loop import VirtualLoop

EPOCH_US = 1_800_000_000_000_000
"""The stores' clock at the start of every simulation."""


def store_now_us(loop: VirtualLoop) -> int:
    """The one clock of all databases of a simulation."""
    return EPOCH_US + round(loop.virtual * 1_000_000)


class SimClock:
    """Clock of one machine (ports.clock).

    Args:
        loop: the virtual time.
        skew_us: how wrong the wall clock is.
        rate: how fast the machine's oscillator runs; 1.0 is right.
    """

    def __init__(self, loop: VirtualLoop, *, skew_us: int = 0, rate: float = 1.0) -> None:
        self._loop, self._skew_us, self._rate = loop, skew_us, rate

    def now_us(self) -> int:
        return store_now_us(self._loop) + self._skew_us

    def step(self, seconds: float) -> None:
        """Somebody sets the wall clock."""
        self._skew_us += round(seconds * 1e6)

    def trust_ns(self) -> int:
        return round(self._loop.virtual * self._rate * 1_000_000_000) + 5_000_000_000

    def monotonic(self) -> float:
        return self._loop.virtual * self._rate
