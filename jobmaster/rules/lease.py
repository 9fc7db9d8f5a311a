"""How long a renewal can be trusted, and when to ask again (docs/protocol.md: R7, I7)."""

from __future__ import annotations

import msgspec


class LeaseTiming(msgspec.Struct, frozen=True):
    """Lease, period of its renewals and margin, in seconds.

    The margin is what the holder gives up at the end of its lease: for clocks that run at different speeds, and for the
    time between its last look at the clock and the first instruction of a job. None: a tenth of the lease.
    """

    lease: float = 10.0
    renew_every: float = 3.0
    margin: float | None = None

    @property
    def call_timeout(self) -> float:
        """After so many seconds an unanswered renewal is abandoned: two more fit into the lease."""
        return self.lease / 3


def trust_until_ns(timing: LeaseTiming, *, sent_ns: int) -> int:
    """Until when a renewal that was sent at `sent_ns` and answered may be trusted, on the same clock.

    The store counts the lease from a moment after the sending, so this end is always the earlier one.
    """
    margin = timing.lease / 10 if timing.margin is None else timing.margin
    return sent_ns + round((timing.lease - margin) * 1_000_000_000)


def retry_after(timing: LeaseTiming, *, failures: int, random: float) -> float:
    """Seconds to wait after the `failures`-th renewal in a row without an answer; `random` is in [0, 1).

    Doubles from a hundredth of the lease up to a tenth, and is jittered by half, so that a cluster whose database comes
    back is not asked by everybody at once, and nobody loses a lease by waiting.
    """
    longest = min(timing.lease / 100 * 2.0 ** min(failures - 1, 10), timing.lease / 10)
    return longest * (0.5 + random / 2)
