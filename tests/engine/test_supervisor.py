"""The supervisor on virtual time: replacing the dead, the hung and the condemned, and stopping."""

from __future__ import annotations

import asyncio
import itertools

import pytest

from jobmaster.engine.engine_life import Patience
from jobmaster.model.ids import new_job_key
from jobmaster.model.job import Blame
from jobmaster.ports.link import CANNOT_START, Report
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


# ---------------------------------------------------------------- successors
