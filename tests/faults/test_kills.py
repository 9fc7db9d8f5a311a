"""Whole worker trees are killed under load; rollouts under load; hard limits."""

from __future__ import annotations

import signal

import psutil
import pytest

from tests.faults.real_cluster import PATIENCE, Producer, RealCluster, wait_for
from tests.faults.score import DEFAULTS
from tests.faults.side_log import runs_without_reason

STREAM = """
import os
n = 0
while not os.path.exists("enough"):
    n += 1
    task = app.work_async if n % 3 else app.work
    print(task.delay(seconds={work} if n % 20 == 0 else 0.0).id, flush=True)
    time.sleep(0.002)
"""

KILLS, ROLLOUTS = (8, 6) if DEFAULTS else (4, 4)

BACKLOG = "for n in range(400): print((app.work_async if n % 3 else app.work).delay(seconds=0.05).id)"


def final_ids(cluster: RealCluster) -> set[str]:
    return {job for job, (status, _) in cluster.statuses().items() if status in (5, 7, 8)}


def finished(cluster: RealCluster, producer: Producer) -> list[str]:
    """Tell the producer that it is enough; the ids that it got back from `delay`."""
    (cluster.folder / "enough").touch()
    return producer.finished()


@pytest.mark.fault("A9")
@pytest.mark.timeout(170)
def test_kills_of_whole_trees_under_load_lose_nothing_and_decide_once(cluster: RealCluster) -> None:
    """Two workers, one of them killed again and again, in turn."""
    workers = [cluster.start_worker("-c", "16", name=f"w{number}") for number in range(2)]
    producer = cluster.producer(STREAM.format(work=0.4))
    struck: list[int] = []
    for kill in range(KILLS):
        seen = len(cluster.lines())
        wait_for(lambda seen=seen: len(cluster.lines()) > seen + 150, what=cluster.state)
        struck += [process.pid for process in workers[kill % 2].tree()]
        workers[kill % 2].kill_tree()
        workers[kill % 2] = cluster.start_worker("-c", "16", name=f"w{kill % 2}")
    accepted = finished(cluster, producer)
    assert len(accepted) > 100 * KILLS
    cluster.judge(accepted, extra=None, timeout=60)
    # Of a worker whose lease of a second ends by itself, because the machine is busy, what it has begun runs again.
    assert runs_without_reason(cluster.lines(), struck) <= KILLS * 16
    for worker in workers:
        assert worker.terminate() == 0


@pytest.mark.fault("H1")
def test_sigterm_under_load_loses_nothing_and_runs_nothing_twice(cluster: RealCluster) -> None:
    """A rollout: workers are replaced in turn while jobs come in."""
    cluster.with_long_leases()
    workers = [cluster.start_worker("-c", "8", "--grace", "10", name=f"w{number}") for number in range(2)]
    producer = cluster.producer(STREAM.format(work=0.5))
    for rollout in range(ROLLOUTS):
        seen = len(cluster.lines())
        wait_for(lambda seen=seen: len(cluster.lines()) > seen + 150, what=cluster.state)
        assert workers[rollout % 2].terminate() == 0
        workers[rollout % 2] = cluster.start_worker("-c", "8", "--grace", "10", name=f"w{rollout % 2}")
    accepted = finished(cluster, producer)
    cluster.judge(accepted, timeout=40)
    assert {line.attempt for line in cluster.lines()} == {1}


@pytest.mark.fault("B8")
@pytest.mark.parametrize("pool", ["threads", "processes"])
@pytest.mark.parametrize("task", ["spin", "stubborn", "blocked_read"])
def test_a_hard_limit_ends_what_does_not_listen_and_spares_the_others(
    cluster: RealCluster, task: str, pool: str
) -> None:
    """A loop without end, a handler that swallows everything, a read that never returns."""
    worker = cluster.start_worker("-c", "4", "-P", pool)
    others = cluster.produce(
        f"print(app.{task}.delay().id)\nfor _ in range(20): print(app.work.delay(seconds=0.1).id)", timeout=20
    )
    wait_for(lambda: set(others) <= final_ids(cluster), timeout=45, what=worker.text)
    statuses = cluster.statuses()
    assert statuses[others[0]][0] == 7
    assert {statuses[job][0] for job in others[1:]} == {5}
    assert not any(map(spins, worker.tree())), "the run is gone, not only forgotten"
    assert worker.terminate() == 0


def spins(process: psutil.Process) -> bool:
    try:
        return bool(process.cpu_percent(0.2) > 80)
    except psutil.NoSuchProcess:  # it has just ended
        return False


@pytest.mark.fault("B8")
def test_a_coroutine_that_swallows_cancellation_is_stopped_too(cluster: RealCluster) -> None:
    worker = cluster.start_worker()
    ids = cluster.produce("print(app.stubborn_async.delay().id)\nprint(app.work.delay(seconds=0.1).id)")
    wait_for(lambda: set(ids) <= final_ids(cluster), timeout=40, what=worker.text)
    assert [cluster.statuses()[job][0] for job in ids] == [7, 5]
    assert worker.terminate() == 0


@pytest.mark.fault("A17")
def test_a_job_that_kills_its_process_is_quarantined_and_its_neighbours_are_not(cluster: RealCluster) -> None:
    worker = cluster.start_worker("-c", "8")
    ids = cluster.produce("print(app.crash.delay().id)\nfor _ in range(30): print(app.work.delay(seconds=0.05).id)")
    wait_for(lambda: set(ids) <= final_ids(cluster), timeout=60, what=worker.text)
    statuses = cluster.statuses()
    assert statuses[ids[0]] == (7, "quarantined")
    assert {statuses[job][0] for job in ids[1:]} == {5}
    crashes = [line for line in cluster.lines() if line.job == ids[0] and line.event == "start"]
    assert len(crashes) == 3
    assert worker.terminate() == 0


@pytest.mark.fault("H3")
def test_a_second_signal_hands_running_jobs_back_at_once(cluster: RealCluster) -> None:
    worker = cluster.start_worker()
    (job,) = cluster.produce("print(app.work_async.delay(seconds=300).id)")
    wait_for(cluster.lines)
    worker.process.send_signal(signal.SIGTERM)
    wait_for(lambda: "stop_begins" in worker.text())
    worker.process.send_signal(signal.SIGTERM)
    assert worker.process.wait(20 * PATIENCE) == 0
    assert cluster.statuses()[job][0] == 2


@pytest.mark.fault("A14")
def test_when_a_whole_host_dies_all_its_buckets_have_new_owners(cluster: RealCluster) -> None:
    """Both workers at once; what they had goes to a third, of another name."""
    dead = [cluster.start_worker("-c", "8", name=f"dead{number}") for number in range(2)]
    ids = cluster.produce(BACKLOG)
    wait_for(lambda: len(cluster.lines()) > 100, what=cluster.state)
    struck = [process.pid for worker in dead for process in worker.tree()]
    for worker in dead:
        worker.kill_tree()
    heir = cluster.start_worker("-c", "8", name="heir")
    cluster.judge(ids, extra=None, timeout=30)
    assert runs_without_reason(cluster.lines(), struck) == 0
    wait_for(lambda: len(owners(cluster)) <= 1, what=cluster.state)
    assert heir.terminate() == 0


def owners(cluster: RealCluster) -> set[int]:
    return {owner for _, owner in cluster.place.rows("SELECT token, owner FROM jm_bucket") if owner is not None}
