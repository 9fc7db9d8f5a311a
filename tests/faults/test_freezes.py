"""Whole worker trees stand still for longer than their lease, and go on: as virtual machines that are moved."""

from __future__ import annotations

import pytest

from tests.faults.real_cluster import RealCluster, wait_for
from tests.faults.score import DEFAULTS
from tests.faults.test_kills import STREAM, finished

FREEZES = 6 if DEFAULTS else 2

EPOCHS = "SELECT token, epoch FROM jm_bucket WHERE epoch > 1 ORDER BY token"

# A frozen SQLite writer has the file's lock, which nobody can take away from it.
on_a_server = pytest.mark.parametrize("cluster", ["postgresql"], indirect=True)


@on_a_server
@pytest.mark.fault("B1", "B5")
@pytest.mark.timeout(170)
def test_frozen_trees_under_load_lose_nothing_and_decide_once(cluster: RealCluster) -> None:
    """What a tree did not finish is started elsewhere; what it says after that is stale."""
    workers = [cluster.start_worker("-c", "16", name=f"w{number}") for number in range(2)]
    producer = cluster.producer(STREAM.format(work=0.4))
    for freeze in range(FREEZES):
        seen = len(cluster.lines())
        wait_for(lambda seen=seen: len(cluster.lines()) > seen + 150, what=cluster.state)
        frozen = workers[freeze % 2]
        frozen.freeze()
        before = cluster.place.rows(EPOCHS)
        try:
            wait_for(lambda before=before: cluster.place.rows(EPOCHS) != before, what=cluster.state)
            seen = len(cluster.lines())
            wait_for(lambda seen=seen: len(cluster.lines()) > seen + 150, what=cluster.state)
        finally:
            frozen.thaw()
    accepted = finished(cluster, producer)
    cluster.judge(accepted, extra=FREEZES * 100, timeout=60)  # what ran, and what was being written, at a freeze
    for worker in workers:
        assert worker.terminate() == 0
