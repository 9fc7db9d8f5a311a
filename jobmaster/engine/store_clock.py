"""The store's clock, estimated from its answers (I7).

An answer that says "my time is T" was made before it arrived, so T minus the local clock at arrival is at most the
true offset. The largest of the recent samples is the best: it had the shortest way. The estimate never runs ahead,
but for a minute after the store's own clock was set back.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from jobmaster.ports.clock import Clock

_FADE_US_PER_S = 100
"""How fast an old sample loses its weight: clocks drift against each other by less than 100 ppm."""
_RECENT = 30.0
"""Seconds of one span of samples. Those of the present span and of the one before it count."""


class StoreClock:
    """Estimate of the store's now."""

    __slots__ = ("_before_us", "_clock", "_offset_us", "_sampled_at", "_since", "_span_us")

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._offset_us: float | None = None
        self._sampled_at = 0.0
        self._since = float("-inf")
        self._span_us = self._before_us = float("-inf")
        """The largest samples of the present span and of the one before it."""

    def learn(self, store_now_us: int) -> None:
        """Take in the `now_us` of an answer that just arrived."""
        local = self._clock.monotonic()
        faded = (local - self._sampled_at) * _FADE_US_PER_S
        self._span_us, self._before_us, self._sampled_at = self._span_us - faded, self._before_us - faded, local
        sample = store_now_us - local * 1e6
        if local - self._since > _RECENT:
            self._before_us, self._span_us, self._since = self._span_us, sample, local
        self._span_us = max(self._span_us, sample)
        self._offset_us = max(self._span_us, self._before_us)

    def at(self, monotonic: float) -> int:
        """The store's time at a moment of this process's monotonic clock."""
        if self._offset_us is None:
            return self._clock.now_us()
        return int(self._offset_us + monotonic * 1e6)

    def now_us(self) -> int:
        """The store's time, at most what it really is; before the first answer, this host's wall clock."""
        if self._offset_us is None:
            return self._clock.now_us()
        return int(self._offset_us + self._clock.monotonic() * 1e6)
