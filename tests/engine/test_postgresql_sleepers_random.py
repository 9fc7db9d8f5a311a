"""Sleep flags in random order: whatever happens when, every message is read in the end and the owner sleeps again."""

from __future__ import annotations

import random
from collections.abc import Callable
from types import SimpleNamespace

import pytest

from jobmaster.stores.sql.postgresql import sleepers as module
from jobmaster.stores.sql.postgresql.sleepers import Sleepers

BUCKET = 1


class Timer:
    def __init__(self, world: World, ring: Callable[[], None]) -> None:
        self.world, self.ring = world, ring
        world.timers.append(self)

    def cancel(self) -> None:
        if self in self.world.timers:
            self.world.timers.remove(self)


class World:
    """A bucket, its owner, the session that holds its flag, and producers: each moves one step at a time."""

    def __init__(self, seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
        self.chance = random.Random(seed)
        self.now = 0.0
        self.timers: list[Timer] = []
        self.waiting = 0
        self.rung = False
        self.connected = False
        self.flag = False
        """As the server has it; what the session has heard of it may be older."""
        self.sent: list[tuple[str, bool]] = []
        """What the session has asked for, with the server's answer, which is on its way."""
        self.sleepers = Sleepers(ring=lambda _: self.ring(), changed=lambda: None)
        loop = SimpleNamespace(call_later=lambda _, ring, *given: Timer(self, lambda: ring(*given)))
        monkeypatch.setattr(module, "asyncio", SimpleNamespace(get_running_loop=lambda: loop))
        monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: self.now))
        self.sleepers.watch(BUCKET)
        self.rung = True  # an engine's first read needs no signal

    def ring(self) -> None:
        self.rung = True

    # -- the steps

    def push(self) -> None:
        self.waiting += self.chance.choice([1, 1, 1, 20])
        if self.flag and self.connected:
            self.ring()

    def read(self) -> None:
        if self.rung:
            self.rung = False
            found = min(self.waiting, 30)
            self.waiting -= found
            more = self.waiting > 0
            self.rung = self.rung or more
            self.sleepers.read(BUCKET, found, more=more)

    def poll(self) -> None:
        """The engine looks for reasons of its own: a due time, room for more, its fallback."""
        self.rung = self.rung or self.chance.random() < 0.3

    def fire(self) -> None:
        if self.timers:
            timer = self.chance.choice(self.timers)
            self.timers.remove(timer)
            timer.ring()

    def ask(self) -> None:
        """The session sends what is to be done; the server does it at once, and answers later."""
        if self.connected and not self.sent:
            if self.sleepers.to_lower():
                self.flag = False
                self.sent.append(("lower", True))
            elif self.sleepers.to_raise():
                done = not self.flag and self.chance.random() < 0.8  # sometimes a push holds the lock
                self.flag = self.flag or done
                self.sent.append(("raise", done))

    def hear(self) -> None:
        if self.sent:
            what, done = self.sent.pop()
            if what == "lower":
                self.sleepers.lowered(BUCKET)
            else:
                self.sleepers.raised(BUCKET, done=done)

    def connect(self) -> None:
        if not self.connected:
            self.connected = True
            self.sleepers.connected()
            self.ring()  # as listening begins

    def lose(self) -> None:
        if self.connected and self.chance.random() < 0.1:
            self.connected = self.flag = False
            self.sent.clear()
            self.sleepers.lost()

    def step(self) -> None:
        self.now += self.chance.choice([0.0001, 0.001, 0.005, 0.02])
        steps = [self.push, self.read, self.read, self.fire, self.ask, self.hear, self.connect, self.lose, self.poll]
        self.chance.choice(steps)()

    def come_to_rest(self) -> None:
        """Nobody pushes or breaks anything any more."""
        self.connect()
        for _ in range(500):
            self.now += 0.005
            for step in (self.hear, self.ask, self.read, self.fire):
                step()


@pytest.mark.parametrize("first", range(0, 400, 100))
def test_every_message_is_read_and_the_owner_sleeps_again(first: int, monkeypatch: pytest.MonkeyPatch) -> None:
    for seed in range(first, first + 100):
        world = World(seed, monkeypatch)
        for _ in range(200):
            world.step()
        world.come_to_rest()
        assert world.waiting == 0, seed
        assert world.flag, seed
        assert not world.timers, seed
        assert not world.rung, seed


def test_without_the_ring_after_the_flag_messages_stay_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    def silent(self: Sleepers, bucket: int, *, done: bool) -> None:
        sleeper = self._sleepers[bucket]
        sleeper.raised, sleeper.wanted = done, done

    monkeypatch.setattr(Sleepers, "raised", silent)
    left = 0
    for seed in range(100):
        world = World(seed, monkeypatch)
        for _ in range(200):
            world.step()
        world.come_to_rest()
        left += world.waiting
    assert left
