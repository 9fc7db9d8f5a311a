"""A supervisor with engine processes that a test makes up, on virtual time."""

from __future__ import annotations

import asyncio
import itertools

from jobmaster.engine.engine_life import Patience
from jobmaster.engine.lease_keeper import LeaseKeeper
from jobmaster.engine.supervisor import Supervisor
from jobmaster.ports.link import Report
from jobmaster.rules.lease import LeaseTiming
from tests.engine.keeper_doubles import FakeChild, FakeStore, VirtualClock, on_virtual_time


class FakeSpawner:
    """Keeps the children that it made; `prepare` says how each one is."""

    def __init__(self, loop, prepare):
        self._loop, self._prepare = loop, prepare
        self.children = []
        self.errors = 0
        self._workers = itertools.count(1)

    async def spawn(self, engine):
        await asyncio.sleep(0.05)
        if self.errors:
            self.errors -= 1
            raise OSError("no more processes")
        child = FakeChild(self._loop)
        child.engine, child.spawned_at = engine, self._loop.virtual
        self.children.append(child)
        worker = next(self._workers)
        self._loop.call_later(0.2, self._ready, child, worker)
        self._prepare(child)
        return child

    def _ready(self, child, worker):
        if child.beating:
            child.report = Report(worker, cut_us=1)


def supervise(story, *, engines=1, prepare=lambda _child: None, patience=None, expect=0):
    """Run `story(world)` beside a supervisor, and then check its exit code."""

    class World:
        pass

    async def tell(loop):
        world = World()
        world.loop, world.store, world.spawner = loop, FakeStore(loop), FakeSpawner(loop, prepare)
        clock = VirtualClock(loop)
        keeper = LeaseKeeper(store=world.store, clock=clock, timing=LeaseTiming(), random=lambda: 0.5)
        world.supervisor = Supervisor(
            spawner=world.spawner,
            keeper=keeper,
            store=world.store,
            clock=clock,
            engines=engines,
            patience=patience or Patience(),
            random=lambda: 0.5,
        )
        world.children = world.spawner.children
        running = asyncio.create_task(world.supervisor.run())
        world.running = running
        await story(world)
        if not running.done() and world.supervisor._stops == 0:
            world.supervisor.stop()
        async with asyncio.timeout(200):
            assert await running == expect
        assert all(child.exit for child in world.children), "a child was left behind"

    on_virtual_time(tell)


async def until(condition, *, seconds=1000.0):
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.01)


def acts(child):
    return [act for _, act in child.acts]
