"""The soft limit of a run in a process of a pool: one shared word, and a signal.

The word says which run is meant, because the signal may arrive when the next one has begun.
"""

from __future__ import annotations

import mmap
from typing import Final

SIZE: Final = 8


class SoftLimit:
    """One end's view of the word behind a descriptor (which may be closed afterwards)."""

    def __init__(self, descriptor: int) -> None:
        self._map = mmap.mmap(descriptor, SIZE)
        self._word = memoryview(self._map).cast("q")

    def passes_for(self, number: int) -> None:
        """The soft limit of this run has passed."""
        self._word[0] = number

    def has_passed_for(self, number: int) -> bool:
        """Whether it is this run that is meant."""
        return self._word[0] == number
