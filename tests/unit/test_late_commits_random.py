"""Late commits in random order: an owner that rereads only while it is told to finds every message."""

from __future__ import annotations

import random
from types import SimpleNamespace

import pytest

from jobmaster.stores.sql.postgresql import late_commits
from jobmaster.stores.sql.postgresql.late_commits import Floor, Seen
from jobmaster.stores.sql.postgresql.numbering import first_of

BUCKET = 3


class World:
    """A server's transactions and numbers, producers that insert, and an owner that reads as an engine does."""

    def __init__(self, seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
        self.chance = random.Random(seed)
        self.now = 100.0
        monkeypatch.setattr(late_commits, "time", SimpleNamespace(monotonic=lambda: self.now))
        self.next_transaction = 50
        self.next_number = first_of(BUCKET) + 1
        self.running: dict[int, list[int]] = {}
        self.visible: set[int] = set()
        self.committed: set[int] = set()
        self.floor = Floor(BUCKET, 1)
        self.cursor = first_of(BUCKET)
        self.unsettled = False
        self.found: set[int] = set()
        self.late = 0

    # -- producers: the transaction's number first, then those of its messages

    def begin(self) -> None:
        if len(self.running) < 5:
            self.running[self.next_transaction] = []
            self.next_transaction += 1

    def draw(self) -> None:
        if self.running:
            drawn = self.running[self.chance.choice(list(self.running))]
            for _ in range(self.chance.choice([1, 1, 3])):
                drawn.append(self.next_number)
                self.next_number += 1

    def commit(self) -> None:
        if self.running:
            messages = self.running.pop(self.chance.choice(list(self.running)))
            if self.chance.random() < 0.9:
                self.visible.update(messages)
                self.committed.update(messages)

    # -- the owner

    def seen(self) -> Seen:
        return Seen(min(self.running, default=self.next_transaction), self.next_transaction)

    def read(self) -> None:
        above = sorted(number for number in self.visible if number > self.cursor)[: self.chance.choice([2, 50])]
        reached = above[-1] if above else self.cursor
        unsettled = self.floor.read(self.cursor, reached, self.seen())
        if self.chance.random() < 0.1:
            return  # the answer was lost
        self.cursor = reached
        self.found.update(above)
        self.unsettled = self.unsettled or unsettled

    def reread(self) -> None:
        if not self.unsettled:
            return
        begin = self.floor.begin(self.cursor, full=False)
        missed = {number for number in self.visible if begin < number <= self.cursor} - self.found
        unsettled = self.floor.looked(begin, self.cursor, self.seen(), found=bool(missed))
        if self.chance.random() < 0.1:
            return
        self.late += len(missed)
        self.found |= missed
        self.unsettled = unsettled

    def remove(self) -> None:
        self.visible -= set(self.chance.sample(sorted(self.found), len(self.found) // 4))

    def step(self) -> None:
        self.now += self.chance.choice([0.001, 0.01, 0.05])
        actions = [self.begin, self.draw, self.draw, self.commit, self.read, self.read, self.reread, self.remove]
        self.chance.choice(actions)()

    def come_to_rest(self) -> None:
        while self.running:
            self.commit()
        for _ in range(60):
            self.now += 0.3
            self.read()
            self.reread()


def run(seed: int, monkeypatch: pytest.MonkeyPatch) -> World:
    world = World(seed, monkeypatch)
    for _ in range(300):
        world.step()
    world.come_to_rest()
    return world


@pytest.mark.parametrize("first", range(0, 400, 100))
def test_every_message_is_found_and_the_owner_stops_looking(first: int, monkeypatch: pytest.MonkeyPatch) -> None:
    late = 0
    for seed in range(first, first + 100):
        world = run(seed, monkeypatch)
        assert world.found >= world.committed, seed
        assert not world.unsettled, seed
        late += world.late
    assert late > 100


@pytest.mark.parametrize("part", ["horizon", "marks", "found"])
def test_without_one_part_messages_are_lost(part: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if part == "horizon":  # the snapshot's upper end in its place: the youngest transactions are not seen

        def seen(self: World) -> Seen:
            return Seen(low := min(self.running, default=self.next_transaction), max(low, self.next_transaction - 1))

        monkeypatch.setattr(World, "seen", seen)
    elif part == "marks":
        monkeypatch.setattr(Floor, "_over", staticmethod(lambda *_: True))
    else:
        looked = Floor.looked
        monkeypatch.setattr(Floor, "looked", lambda *given, **_: looked(*given, found=False))
    lost = 0
    for seed in range(300):
        world = run(seed, monkeypatch)
        lost += len(world.committed - world.found)
    assert lost
