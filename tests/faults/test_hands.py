"""People change rows of running jobs by hand: fences fail closed, and nobody else is harmed."""

from __future__ import annotations

import pytest

from tests.faults.real_cluster import RealCluster, wait_for

RUNNING = 4


# What somebody does to the rows of running jobs, and how each may end then. A row that is deleted is made anew by the
# outcome of its run; an outcome of another assignment, or for a final row, is refused.
FIRST = "WHERE id = (SELECT id FROM jm_job WHERE status = 4 ORDER BY id LIMIT 1) RETURNING id"
HANDS = {
    f"UPDATE jm_job SET status = 2, bucket = NULL, gen = gen + 1 {FIRST}": 5,
    f"UPDATE jm_job SET status = 8 {FIRST}": 8,
    f"DELETE FROM jm_job {FIRST}": 5,
}


@pytest.mark.fault("H14")
def test_rows_that_are_changed_by_hand_stop_no_worker(cluster: RealCluster) -> None:
    worker = cluster.start_worker("-c", "3", "-P", "threads")
    running = cluster.produce("for _ in range(3): print(app.gated.delay('go').id)")
    wait_for(lambda: dict.fromkeys(running, RUNNING) == statuses(cluster), what=cluster.state)
    ends = {job: end for statement, end in HANDS.items() for (job,) in cluster.place.rows(statement)}
    assert set(ends) == set(running)
    cluster.score.struck("change of a row by hand", len(ends))
    others = cluster.produce("for _ in range(20): print(app.work.delay().id)")
    (cluster.folder / "go").touch()
    cluster.judge(others, extra=0)
    wait_for(lambda: {line.job for line in cluster.lines() if line.event != "start"} >= set(ends), what=cluster.state)
    again, *once = ends
    cluster.judge([again], extra=1)
    for job in once:
        cluster.judge([job], extra=0, statuses={ends[job]})
    assert "Traceback" not in worker.text()
    assert worker.terminate() == 0


def statuses(cluster: RealCluster) -> dict[str, int]:
    return {job: status for job, (status, _) in cluster.statuses().items()}
