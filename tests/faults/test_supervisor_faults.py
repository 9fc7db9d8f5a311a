"""Whole worker trees, and what becomes of a process that blocks, grows, is worn, or loses its parent."""

from __future__ import annotations

import time

import psutil
import pytest

from tests.faults.real_cluster import RealCluster, wait_for
from tests.faults.score import DEFAULTS

TASKS = "tests.faults.blocking_tasks"

# What happens inside of one tree of processes is the same on every store.
on_sqlite = pytest.mark.parametrize("cluster", ["sqlite"], indirect=True)
on_postgresql = pytest.mark.parametrize("cluster", ["postgresql"], indirect=True)


@pytest.fixture
def shop(cluster: RealCluster) -> RealCluster:
    """A cluster whose workers know the tasks with bad manners, too."""
    cluster.with_long_leases()
    cluster.environment["JOBMASTER_INCLUDE"] = TASKS
    return cluster


def run(shop: RealCluster, program: str) -> list[str]:
    return shop.produce(f"import {TASKS} as tasks\n{program}")


# ---------------------------------------------------------------- recycling


@pytest.mark.parametrize(("cluster", "engines"), [("sqlite", "1"), ("postgresql", "2")], indirect=["cluster"])
def test_engines_are_replaced_after_their_share_and_no_job_notices(shop: RealCluster, engines: str) -> None:
    worker = shop.start_worker("-c", "4", "--max-tasks-per-child", "30", "--engines", engines)
    producer = shop.producer(
        "import os\nwhile not os.path.exists('enough'): print(app.work.delay(seconds=0.03).id); time.sleep(0.02)"
    )
    wait_for(lambda: len({line.pid for line in shop.lines()}) >= 1 + int(engines), what=shop.state)
    wait_for(lambda: "reason=recycled" in worker.text(), what=shop.state)
    (shop.folder / "enough").touch()
    shop.judge(producer.finished(), extra=0)
    assert {line.attempt for line in shop.lines()} == {1}
    assert "engine_killed" not in worker.text()
    assert worker.terminate() == 0


# ---------------------------------------------------------------- orphans


@pytest.mark.fault("A15")
@pytest.mark.parametrize(
    ("cluster", "pool"), [("sqlite", "processes"), ("postgresql", "threads")], indirect=["cluster"]
)
def test_everything_ends_with_a_supervisor_that_is_killed(shop: RealCluster, pool: str) -> None:
    worker = shop.start_worker("-P", pool, "-c", "2")
    jobs = run(
        shop, "for task in (app.work, app.work_async): print(task.delay(seconds=300).id); print(app.work.delay(2).id)"
    )
    wait_for(lambda: {line.job for line in shop.lines()} >= set(jobs[::2]), what=shop.state)
    size = 1 if pool == "threads" else 3
    wait_for(lambda: len(worker.tree()) == 1 + size, what=worker.text)
    below = worker.tree()[1:]
    assert len(below) == size, "engine, and the processes of its pool"
    before = time.time()
    worker.process.kill()
    gone, alive = psutil.wait_procs(below, timeout=20)
    assert alive == [], "orphans live on"
    assert len(gone) == len(below)
    shop.struck("kill of a supervisor", [process.pid for process in below], before)
    shop.judge([], extra=None)


# ---------------------------------------------------------------- what holds a process up


LEASE = {} if DEFAULTS else {"JOBMASTER_LEASE": "3", "JOBMASTER_RENEW_EVERY": "0.3"}


@pytest.mark.fault("B3")
def test_a_loop_that_is_held_up_for_longer_than_the_lease_keeps_its_jobs(shop: RealCluster) -> None:
    # Told after 4.5 s, given up after 8 s; and it is on a busy machine that others have to renew.
    shop.environment |= LEASE | {"JOBMASTER_MAX_BLOCK": "7"}
    blocked = shop.start_worker("-P", "threads", name="blocked")
    jobs = run(shop, "print(tasks.block_the_loop.delay(seconds=6.3).id)")
    wait_for(shop.lines, what=shop.state)
    other = shop.start_worker(name="other")
    jobs += run(shop, "for _ in range(5): print(app.work.delay().id)")
    shop.judge(jobs, extra=0)
    assert "loop_blocked" in blocked.text()
    assert "task tests.faults.blocking_tasks.block_the_loop (job " in blocked.text()
    assert "blocking_tasks.py:" in blocked.text()
    assert "engine_killed" not in blocked.text()
    assert shop.place.rows("SELECT token, epoch FROM jm_bucket WHERE epoch > 1") == [], "nobody adopted anything"
    assert [worker.terminate() for worker in (blocked, other)] == [0, 0]


@pytest.mark.fault("B4")
def test_code_that_holds_the_interpreter_for_longer_than_the_lease_keeps_its_jobs(shop: RealCluster) -> None:
    """No thread of the engine's process runs meanwhile, the supervisor's does."""
    shop.environment |= LEASE
    holding = shop.start_worker("-P", "threads", name="holding")
    jobs = run(shop, "print(tasks.hold_the_interpreter.delay(seconds=5).id)")
    wait_for(shop.lines, what=shop.state)
    other = shop.start_worker(name="other")
    jobs += run(shop, "for _ in range(3): print(app.work.delay().id)")
    shop.judge(jobs, extra=0)
    assert shop.place.rows("SELECT token, epoch FROM jm_bucket WHERE epoch > 1") == [], "nobody adopted anything"
    assert [worker.terminate() for worker in (holding, other)] == [0, 0]


@pytest.mark.fault("B3", "B8")
def test_after_max_block_the_process_is_replaced_and_the_task_is_named(shop: RealCluster) -> None:
    shop.environment |= {"JOBMASTER_MAX_BLOCK": "3", "JOBMASTER_MAX_RECOVERIES": "1"}
    worker = shop.start_worker("-P", "threads", "--grace", "0.5")
    (innocent,) = run(shop, "print(app.work_async.delay(seconds=20).id)")
    wait_for(shop.lines, what=shop.state)
    (guilty,) = run(shop, "print(tasks.spin_on_the_loop.delay().id)")
    wait_for(lambda: "engine_killed" in worker.text(), what=shop.state)
    text = worker.text()
    assert f"by task tests.faults.blocking_tasks.spin_on_the_loop (job {guilty})" in text
    assert "blocking_tasks.py:" in text
    assert text.index("loop_blocked") < text.index("engine_stands_still") < text.index("engine_killed")
    wait_for(lambda: len([line for line in shop.lines() if line.job == innocent]) >= 2, what=shop.state)
    recoveries = dict(shop.place.rows("SELECT id, recoveries FROM jm_job"))
    assert (recoveries[innocent], recoveries[guilty]) == (0, 1), "only the one that held the loop up is blamed"
    assert worker.terminate() == 0


LATER = """
import os
app.jm.jobs.count()
while not os.path.exists("later"):
    time.sleep(0.01)
for _ in range(8):
    print(app.work.delay().id)
"""


@pytest.mark.fault("B8")
@on_postgresql
def test_a_condemned_process_starts_nothing_and_its_other_runs_end(shop: RealCluster) -> None:
    worker = shop.start_worker("-P", "threads", "-c", "4")
    neighbours = run(shop, "for _ in range(3): print(tasks.wait_for_release.delay().id)")
    wait_for(lambda: len(shop.lines()) == 3, what=shop.state)
    afterwards = shop.producer(LATER)
    (stuck,) = run(shop, "print(app.stubborn.delay().id)")
    wait_for(lambda: "engine_condemned" in worker.text(), what=shop.state)
    seen = time.monotonic()
    condemned = next(line.pid for line in shop.lines() if line.job == stuck)
    (shop.folder / "later").touch()
    later = afterwards.finished()
    wait_for(lambda: {line.job for line in shop.lines() if line.event == "end"} >= set(later), what=shop.state)
    ran = {line.job: line.pid for line in shop.lines() if line.event == "end"}
    assert condemned not in {ran[job] for job in later}, "another process runs what comes"
    assert not set(neighbours) & ran.keys(), "while the neighbours of the stuck one still run"
    (shop.folder / "release").touch()
    # Where a busy machine needs more than its grace of ten seconds for all this, it is killed, and they run again.
    in_time = time.monotonic() - seen < 8
    shop.judge([*neighbours, *later], extra=0 if in_time else 3)
    shop.judge([stuck], extra=0, statuses={7})
    if in_time:
        assert {line.pid for line in shop.lines() if line.job in neighbours} == {condemned}
    wait_for(lambda: len(worker.tree()) == 2, what=shop.state)
    assert worker.terminate() == 0


@pytest.mark.fault("A16")
@on_sqlite
def test_a_process_that_grows_too_large_is_replaced_after_its_run(shop: RealCluster) -> None:
    worker = shop.start_worker("-P", "processes", "-c", "1", "--max-memory-per-child", "120")
    first = run(shop, "print(tasks.keep_memory.delay(100, 1.5).id)")
    shop.judge(first, extra=0)
    second = run(shop, "print(tasks.keep_memory.delay(1).id)")
    shop.judge(second, extra=0)
    assert len({line.pid for line in shop.lines()}) == 2
    third = run(shop, "print(tasks.keep_memory.options(max_retries=0).delay(300, 60).id)")
    shop.judge(third, extra=None, statuses={7})
    assert "max_memory_per_child is 120" in worker.text()
    assert worker.terminate() == 0
