"""The store's clock, estimated from its answers (I7).

An answer that says "my time is T" was made before it arrived, so T minus the local clock at arrival is at most the
true offset. The largest of the recent samples is the best: it had the shortest way. The estimate never runs ahead.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from jobmaster.ports.clock import Clock

_FADE_US_PER_S = 100
"""How fast an old sample loses its weight: clocks drift against each other by less than 100 ppm."""


class StoreClock:
    """Estimate of the store's now."""

    __slots__ = ("_clock", "_offset_us", "_sampled_at")

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._offset_us: float | None = None
        self._sampled_at = 0.0

    def learn(self, store_now_us: int) -> None:
        """Take in the `now_us` of an answer that just arrived."""
        local = self._clock.monotonic()
        sample = store_now_us - local * 1e6
        if self._offset_us is not None:
            faded = self._offset_us - (local - self._sampled_at) * _FADE_US_PER_S
            sample = max(sample, faded)
        self._offset_us, self._sampled_at = sample, local

    def now_us(self) -> int:
        """The store's time, at most what it really is; before the first answer, this host's wall clock."""
        if self._offset_us is None:
            return self._clock.now_us()
        return int(self._offset_us + self._clock.monotonic() * 1e6)

    def local_time(self, moment_us: int) -> float:
        """When, on the local monotonic clock, the store's clock will show `moment_us`."""
        return self._clock.monotonic() + (moment_us - self.now_us()) / 1e6
