"""The pool of processes: one run at a time on a main thread, and every run can be ended."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from jobmaster.engine.pools import processes
from jobmaster.engine.pools.processes import AFTER_KILL, ProcessPool
from jobmaster.engine.pools.sent import PoolLaunch
from jobmaster.engine.wear import MIB, resident_bytes
from jobmaster.model.run import End, Halt
from tests.engine.pool_workload import Runs, until, value

ROOT = Path(__file__).parents[2]


def in_pool(story, *, size=1, max_tasks=None, entry="workload", arguments=b""):
    others = set(psutil.Process().children())  # a test server, for example

    async def tell():
        launch = PoolLaunch(f"tests.engine.pool_tasks:{entry}", arguments)
        pool = ProcessPool(launch, size=size, max_tasks_per_child=max_tasks, random=lambda: 0.0)
        runs = Runs(pool)
        try:
            await asyncio.wait_for(story(runs), 40)
        finally:
            await pool.close()
        assert all(len(ends) == 1 for ends in runs.ends.values()), "every run is reported exactly once"
        assert set(psutil.Process().children()) <= others

    asyncio.run(tell())


def has_ended(process):
    try:
        return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:  # between the two questions
        return True


@pytest.fixture
def flag(tmp_path):
    return tmp_path / "started"


def test_runs_happen_one_at_a_time_on_the_main_thread_of_processes_of_their_own():
    async def story(runs):
        keys = [runs.submit("whoami") for _ in range(40)]
        seen = [value(await runs.end(key)) for key in keys]
        assert len({pid for pid, _, _ in seen}) <= 2
        assert {(parent, main) for _, parent, main in seen} == {(os.getpid(), True)}

    in_pool(story, size=2)


def test_results_and_failures_come_back():
    async def story(runs):
        keys = [runs.submit("twice", n) for n in range(300)]
        assert [value(await runs.end(key)) for key in keys] == [n * 2 for n in range(300)]
        failed = await runs.run("fail", "no such order")
        assert (failed.end, failed.error.type, failed.error.message) == (End.RAISED, "ValueError", "no such order")
        left = await runs.run("sys_exit")
        assert (left.end, left.error.type) == (End.RAISED, "SystemExit")

    in_pool(story, size=2)


def test_a_large_argument_and_a_large_result_pass():
    async def story(runs):
        text = "x" * 3_000_000
        assert value(await runs.run("twice", text)) == text * 2

    in_pool(story)


@pytest.mark.parametrize(
    ("task", "why", "end"),
    [
        ("spin", Halt.HARD_LIMIT, End.TIMED_OUT),
        ("blocked_read", Halt.HARD_LIMIT, End.TIMED_OUT),
        ("deaf", Halt.HARD_LIMIT, End.TIMED_OUT),
        ("hold_the_interpreter", Halt.HARD_LIMIT, End.TIMED_OUT),
        ("spin", Halt.CANCEL, End.CANCELLED),
        ("spin", Halt.SHUTDOWN, End.INTERRUPTED),
    ],
)
def test_whatever_a_run_does_it_is_ended_and_the_next_one_runs(task, why, end, flag):
    async def story(runs):
        pid = value(await runs.run("whoami"))[0]
        key = runs.submit(task, str(flag))
        await until(flag.exists)
        assert runs.pool.halt(key, why)
        assert (await runs.end(key)).end is end
        assert runs.pool.stuck() == []
        assert not psutil.pid_exists(pid)
        assert value(await runs.run("twice", 4)) == 8

    in_pool(story)


def test_a_kill_strikes_only_the_process_of_its_run(flag):
    async def story(runs):
        spinning = runs.submit("spin", str(flag))
        sleeping = runs.submit("pause", 0.5)
        await until(flag.exists)
        runs.pool.halt(spinning, Halt.HARD_LIMIT)
        assert (await runs.end(spinning)).end is End.TIMED_OUT
        assert value(await runs.end(sleeping)) > 0

    in_pool(story, size=2)


def test_programs_that_a_run_started_end_with_it(flag):
    async def story(runs):
        key = runs.submit("start_a_program", str(flag))
        await until(lambda: flag.exists() and flag.read_text())
        program = psutil.Process(int(flag.read_text()))
        runs.pool.halt(key, Halt.CANCEL)
        await runs.end(key)
        await until(lambda: has_ended(program))

    in_pool(story)


def test_the_soft_limit_is_raised_in_a_blocked_call_and_can_be_caught(flag):
    async def story(runs):
        key = runs.submit("patient", str(flag))
        await until(flag.exists)
        assert runs.pool.halt(key, Halt.SOFT_LIMIT)
        assert value(await runs.end(key)) == "cleaned"
        flag.unlink()
        key = runs.submit("careless", str(flag))
        await until(flag.exists)
        runs.pool.halt(key, Halt.SOFT_LIMIT)
        ended = await runs.end(key)
        assert (ended.end, ended.error.type) == (End.RAISED, "SoftTimeLimitExceeded")

    in_pool(story)


def test_a_soft_limit_that_passes_before_the_run_has_come_to_its_process_is_raised_there(flag):
    others = set(psutil.Process().children())

    async def story(runs):
        await runs.run("twice", 1)
        (process,) = set(psutil.Process().children()) - others
        process.suspend()
        key = runs.submit("careless", str(flag))
        assert runs.pool.halt(key, Halt.SOFT_LIMIT)
        process.resume()
        ended = await runs.end(key)
        assert (ended.end, ended.error.type.split(".")[-1]) == (End.RAISED, "SoftTimeLimitExceeded")

    in_pool(story)


def test_a_soft_limit_that_passes_while_the_run_waits_for_a_process_is_raised_there(flag):
    async def story(runs):
        before, waiting = runs.submit("spin", str(flag)), runs.submit("careless", str(flag))
        await until(flag.exists)
        assert runs.pool.halt(waiting, Halt.SOFT_LIMIT)
        runs.pool.halt(before, Halt.CANCEL)
        ended = await runs.end(waiting)
        assert (ended.end, ended.error.type.split(".")[-1]) == (End.RAISED, "SoftTimeLimitExceeded")

    in_pool(story)


def test_a_soft_limit_never_strikes_the_next_run():
    async def story(runs):
        struck = 0
        for n in range(200):
            first, second = runs.submit("twice", n), runs.submit("twice", n)
            await asyncio.sleep(0.0001 * (n % 7))
            runs.pool.halt(first, Halt.SOFT_LIMIT)
            struck += (await runs.end(first)).end is End.RAISED
            assert value(await runs.end(second)) == n * 2
        print(f"soft limits that struck: {struck} of 200")

    in_pool(story)


@pytest.mark.parametrize(("task", "argument", "word"), [("segfault", None, "SIGSEGV"), ("leave", 9, "exit 9")])
def test_a_crash_takes_one_run_with_it_and_says_how(task, argument, word):
    async def story(runs):
        waiting = runs.submit("pause", 0.3)
        crashed = await runs.run(task, argument)
        assert (crashed.end, crashed.reason) == (End.CRASHED, word)
        assert word in crashed.error.message
        assert value(await runs.end(waiting)) > 0
        assert value(await runs.run("twice", 1)) == 2

    in_pool(story, size=2)


def test_a_kill_from_elsewhere_is_told_a_moment_later_for_it_may_hit_the_engine_too(flag, monkeypatch):
    others = set(psutil.Process().children())

    async def story(runs):
        async def killed():
            flag.unlink(missing_ok=True)
            key = runs.submit("spin", str(flag))
            await until(flag.exists)
            (process,) = set(psutil.Process().children()) - others
            process.kill()
            await until(lambda: has_ended(process))
            return key

        key, dead_at = await killed(), time.monotonic()
        ended = await runs.end(key)
        assert (ended.end, ended.reason) == (End.CRASHED, "SIGKILL")
        assert time.monotonic() - dead_at > AFTER_KILL / 2
        monkeypatch.setattr(processes, "AFTER_KILL", 60.0)
        key = await killed()
        await until(lambda: runs.pool._entries[key].place is None)
        assert runs.pool.halt(key, Halt.CANCEL)
        assert (await runs.end(key)).end is End.CANCELLED, "that moment is no reason to wait"
        assert value(await runs.run("twice", 1)) == 2, "a cancel that comes so late strikes no other process"

    in_pool(story)


def test_a_process_is_replaced_after_its_share_of_runs():
    async def story(runs):
        pids = [value(await runs.run("whoami"))[0] for _ in range(7)]
        assert [pids.count(pid) for pid in dict.fromkeys(pids)] == [3, 3, 1]

    in_pool(story, max_tasks=3)


def test_a_process_that_holds_too_much_is_replaced_after_its_run_and_an_idle_one_at_once(flag):
    async def story(runs):
        first = value(await runs.run("hold_memory", [80, 0]))
        runs.pool.limit_memory(most=70 * MIB, too_much=1000 * MIB)
        second = value(await runs.run("hold_memory", [0, 0]))
        assert second != first
        runs.pool.limit_memory(most=70 * MIB, too_much=1000 * MIB)
        assert value(await runs.run("hold_memory", [0, 0])) == second, "this one is small"
        key = runs.submit("hold_memory", [80, 0.5])
        pid = second
        await until(lambda: (resident_bytes(pid) or 0) > 75 * MIB)
        runs.pool.limit_memory(most=70 * MIB, too_much=1000 * MIB)
        assert value(await runs.end(key)) == second, "a run is waited for"
        assert value(await runs.run("hold_memory", [0, 0])) != second

    in_pool(story)


def test_a_process_that_holds_far_too_much_is_killed_and_its_run_says_why():
    async def story(runs):
        pid = value(await runs.run("hold_memory", [0, 0]))
        key = runs.submit("hold_memory", [150, 60])
        await until(lambda: (resident_bytes(pid) or 0) > 145 * MIB)
        runs.pool.limit_memory(most=70 * MIB, too_much=140 * MIB)
        crashed = await runs.end(key)
        assert (crashed.end, len(crashed.reason) <= 64) == (End.CRASHED, True)
        assert "max_memory_per_child is 70" in crashed.reason
        assert "max_memory_per_child is 70" in crashed.error.message

    in_pool(story)


def test_a_run_that_finds_no_memory_fails_by_itself_and_its_process_goes_on():
    async def story(runs):
        pid = value(await runs.run("hold_memory", [0, 0]))
        failed = await runs.run("find_no_memory")
        assert (failed.end, failed.error.type) == (End.RAISED, "MemoryError")
        assert value(await runs.run("hold_memory", [0, 0])) == pid

    in_pool(story)


def test_what_waits_for_a_place_can_be_halted_without_starting(flag):
    async def story(runs):
        running, waiting = runs.submit("spin", str(flag)), runs.submit("leave", 1)
        await until(flag.exists)
        assert runs.pool.halt(waiting, Halt.CANCEL)
        assert (await runs.end(waiting)).end is End.CANCELLED
        runs.pool.halt(running, Halt.CANCEL)
        await runs.end(running)
        assert not runs.pool.halt(running, Halt.CANCEL)

    in_pool(story)


def test_signals_that_reach_the_whole_group_are_left_to_the_engine():
    async def story(runs):
        assert value(await runs.run("signals")) == "alive"

    in_pool(story)


def test_closing_ends_everything_and_reports_it(flag):
    async def story(runs):
        keys = [runs.submit("spin", str(flag)), runs.submit("twice", 1)]
        await until(flag.exists)
        await runs.pool.close()
        assert [runs.ends[key][0].end for key in keys] == [End.INTERRUPTED] * 2

    in_pool(story)


def test_closing_while_the_processes_start_leaves_none():
    async def story(runs):
        await asyncio.sleep(0)

    in_pool(story, size=2)


def test_runs_wait_while_the_app_cannot_be_imported_and_run_when_it_can(tmp_path, caplog):
    async def story(runs):
        assert value(await runs.run("twice", 1)) == 2
        assert "half deployed" in caplog.text

    in_pool(story, entry="broken_once", arguments=str(tmp_path / "mark").encode())


def test_an_app_that_stays_broken_is_tried_ever_more_slowly(caplog):
    async def story(runs):
        key = runs.submit("twice", 1)
        await until(lambda: caplog.text.count("No module named 'shop'") >= 2)
        assert runs.ends[key] == []

    in_pool(story, entry="broken")


def test_a_place_goes_on_once_the_system_gives_threads_again(monkeypatch, caplog):
    async def story(runs):
        key = runs.submit("twice", 1)
        await until(lambda: "pool_process_not_started" in caplog.text)
        monkeypatch.undo()
        assert value(await runs.end(key)) == 2

    def start(_thread):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr("jobmaster.engine.links.spawned.threading.Thread.start", start)
    in_pool(story)


ENGINE = """
import asyncio, sys
from jobmaster.engine.pools.processes import AFTER_KILL, ProcessPool
from jobmaster.engine.pools.sent import PoolLaunch
from tests.engine.pool_workload import run_of
async def main():
    launch = PoolLaunch("tests.engine.pool_tasks:workload", b"")
    pool = ProcessPool(launch, size=2, max_tasks_per_child=None, random=lambda: 0.0)
    for task in ("hold_the_interpreter", "deaf"):
        pool.submit([run_of(task, sys.argv[1] + task)])
    await asyncio.sleep(1000)
asyncio.run(main())
"""


def test_the_processes_end_with_an_engine_that_is_killed(tmp_path):
    engine = subprocess.Popen([sys.executable, "-c", ENGINE, f"{tmp_path}/"], cwd=ROOT)
    try:
        asyncio.run(until(lambda: len(list(tmp_path.iterdir())) == 2))
        children = psutil.Process(engine.pid).children()
        assert len(children) == 2
        engine.kill()
        assert psutil.wait_procs(children, timeout=10)[1] == []
    finally:
        engine.kill()
        engine.wait()
