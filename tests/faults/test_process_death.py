"""Processes die at each point of a job's life (catalogue A): nothing accepted is lost, and what ran twice had to.

Each test strikes exactly at its points while jobs run and others wait, lets somebody recover, and judges the history.
In this design nobody assigns jobs to buckets and pushes them (A5, A6): a worker claims held ones from the master.
"""

from __future__ import annotations

import json
import uuid
from collections import defaultdict
from collections.abc import Collection, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.faults.real_cluster import PATIENCE, RealCluster, Worker, wait_for
from tests.faults.side_log import Line

PROCESSING, SUCCEEDED, FAILED = 4, 5, 7

# Plain jobs, long ones, held ones (claimed from the master), guarded ones (their caller chose the id), failing ones.
MIX = """
import os, uuid
n = 0
while not os.path.exists("enough"):
    n += 1
    kind = n % 5
    if kind == 1:
        job = app.work.options(durability="master").delay()
    elif kind == 2:
        job = app.work_async.options(job_id=str(uuid.uuid4())).delay()
    elif kind == 3:
        job = app.fails_once.delay()
    else:
        job = app.work.delay(seconds=0.1 if kind else 0.0)
    print(job.id, flush=True)
    time.sleep(0.004)
"""


@pytest.fixture
def split_cluster(cluster: RealCluster, request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[RealCluster]:
    """The cluster with an agent of its own: a second file, or a second database on the server."""
    on_a_server = cluster.place.url.startswith("postgresql")
    lender = request.getfixturevalue("postgres_databases") if on_a_server else None
    with lender.lent() if lender else nullcontext(f"sqlite:///{tmp_path}/agent.db") as agent:
        cluster.environment["JOBMASTER_AGENTS"] = json.dumps({"buffer": agent})
        yield cluster
        cluster.close()


# ---------------------------------------------------------------------------------------------------------- producers

# Says what it asks for, and what was accepted. The ids are the caller's own, so that it may repeat its calls.
ASK = """
for ids in {calls!r}:
    print("asked", *ids, flush=True)
    if len(ids) == 1:
        app.work.options(job_id=ids[0]).delay()
    else:
        app.jm.enqueue_many([app.work.options(job_id=one).job() for one in ids])
    print("accepted", *ids, flush=True)
"""


@pytest.mark.fault("A1", "A2")
def test_a_producer_that_dies_has_stored_nothing_or_once_and_may_repeat_its_calls(cluster: RealCluster) -> None:
    before, after, lost = "push.before=kill@3*9", "push.after=kill@3*9", "push.after=lose@3*2"
    armed = {"before": before, "after": after, "lost": lost, "before, many": before, "after, many": after}
    calls = {name: [[str(uuid.uuid4()) for _ in range(1 + 29 * ("many" in name))] for _ in range(4)] for name in armed}
    producers = {}
    for name, points in armed.items():
        cluster.arm(points)
        (cluster.folder / name).mkdir()
        cluster.environment["JOBMASTER_CRASH_FOLDER"] = str(cluster.folder / name)  # each counts its own hits
        producers[name] = cluster.producer(ASK.format(calls=calls[name]))
    cluster.arm("")
    accepted: set[str] = set()
    for name, producer in producers.items():
        assert producer.process.wait(30 * PATIENCE) == (0 if name == "lost" else -9)
        told = [line.split() for line in producer.output.read_text().splitlines()]
        accepted |= {job for word, *jobs in told if word == "accepted" for job in jobs}
        doubtful = set() if name == "lost" else set(told[-1][1:])
        assert len(doubtful) in {0, len(calls[name][0])}
        if "before" in name:
            assert not doubtful & known(cluster), "nothing was stored"
        else:
            accepted |= doubtful
    assert accepted <= known(cluster), "what was stored before the producer died is there"
    again = [call for own in calls.values() for call in own]
    # While the first message waits, and when its job has long been done.
    cluster.produce(ASK.format(calls=again))
    cluster.start_worker("-c", "4")
    cluster.judge({job for call in again for job in call})
    cluster.produce(ASK.format(calls=again))
    wait_for(lambda: not messages(cluster), what=cluster.state)
    cluster.judge({job for call in again for job in call})


def known(cluster: RealCluster) -> set[str]:
    """The jobs that the database knows, as rows or as messages."""
    # Messages first: a job that is finished in between is a row by then.
    return messages(cluster) | set(cluster.statuses())


def messages(cluster: RealCluster) -> set[str]:
    return {job for (job,) in cluster.place.rows("SELECT job_id FROM jm_message")}


# ------------------------------------------------------------------------------------------ engines, at exact points


@pytest.mark.parametrize(
    "points",
    [
        # Fetched and not started; a claim whose answer never came.
        pytest.param("read.after=kill@12, claim.after=lose@3", marks=pytest.mark.fault("A3", "A5")),
        # Claimed and dead; recorded as started and dead.
        pytest.param("claim.after=kill@4, take_over.after=kill@4", marks=pytest.mark.fault("A5", "A8")),
        # Run to the end, and dead before or after this was stored.
        pytest.param("settle.before=kill@9, settle.after=kill@9", marks=pytest.mark.fault("A10", "A11")),
    ],
    ids=["A3-A5", "A5-A8", "A10-A11"],
)
def test_an_engine_that_dies_at_a_point_under_load_repeats_only_what_ran_in_it(
    cluster: RealCluster, points: str
) -> None:
    dies_under_load(cluster, points)


@pytest.mark.fault("A4", "A11")
def test_an_engine_that_dies_between_master_and_agent_repeats_only_what_ran_in_it(split_cluster: RealCluster) -> None:
    """The master has it, and the agent's message is still there: redelivered, it starts nothing."""
    dies_under_load(split_cluster, "start.after=kill@4, finish.after=kill@9")


def dies_under_load(cluster: RealCluster, points: str) -> None:
    cluster.arm(points)
    cluster.start_worker("-c", "8")
    cluster.arm("")
    producer = cluster.producer(MIX)
    wait_for(lambda: len(cluster.strikes()) == points.count("="), what=cluster.state)
    seen = len(cluster.lines())
    wait_for(lambda: len(cluster.lines()) > seen + 60, what=cluster.state)
    (cluster.folder / "enough").touch()
    cluster.judge(producer.finished(), extra=None)
    only_what_was_struck_began_again(cluster, cluster.strikes())


def only_what_was_struck_began_again(cluster: RealCluster, struck: Collection[int]) -> None:
    """A run more than one had a reason; the outcome is the last run's; none began after it was stored."""
    results = dict(cluster.place.rows("SELECT id, result FROM jm_job"))
    stored = dict(cluster.place.rows("SELECT job_id, max(at) FROM test_audit GROUP BY job_id"))
    for job, lines in histories(cluster).items():
        starts = [line for line in lines if line.event == "start"]
        reasons = len({line.pid for line in starts} & set(struck)) + sum(line.event == "fail" for line in lines)
        assert len(starts) <= 1 + reasons, f"it began again without a reason: {lines}"
        result = results[job]
        assert starts[-1].at <= stored[job] + 0.1, f"it began after its outcome was stored: {lines}"
        if result is not None:
            assert decoded(result) == starts[-1].pid, f"the outcome is not the last run's: {lines}"


def histories(cluster: RealCluster) -> dict[str, list[Line]]:
    """The side log by job, in order of time: who is frozen in the middle of a line writes it when it goes on."""
    found = defaultdict(list)
    for line in sorted(cluster.lines(), key=lambda line: line.at):
        found[line.job].append(line)
    return found


def decoded(value: object) -> Any:
    """What a column of bytes holds."""
    text = bytes.fromhex(value.replace("-", "")) if isinstance(value, str) else value
    return json.loads(text)  # type: ignore[arg-type]


# --------------------------------------------------------------------------------------------- engines, other moments


@pytest.mark.fault("A6", "A7", "A9")
@pytest.mark.parametrize("whole_tree", [False, True], ids=["engine", "tree"])
def test_what_waited_in_memory_runs_once_and_only_what_ran_is_counted(cluster: RealCluster, whole_tree: bool) -> None:
    worker = cluster.start_worker("-c", "2")
    jobs = cluster.produce(
        "for _ in range(2): print(app.gated.delay(gate='open').id)\n"
        "for held in ['agent', 'master']:\n"
        "    print(*[job.id for job in app.jm.enqueue_many([app.work.options(durability=held).job()] * 150)])"
    )
    running, waiting = jobs[:2], jobs[2:]
    wait_for(lambda: in_memory(cluster) == len(waiting), what=cluster.state)
    wait_for(lambda: {cluster.statuses().get(job) for job in running} == {(PROCESSING, "")}, what=cluster.state)
    worker.kill_tree() if whole_tree else worker.kill_engine()
    if whole_tree:
        cluster.start_worker("-c", "2")
    (cluster.folder / "open").touch()
    cluster.judge([*running, *waiting], extra=2)
    counted = attempts(cluster)
    assert {counted[job] for job in waiting} == {(1, 0, 0)}, "what waited is not counted"
    assert {counted[job] for job in running} == {(2, 0, 1)}, "what ran has spent an attempt and no retry"


def in_memory(cluster: RealCluster) -> int:
    """How many jobs wait in the engines' memory, as they said at their last renewal."""
    stats = [decoded(stats) for _, stats in cluster.place.rows("SELECT id, stats FROM jm_worker WHERE ended = 0")]
    return sum(one["waiting"] for one in stats if one)


def attempts(cluster: RealCluster) -> dict[str, tuple[int, int, int]]:
    """Attempts, failures and recoveries by job."""
    rows = cluster.place.rows("SELECT id, attempts, failures, recoveries FROM jm_job")
    return {job: (spent, failed, recovered) for job, spent, failed, recovered in rows}


@pytest.mark.fault("A8")
@pytest.mark.parametrize("agent", ["here", "separate"])
def test_what_was_recorded_as_started_starts_again_only_where_it_may(
    cluster: RealCluster, request: pytest.FixtureRequest, agent: str
) -> None:
    if agent == "separate":
        request.getfixturevalue("split_cluster")
    cluster.arm("take_over.after=kill" if agent == "here" else "start.after=kill")
    cluster.start_worker("-c", "16")
    # In one batch, so that the first of these calls asks for all of them.
    jobs = cluster.produce(
        "import uuid\n"
        "gated, guarded = app.gated.job(gate='open'), lambda: app.work.options(job_id=str(uuid.uuid4())).job()\n"
        "jobs = app.jm.enqueue_many([gated, gated, gated, *[app.once.job()] * 3, *[guarded() for _ in range(3)]])\n"
        "print(*[job.id for job in jobs])"
    )
    running, once, guarded = jobs[:3], jobs[3:6], jobs[6:]
    wait_for(cluster.strikes, what=cluster.state)
    (cluster.folder / "open").touch()
    cluster.judge([*running, *once, *guarded], extra=3, statuses={SUCCEEDED, FAILED})
    statuses, begun = cluster.statuses(), histories(cluster)
    assert {statuses[job] for job in once} == {(FAILED, "worker lost")}
    assert not begun.keys() & set(once), "at most once, and its only time was spent"
    assert {statuses[job] for job in [*running, *guarded]} == {(SUCCEEDED, "")}
    assert {attempts(cluster)[job][:2] for job in guarded} == {(2, 0)}, "the lost attempt counts"
    assert {len(begun[job]) for job in guarded} == {2}, "started and ended once"


@pytest.mark.fault("A13")
def test_a_retry_that_a_death_interrupts_is_lost_or_stored_as_a_whole(cluster: RealCluster) -> None:
    # In the first process the retry is not stored, in the second one it is, the third one runs it.
    cluster.arm("settle.before=kill, settle.after=kill")
    jobs = cluster.produce(
        "jobs = app.jm.enqueue_many([app.fails_once.job()] * 6 + [app.gated.job(gate='open')] * 2)\n"
        "print(*[job.id for job in jobs])"
    )
    cluster.start_worker("-c", "8")
    wait_for(lambda: len(cluster.strikes()) == 2, what=cluster.state)
    (cluster.folder / "open").touch()
    cluster.judge(jobs, extra=None)
    only_what_was_struck_began_again(cluster, cluster.strikes())
    assert {attempts(cluster)[job][1] for job in jobs[:6]} == {1}, "the failure counts once"


# ------------------------------------------------------------------------------------------ processes of the pool


BAD_NEIGHBOURS = """
for how in "SIGSEGV", "3":
    print(app.ends_its_process.delay(how=how).id)
print(app.wants_too_much.delay(megabytes=64).id)
print(app.crash.delay().id)
print(app.gated.delay(gate="open").id)
print(*[job.id for job in app.jm.enqueue_many([app.work.job()] * 20)])
"""


@pytest.mark.fault("A16", "A17")
def test_a_pool_process_that_dies_takes_only_its_job_with_it(cluster: RealCluster) -> None:
    """At most once: lost. At least once: it runs again, and what kills its process every time is quarantined."""
    worker = cluster.start_worker("-c", "3", "-P", "processes")
    jobs = cluster.produce(BAD_NEIGHBOURS)
    lost, starved, poison, sibling, others = jobs[:2], jobs[2], jobs[3], jobs[4], jobs[5:]
    deadly = {*lost, poison}
    wait_for(lambda: deadly <= final(cluster), what=cluster.state)
    for line in cluster.lines():
        if line.job in deadly:
            cluster.struck("kill of a pool's process", [line.pid], line.at)
    cluster.judge([*jobs[:4], *others], statuses={SUCCEEDED, FAILED}, extra=2)
    wait_for(lambda: len(pool(worker)) >= 3, what=cluster.state)
    (cluster.folder / "open").touch()
    cluster.judge([sibling, *others])
    statuses, counted = cluster.statuses(), attempts(cluster)
    assert {statuses[job] for job in lost} == {(FAILED, "worker lost")}
    assert (statuses[starved][0], counted[starved]) == (FAILED, (1, 1, 0)), "no memory is an error like any other"
    assert (statuses[poison], counted[poison][:2]) == ((FAILED, "quarantined"), (3, 0)), "that spent no retry"
    assert {counted[job] for job in [sibling, *others]} == {(1, 0, 0)}


def final(cluster: RealCluster) -> set[str]:
    """The jobs that have succeeded or failed."""
    return {job for job, (status, _) in cluster.statuses().items() if status in {SUCCEEDED, FAILED}}


def pool(worker: Worker) -> list[psutil.Process]:
    """The processes of the engine's pool."""
    found: list[psutil.Process] = worker.engine().children()
    return found


@pytest.mark.fault("A17")
def test_poison_is_quarantined_and_those_that_ran_beside_it_run_again(cluster: RealCluster) -> None:
    cluster.start_worker("-c", "4")
    jobs = cluster.produce(
        "jobs = [app.crash.job(), *[app.gated.job(gate='open')] * 2, *[app.work.job(seconds=0.05)] * 20]\n"
        "print(*[job.id for job in app.jm.enqueue_many(jobs)])"
    )
    wait_for(lambda: cluster.statuses().get(jobs[0]) == (FAILED, "quarantined"), what=cluster.state)
    (cluster.folder / "open").touch()
    cluster.judge(jobs[:1], statuses={FAILED}, extra=2)
    cluster.judge(jobs[1:], extra=3)  # what ran beside it when it went down, which it did once only
    crashes = [line.pid for line in cluster.lines() if line.event == "start" and line.job == jobs[0]]
    assert len(crashes) == len(set(crashes)) == 3
    for alone in crashes[1:]:
        events = [(line.event, line.job) for line in cluster.lines() if line.pid == alone]
        begun, ended = ({job for event, job in events if event == word} for word in ("start", "end"))
        assert begun - ended == {jobs[0]}, "nothing else ran in its process when it crashed there"


@pytest.mark.fault("A9")
def test_the_processes_of_a_pool_end_with_their_engine_and_what_ran_in_them_runs_again(cluster: RealCluster) -> None:
    worker = cluster.start_worker("-c", "2", "-P", "processes")
    jobs = cluster.produce(
        "jobs = app.jm.enqueue_many([app.gated.job(gate='open')] * 2 + [app.work.job()] * 20)\n"
        "print(*[job.id for job in jobs])"
    )
    wait_for(lambda: len(cluster.lines()) == 2, what=cluster.state)
    children = pool(worker)
    cluster.struck("kill of a pool's engine", [process.pid for process in children])
    worker.engine().kill()
    psutil.wait_procs(children, timeout=20)
    assert not any(process.is_running() for process in children), "nothing of it runs on"
    (cluster.folder / "open").touch()
    cluster.judge(jobs, extra=2)
    assert {attempts(cluster)[job][1:] for job in jobs[:2]} == {(0, 1)}
