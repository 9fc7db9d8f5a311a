"""The pool of threads: hand-over, and how runs are stopped in the middle of Python code."""

from __future__ import annotations

import asyncio
import contextvars
import sys
import threading
import time

import pytest

from jobmaster.engine.pools import threads
from jobmaster.engine.pools.solo import SoloPool
from jobmaster.engine.pools.threads import ThreadPool
from jobmaster.errors import SoftTimeLimitExceeded
from jobmaster.model.run import End, Halt
from tests.engine.pool_workload import FunctionWorkload, Runs, until, value

colour = contextvars.ContextVar("colour", default="none")


def in_pool(story, *functions, size=4):
    async def tell():
        pool = ThreadPool(FunctionWorkload(*functions), size=size)
        runs = Runs(pool)
        await asyncio.wait_for(story(runs), 20)
        await pool.close()
        assert all(len(ends) == 1 for ends in runs.ends.values()), "every run is reported exactly once"

    asyncio.run(tell())


def on_line(function, line):
    """True while a thread is on this line of the function (from its `def`). No exception strikes before its call."""
    code = function.__code__
    return any(
        frame.f_code is code and frame.f_lineno == code.co_firstlineno + line
        for frame in sys._current_frames().values()
    )


def test_many_short_runs_all_return_their_own_value():
    def twice(n):
        return n * 2

    async def story(runs):
        keys = [runs.submit("twice", n) for n in range(3000)]
        assert [value(await runs.end(key)) for key in keys] == [n * 2 for n in range(3000)]

    in_pool(story, twice)


def test_blocking_runs_spread_over_all_threads_at_once():
    together = threading.Barrier(8)

    def meet(_):
        together.wait(10)
        return threading.get_ident()

    async def story(runs):
        for _ in range(20):
            keys = [runs.submit("meet") for _ in range(8)]
            assert len({value(await runs.end(key)) for key in keys}) == 8

    in_pool(story, meet, size=8)


def test_a_long_run_does_not_hold_back_the_others():
    release = threading.Event()

    def hold(_):
        return release.wait(10)

    def quick(n):
        return n

    async def story(runs):
        held = runs.submit("hold")
        for n in range(200):
            assert value(await runs.run("quick", n)) == n
        release.set()
        assert value(await runs.end(held)) is True

    in_pool(story, hold, quick, size=2)


def test_what_is_above_the_size_waits_and_can_be_halted_without_starting():
    release, started = threading.Event(), []

    def hold(n):
        started.append(n)
        release.wait(10)

    async def story(runs):
        first, second = runs.submit("hold", 1), runs.submit("hold", 2)
        await until(lambda: started)
        assert runs.pool.halt(second, Halt.CANCEL)
        assert (await runs.end(second)).end is End.CANCELLED
        release.set()
        await runs.end(first)
        assert started == [1]

    in_pool(story, hold, size=1)


@pytest.mark.parametrize(
    ("why", "end"),
    [(Halt.CANCEL, End.CANCELLED), (Halt.HARD_LIMIT, End.TIMED_OUT), (Halt.SHUTDOWN, End.INTERRUPTED)],
)
def test_an_endless_loop_is_stopped_and_its_thread_works_on(why, end):
    started = threading.Event()

    def spin(_):
        started.set()
        while True:
            pass

    def quick(n):
        return n

    async def story(runs):
        key = runs.submit("spin")
        await until(started.is_set)
        assert runs.pool.halt(key, why)
        assert (await runs.end(key)).end is end
        for n in range(50):
            assert value(await runs.run("quick", n)) == n

    in_pool(story, spin, quick, size=1)


def test_a_stop_strikes_no_other_run_however_the_times_fall():
    def brief(_, run):
        until_s = time.perf_counter() + 0.0002
        while time.perf_counter() < until_s:
            pass
        return "mine"

    async def story(runs):
        halted = 0
        for round_ in range(300):
            keys = [runs.submit("brief") for _ in range(4)]
            await asyncio.sleep(0.0001 * (round_ % 5))
            halted += runs.pool.halt(keys[1], Halt.CANCEL)
            ends = [await runs.end(key) for key in keys]
            assert [ended.end for n, ended in enumerate(ends) if n != 1] == [End.RETURNED] * 3
            assert ends[1].end in {End.RETURNED, End.CANCELLED}
        assert halted

    in_pool(story, brief, size=2)


def test_the_soft_limit_is_raised_inside_and_can_be_caught():
    started = threading.Event()

    def patient(_):
        try:
            started.set()
            while True:
                time.sleep(0.001)
        except SoftTimeLimitExceeded:
            return "cleaned"

    async def story(runs):
        key = runs.submit("patient")
        await until(started.is_set)
        runs.pool.halt(key, Halt.SOFT_LIMIT)
        assert value(await runs.end(key)) == "cleaned"

    in_pool(story, patient)


def test_a_task_that_does_not_catch_the_soft_limit_has_failed_with_it():
    started = threading.Event()

    def careless(_):
        started.set()
        while True:
            time.sleep(0.001)

    async def story(runs):
        key = runs.submit("careless")
        await until(started.is_set)
        runs.pool.halt(key, Halt.SOFT_LIMIT)
        ended = await runs.end(key)
        assert (ended.end, ended.error.type) == (End.RAISED, "SoftTimeLimitExceeded")

    in_pool(story, careless)


def test_a_soft_limit_that_passes_before_the_run_has_a_thread_ends_it_when_it_gets_one():
    release, ran = threading.Event(), []

    def hold(_):
        return release.wait(10)

    def late(_):
        ran.append("late")

    async def story(runs):
        held, waits, next_one = runs.submit("hold"), runs.submit("late"), runs.submit("late")
        assert runs.pool.halt(waits, Halt.SOFT_LIMIT)
        assert runs.pool.halt(waits, Halt.SOFT_LIMIT), "told twice, it is the same"
        release.set()
        assert value(await runs.end(held)) is True
        ended = await runs.end(waits)
        assert (ended.end, ended.error.type) == (End.RAISED, "jobmaster.errors.SoftTimeLimitExceeded")
        assert value(await runs.end(next_one)) is None
        assert ran == ["late"], "only the one after it"

    in_pool(story, hold, late, size=1)


def test_a_blocked_call_counts_as_stuck_after_a_second_and_not_before():
    release = threading.Lock()
    release.acquire()

    def block(_):
        release.acquire(timeout=30)
        while True:
            pass

    async def story(runs):
        key = runs.submit("block")
        await until(lambda: on_line(block, 1))
        began = asyncio.get_running_loop().time()
        runs.pool.halt(key, Halt.HARD_LIMIT)
        assert runs.pool.stuck() == []
        await until(runs.pool.stuck)
        assert asyncio.get_running_loop().time() - began >= 1.0
        assert runs.pool.stuck() == [key]
        release.release()
        assert (await runs.end(key)).end is End.TIMED_OUT
        assert runs.pool.stuck() == []

    in_pool(story, block)


def test_a_handler_that_swallows_everything_counts_as_stuck():
    release = threading.Event()

    def deaf(_):
        while not release.is_set():
            try:
                while not release.is_set():
                    time.sleep(0.001)
            except BaseException:  # noqa: BLE001, S110 - what this test is about
                pass

    async def story(runs):
        key = runs.submit("deaf")
        await until(lambda: on_line(deaf, 4))
        runs.pool.halt(key, Halt.CANCEL)
        await until(runs.pool.stuck)
        release.set()
        await runs.end(key)

    in_pool(story, deaf)


def test_a_cleanup_gets_time_before_the_run_is_told_again(monkeypatch):
    monkeypatch.setattr(threads, "_INSIST_EVERY", 0.05)
    monkeypatch.setattr(threads, "PATIENCE", 60.0)
    cleaned = []

    def tidy(_):
        try:
            while True:
                time.sleep(0.001)
        finally:
            for _step in range(30):
                time.sleep(0.01)
            cleaned.append(1)

    async def story(runs):
        key = runs.submit("tidy")
        await until(lambda: on_line(tidy, 3))
        runs.pool.halt(key, Halt.CANCEL)
        assert (await runs.end(key)).end is End.CANCELLED
        assert cleaned == [1]

    in_pool(story, tidy)


def test_closing_reports_even_a_blocked_run_as_interrupted():
    release = threading.Lock()
    release.acquire()

    def block(_):
        release.acquire(timeout=30)

    async def story(runs):
        keys = [runs.submit("block"), runs.submit("block")]
        await until(lambda: on_line(block, 1))
        await runs.pool.close()
        assert [runs.ends[key][0].end for key in keys] == [End.INTERRUPTED] * 2
        release.release()

    in_pool(story, block, size=1)


def test_a_task_that_exits_the_interpreter_ends_alone():
    def leave(_):
        sys.exit(3)

    async def story(runs):
        ended = await runs.run("leave")
        assert (ended.end, ended.error.type) == (End.RAISED, "SystemExit")
        assert (await runs.run("leave")).end is End.RAISED

    in_pool(story, leave, size=1)


def test_context_variables_of_one_run_are_invisible_to_the_next():
    def paint(name):
        before = colour.get()
        colour.set(name)
        return before

    async def story(runs):
        assert [value(await runs.run("paint", name)) for name in ("red", "blue")] == ["none", "none"]

    in_pool(story, paint, size=1)


def test_a_run_knows_that_it_was_told_to_stop():
    def ask(_, run):
        try:
            while True:
                time.sleep(0.001)
        except BaseException:  # noqa: BLE001 - what this test is about
            return run.halting

    async def story(runs):
        key = runs.submit("ask")
        await until(lambda: on_line(ask, 3))
        runs.pool.halt(key, Halt.CANCEL)
        assert value(await runs.end(key)) is True

    in_pool(story, ask)


def test_the_solo_pool_runs_one_at_a_time_beside_the_loop():
    async def tell():
        running, most = [], []

        def one(n):
            running.append(n)
            most.append(len(running))
            time.sleep(0.002)
            running.remove(n)
            return threading.get_ident()

        pool = SoloPool(FunctionWorkload(one))
        runs = Runs(pool)
        keys = [runs.submit("one", n) for n in range(10)]
        idents = {value(await runs.end(key)) for key in keys}
        assert len(idents) == 1
        assert threading.get_ident() not in idents
        assert max(most) == 1
        await pool.close()

    asyncio.run(tell())
