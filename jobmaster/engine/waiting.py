"""What waits in memory: by due time until it is due, then first come first served within its priority."""

from __future__ import annotations

import heapq
import itertools
from bisect import insort
from collections import deque
from typing import TYPE_CHECKING

from jobmaster.engine.life import Stage
from jobmaster.rules.slots import WEIGHTS, Shares

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Iterable

    from jobmaster.engine.life import Entry
    from jobmaster.model.ids import JobKey


class Waiting:
    """The waiting entries of all lives. Entries whose life was dropped fall out when they are met."""

    def __init__(self) -> None:
        self._shares = Shares()
        self._ready: dict[int, deque[Entry]] = {priority: deque() for priority in WEIGHTS}
        self._present: list[int] = []
        """The priorities that have entries, negated and in order: the highest comes first."""
        self._later: list[tuple[int, int, Entry, bool]] = []
        """Due time, order, entry, and whether it may run apart only."""
        self._order = itertools.count()
        self._heads: dict[int, list[list[Entry]]] = {}
        """By priority: the first of each adopted bucket, which take turns; those that have left are still in it."""
        self.apart: deque[Entry] = deque()
        """Those that may run apart only, and due. `take_apart` gives them out, `take` the others."""

    def add(self, entries: Iterable[Entry], now_us: int) -> None:
        """Let entries wait: until their due time, or for a slot."""
        for entry in entries:
            if entry.due_us > now_us:
                heapq.heappush(self._later, (entry.due_us, next(self._order), entry, False))
            else:
                self._append(entry)

    def add_first(self, entries: Iterable[Entry], now_us: int) -> None:
        """Let entries wait before all others of their priority, in the order in which they are given.

        For jobs that lost their worker in their run, or may have: they had had their turn.
        """
        first = []
        for entry in entries:
            if entry.due_us > now_us:
                self.add((entry,), now_us)
            else:
                first.append(entry)
        for entry in reversed(first):
            self._append(entry)
            self._ready[entry.life.bucket.priority].rotate(1)

    def add_heads(self, entries: list[Entry], now_us: int) -> None:
        """Let the first entries of an adopted bucket wait: they may have run when its owner died.

        They go before all others of their priority but those that did run, and adopted buckets take turns: nobody knows
        in which of them something was interrupted.
        """
        due = [entry for entry in entries if entry.due_us <= now_us]
        if len(due) < len(entries):
            self.add((entry for entry in entries if entry.due_us > now_us), now_us)
        if not due:
            return
        priority = due[0].life.bucket.priority
        queue = self._ready[priority]
        if not queue:
            self._append(due[0])
        before = [list(filter(_waits, heads)) for heads in self._heads.get(priority, ())]
        turns = self._heads[priority] = [*filter(None, before), due]
        heads = [entry for turn in itertools.zip_longest(*turns) for entry in turn if entry is not None]
        ran = list(itertools.takewhile(_has_run, queue))
        moved = {*ran, *heads}
        others = [entry for entry in queue if entry not in moved]
        queue.clear()
        queue.extend(itertools.chain(ran, heads, others))

    def add_claimed(self, entries: Iterable[Entry], now_us: int) -> None:
        """Let entries wait that the master held. First goes who was interrupted, or due before all that waits here."""
        first = []
        for entry in entries:
            queue = self._ready[entry.life.bucket.priority]
            if _has_run(entry) or (queue and entry.due_us < queue[0].due_us):
                first.append(entry)
            else:
                self.add((entry,), now_us)
        self.add_first(sorted(first, key=_due), now_us)

    def add_apart(self, entries: Iterable[Entry], now_us: int) -> None:
        """Let entries wait that may run apart only: the others go past them."""
        for entry in entries:
            if entry.due_us > now_us:
                heapq.heappush(self._later, (entry.due_us, next(self._order), entry, True))
            else:
                self.apart.append(entry)

    def next_due_us(self) -> int | None:
        """When the earliest entry that is not due yet will be."""
        while self._later and not self._later[0][2].alive:
            heapq.heappop(self._later)
        return self._later[0][0] if self._later else None

    def promote(self, now_us: int) -> None:
        """Move what has become due to the queues of its priorities."""
        while self._later and self._later[0][0] <= now_us:
            _, _, entry, is_apart = heapq.heappop(self._later)
            if entry.alive and is_apart:
                self.apart.append(entry)
            elif entry.alive:
                self._append(entry)

    def take(self, running: Container[JobKey], fits: Callable[[Entry], bool]) -> Entry | None:
        """The entry that goes next by the shares of the priorities, or None.

        Args:
            running: jobs that run here.
            fits: asked about entries that may not start just so: they are guarded, or their job runs here. Who does not
                fit keeps its place.
        """
        present = self._present
        while present:
            priority = -present[0] if len(present) == 1 else self._shares.next_of(present)
            queue = self._ready[priority]
            entry = queue[0]
            if not _waits(entry):
                self._take_out(priority, queue, 0)
            elif (entry.guarded or entry.key in running) and not fits(entry):
                return self._take_behind(running, fits)
            else:
                self._shares.count(priority)
                return self._take_out(priority, queue, 0)
        return None

    def take_apart(self, _running: Container[JobKey], fits: Callable[[Entry], bool]) -> Entry | None:
        """The first of those that may run apart only, if it fits: what keeps it back keeps back the others, too."""
        while self.apart:
            entry = self.apart[0]
            if _waits(entry):
                return self.apart.popleft() if fits(entry) else None
            self.apart.popleft()
        return None

    def drop_dead(self) -> None:
        """Forget entries of dropped lives (called after a drop, so that their memory is freed)."""
        for priority, queue in self._ready.items():
            self._ready[priority] = deque(entry for entry in queue if entry.alive)
        for turns in self._heads.values():
            turns[:] = [list(filter(_waits, heads)) for heads in turns]
        self.apart = deque(entry for entry in self.apart if entry.alive)
        self._present = sorted(-priority for priority, queue in self._ready.items() if queue)
        self._later = [item for item in self._later if item[2].alive]
        heapq.heapify(self._later)

    def __len__(self) -> int:
        return sum(map(len, self._ready.values())) + len(self._later) + len(self.apart)

    def _append(self, entry: Entry) -> None:
        priority = entry.life.bucket.priority
        queue = self._ready[priority]
        if not queue:
            self._shares.joined(priority)
            insort(self._present, -priority)
        queue.append(entry)

    def _take_out(self, priority: int, queue: deque[Entry], index: int) -> Entry:
        entry = queue[index]
        if index:
            del queue[index]
        else:
            queue.popleft()
        if not queue:
            self._present.remove(-priority)
        return entry

    def _take_behind(self, running: Container[JobKey], fits: Callable[[Entry], bool]) -> Entry | None:
        """The head whose turn it is may not start now: who goes next among those that may."""
        found: dict[int, int] = {}
        for priority, queue in self._ready.items():
            for index, entry in enumerate(itertools.islice(queue, _LOOK)):
                if _waits(entry) and (not (entry.guarded or entry.key in running) or fits(entry)):
                    found[priority] = index
                    break
        if not found:
            return None
        priority = self._shares.next_of(sorted(-priority for priority in found))
        self._shares.count(priority)
        return self._take_out(priority, self._ready[priority], found[priority])


def _due(entry: Entry) -> int:
    return entry.due_us


def _has_run(entry: Entry) -> bool:
    """Whether a run of it was interrupted, as far as the master knows."""
    return entry.attempts > entry.failures


def _waits(entry: Entry) -> bool:
    return entry.stage is Stage.WAITING and not entry.gone and not entry.life.dropped


_LOOK = 64
"""How far another entry is looked for behind a head that may not start now: its job runs here, or it is guarded."""
