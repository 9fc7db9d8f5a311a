"""Processes stand still and go on (catalogue B): what a zombie says and starts after its lease counts for nothing.

Handlers that ran when their process stopped run on when it goes on; nobody prevents that. Their outcomes do not count.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Collection, Iterable

import psutil
import pytest

from tests.faults.real_cluster import ROOT, RealCluster, Worker, wait_for
from tests.faults.test_process_death import (
    FAILED,
    SUCCEEDED,
    final,
    histories,
    in_memory,
    only_what_was_struck_began_again,
)

WAITING = 100
RUN = f"""
for _ in range(3):
    print(app.gated.delay(gate="open").id)
print(*[job.id for job in app.jm.enqueue_many([app.work.job()] * {WAITING})])
"""


def begun(cluster: RealCluster) -> tuple[Worker, list[str], list[str]]:
    """A worker whose three slots run something, while more waits in its memory: it, and the jobs of both kinds."""
    worker = cluster.start_worker("-c", "3", name="first")
    jobs = cluster.produce(RUN)
    wait_for(lambda: len(cluster.lines()) == 3 and in_memory(cluster) == WAITING, what=cluster.state)
    return worker, jobs[:3], jobs[3:]


def stop(cluster: RealCluster, processes: Collection[psutil.Process]) -> None:
    """SIGSTOP, while none of them writes: a frozen SQLite writer has the file, and nobody can take it away."""
    while True:
        for process in processes:
            process.send_signal(signal.SIGSTOP)
        if free_to_write(cluster):
            cluster.struck("stop of processes", [process.pid for process in processes])
            return
        go_on(processes)


def go_on(processes: Iterable[psutil.Process]) -> None:
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.send_signal(signal.SIGCONT)


def free_to_write(cluster: RealCluster) -> bool:
    if cluster.place.url.startswith("postgresql"):
        return True
    with contextlib.closing(sqlite3.connect(cluster.place.url.removeprefix("sqlite:///"), timeout=0.3)) as connection:
        try:
            connection.execute("BEGIN IMMEDIATE")
            connection.rollback()
        except sqlite3.OperationalError:
            return False
    return True


def begun_in(cluster: RealCluster, processes: Collection[psutil.Process], *events: str) -> set[str]:
    """The jobs whose runs were begun in these processes; with `events`, and came to one of these ends."""
    pids = {process.pid for process in processes}
    return {line.job for line in cluster.lines() if line.event in (events or {"start"}) and line.pid in pids}


def all_over(cluster: RealCluster, processes: Collection[psutil.Process]) -> bool:
    """Whether no run goes on in these processes."""
    return begun_in(cluster, processes) <= begun_in(cluster, processes, "end", "stopped")


@pytest.mark.fault("B1")
@pytest.mark.parametrize("whole_tree", [True, False], ids=["tree", "supervisor"])
def test_who_stood_still_past_its_lease_decides_and_starts_nothing(cluster: RealCluster, whole_tree: bool) -> None:
    worker, running, waiting = begun(cluster)
    tree = worker.tree()
    stopped = tree if whole_tree else tree[:1]
    stop(cluster, stopped)
    cluster.start_worker("-c", "3", name="second")
    wait_for(lambda: sum(line.event == "start" for line in cluster.lines()) >= 4, what=cluster.state)
    (cluster.folder / "open").touch()
    wait_for(lambda: {*running, *waiting} <= final(cluster), what=cluster.state)
    go_on(stopped)
    # Its runs end, or are ended, and nothing that it says about them counts; it stops as cleanly as any other.
    wait_for(lambda: all_over(cluster, tree), what=cluster.state)
    assert worker.terminate() == 0
    cluster.judge([*running, *waiting], extra=3)
    only_what_was_struck_began_again(cluster, [process.pid for process in tree])


@pytest.mark.fault("B2")
def test_a_pause_that_is_shorter_than_the_lease_is_not_seen(cluster: RealCluster) -> None:
    cluster.environment["JOBMASTER_LEASE"], cluster.environment["JOBMASTER_RENEW_EVERY"] = "10", "0.3"
    worker, running, waiting = begun(cluster)
    cluster.start_worker("-c", "3", name="second")
    before = epochs(cluster)
    tree = worker.tree()
    stop(cluster, tree)
    time.sleep(1)  # the pause
    go_on(tree)
    (cluster.folder / "open").touch()
    cluster.judge([*running, *waiting], extra=0)
    assert before.items() <= epochs(cluster).items(), "no bucket has changed hands"


def epochs(cluster: RealCluster) -> dict[str, int]:
    return dict(cluster.place.rows("SELECT token, epoch FROM jm_bucket"))


# ------------------------------------------------------------------------------------------------- a machine that slept

# In every process of a worker the clock that goes on during a suspension is ahead by what the file says.
SLEPT = """
import os, time
ordinary = time.clock_gettime_ns
def clock_gettime_ns(clock):
    with open(os.environ["FAULTS_SLEPT"]) as file:
        return ordinary(clock) + (int(file.read()) * 10**9 if clock == time.CLOCK_BOOTTIME else 0)
time.clock_gettime_ns = clock_gettime_ns
"""
EXPIRE = "UPDATE jm_worker SET lease_until_us = 1 WHERE name = 'first' RETURNING id"


@pytest.mark.fault("B5")
def test_a_machine_that_slept_past_its_lease_knows_it_when_it_wakes(cluster: RealCluster) -> None:
    """Its monotonic clock says that no time has passed; the database's clock, and that of others, went on."""
    slept = cluster.folder / "slept"
    slept.write_text("0")
    (cluster.folder / "clock").mkdir()
    (cluster.folder / "clock" / "sitecustomize.py").write_text(SLEPT)
    ordinary = dict(cluster.environment)
    cluster.environment |= {
        "FAULTS_SLEPT": str(slept),
        "PYTHONPATH": f"{cluster.folder / 'clock'}{os.pathsep}{ROOT}",
        "JOBMASTER_LEASE": "30",
        "JOBMASTER_RENEW_EVERY": "0.3",
    }
    worker, running, waiting = begun(cluster)
    tree = worker.tree()
    stop(cluster, tree)
    slept.write_text("600")
    cluster.place.rows(EXPIRE)
    cluster.environment = ordinary | {"JOBMASTER_LEASE": "30", "JOBMASTER_RENEW_EVERY": "0.3"}
    cluster.start_worker("-c", "1", name="second")
    wait_for(lambda: sum(line.event == "start" for line in cluster.lines()) >= 4, what=cluster.state)
    (cluster.folder / "open").touch()
    wait_for(lambda: {*running, *waiting} <= final(cluster), what=cluster.state)
    # Its slots are free at once, and what waits in its memory would start if it trusted its lease.
    go_on(tree)
    wait_for(lambda: all_over(cluster, tree), what=cluster.state)
    assert worker.terminate() == 0
    cluster.judge([*running, *waiting], extra=3)


@pytest.mark.fault("B5")
def test_leases_are_counted_on_the_clock_that_goes_on_while_the_machine_sleeps() -> None:
    """In a time namespace whose machine has slept for 1,000 s more than ours."""
    program = (
        "import time; from jobmaster.runtime import SystemClock; print(SystemClock().trust_ns() - time.monotonic_ns())"
    )
    unshare = [shutil.which("unshare") or "unshare", "--time", "--boottime", "1000"]
    if (
        shutil.which("unshare") is None
        or subprocess.run([*unshare, "true"], check=False, capture_output=True).returncode
    ):
        pytest.skip("this system lets us make no time namespace (unshare --time)")
    here, there = (
        int(subprocess.run([*way, sys.executable, "-c", program], check=True, capture_output=True, cwd=ROOT).stdout)
        for way in ([], unshare)
    )
    assert 999e9 < there - here < 1001e9


# -------------------------------------------------------------------------- between the look at trust and the write

PAUSED = """
print(*[job.id for job in app.jm.enqueue_many([app.once.job()] * {once})])
for gate in "now", "open", "open":
    print(app.gated.delay(gate=gate).id)
"""


@pytest.mark.fault("B6")
@pytest.mark.parametrize("point", ["settle.before", "take_over.before", "take_over.after"])
def test_a_write_whose_writer_paused_after_its_look_at_the_lease_is_refused_by_the_store(
    cluster: RealCluster, point: str
) -> None:
    cluster.arm(f"{point}=stop")
    first = cluster.start_worker("-c", "4", name="first")
    cluster.arm("")
    jobs = cluster.produce(PAUSED.format(once=0 if point == "settle.before" else 2))
    once, running = jobs[:-3], jobs[-3:]
    if not once:
        wait_for(lambda: len(cluster.lines()) == 3, what=cluster.state)
        (cluster.folder / "now").touch()
    wait_for(cluster.strikes, what=cluster.state)
    tree = first.tree()
    stop(cluster, tree[:1])
    cluster.start_worker("-c", "4", name="second")
    for gate in "now", "open":
        (cluster.folder / gate).touch()
    wait_for(lambda: {*running, *once} <= final(cluster), what=cluster.state)
    # The engine first: its write reaches the store before it can hear that its lease has ended.
    go_on(reversed(tree))
    wait_for(lambda: all_over(cluster, tree), what=cluster.state)
    assert first.terminate() == 0
    cluster.judge([*running, *once], extra=3, statuses={SUCCEEDED, FAILED})
    only_what_was_struck_began_again(cluster, [process.pid for process in tree])
    began = [job for job in once if job in histories(cluster)]
    statuses = {cluster.statuses()[job] for job in once}
    if point == "take_over.after":  # it was stored that they start: who finds that must not start them again
        assert (began, statuses) == ([], {(FAILED, "worker lost")})
    else:
        assert len(began) == len(once)
        assert statuses <= {(SUCCEEDED, "")}
