"""Workers are told to stop, patiently and less patiently, while jobs run and wait (H1 to H3)."""

from __future__ import annotations

import os
import signal
from collections import Counter

import pytest

from tests.faults.real_cluster import RealCluster, wait_for
from tests.faults.score import DEFAULTS

APP = ("-A", "tests.faults.load_app:jm")
RUNNING = """
import tests.faults.load_app as app
for gate in {gates!r}:
    print(app.{task}.delay(gate).id)
"""
WAITING = "for result in app.jm.enqueue_many([app.work_async.job() for _ in range(200)]): print(result.id)"
WITHIN = 1.0
"""Seconds in which what has not started is free for others, where each process that would run has a processor."""


def run(cluster: RealCluster, *gates: str, task: str = "gated") -> list[str]:
    """Jobs that run until there is a file, once they do."""
    jobs = cluster.produce(RUNNING.format(gates=gates, task=task))
    wait_for(lambda: starts(cluster).keys() >= set(jobs), what=cluster.state)
    return jobs


def starts(cluster: RealCluster) -> Counter[str]:
    return Counter(line.job for line in cluster.lines() if line.event == "start")


@pytest.mark.fault("H1")
def test_a_stop_lets_go_of_what_waits_finishes_what_ends_and_hands_back_the_rest(cluster: RealCluster) -> None:
    cluster.with_long_leases()
    leaving = cluster.start_worker(*APP, "-c", "4", "--grace", "25" if DEFAULTS else "3", name="leaving")
    *ending, late = run(cluster, "soon", "soon", "soon", "late")
    waiting = cluster.produce(WAITING)
    staying = cluster.start_worker(*APP, "-c", "4", name="staying")
    leaving.process.send_signal(signal.SIGTERM)
    cluster.score.struck("SIGTERM")
    seconds = wait_for(lambda: starts(cluster).keys() >= set(waiting), what=cluster.state)
    cluster.score.recovered(seconds)
    assert not DEFAULTS or seconds <= WITHIN * max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1))
    (cluster.folder / "soon").touch()
    assert leaving.process.wait(60) == 0
    wait_for(lambda: starts(cluster)[late] == 2, what=cluster.state)
    (cluster.folder / "late").touch()
    cluster.judge([*ending, late, *waiting], extra=1)
    lines = cluster.lines()
    assert {line.attempt for line in lines} == {1}, "a stop spends no attempt"
    again = max(line.at for line in lines if line.job == late and line.event == "start")
    assert max(line.at for line in lines if line.job in waiting and line.event == "start") < again
    assert staying.terminate() == 0


@pytest.mark.fault("H2")
def test_a_stop_that_ends_in_a_kill_is_a_kill(cluster: RealCluster) -> None:
    leaving = cluster.start_worker(*APP, "-c", "4", name="leaving")
    running = run(cluster, *["go"] * 4)
    waiting = cluster.produce(WAITING)
    leaving.process.send_signal(signal.SIGTERM)
    leaving.kill_tree()
    cluster.start_worker(*APP, "-c", "8", name="staying")
    wait_for(lambda: all(starts(cluster)[job] == 2 for job in running), what=cluster.state)
    (cluster.folder / "go").touch()
    cluster.judge([*running, *waiting], extra=len(running))


@pytest.mark.fault("H3")
def test_a_second_signal_hands_back_at_once_and_a_third_ends_the_worker_now(cluster: RealCluster) -> None:
    leaving = cluster.start_worker(*APP, "-c", "8", name="leaving")
    kind, rude = run(cluster, "go", "go"), run(cluster, "go", "go", task="deaf")
    waiting = cluster.produce(WAITING)
    tree = leaving.tree()
    leaving.process.send_signal(signal.SIGTERM)
    wait_for(lambda: "stop_begins" in leaving.text(), what=leaving.text)
    leaving.process.send_signal(signal.SIGINT)
    wait_for(lambda: {cluster.statuses().get(job, (0,))[0] for job in kind} == {2}, what=cluster.state)
    leaving.process.send_signal(signal.SIGTERM)
    seconds = wait_for(lambda: leaving.process.poll() is not None, what=leaving.text)
    cluster.score.struck("three signals")
    cluster.score.recovered(seconds)
    assert not any(process.is_running() and process.status() != "zombie" for process in tree)
    cluster.start_worker(*APP, "-c", "8", name="staying")
    wait_for(lambda: all(starts(cluster)[job] == 2 for job in [*kind, *rude]), what=cluster.state)
    (cluster.folder / "go").touch()
    cluster.judge([*kind, *rude, *waiting], extra=len(kind) + len(rude))
