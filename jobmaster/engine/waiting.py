"""What waits in memory: by due time until it is due, then first come first served within its priority."""

from __future__ import annotations

import heapq
import itertools
from collections import deque
from typing import TYPE_CHECKING

from jobmaster.engine.life import Stage
from jobmaster.rules.slots import WEIGHTS, Shares

if TYPE_CHECKING:
    from collections.abc import Callable

    from jobmaster.engine.life import Entry


class Waiting:
    """The waiting entries of all lives. Entries whose life was dropped fall out when they are met."""

    def __init__(self) -> None:
        self._shares = Shares()
        self._ready: dict[int, deque[Entry]] = {priority: deque() for priority in WEIGHTS}
        self._later: list[tuple[int, int, Entry]] = []
        self._order = itertools.count()

    def add(self, entry: Entry, now_us: int) -> None:
        """Let an entry wait: until its due time, or for a slot."""
        if entry.due_us > now_us:
            heapq.heappush(self._later, (entry.due_us, next(self._order), entry))
        else:
            self._append(entry)

    def next_due_us(self) -> int | None:
        """When the earliest entry that is not due yet will be."""
        while self._later and not self._later[0][2].alive:
            heapq.heappop(self._later)
        return self._later[0][0] if self._later else None

    def promote(self, now_us: int) -> None:
        """Move what has become due to the queues of its priorities."""
        while self._later and self._later[0][0] <= now_us:
            entry = heapq.heappop(self._later)[2]
            if entry.alive:
                self._append(entry)

    def take(self, fits: Callable[[Entry], bool]) -> Entry | None:
        """The entry that goes next by the shares of the priorities, or None; who does not fit keeps its place."""
        candidates = dict(self._heads(fits))
        if not candidates:
            return None
        priority = self._shares.choose(candidates)
        queue = self._ready[priority]
        entry = queue[candidates[priority]]
        del queue[candidates[priority]]
        return entry

    def drop_dead(self) -> None:
        """Forget entries of dropped lives (called after a drop, so that their memory is freed)."""
        for priority, queue in self._ready.items():
            self._ready[priority] = deque(entry for entry in queue if entry.alive)
        self._later = [item for item in self._later if item[2].alive]
        heapq.heapify(self._later)

    def __len__(self) -> int:
        return sum(map(len, self._ready.values())) + len(self._later)

    def _append(self, entry: Entry) -> None:
        priority = entry.life.bucket.priority
        queue = self._ready[priority]
        if not queue:
            self._shares.joined(priority)
        queue.append(entry)

    def _heads(self, fits: Callable[[Entry], bool]) -> list[tuple[int, int]]:
        heads = []
        for priority, queue in self._ready.items():
            while queue and not _waits(queue[0]):
                queue.popleft()
            if not queue:
                continue
            if fits(queue[0]):
                heads.append((priority, 0))
                continue
            for index, entry in enumerate(itertools.islice(queue, _LOOK)):
                if _waits(entry) and fits(entry):
                    heads.append((priority, index))
                    break
        return heads


def _waits(entry: Entry) -> bool:
    return entry.stage is Stage.WAITING and entry.alive


_LOOK = 64
"""How far behind a head that may not start now (a second suspect, a life without trust) another entry is looked for."""
