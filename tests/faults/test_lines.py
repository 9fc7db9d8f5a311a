"""A slow line, a line that loses connections, a database whose locks are in the way: it gets slower, and no worse."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psycopg
import pytest

from tests.faults.real_cluster import RealCluster, wait_for
from tests.faults.score import DEFAULTS
from tests.faults.streaming import STREAM, all_is_well, made, more_runs
from tests.servers.fault_proxy import FaultProxy

pytestmark = [pytest.mark.backend("postgresql")]

# Seconds that each statement takes longer, the lease, and how often it is renewed. A renewal is a handful of statements
# and is awaited for a third of the lease: half a second for each does not fit into the default.
SLOW = [(0.2, 10.0, 3.0), (0.5, 20.0, 3.0)] if DEFAULTS else [(0.1, 10.0, 1.5)]

# Whoever has locked rows of workers, and waits for a row.
HAS_WORKERS_AND_WAITS = """
SELECT 1 FROM pg_locks waits JOIN pg_locks has USING (pid)
WHERE NOT waits.granted AND has.granted AND has.relation = 'jm_worker'::regclass
    AND has.mode IN ('RowShareLock', 'RowExclusiveLock')
"""

DEADLOCKS = "SELECT '', deadlocks FROM pg_stat_database WHERE datname = current_database()"


@pytest.fixture
def proxy(postgres_database: str) -> Iterator[FaultProxy]:
    with FaultProxy(postgres_database) as proxy:
        yield proxy


@pytest.fixture
def cluster(tmp_path: Path, postgres_database: str, proxy: FaultProxy) -> Iterator[RealCluster]:
    yield from made(tmp_path, postgres_database, proxy.dsn(postgres_database))


@pytest.mark.fault("C9")
@pytest.mark.parametrize(("longer", "lease", "renewed"), SLOW)
def test_statements_that_take_longer_cost_time_and_nothing_else(
    cluster: RealCluster, proxy: FaultProxy, longer: float, lease: float, renewed: float
) -> None:
    cluster.environment |= {"JOBMASTER_LEASE": str(lease), "JOBMASTER_RENEW_EVERY": str(renewed)}
    worker = cluster.start_worker("-c", "16")
    producer = cluster.producer(STREAM)
    more_runs(cluster, 30)
    proxy.latency = longer / 2
    cluster.struck("slow statements")
    slowed = time.monotonic()
    more_runs(cluster, 10)
    wait_for(lambda: time.monotonic() - slowed > 2 * renewed + 1, timeout=20)
    proxy.latency = 0.0
    assert "renewal_not_answered" not in worker.text()
    all_is_well(cluster, producer, at_least=40)
    assert cluster.score.extra_runs == 0


@pytest.mark.fault("E5")
def test_a_slow_line_that_loses_one_packet_of_twenty_loses_no_job(cluster: RealCluster, proxy: FaultProxy) -> None:
    cluster.environment |= {"JOBMASTER_LEASE": "10", "JOBMASTER_RENEW_EVERY": "3"}
    cluster.start_worker("-c", "16")
    producer = cluster.producer(STREAM)
    more_runs(cluster, 30)
    proxy.latency, proxy.jitter, proxy.reset_chance = 0.1, 0.1, 0.05
    wait_for(lambda: proxy.resets >= 10, timeout=40)
    proxy.latency = proxy.jitter = proxy.reset_chance = 0.0
    cluster.score.struck("reset of a connection", proxy.resets)
    healed = time.monotonic()
    more_runs(cluster, 100)
    cluster.score.recovered(time.monotonic() - healed)
    all_is_well(cluster, producer, at_least=100)


@pytest.mark.fault("C7")
@pytest.mark.alone
def test_deadlocks_and_locks_in_the_way_are_got_over(postgres_database: str, tmp_path: Path) -> None:
    with psycopg.connect(postgres_database, autocommit=True) as connection:
        name = connection.execute("SELECT quote_ident(current_database())").fetchone()
        assert name is not None
        # Of two that wait for each other the one that looks first is ended: that is to be the worker, which looks
        # once, so long after it has begun to wait. Until then the other one must wait, too.
        connection.execute(f"ALTER DATABASE {name[0]} SET deadlock_timeout = '1s'")
    for cluster in made(tmp_path, postgres_database, postgres_database):
        under_deadlocks(cluster)


def under_deadlocks(cluster: RealCluster) -> None:
    cluster.with_long_leases()  # a renewal is awaited for a third of it
    cluster.start_worker("-c", "16")
    producer = cluster.producer(STREAM)
    more_runs(cluster, 30)
    before = ended_by_deadlock(cluster)
    with in_the_way(cluster.place.url):
        wait_for(lambda: ended_by_deadlock(cluster) >= before + 3, timeout=40, what=cluster.state)
    cluster.score.struck("deadlock", ended_by_deadlock(cluster) - before)
    more_runs(cluster, 30)
    all_is_well(cluster, producer, at_least=50)


def ended_by_deadlock(cluster: RealCluster) -> int:
    ((_, number),) = cluster.place.rows(DEADLOCKS)
    return int(number)


@contextmanager
def in_the_way(dsn: str) -> Iterator[None]:
    """Somebody locks buckets and then workers, which is the wrong way round, whenever a renewal has come between."""
    enough = threading.Event()

    def lock() -> None:
        with psycopg.connect(dsn) as connection, psycopg.connect(dsn, autocommit=True) as other:
            connection.execute("SET deadlock_timeout = '10s'")
            connection.commit()
            while not enough.is_set():
                # A renewal locks a bucket only where the number of its jobs is another than it was.
                other.execute("UPDATE jm_bucket SET depth = depth + 1")
                with suppress(psycopg.errors.DeadlockDetected), connection.transaction():
                    connection.execute("SELECT FROM jm_bucket FOR UPDATE")
                    until = time.monotonic() + 2
                    while not other.execute(HAS_WORKERS_AND_WAITS).fetchone() and time.monotonic() < until:
                        enough.wait(0.01)
                    connection.execute("SELECT FROM jm_worker FOR UPDATE")

    thread = threading.Thread(target=lock, name="in-the-way")
    thread.start()
    try:
        yield
    finally:
        enough.set()
        thread.join(20)
