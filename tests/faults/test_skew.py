"""Programs that were configured otherwise than their cluster: refused before they can do harm, on both stores."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.faults.real_cluster import APP, RealCluster

STRANGER = """
from jobmaster import ClusterMismatch, JobMaster
import os
other = JobMaster("other", master=os.environ["FAULTS_MASTER"])
try:
    other.send("tests.faults.workload_app.work")
except ClusterMismatch as error:
    print("refused:", error)
"""


@pytest.mark.fault("H7")
def test_a_worker_with_another_lease_and_a_producer_of_another_cluster_are_refused(cluster: RealCluster) -> None:
    worker = cluster.start_worker("-c", "4", name="first")
    given = {"JOBMASTER_LEASE": "30", "JOBMASTER_RETENTION": "1d"}
    second = subprocess.run(
        [sys.executable, "-m", "jobmaster.cli", "worker", "-A", APP, "-n", "second"],
        cwd=cluster.folder, env=cluster.environment | given, capture_output=True, text=True, timeout=90, check=False,
    )  # fmt: skip
    said = second.stdout + second.stderr
    assert second.returncode not in (0, None), said
    lease = "10s" if "JOBMASTER_LEASE" not in cluster.environment else "1s"
    assert f"lease is {lease} in the cluster and 30s here" in said
    assert "retention is 30d in the cluster and 1d here" in said
    assert "stop all workers first" in said
    assert "second" not in {name for _, name in cluster.place.rows("SELECT 1, name FROM jm_worker")}, "it never joined"

    refused = cluster.producer(STRANGER)
    assert refused.process.wait(90) == 0
    assert "belongs to cluster 'faults', and this app is 'other'" in refused.output.read_text()

    accepted = cluster.produce("for _ in range(20): print(app.work.delay().id)")
    cluster.judge(accepted)
    assert worker.terminate() == 0
