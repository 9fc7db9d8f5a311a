"""The way to a PostgreSQL breaks under load: cut commits, resets, silence, a server that is killed. Nothing is lost.

Workers and producers reach the server through a proxy; the test itself reads the database directly.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.postgres_verbs import verb_of
from tests.faults.real_cluster import RealCluster, wait_for
from tests.faults.score import DEFAULTS
from tests.faults.streaming import STREAM, all_is_well, made, more_runs, ran_in, waiting
from tests.servers.fault_proxy import AFTER, BEFORE, End, FaultProxy
from tests.servers.launcher import ServerError
from tests.servers.postgres import PostgresServer, execute

pytestmark = [pytest.mark.backend("postgresql"), pytest.mark.slow, pytest.mark.timeout(170)]


@pytest.fixture
def proxy(postgres_database: str) -> Iterator[FaultProxy]:
    with FaultProxy(postgres_database) as proxy:
        yield proxy


@pytest.fixture
def cluster(tmp_path: Path, postgres_database: str, proxy: FaultProxy) -> Iterator[RealCluster]:
    yield from made(tmp_path, postgres_database, proxy.dsn(postgres_database))


@pytest.mark.fault("C4")
def test_commits_that_are_cut_before_and_after_they_happen_lose_nothing_and_decide_once(
    cluster: RealCluster, proxy: FaultProxy
) -> None:
    cluster.start_worker("-c", "16")
    producer = cluster.producer(STREAM)
    chance = random.Random(20261122)

    def one_in_thirty(end: End) -> bool:
        return end.changes and chance.random() < 1 / 30

    more_runs(cluster, 50)
    for moment in (AFTER, BEFORE):
        proxy.cut_when(moment, one_in_thirty)
    wait_for(lambda: len(proxy.cuts) >= 60, timeout=90, what=cluster.workers[0].text)
    for moment in (AFTER, BEFORE):
        proxy.cut_when(moment, None)
    for verb, number in proxy.cuts_by(verb_of).items():
        cluster.score.struck(f"cut of {verb or 'another verb'}", number)
    all_is_well(cluster, producer, at_least=200)


@pytest.mark.fault("C3")
def test_connections_that_are_reset_are_made_again(cluster: RealCluster, proxy: FaultProxy) -> None:
    cluster.start_worker("-c", "16")
    producer = cluster.producer(STREAM)
    for round_ in range(6):
        more_runs(cluster, 60)
        if round_ % 2:
            proxy.cut_all()
            cluster.struck("reset of all connections")
        else:
            cluster.place.close()
            cluster.struck("end of all sessions")
            end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()"
            execute(
                cluster.place.url, f"{end} AND datname = current_database() AND application_name <> 'jobmaster-tests'"
            )
    all_is_well(cluster, producer, at_least=200)


@pytest.mark.parametrize(
    "lost",
    [pytest.param("both", marks=pytest.mark.fault("E4")), pytest.param("answers", marks=pytest.mark.fault("E3"))],
)
def test_a_worker_that_hears_nothing_loses_its_jobs_to_another_and_decides_none_when_it_is_back(
    cluster: RealCluster, proxy: FaultProxy, lost: str
) -> None:
    cut_off = cluster.start_worker("-c", "16", name="cut-off")
    cluster.environment["FAULTS_MASTER"] = cluster.place.url
    cluster.start_worker("-c", "16", name="other")
    producer = cluster.producer(STREAM)
    wait_for(lambda: ran_in(cluster, cut_off) > 30, timeout=60, what=cut_off.text)
    proxy.stall(to_server=lost == "both")
    cluster.struck("silence" if lost == "both" else "loss of answers", [process.pid for process in cut_off.tree()])
    more_runs(cluster, 60)
    accepted = {word for word in producer.output.read_text().split()[:-1] if word != "OutcomeUnknown"}
    wait_for(lambda: not accepted & waiting(cluster, accepted), timeout=60, what=cluster.workers[1].text)
    proxy.resume()
    seen = ran_in(cluster, cut_off)
    wait_for(lambda: ran_in(cluster, cut_off) > seen, timeout=60, what=cut_off.text)
    all_is_well(cluster, producer, at_least=100)


@pytest.mark.fault("C1")
def test_a_durable_server_that_is_killed_loses_nothing_that_was_accepted(tmp_path: Path) -> None:
    try:
        server = PostgresServer(durable=True).start()
    except ServerError as error:
        pytest.skip(str(error))
    with server:
        dsn = server.create_database("faults")
        for cluster in made(tmp_path, dsn, dsn):
            cluster.start_worker("-c", "16")
            producer = cluster.producer(STREAM)
            for _ in range(3 if DEFAULTS else 2):
                more_runs(cluster, 60)
                cluster.place.close()
                server.restart(kill=True)
                cluster.struck("kill of the server")
            all_is_well(cluster, producer, at_least=100)
