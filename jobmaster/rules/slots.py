"""Which priority gets the next free slot: shares by weight, nothing reserved, nobody starved.

Stride scheduling (Waldspurger and Weihl, 1995): each priority has a pass value that grows by 1/weight with every
start; the lowest pass of those that have work goes next. One that was idle joins at the present pass of the others,
so that idleness earns no credit.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

WEIGHTS: dict[int, int] = {1: 2, 2: 3, 3: 4, 4: 5, 5: 6}
_STRIDES = {priority: 1.0 / weight for priority, weight in WEIGHTS.items()}


class Shares:
    """The pass values of one worker's priorities."""

    __slots__ = ("_passes", "_present")

    def __init__(self) -> None:
        self._passes = dict.fromkeys(WEIGHTS, 0.0)
        self._present = 0.0

    def joined(self, priority: int) -> None:
        """Tell that this priority had no work and has some now."""
        self._passes[priority] = max(self._passes[priority], self._present)

    def next_of(self, negated: Sequence[int]) -> int:
        """The priority that goes next among those with work; of equals the higher one.

        Args:
            negated: the priorities with work, each negated, in ascending order, so that the higher one comes first.
        """
        passes = self._passes
        best = -negated[0]
        lowest = passes[best]
        for priority in negated:
            if passes[-priority] < lowest:
                best = -priority
                lowest = passes[best]
        return best

    def count(self, priority: int) -> None:
        """An entry of this priority goes."""
        self._present = self._passes[priority]
        self._passes[priority] += _STRIDES[priority]
