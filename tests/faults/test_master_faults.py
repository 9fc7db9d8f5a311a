"""The master restarts, drops connections in the middle of transactions, loses answers, has no connection left.

What runs goes on and is not repeated; what was accepted is not lost; the worker comes back by itself.
"""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psycopg
import pytest

from tests.faults.places import PostgresPlace
from tests.faults.real_cluster import Producer, RealCluster, wait_for
from tests.faults.score import DEFAULTS
from tests.servers.launcher import ServerError
from tests.servers.pgbouncer import PgBouncer
from tests.servers.postgres import PostgresServer

# Prints what was accepted, and what delay() raised: only after OutcomeUnknown a job may be there all the same.
STREAM = """
import os, uuid
from jobmaster import JobMasterError
n = 0
while not os.path.exists("enough"):
    n += 1
    task = app.work_async if n % 3 else app.work
    kinds = [task, task, task.options(durability="master"), task.options(job_id=str(uuid.uuid4()))]
    try:
        print(kinds[n % 4].delay().id, flush=True)
    except JobMasterError as error:
        print(type(error).__name__, flush=True)
        print(error, file=sys.stderr, flush=True)
    time.sleep(0.002)
"""
SECONDS_DOWN = 2.0
GATED = "for _ in range(6): print(app.gated.delay('go').id)"


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    """A server of this module's own, with few connections."""
    try:
        launched = PostgresServer(
            durable=True, settings={"max_connections": "40", "superuser_reserved_connections": "3"}
        ).start()
    except ServerError as error:
        pytest.skip(str(error))
    with launched:
        yield launched


@pytest.fixture
def own_cluster(server: PostgresServer, tmp_path: Path) -> Iterator[RealCluster]:
    name = f"faults_{time.time_ns()}"
    cluster = RealCluster(tmp_path, PostgresPlace(server.create_database(name)))
    try:
        cluster.provision()
        yield cluster
    finally:
        cluster.close()
        server.drop_database(name)


def told(cluster: RealCluster, producer: Producer, *others: str) -> list[str]:
    """The ids that it got back, once it has been told to stop; and those of others."""
    (cluster.folder / "enough").touch()
    words = producer.finished()
    accepted = [*others, *(word for word in words if "-" in word)]
    refused_for_certain = len(set(cluster.statuses()) - set(accepted)) - words.count("OutcomeUnknown")
    assert refused_for_certain <= 0, "of what was refused for certain nothing was stored"
    return accepted


def ended(cluster: RealCluster) -> int:
    return sum(line.event == "end" for line in cluster.lines())


def more(cluster: RealCluster, number: int) -> None:
    """Wait until so many more jobs have run."""
    seen = ended(cluster)
    wait_for(lambda: ended(cluster) >= seen + number, what=cluster.state)


# ------------------------------------------------------------------------------------------------------ C1: it restarts


@contextmanager
def stopped(server: PostgresServer, number: signal.Signals) -> Iterator[None]:
    assert server.process is not None
    server.process.send_signal(number)
    server.process.wait(20)
    try:
        yield
    finally:
        server.boot()


LOCKER = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], timeout=30, isolation_level=None)
connection.execute("BEGIN EXCLUSIVE")
print("locked", flush=True)
sys.stdin.read()
connection.execute("ROLLBACK")
"""


@contextmanager
def locked(cluster: RealCluster) -> Iterator[None]:
    """Another process writes, and does not come to an end."""
    path = cluster.place.url.removeprefix("sqlite:///")
    with subprocess.Popen(
        [sys.executable, "-c", LOCKER, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"locked\n"
        yield
        process.communicate()


def away_for_a_while(cluster: RealCluster, down: Callable[[], object]) -> None:
    """Jobs run while the master is away; they end, and are settled when it is back. Nothing runs twice."""
    worker = cluster.start_worker("-c", "24")
    gated = cluster.produce(GATED)
    producer = cluster.producer(STREAM)
    wait_for(lambda: {line.job for line in cluster.lines()} >= set(gated), what=cluster.state)
    more(cluster, 40)
    cluster.place.close()
    with down():  # type: ignore[attr-defined]
        began = time.monotonic()
        (cluster.folder / "go").touch()
        wait_for(lambda: {line.job for line in cluster.lines() if line.event == "end"} >= set(gated))
        time.sleep(max(0.0, SECONDS_DOWN - (time.monotonic() - began)))
    cluster.struck("master away")
    back = time.time()
    more(cluster, 40)
    first = min(line.at for line in cluster.lines() if line.event == "start" and line.at > back)
    cluster.score.recovered(first - back)
    cluster.judge(told(cluster, producer, *gated), extra=0)
    assert worker.process.poll() is None


@pytest.mark.fault("C1")
@pytest.mark.backend("postgresql")
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGQUIT], ids=["fast", "immediate"])
def test_a_server_that_restarts_under_load_repeats_nothing_that_ran(
    own_cluster: RealCluster, server: PostgresServer, how: signal.Signals
) -> None:
    away_for_a_while(own_cluster, lambda: stopped(server, how))


@pytest.mark.fault("C1")
@pytest.mark.parametrize("cluster", ["sqlite"], indirect=True)
def test_a_file_that_another_process_keeps_locked_repeats_nothing_that_ran(cluster: RealCluster) -> None:
    away_for_a_while(cluster, lambda: locked(cluster))


# ------------------------------------------------------------------------------- C3: in the middle of a transaction

END_TRANSACTIONS = """
SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
WHERE datname = current_database() AND pid <> pg_backend_pid() AND application_name <> 'tests'
    AND backend_type = 'client backend' AND (xact_start IS NOT NULL OR random() < 0.02)
"""


@pytest.mark.fault("C3")
@pytest.mark.parametrize("cluster", ["postgresql"], indirect=True)
def test_connections_that_end_in_the_middle_of_transactions_undo_them_and_nothing_more(cluster: RealCluster) -> None:
    cluster.start_worker("-c", "24")
    producer = cluster.producer(STREAM)
    more(cluster, 30)
    cluster.place.close()
    wanted, ended_here = (400 if DEFAULTS else 40), 0
    with psycopg.connect(cluster.place.url, autocommit=True, application_name="tests") as connection:
        while ended_here < wanted:
            (number,) = connection.execute(END_TRANSACTIONS).fetchone() or (0,)
            ended_here += number
            time.sleep(0.002 if number == 0 else 0.03)
    cluster.score.struck("cut of a transaction", ended_here)
    more(cluster, 30)
    cluster.judge(told(cluster, producer), extra=None)


HALF = """
import os, sqlite3, sys
connection = sqlite3.connect(sys.argv[1], timeout=30, isolation_level=None)
connection.execute("BEGIN IMMEDIATE")
connection.execute("UPDATE jm_job SET status = 7, result = NULL")
connection.execute("DELETE FROM jm_message")
connection.execute("UPDATE jm_bucket SET epoch = epoch + 1")
connection.execute("PRAGMA cache_spill = 1")
os.kill(os.getpid(), 9)
"""


@pytest.mark.fault("C3")
@pytest.mark.parametrize("cluster", ["sqlite"], indirect=True)
def test_a_writer_that_is_killed_in_the_middle_of_a_transaction_leaves_nothing_of_it(cluster: RealCluster) -> None:
    cluster.start_worker("-c", "24")
    producer = cluster.producer(STREAM)
    path = cluster.place.url.removeprefix("sqlite:///")
    for _ in range(50 if DEFAULTS else 6):
        more(cluster, 10)
        process = subprocess.run([sys.executable, "-c", HALF, path], check=False)
        assert process.returncode == -signal.SIGKILL
        cluster.score.struck("kill of a writer")
    cluster.judge(told(cluster, producer), extra=0)


# -------------------------------------------------------------------------------------- C4: an answer does not come

TIMES = 10 if DEFAULTS else 1
LOST = {"push": 20 * TIMES, "claim": 10 * TIMES, "take_over": 10 * TIMES, "settle": 20 * TIMES, "renew": 3}


@pytest.mark.fault("C4")
def test_answers_that_are_lost_after_the_commit_lose_nothing_and_double_nothing(cluster: RealCluster) -> None:
    """PostgreSQL's are cut by a proxy, too: test_cut_connections.py."""
    cluster.arm(", ".join(f"{verb}.after=lose%25*{number}" for verb, number in LOST.items()))
    cluster.start_worker("-c", "24")
    producer = cluster.producer(STREAM)
    wait_for(lambda: all(len(cluster.strikes(f"{verb}.after")) >= LOST[verb] for verb in LOST), what=cluster.state)
    cluster.judge(told(cluster, producer), extra=0)


# ------------------------------------------------------------------------------------ C10: there are no connections

WITHOUT = """
from jobmaster import StoreUnavailable, OutcomeUnknown
begun = time.monotonic()
try:
    print(app.work.delay().id)
except StoreUnavailable as error:
    assert not isinstance(error, OutcomeUnknown), error
    assert "no connection left" in str(error) and "max_connections" in str(error), error
    assert time.monotonic() - begun < 12, "at once"
    print("refused")
"""


@pytest.mark.fault("C10")
@pytest.mark.backend("postgresql")
def test_a_server_without_connections_refuses_in_words_and_takes_no_lease(
    own_cluster: RealCluster, server: PostgresServer
) -> None:
    cluster = own_cluster
    worker = cluster.start_worker("-c", "8")
    gated = cluster.produce(GATED)
    wait_for(lambda: {line.job for line in cluster.lines()} >= set(gated), what=cluster.state)
    before = cluster.place.rows("SELECT token, epoch, owner FROM jm_bucket ORDER BY 1")
    cluster.environment["JOBMASTER_ACCEPT_TIMEOUT"] = "0.8"
    with all_connections(server):
        assert cluster.produce(WITHOUT) == ["refused"]
        (cluster.folder / "go").touch()
        wait_for(lambda: {cluster.statuses().get(job) for job in gated} == {(5, "")}, what=cluster.state)
        renewals = int(cluster.place.rows("SELECT name, number FROM jm_worker")[0][1])
        wait_for(
            lambda: cluster.place.rows("SELECT name, number FROM jm_worker")[0][1] > renewals + 4, what=cluster.state
        )
        cluster.struck("no connections")
    accepted = cluster.produce(WITHOUT)
    assert accepted != ["refused"]
    cluster.judge([*gated, *accepted], extra=0)
    assert cluster.place.rows("SELECT token, epoch, owner FROM jm_bucket ORDER BY 1") == before
    assert worker.terminate() == 0


@contextmanager
def all_connections(server: PostgresServer) -> Iterator[None]:
    """Somebody takes what is left, and keeps it."""
    taken = []
    try:
        with suppress(psycopg.OperationalError):
            while True:
                taken.append(psycopg.connect(server.dsn(), autocommit=True))
        yield
    finally:
        for connection in taken:
            connection.close()


OPEN_FILES = """
import resource
from jobmaster import StoreUnavailable, OutcomeUnknown
resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
print(app.work.delay().id)
taken = []
try:
    while True:
        taken.append(open("/dev/null"))
except OSError:
    pass
try:
    print(app.work.delay().id)
except StoreUnavailable as error:
    assert not isinstance(error, OutcomeUnknown), error
    print("refused", error, file=sys.stderr)
for file in taken:
    file.close()
print(app.work.delay().id)
"""


@pytest.mark.fault("C10")
def test_a_producer_without_descriptors_is_refused_in_words_or_served_and_goes_on(cluster: RealCluster) -> None:
    accepted = cluster.produce(OPEN_FILES)
    cluster.struck("no descriptors")
    cluster.start_worker("-c", "8")
    cluster.judge(accepted, extra=0)


# ------------------------------------------------------------------------------------------------- E9: PgBouncer


@pytest.mark.fault("E9")
@pytest.mark.backend("pgbouncer")
def test_everything_goes_on_behind_a_pgbouncer_that_is_restarted(postgres_database: str, tmp_path: Path) -> None:
    bouncer = PgBouncer(postgres_database, pool=4)
    try:
        bouncer.start()
    except ServerError as error:
        if "is not installed" in str(error):
            pytest.skip(str(error))
        raise
    cluster = RealCluster(tmp_path, PostgresPlace(postgres_database))
    with bouncer:
        try:
            cluster.environment["FAULTS_MASTER"] = through(bouncer, postgres_database)
            cluster.provision()
            behind(cluster, bouncer)
        finally:
            cluster.close()


def through(bouncer: PgBouncer, direct: str) -> str:
    server = psycopg.conninfo.conninfo_to_dict(direct)
    return f"{bouncer.dsn(str(server['dbname']))}?session_host={server['host']}&session_port={server['port']}"


def behind(cluster: RealCluster, bouncer: PgBouncer) -> None:
    worker = cluster.start_worker("-c", "16", name="w0")
    producer = cluster.producer(STREAM)
    more(cluster, 60)
    bouncer.restart(kill=True)
    cluster.struck("kill of PgBouncer")
    more(cluster, 60)
    worker.kill_engine()
    more(cluster, 60)
    cluster.judge(told(cluster, producer), extra=64)
    (cluster.folder / "enough").unlink()
    assert cluster.produce("print(app.work_async.delay().get(timeout=60) > 0)") == ["True"]
    assert worker.terminate() == 0
