"""A producer that goes on through errors, on a cluster that reaches its PostgreSQL by a way of the test's choice."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from tests.faults.places import PostgresPlace
from tests.faults.real_cluster import FINAL, Producer, RealCluster, Worker, wait_for

# What delay() has accepted is printed, and what it raised: only OutcomeUnknown may have stored a job all the same.
STREAM = """
import os
from jobmaster import JobMasterError
n = 0
while not os.path.exists("enough"):
    n += 1
    try:
        print((app.work_async if n % 3 else app.work).delay().id, flush=True)
    except JobMasterError as error:
        print(type(error).__name__, flush=True)
        print(error, file=sys.stderr, flush=True)
    time.sleep(0.002)
"""


def made(folder: Path, direct: str, reached_as: str) -> Iterator[RealCluster]:
    place = PostgresPlace(direct)
    cluster = RealCluster(folder, place)
    cluster.environment["FAULTS_MASTER"] = reached_as
    try:
        cluster.provision()
        yield cluster
    finally:
        cluster.close()
        place.close()


def more_runs(cluster: RealCluster, number: int, *, timeout: float = 60) -> None:
    """Wait until so many more jobs have run."""
    seen = len(cluster.lines())
    wait_for(lambda: len(cluster.lines()) > seen + 2 * number, timeout=timeout, what=cluster.workers[0].text)


def all_is_well(cluster: RealCluster, producer: Producer, *, at_least: int) -> None:
    """Everything that was accepted has succeeded, by one step into a final status, and nothing else was stored."""
    (cluster.folder / "enough").touch()
    said = producer.finished()
    unknown = said.count("OutcomeUnknown")
    accepted = {word for word in said if word[0].islower() or word[0].isdigit()}
    assert len(accepted) >= at_least
    wait_for(lambda: not waiting(cluster, accepted), timeout=60, what=lambda: told(cluster, accepted))
    cluster.judge(accepted, extra=None)
    statuses = cluster.statuses()
    assert set(statuses.values()) == {(5, "")}
    assert len(set(statuses) - accepted) <= unknown, "of what was refused for certain nothing was stored"
    for worker in cluster.workers:
        assert worker.terminate() == 0


def waiting(cluster: RealCluster, accepted: set[str]) -> set[str]:
    final = {job for job, (status, _) in cluster.statuses().items() if status in FINAL}
    messages = {job for (job,) in cluster.place.rows("SELECT job_id FROM jm_message")}
    return (accepted | set(cluster.statuses()) | messages) - final


def told(cluster: RealCluster, accepted: set[str]) -> str:
    return f"{len(waiting(cluster, accepted))} wait\n{cluster.workers[0].text()}"


def ran_in(cluster: RealCluster, worker: Worker) -> int:
    """How many lines of the side log the worker's processes wrote."""
    processes = {process.pid for process in worker.tree()}
    return sum(line.pid in processes for line in cluster.lines())
