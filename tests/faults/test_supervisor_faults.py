"""Whole worker trees, and what becomes of a process that blocks, grows, is worn, or loses its parent."""

from __future__ import annotations

import pytest

from tests.faults.real_cluster import RealCluster, wait_for

TASKS = "tests.faults.blocking_tasks"


@pytest.fixture
def shop(cluster: RealCluster) -> RealCluster:
    """A cluster whose workers know the tasks with bad manners, too."""
    cluster.environment["JOBMASTER_INCLUDE"] = TASKS
    return cluster


def run(shop: RealCluster, program: str) -> list[str]:
    return shop.produce(f"import {TASKS} as tasks\n{program}")


# ---------------------------------------------------------------- recycling


@pytest.mark.timeout(60)
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
