"""Whose lease may be called over after the store did not answer: nobody could renew meanwhile (R15).

When the store answers again, owners that live renew within moments, and one that judged them first would have their
runs repeated. So leases are judged as of the last answer before the silence, until a whole lease has passed after it.
Whoever has just come knows of no silence, and may be the first that the store answers: he lets others renew before.

A store whose clock is set forward does the same to its owners: nobody could renew by the new time. Leases are judged as
of the moment before, until a whole lease has passed.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from jobmaster.engine.store_clock import StoreClock
    from jobmaster.ports.clock import Clock

logger = logging.getLogger("jobmaster.engine")


class Silences:
    """What one worker knows of the store's silences, by the answers to its renewals.

    Args:
        clock: of this process.
        store_clock: the store's, as it is known here.
        lease: seconds. A silence of half of it may have kept another owner from renewing in time, and a step of the
            store's clock by as much may have ended the lease of one that renews as it should.
    """

    def __init__(self, *, clock: Clock, store_clock: StoreClock, lease: float) -> None:
        self._clock = clock
        self._store_clock = store_clock
        self._lease_ns = round(lease * 1e9)
        self._answered_ns: int | None = None
        self._answered_us = 0
        self._silent_since_us = 0
        self._patient_until_ns = 0
        self._looked_ns = self._looked_us = 0
        """When the store's clock was looked at, by both clocks."""

    def answered(self, now_us: int) -> None:
        """The store has answered; its time was `now_us`."""
        now_ns = self._clock.trust_ns()
        if self._answered_ns is None:
            self._patient_until_ns = now_ns + self._lease_ns // 3  # in which everybody who lives has tried to renew
        elif self._is_silent(now_ns):
            self._silent_since_us = self._answered_us
            self._patient_until_ns = now_ns + self._lease_ns
        else:
            self._look_at_the_clock(now_ns)
        self._answered_ns, self._answered_us = now_ns, now_us
        self._looked_ns, self._looked_us = now_ns, self._store_clock.now_us()

    def as_of_us(self) -> int:
        """Leases that were over then, by the store's clock, are over: what is asked now may wait for its answer."""
        now_ns = self._clock.trust_ns()
        if self._answered_ns is None or self._is_silent(now_ns):
            return self._answered_us
        self._look_at_the_clock(now_ns)
        return self._silent_since_us if now_ns < self._patient_until_ns else self._store_clock.now_us()

    def _is_silent(self, now_ns: int) -> bool:
        return self._answered_ns is not None and now_ns - self._answered_ns > self._lease_ns // 2

    def _look_at_the_clock(self, now_ns: int) -> None:
        """Whether the store's clock was set forward since it was last looked at."""
        expected_us = self._looked_us + (now_ns - self._looked_ns) // 1_000
        found_us = self._store_clock.now_us()
        if found_us - expected_us > self._lease_ns // 2_000:
            if now_ns >= self._patient_until_ns:
                self._silent_since_us = expected_us
            self._patient_until_ns = now_ns + self._lease_ns
            logger.warning("store_clock_set_forward seconds=%.1f", (found_us - expected_us) / 1e6)
        self._looked_ns, self._looked_us = now_ns, found_us
