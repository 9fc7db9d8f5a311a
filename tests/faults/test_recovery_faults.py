"""Recovery with real processes: whom a death is counted for, what is told of it afterwards, names used twice."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

from tests.faults.real_cluster import APP, RealCluster, wait_for
from tests.faults.test_pauses import all_over, go_on, stop

SUCCEEDED, FAILED = 5, 7


def shown(cluster: RealCluster, job: str) -> dict[str, Any]:
    """What `jobmaster jobs show` says of a job."""
    command = [sys.executable, "-m", "jobmaster.cli", "-A", APP, "jobs", "show", job, "--json"]
    done = subprocess.run(command, cwd=cluster.folder, env=cluster.environment, capture_output=True, check=True)
    told: dict[str, Any] = json.loads(done.stdout)
    return told


def events(told: dict[str, Any]) -> list[tuple[str, int | None]]:
    return [(step["event"], step.get("attempt")) for step in told["story"]]


def starts(cluster: RealCluster, *jobs: str) -> int:
    return sum(line.event == "start" and line.job in jobs for line in cluster.lines())


@pytest.mark.fault("A17")
def test_poison_is_convicted_in_a_process_of_its_own_and_its_neighbours_run_on(cluster: RealCluster) -> None:
    """Five others run beside it at its first crash. Those that follow are nobody's but its own."""
    worker = cluster.start_worker("-c", "6")
    innocent = cluster.produce("for _ in range(5): print(app.gated.delay(gate='open').id)")
    wait_for(lambda: starts(cluster, *innocent) == 5, what=cluster.state)
    (guilty,) = cluster.produce("print(app.crash_async.delay().id)")
    wait_for(lambda: cluster.statuses().get(guilty, (0,))[0] == FAILED, what=cluster.state)
    (cluster.folder / "open").touch()
    cluster.judge([guilty, *innocent], statuses={SUCCEEDED, FAILED}, extra=None)

    statuses = cluster.statuses()
    assert statuses[guilty] == (FAILED, "quarantined")
    assert {statuses[job] for job in innocent} == {(SUCCEEDED, "")}
    crashes = [line for line in cluster.lines() if line.job == guilty and line.event == "start"]
    assert [line.attempt for line in crashes] == [1, 2, 3]
    alone = {line.pid for line in crashes[1:]}
    assert not any(line.pid in alone for line in cluster.lines() if line.job != guilty), "it was alone there"
    told = shown(cluster, guilty)
    assert "SIGSEGV" in told["error"]["message"]
    assert "jobmaster jobs retry" in told["error"]["message"]
    assert ("quarantined", 3) in events(told)
    assert "job_quarantined" in worker.text()
    assert worker.terminate() == 0


@pytest.mark.fault("A9", "A14")
def test_the_story_of_a_job_that_was_recovered_twice_says_who_ran_it_and_why_it_ended(cluster: RealCluster) -> None:
    first = cluster.start_worker("-c", "2", name="first")
    (job,) = cluster.produce("print(app.gated.delay(gate='open').id)")
    wait_for(lambda: starts(cluster, job) == 1, what=cluster.state)
    pid = first.kill_engine()
    wait_for(lambda: starts(cluster, job) == 2, what=cluster.state)
    first.kill_tree()
    cluster.start_worker("-c", "2", name="second")
    wait_for(lambda: starts(cluster, job) == 3, what=cluster.state)
    (cluster.folder / "open").touch()
    cluster.judge([job], extra=2)

    told = shown(cluster, job)
    assert [event for event in events(told) if event != ("started", 1)] == [
        ("accepted", None), ("lost", 1), ("started", 2), ("lost", 2), ("started", 3), ("ended", 3),
    ]  # fmt: skip
    *_, lost, two, lost_again, three, ended = told["story"]
    # Runs of less than a second have no row: that this one began, only its supervisor has told.
    assert (lost["worker"], lost["pid"]) == ("first", pid)
    assert "SIGKILL" in lost["text"]
    assert two["pid"] != pid
    assert "nobody saw how" in lost_again["text"]
    assert (three["worker"], ended["text"]) == ("second", "succeeded")
    moments = [step["at"] for step in told["story"]]
    assert moments == sorted(moments)
    assert (told["recoveries"], told["attempts"], told["failures"]) == (2, 3, 0)


@pytest.mark.fault("B1")
def test_of_two_workers_of_one_name_the_frozen_one_comes_back_and_ends(cluster: RealCluster) -> None:
    old = cluster.start_worker("-c", "2", name="same")
    jobs = cluster.produce("for _ in range(2): print(app.gated.delay(gate='open').id)")
    wait_for(lambda: starts(cluster, *jobs) == 2, what=cluster.state)
    tree = old.tree()
    stop(cluster, tree)
    new = cluster.start_worker("-c", "2", name="same")
    wait_for(lambda: starts(cluster, *jobs) == 4, what=cluster.state)
    go_on(tree)
    # It hears that its name is somebody else's, says so, and leaves; what it ran ends without counting.
    assert old.process.wait(30) is not None
    wait_for(lambda: all_over(cluster, tree), what=cluster.state)
    assert "worker_replaced name=same" in old.text()
    (cluster.folder / "open").touch()
    cluster.judge(jobs, extra=2)
    assert {cluster.statuses()[job][0] for job in jobs} == {SUCCEEDED}
    (owners,) = cluster.place.rows("SELECT count(DISTINCT owner), max(owner) FROM jm_bucket WHERE owner IS NOT NULL")
    assert int(owners[0]) == 1
    assert new.terminate() == 0


@pytest.mark.fault("H1")
def test_what_a_stop_hands_back_spends_no_attempt_and_the_story_says_so(cluster: RealCluster) -> None:
    leaving = cluster.start_worker("-c", "2", "--grace", "1", name="leaving")
    (job,) = cluster.produce("print(app.quiet_until.delay(gate='open').id)")
    wait_for(lambda: starts(cluster, job) == 1, what=cluster.state)
    assert leaving.terminate() == 0
    staying = cluster.start_worker("-c", "2", name="staying")
    wait_for(lambda: starts(cluster, job) == 2, what=cluster.state)
    (cluster.folder / "open").touch()
    wait_for(lambda: cluster.statuses()[job][0] == SUCCEEDED, what=cluster.state)
    told = shown(cluster, job)
    assert events(told) == [("accepted", None), ("started", 1), ("handed back", 1), ("started", 1), ("ended", 1)]
    assert (told["recoveries"], told["attempts"], told["failures"]) == (0, 1, 0)
    assert [step.get("worker") for step in told["story"]][1:4] == ["leaving", "leaving", "staying"]
    assert staying.terminate() == 0
