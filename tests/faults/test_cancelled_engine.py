"""A job that cancels the engine it runs in: it is found out like one that crashes its process."""

from __future__ import annotations

import pytest

from tests.faults.real_cluster import RealCluster, wait_for

SUCCEEDED, FAILED = 5, 7


@pytest.mark.fault("A17")
def test_a_job_that_cancels_all_tasks_of_its_loop_harms_itself_alone_from_its_second_run_on(
    cluster: RealCluster,
) -> None:
    worker = cluster.start_worker("-c", "6")
    innocent = cluster.produce("for _ in range(3): print(app.gated.delay(gate='open').id)")
    wait_for(lambda: sum(line.event == "start" for line in cluster.lines()) == 3, what=cluster.state)
    (guilty,) = cluster.produce("print(app.cancel_everything.delay().id)")
    wait_for(lambda: cluster.statuses().get(guilty, (0,))[0] == FAILED, what=cluster.state)
    (cluster.folder / "open").touch()
    cluster.judge([guilty, *innocent], statuses={SUCCEEDED, FAILED}, extra=None)

    statuses = cluster.statuses()
    assert {statuses[job] for job in innocent} == {(SUCCEEDED, "")}
    starts = [line for line in cluster.lines() if line.job == guilty and line.event == "start"]
    assert len({line.pid for line in starts}) == len(starts) == 2, "among others, then in a process of its own"
    assert "engine_cancelled" in worker.text()
    assert worker.terminate() == 0
