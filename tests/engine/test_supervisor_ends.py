"""The supervisor on virtual time: when it stops, when it gives up, and what it waits for at its end."""

from __future__ import annotations

import asyncio

import pytest

from jobmaster.model.ids import new_job_key
from jobmaster.ports.link import CANNOT_START, Report
from tests.engine.supervisor_world import acts, supervise


def test_the_second_signal_asks_again_and_the_third_kills():
    def prepare(child):
        child.stops_after = None

    async def story(world):
        await asyncio.sleep(5)
        for expected in (["terminate"], ["terminate", "terminate"], ["terminate", "terminate", "kill"]):
            world.supervisor.stop()
            await asyncio.sleep(0.1)
            assert acts(world.children[0]) == expected

    supervise(story, prepare=prepare, expect=1)


def test_a_second_signal_that_ends_everything_in_time_is_a_clean_end():
    def prepare(child):
        child.stops_after = 20

    async def story(world):
        await asyncio.sleep(5)
        began = world.loop.virtual
        world.supervisor.stop()
        await asyncio.sleep(1)
        world.supervisor.stop()
        await world.running
        assert world.loop.virtual - began < 3

    supervise(story, prepare=prepare, expect=0)


def test_a_child_that_outlives_its_grace_is_killed_and_nobody_is_blamed():
    def prepare(child):
        child.stops_after = None
        child.places = [new_job_key()]

    async def story(world):
        await asyncio.sleep(5)
        began = world.loop.virtual
        world.supervisor.stop()
        await world.running
        assert 29 <= world.loop.virtual - began <= 33
        assert [blame for _, _, blame in world.store.ended] == [[]]

    supervise(story, prepare=prepare, expect=1)


def test_nothing_is_restarted_while_stopping():
    async def story(world):
        await asyncio.sleep(5)
        world.children[0].stops_after = 10
        world.supervisor.stop()
        await asyncio.sleep(1)
        world.children[1].die("SIGKILL")
        await world.running
        assert len(world.children) == 2

    supervise(story, engines=2, expect=0)


def test_an_app_that_cannot_be_imported_ends_the_supervisor_with_its_message():
    def prepare(child):
        child.beating = False
        child._loop.call_later(0.3, child.die, CANNOT_START + "No module named 'shop'")

    async def story(world):
        await world.running
        assert world.supervisor.failure == "No module named 'shop'"
        assert len(world.children) <= 2
        assert world.loop.virtual < 5

    supervise(story, engines=2, prepare=prepare, expect=1)


def test_a_deployment_that_breaks_the_app_under_a_running_worker_gets_five_tries():
    def broken(child):
        child.beating = False
        child._loop.call_later(0.1, child.die, CANNOT_START + "SyntaxError")

    async def story(world):
        await asyncio.sleep(5)
        world.spawner._prepare = broken
        world.children[0].die("SIGKILL")
        await world.running
        assert len(world.children) == 6
        assert world.supervisor.failure == "SyntaxError"

    supervise(story, expect=1)


def test_processes_that_die_before_they_are_ready_are_given_up_after_five():
    def prepare(child):
        child.beating = False
        child._loop.call_later(0.1, child.die, "SIGSEGV")

    async def story(world):
        await world.running
        assert len(world.children) == 5
        assert "SIGSEGV" in world.supervisor.failure

    supervise(story, prepare=prepare, expect=1)


def test_engines_that_end_by_themselves_end_the_supervisor():
    def prepare(child):
        child._loop.call_later(5, come_to_its_end, child)

    async def story(world):
        await world.running
        assert len(world.children) == 2
        assert world.supervisor.failure is None

    supervise(story, engines=2, prepare=prepare)


def come_to_its_end(child):
    child.report = Report(child.report.worker, cut_us=1, stopping=True)
    child.die("exit 0")


def test_a_stop_during_the_start_reaches_the_child():
    async def story(world):
        await asyncio.sleep(0.01)
        world.supervisor.stop()
        await world.running
        assert [acts(child) for child in world.children] in ([], [["terminate"]])

    supervise(story)


@pytest.mark.parametrize("answers", [True, False])
def test_the_end_waits_for_the_master_but_not_for_ever(answers):
    def prepare(child):
        child.stops_after = None

    async def story(world):
        await asyncio.sleep(5)
        world.store.refusals_to_end = 2 if answers else 10_000
        for _ in range(3):
            world.supervisor.stop()
        began = world.loop.virtual
        await world.running
        assert bool(world.store.ended) is answers
        assert world.loop.virtual - began < (3 if answers else 7)

    supervise(story, prepare=prepare, expect=1)
