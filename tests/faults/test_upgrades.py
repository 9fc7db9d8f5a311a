"""A cluster goes from one schema to the next while its workers and producers run on: real processes, both stores."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults import next_release
from tests.faults.places import PostgresPlace, SqlitePlace
from tests.faults.real_cluster import APP, ROOT, RealCluster, wait_for
from tests.faults.side_log import runs_without_reason
from tests.servers.databases import Databases

STREAM = """
import os
n = 0
while not os.path.exists("enough"):
    n += 1
    task = app.work_async if n % 3 else app.work
    call = task.options(delay=0.2) if n % 10 == 0 else task
    print(call.delay(seconds=0.2 if n % 20 == 0 else 0.0).id, flush=True)
    time.sleep(0.005)
"""


@pytest.fixture(params=["sqlite", "postgresql"])
def cluster(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[RealCluster]:
    """A cluster whose database nobody has used and nobody will use again."""
    if request.param == "sqlite":
        cluster = RealCluster(tmp_path, SqlitePlace(tmp_path))
        cluster.provision()
        yield cluster
        cluster.close()
        return
    servers: Databases = request.getfixturevalue("postgres_databases")
    address = servers.blank()
    place = PostgresPlace(address)
    cluster = RealCluster(tmp_path, place)
    try:
        cluster.provision()
        place._connected().prepare_threshold = None
        yield cluster
    finally:
        cluster.close()
        servers.remove(address)


def db(cluster: RealCluster, *arguments: str) -> subprocess.Popen[str]:
    """`jobmaster db …` of the later release."""
    environment = cluster.environment | next_release.environment(str(ROOT))
    command = [sys.executable, "-m", "jobmaster.cli", "db", *arguments, "-A", APP]
    return subprocess.Popen(command, cwd=cluster.folder, env=environment, stdout=subprocess.PIPE,
                            stderr=subprocess.STDOUT, text=True)  # fmt: skip


def told(process: subprocess.Popen[str], *, code: int = 0) -> str:
    text, _ = process.communicate(timeout=60)
    assert process.returncode == code, text
    return text


def schema(cluster: RealCluster) -> str:
    ((found, _),) = cluster.place.rows("SELECT version_num, 1 FROM jm_schema")
    return str(found)


def await_runs(cluster: RealCluster, count: int = 60) -> None:
    seen = len(cluster.lines())
    wait_for(lambda: len(cluster.lines()) > seen + count, what=cluster.state)


@pytest.mark.fault("H5")
def test_a_cluster_is_upgraded_while_it_runs(cluster: RealCluster) -> None:
    cluster.with_long_leases()
    old = cluster.start_worker("-c", "8", "--grace", "5", name="old")
    producer = cluster.producer(STREAM)
    await_runs(cluster)

    said = told(db(cluster, "upgrade", "--expand"))
    assert f"schema {next_release.EXPANDED} now" in said
    assert "0005" in said, "what is left to do is told"
    assert schema(cluster) == next_release.EXPANDED
    await_runs(cluster)
    # A process of the older release that begins now works with the newer schema.
    struck = old.kill_engine()
    await_runs(cluster)

    said = told(db(cluster, "upgrade"), code=1)
    assert "not changed to schema 0005" in said
    assert "old (0.1.0)" in said
    assert schema(cluster) == next_release.EXPANDED

    before = dict(cluster.environment)
    cluster.environment |= next_release.environment(str(ROOT))
    new = cluster.start_worker("-c", "8", "--grace", "5", name="new")
    cluster.environment = before
    status = told(db(cluster, "status"))
    assert re.search(r"old +0\.1\.0 +0002", status), status
    assert re.search(r"new +0\.1\.0 +0005", status), status
    await_runs(cluster)
    assert old.terminate() == 0
    (cluster.folder / "enough").touch()
    accepted = producer.finished()
    cluster.judge(accepted, extra=None)
    assert runs_without_reason(cluster.lines(), {struck}) == 0
    assert not re.search("StoreUnavailable|OutcomeUnknown|cached statement", old.text() + new.text())

    # Now nobody needs what the last step takes away.
    assert "schema 0005 now" in told(db(cluster, "upgrade"))
    refused = subprocess.run(
        [sys.executable, "-m", "jobmaster.cli", "worker", "-A", APP, "-n", "old"],
        cwd=cluster.folder, env=cluster.environment, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert refused.returncode not in (0, None)
    assert "made by a newer JobMaster" in refused.stdout + refused.stderr
    assert new.terminate() == 0


@pytest.mark.fault("H13")
def test_of_migrators_that_begin_together_one_works_and_the_others_find_it_done(cluster: RealCluster) -> None:
    together = [db(cluster, "upgrade") for _ in range(3)]
    said = [told(process) for process in together]
    assert schema(cluster) == next_release.CONTRACTED
    assert all("schema 0005" in text for text in said)
