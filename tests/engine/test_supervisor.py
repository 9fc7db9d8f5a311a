"""The supervisor on virtual time: it starts its engines, and replaces those that died."""

from __future__ import annotations

import asyncio
import itertools

from jobmaster.model.ids import new_job_key
from jobmaster.model.job import Blame
from jobmaster.rules.restart import restart_delay
from tests.engine.supervisor_world import acts, supervise, until


def test_all_engines_are_started_kept_and_stopped_gracefully():
    async def story(world):
        await asyncio.sleep(30)
        assert sorted(child.engine for child in world.children) == [0, 1, 2]
        assert all(child.granted for child in world.children)
        world.supervisor.stop()
        await world.running
        assert [acts(child) for child in world.children] == [["terminate"]] * 3
        assert world.store.ended == [], "a child that exits cleanly has ended its lease itself"

    supervise(story, engines=3)


def test_a_dead_engine_is_replaced_within_a_second_and_its_worker_is_ended_with_its_evidence():
    async def story(world):
        await asyncio.sleep(5)
        child = world.children[0]
        ran = new_job_key()
        child.places = [ran]
        child.die("SIGSEGV")
        died = world.loop.virtual
        world.supervisor.wake()
        await until(lambda: len(world.children) == 2)
        assert world.children[1].spawned_at - died < 1.0
        (at, worker, blame), *_ = world.store.ended
        assert (worker, blame) == (1, [Blame(ran, "SIGSEGV")])
        assert at - died < 0.1
        assert world.children[1].spawned_at > at, "the blame is stored before the successor recovers anything"

    supervise(story)


def test_those_that_began_last_before_a_crash_are_suspects_for_all_engines_of_the_worker():
    async def story(world):
        await asyncio.sleep(5)
        crashed, other = world.children
        crashed.places = ran = [new_job_key() for _ in range(10)]
        crashed.die("SIGSEGV")
        world.supervisor.wake()
        await until(lambda: len(world.children) == 3)
        await until(lambda: world.children[2].granted)
        (_, _, blame), *_ = world.store.ended
        assert [one.key for one in blame] == ran, "counted are all of them"
        assert world.children[2].granted[0][1].suspects == ran[-4:]
        await asyncio.sleep(4)
        assert other.granted[-1][1].suspects == ran[-4:], "its renewal may adopt their bucket"
        killed = world.children[2]
        killed.places = [new_job_key()]
        killed.die("SIGKILL")
        await until(lambda: len(world.store.ended) == 2)
        await asyncio.sleep(4)
        assert other.granted[-1][1].suspects == ran[-4:], "a kill from outside makes nobody a suspect"

    supervise(story, engines=2)


def test_the_latest_suspects_are_remembered():
    async def story(world):
        crashed = []
        for life in range(20):
            await until(lambda life=life: len(world.children) > life and world.children[life].granted, seconds=20)
            child = world.children[life]
            child.places = [new_job_key() for _ in range(4)]
            crashed += child.places
            child.die("exit 1")
        await until(lambda: len(world.children) > 20 and world.children[20].granted, seconds=20)
        assert world.children[20].granted[0][1].suspects == crashed[-64:]

    supervise(story)


def test_a_death_that_nobody_announced_is_seen_at_the_next_tick():
    async def story(world):
        await asyncio.sleep(5)
        world.children[0].die("SIGKILL")
        await until(lambda: len(world.children) == 2, seconds=1.2)

    supervise(story)


def test_the_masters_answer_is_awaited_for_a_second_and_asked_for_until_it_comes():
    async def story(world):
        await asyncio.sleep(5)
        world.store.refusals_to_end = 6
        world.children[0].die("SIGKILL")
        world.supervisor.wake()
        await until(lambda: len(world.children) == 2, seconds=1.5)
        assert world.store.ended == []
        await until(lambda: world.store.ended)

    supervise(story)


def test_engines_that_keep_dying_are_restarted_ever_more_slowly_but_for_ever():
    def prepare(child):
        child._loop.call_later(1.0, child.die, "SIGABRT")

    async def story(world):
        await until(lambda: len(world.children) == 12)
        gaps = [b.spawned_at - a.spawned_at for a, b in itertools.pairwise(world.children)]
        assert gaps[0] < 2.0
        assert gaps[1] < gaps[3] < gaps[5]
        assert max(gaps) < 35

    supervise(story, prepare=prepare)


def test_deaths_that_take_jobs_along_keep_nobody_waiting_until_they_come_all_the_time():
    def prepare(child):
        child.places = [new_job_key()]
        child._loop.call_later(0.5, child.die, "SIGSEGV")

    async def story(world):
        await until(lambda: len(world.children) == 30)
        gaps = [b.spawned_at - a.spawned_at for a, b in itertools.pairwise(world.children)]
        assert max(gaps[:10]) < 2.0
        # A child that died was seen at the next look, a second later.
        assert all(5 <= gap <= 7 for gap in gaps[-10:]), "for ever, but not all the time"

    supervise(story, prepare=prepare)


def test_after_a_long_life_the_next_start_is_immediate_again():
    assert restart_delay(short_lives=1, random=0.9) == 0
    assert 0 < restart_delay(short_lives=2, random=0.0) < 1
    assert restart_delay(short_lives=500, random=0.99) <= 30


def test_an_unreachable_database_at_the_start_is_waited_for():
    def prepare(child):
        child.beating = False
        child._loop.call_later(0.1, child.die, "exit 3")

    async def story(world):
        await until(lambda: len(world.children) == 9)
        assert not world.running.done()

    supervise(story, prepare=prepare)


def test_a_process_that_the_system_refuses_is_tried_again():
    async def story(world):
        world.spawner.errors = 3
        await until(lambda: world.children)

    supervise(story)


def test_an_engine_that_a_task_ended_with_a_0_is_replaced_and_the_task_is_blamed():
    async def story(world):
        await asyncio.sleep(5)
        child = world.children[0]
        ran = new_job_key()
        child.places = [ran]
        child.die("exit 0")
        await until(lambda: len(world.children) == 2, seconds=1.5)
        assert [(worker, blame) for _, worker, blame in world.store.ended] == [(1, [Blame(ran, "exit 0")])]

    supervise(story)
