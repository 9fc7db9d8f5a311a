"""The supervisor on virtual time: one engine takes the place of another that still lives."""

from __future__ import annotations

import asyncio
import itertools

from jobmaster.model.ids import new_job_key
from jobmaster.model.job import Blame
from jobmaster.ports.link import CANNOT_START, Report
from tests.engine.supervisor_world import acts, supervise, until


def wear_out(child, reason="5 runs"):
    child.report = Report(child.report.worker, cut_us=1, worn=reason)


def test_a_worn_engine_works_until_its_successor_does_and_then_stops_gracefully():
    def prepare(child):
        child.stops_after = 15.0

    async def story(world):
        await asyncio.sleep(5)
        old = world.children[0]
        wear_out(old)
        await until(lambda: len(world.children) == 2, seconds=1.2)
        assert acts(old) == []
        await until(lambda: acts(old) == ["terminate"])
        assert world.children[1].report.cut_us, "the successor has its lease"
        await asyncio.sleep(10)
        assert old.exit is None, "what runs in it may end within the grace period"
        assert old.granted[-1][0] > world.loop.virtual - 4, "its lease is kept meanwhile"
        await until(lambda: old.exit)
        await asyncio.sleep(5)
        assert (old.exit, acts(old), world.store.ended) == ("exit 0", ["terminate"], [])
        assert len(world.children) == 2

    supervise(story, prepare=prepare)


def test_a_worn_engine_that_outlives_its_grace_is_killed_and_the_worker_goes_on():
    def prepare(child):
        child.stops_after = None
        child.places = [new_job_key()]

    async def story(world):
        await asyncio.sleep(5)
        wear_out(world.children[0])
        await until(lambda: world.children[0].exit, seconds=35)
        await until(lambda: world.store.ended)
        assert world.store.ended[0][1:] == (1, []), "the end of a grace period is nobody's fault"
        world.children[1].stops_after = 0.1

    supervise(story, prepare=prepare, expect=0)


def test_several_worn_engines_are_replaced_one_after_the_other():
    def prepare(child):
        child.stops_after = 1.0

    async def story(world):
        await asyncio.sleep(5)
        first = list(world.children)
        for child in first:
            wear_out(child)
        for replaced in range(1, 4):
            await until(lambda replaced=replaced: len(world.children) == 3 + replaced)
            working = [child for child in world.children if not child.acts and child.report]
            assert len(working) >= 2 + 1, "never fewer engines that work than there are to be"
        await until(lambda: all(child.exit for child in first))
        gaps = [b.spawned_at - a.spawned_at for a, b in itertools.pairwise(world.children[3:])]
        assert min(gaps) > 0.2

    supervise(story, engines=3, prepare=prepare)


def test_a_successor_that_cannot_start_harms_nobody():
    async def story(world):
        await asyncio.sleep(5)
        old = world.children[0]

        def broken(child):
            child.beating = False
            child._loop.call_later(0.1, child.die, CANNOT_START + "SyntaxError")

        world.spawner._prepare = broken
        wear_out(old)
        await until(lambda: len(world.children) == 8)
        assert (acts(old), old.exit, world.supervisor.failure) == ([], None, None)
        gaps = [b.spawned_at - a.spawned_at for a, b in itertools.pairwise(world.children[1:])]
        assert gaps[-1] > 5 > gaps[0], "it is tried ever more slowly"
        world.spawner._prepare = lambda _child: None
        await until(lambda: old.exit, seconds=60)

    supervise(story)


def test_a_worn_engine_that_dies_before_its_successor_is_ready_is_buried_and_succeeded():
    async def story(world):
        await asyncio.sleep(5)
        old, ran = world.children[0], new_job_key()
        old.places = [ran]
        wear_out(old)
        await until(lambda: len(world.children) == 2)
        old.die("SIGSEGV")
        await until(lambda: world.store.ended)
        assert world.store.ended[0][2] == [Blame(ran, "SIGSEGV")]
        await asyncio.sleep(5)
        assert len(world.children) == 2

    supervise(story)


def test_a_stop_while_an_engine_is_replaced_reaches_both():
    def prepare(child):
        child.stops_after = 2.0

    async def story(world):
        await asyncio.sleep(5)
        wear_out(world.children[0])
        await until(lambda: len(world.children) == 2)
        world.supervisor.stop()
        await world.running
        assert [acts(child) for child in world.children] == [["terminate"]] * 2

    supervise(story, prepare=prepare, expect=0)


def test_a_condemned_engine_has_a_successor_while_its_other_runs_end():
    async def story(world):
        await asyncio.sleep(5)
        old = world.children[0]
        old.condemned_for = "run x does not end"
        world.supervisor.wake()
        await until(lambda: len(world.children) == 2, seconds=1.2)
        assert old.exit is None
        await until(lambda: old.exit)
        assert world.children[1].report.cut_us
        await until(lambda: world.store.ended)
        assert world.store.ended[0][1] == 1

    supervise(story)


def test_engines_that_are_condemned_again_and_again_are_started_ever_more_slowly():
    def prepare(child):
        child._loop.call_later(1.0, setattr, child, "condemned_for", "run x does not end")

    async def story(world):
        await until(lambda: len(world.children) == 9)
        gaps = [b.spawned_at - a.spawned_at for a, b in itertools.pairwise(world.children)]
        assert gaps[-1] > 10
        assert sum(child.exit is None for child in world.children) <= 3

    supervise(story, prepare=prepare)
