"""Processes that begin in odd ways: again under an old name, as a copy of one that works, with next to nothing."""

from __future__ import annotations

import sys
import time

import pytest

from tests.faults.real_cluster import RealCluster, Worker, wait_for

APP = ("-A", "tests.faults.load_app:jm")
GATED = "for _ in range(4): print(app.gated.delay('go').id)"


def starts(cluster: RealCluster, jobs: list[str]) -> int:
    return sum(line.event == "start" and line.job in jobs for line in cluster.lines())


@pytest.mark.fault("H8")
def test_a_worker_that_comes_back_under_its_name_does_not_wait_for_its_old_lease(cluster: RealCluster) -> None:
    cluster.environment |= {"JOBMASTER_LEASE": "120", "JOBMASTER_RENEW_EVERY": "3"}
    first = cluster.start_worker("-c", "4", name="same")
    running = cluster.produce(GATED)
    wait_for(lambda: starts(cluster, running) == 4, what=cluster.state)
    waiting = cluster.produce("for _ in range(50): print(app.work_async.delay().id)")
    killed = time.monotonic()
    first.kill_tree()
    second = cluster.start_worker("-c", "4", name="same")
    wait_for(lambda: starts(cluster, running) == 8, what=cluster.state)
    assert time.monotonic() - killed < 60, "the lease of the dead one ended with the start of the next one"
    (cluster.folder / "go").touch()
    cluster.judge([*running, *waiting], extra=4)
    boots = cluster.place.rows("SELECT name, boot, ended FROM jm_worker ORDER BY boot")
    assert [(name, ended) for name, _, ended in boots] == [("same", 1), ("same", 0)]
    assert second.terminate() == 0


# As gunicorn with --preload: the app has worked in the parent, whose threads are in the middle of calls at each fork.
PREFORK = """
import os, threading
enough = threading.Event()
def stream():
    while not enough.is_set():
        os.write(1, (app.work_async.delay().id + "\\n").encode())
threads = [threading.Thread(target=stream) for _ in range(3)]
print(app.work_async.delay().id)
for thread in threads:
    thread.start()
children = []
for _ in range(6):
    time.sleep(0.02)
    child = os.fork()
    if child == 0:
        results = [app.work_async.delay() for _ in range(3)]
        os.write(1, "".join(result.id + "\\n" for result in results).encode())
        os._exit(0 if all(result.get(timeout=60) for result in results) else 1)
    children.append(child)
codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
assert codes == [0] * 6, codes
enough.set()
for thread in threads:
    thread.join()
assert app.work_async.delay().get(timeout=60)
"""

# A loop that runs is forked, too; and a program whose own workers run in it.
MULTIPROCESSING = """
import asyncio, multiprocessing, os
def child(number):
    result = app.work_async.delay()
    os.write(1, (result.id + "\\n").encode())
    assert result.get(timeout=60)
    async def more():
        result = await app.work_async.adelay()
        os.write(1, (result.id + "\\n").encode())
        assert await result.aget(timeout=60)
    asyncio.run(more())
def started():
    processes = [multiprocessing.get_context("fork").Process(target=child, args=(n,)) for n in range(3)]
    for process in processes:
        process.start()
    return processes
def ended(processes):
    for process in processes:
        process.join(80)
    assert [process.exitcode for process in processes] == [0] * len(processes)
async def main():
    streaming = [asyncio.ensure_future(app.work_async.adelay()) for _ in range(50)]
    await asyncio.sleep(0.01)
    processes = started()
    for result in await asyncio.gather(*streaming):
        print(result.id)
    await asyncio.to_thread(ended, processes)
    result = await app.work_async.adelay()
    print(result.id)
    assert await result.aget(timeout=60)
asyncio.run(main())
with app.jm:
    ended(started())
"""


@pytest.mark.fault("H9")
@pytest.mark.parametrize("program", [PREFORK, MULTIPROCESSING], ids=["prefork", "loop"])
def test_what_is_forked_in_the_middle_of_calls_works_and_harms_nobody(cluster: RealCluster, program: str) -> None:
    cluster.with_long_leases()
    worker = cluster.start_worker("-c", "16")
    accepted = [word for word in cluster.produce(program) if "-" in word]
    cluster.score.struck("fork", 6)
    cluster.judge(accepted, extra=0)
    assert worker.terminate() == 0


def start_limited(cluster: RealCluster, limit: str, *arguments: str) -> Worker:
    """A worker whose processes have less than they need for everything, or nothing at all."""
    python = cluster.folder / "limited-python"
    python.write_text(f'#!/bin/sh\n{limit}\nexec {sys.executable} "$@"\n')
    python.chmod(0o755)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(sys, "executable", str(python))
        return cluster.start_worker(*APP, *arguments)


MIXED = """
import tests.faults.load_app as app
jobs = [(app.work if n % 2 else app.work_async).job(seconds=0.02) for n in range(200)]
for result in app.jm.enqueue_many(jobs):
    print(result.id)
"""


@pytest.mark.fault("H11")
def test_with_few_descriptors_a_worker_works(cluster: RealCluster) -> None:
    start_limited(cluster, "ulimit -n 64", "-c", "64")
    cluster.judge(cluster.produce(MIXED), extra=0)


@pytest.mark.fault("H11")
@pytest.mark.parametrize("cluster", ["sqlite"], indirect=True)
def test_with_too_few_descriptors_a_worker_says_so_and_does_not_start(cluster: RealCluster) -> None:
    with pytest.raises(AssertionError, match="may open only 20 files here, and a worker needs 64"):
        start_limited(cluster, "ulimit -n 20")
    assert cluster.workers[-1].process.returncode == 2
    assert "Traceback" not in cluster.workers[-1].text()


# As `ulimit -u`, which does not count for root.
FEW_THREADS = """
import threading
for name in ("_start_new_thread", "_start_joinable_thread"):
    def start(*values, real=getattr(threading, name, None), **options):
        if threading.active_count() > 9:
            raise RuntimeError("can't start new thread")
        return real(*values, **options)
    setattr(threading, name, start)
"""


@pytest.mark.fault("H11")
def test_with_few_threads_a_worker_runs_less_at_once(cluster: RealCluster) -> None:
    (cluster.folder / "sitecustomize.py").write_text(FEW_THREADS)
    path = cluster.environment["PYTHONPATH"]
    cluster.environment["PYTHONPATH"] = f"{cluster.folder}:{path}"
    worker = cluster.start_worker(*APP, "-c", "32")
    cluster.environment["PYTHONPATH"] = path
    cluster.judge(cluster.produce(MIXED), extra=0)
    assert "threads_limited" in worker.text()
    assert "engine_ended" not in worker.text()
