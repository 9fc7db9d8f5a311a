"""The supervisor on virtual time: loops that stand still, and engines that do not begin or want to be replaced."""

from __future__ import annotations

import asyncio

from jobmaster.engine.engine_life import Patience
from jobmaster.model.ids import new_job_key
from jobmaster.model.job import Blame
from tests.engine.supervisor_world import acts, supervise, until


def test_a_loop_that_stands_still_has_its_stacks_written_and_is_replaced():
    async def story(world):
        await asyncio.sleep(10)
        child = world.children[0]
        stuck = new_job_key()
        child.places = [stuck]
        child.blocked_at = world.loop.virtual
        await until(lambda: child.acts)
        assert 9 <= child.acts[0][0] - child.blocked_at <= 12, "early, so that people see it while it lasts"
        await until(lambda: len(child.acts) == 2)
        assert 60 <= child.acts[1][0] - child.blocked_at <= 62
        await until(lambda: child.exit)
        assert acts(child) == ["dump", "dump", "kill"]
        assert child.granted[-1][0] > child.blocked_at + 50, "it keeps its lease while it is only slow"
        await until(lambda: len(world.children) == 2, seconds=1.5)
        assert world.store.ended[0][2] == [Blame(stuck, "event loop blocked for 60 s")]

    supervise(story)


def test_where_the_run_that_blocks_is_known_no_other_is_blamed():
    async def story(world):
        await asyncio.sleep(5)
        child = world.children[0]
        stuck, innocent = new_job_key(), new_job_key()
        child.places = [innocent, stuck]
        child.blocker = (stuck, "task shop.spin at shop.py:9")
        child.blocked_at = world.loop.virtual
        await until(lambda: world.store.ended)
        assert world.store.ended[0][2] == [Blame(stuck, "event loop blocked for 60 s")]
        await asyncio.sleep(5)
        crashed = world.children[1]
        crashed.places, crashed.blocker = [innocent], (stuck, "earlier")
        crashed.die("SIGSEGV")
        await until(lambda: len(world.store.ended) == 2)
        assert world.store.ended[1][2] == [Blame(innocent, "SIGSEGV")], "it died of something else"

    supervise(story)


def test_a_loop_that_turns_once_more_before_it_is_killed_has_named_its_run():
    async def story(world):
        await asyncio.sleep(5)
        child = world.children[0]
        stuck, innocent = new_job_key(), new_job_key()
        child.places = [innocent, stuck]
        child.blocker = (stuck, "task shop.spin at shop.py:9")
        child.blocked_at = world.loop.virtual
        await until(lambda: [act for act in acts(child) if act == "dump"] == ["dump", "dump"])
        child.blocker = None
        await until(lambda: world.store.ended)
        assert world.store.ended[0][2] == [Blame(stuck, "event loop blocked for 60 s")]

    supervise(story)


def test_a_loop_that_moves_again_in_time_is_left_alone():
    async def story(world):
        await asyncio.sleep(10)
        child = world.children[0]
        for _ in range(3):
            child.blocked_at = world.loop.virtual
            await asyncio.sleep(50)
            child.blocked_at = None
            await asyncio.sleep(3)
        assert acts(child) == ["dump"] * 3

    supervise(story)


def test_time_in_which_the_supervisor_itself_was_stopped_is_nobodys_fault():
    async def story(world):
        await asyncio.sleep(10)
        child = world.children[0]
        child.blocked_at = world.loop.virtual
        world.loop.virtual += 3600  # SIGSTOP of the whole tree, then SIGCONT
        await asyncio.sleep(5)
        child.blocked_at = None
        await asyncio.sleep(5)
        assert acts(child) == []

    supervise(story)


def test_a_child_that_never_becomes_ready_is_replaced_after_its_start_limit():
    def prepare(child):
        child.beating = False

    async def story(world):
        await until(lambda: world.children)
        await until(lambda: world.children[0].exit)
        assert 100 <= world.loop.virtual <= 104
        assert acts(world.children[0]) == ["dump", "kill"]
        world.supervisor.stop()

    supervise(story, prepare=prepare, patience=Patience(start=100))


def test_a_condemned_child_gets_ten_seconds_and_is_then_killed_and_replaced():
    async def story(world):
        await asyncio.sleep(5)
        child = world.children[0]
        child.condemned_for = "run x does not end"
        since = world.loop.virtual
        world.supervisor.wake()
        await until(lambda: child.exit)
        assert 9.9 <= world.loop.virtual - since <= 11.1
        assert acts(child) == ["kill"]
        await until(lambda: len(world.children) == 2, seconds=1.5)

    supervise(story)


def test_a_condemned_child_that_ends_by_itself_is_replaced_too():
    async def story(world):
        await asyncio.sleep(5)
        world.children[0].condemned_for = "run x does not end"
        world.supervisor.wake()
        await asyncio.sleep(2)
        world.children[0].die("exit 0")
        await until(lambda: len(world.children) == 2, seconds=2.5)

    supervise(story)
