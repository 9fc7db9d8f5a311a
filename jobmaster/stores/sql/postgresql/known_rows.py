"""Which running jobs have a row already. Nearly all get theirs when they end, and that insert need not look for one."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from jobmaster.model.ids import JobKey
    from jobmaster.model.job import Outcome, Start

MOST = 100_000
"""Keys remembered. More are there only where many jobs began here and ended elsewhere."""


class KnownRows:
    """Keys of jobs whose rows this store has made or asked for. A guess: the database's answer decides."""

    def __init__(self) -> None:
        self._keys: set[JobKey] = set()

    def made(self, starts: Iterable[Start]) -> None:
        """These jobs have rows now."""
        if len(self._keys) >= MOST:
            self._keys.clear()
        self._keys.update(one.key for one in starts)

    def has_none(self, outcomes: Sequence[Outcome]) -> bool:
        """Whether no job of these has a row, for all that is known. A job without a message always has one."""
        known = self._keys
        return all(one.seq is not None and one.key not in known for one in outcomes)

    def forget(self, jobs: Iterable[Outcome | Start]) -> None:
        """These jobs have ended, left their owner, or may not start."""
        if self._keys:
            self._keys.difference_update([one.key for one in jobs])
