"""Too much at once, and data that nobody expects: everything is taken or refused in words, and the rest flows."""

from __future__ import annotations

import json
from collections import Counter

import pytest

from tests.faults.real_cluster import RealCluster, Worker, wait_for
from tests.faults.score import DEFAULTS

APP = ("-A", "tests.faults.load_app:jm")
MEGABYTE = 2**20
DUE_AT_ONCE = 100_000 if DEFAULTS else 2_500
MOST_MEMORY = 300 * MEGABYTE

# A tenth is due later than what buckets take, so that the master holds it; the rest waits in buckets.
DUE = """
import tests.faults.load_app as app
from datetime import datetime, timedelta, timezone
number, soon = {number}, datetime.now(timezone.utc) + timedelta(seconds={seconds})
held = soon + timedelta(hours=1)
step = number // 100  # jobs of one call and priority go to one bucket, so that each worker gets some of all
for first in range(0, number, step):
    jobs = [app.work_async.options(at=held if n % 5 == 4 else soon, priority=n // 5 % 5 + 1).job(seconds=0.005)
            for n in range(first, first + step)]
    for result in app.jm.enqueue_many(jobs):
        print(result.id)
print(time.time() + 1 < soon.timestamp(), soon.timestamp())
"""


@pytest.mark.fault("G1")
def test_jobs_due_in_one_moment_run_by_priority_in_little_memory_and_cost_no_lease(cluster: RealCluster) -> None:
    cluster.with_long_leases()
    workers = [cluster.start_worker(*APP, name=f"w{number}") for number in range(2)]
    seconds = 15.0 if DEFAULTS else 3.0
    *accepted, all_in_time, due = cluster.produce(DUE.format(number=DUE_AT_ONCE, seconds=seconds), timeout=120)
    bring_forward(cluster, accepted, float(due))
    peaks = [0]
    wait_for(lambda: peaks.append(max(map(engine_memory, workers))) or runs(cluster) >= len(accepted), timeout=300)
    cluster.judge(accepted)
    assert max(peaks) <= MOST_MEMORY
    assert cluster.place.rows("SELECT name, ended FROM jm_worker ORDER BY name") == [("w0", 0), ("w1", 0)]
    first = min(line.at for line in cluster.lines())
    assert first >= float(due) - 0.05, "none before its time"
    cluster.score.recovered(first - float(due))
    if all_in_time == "True":  # else this machine was too busy to say what was due together
        ran_by_priority(cluster, accepted)


def ran_by_priority(cluster: RealCluster, accepted: list[str]) -> None:
    """Of what waited in the busier worker's buckets the higher priorities had more starts, and each had some."""
    in_buckets = {job: n // 5 % 5 + 1 for n, job in enumerate(accepted) if n % 5 != 4}
    starts = sorted((line.at, line.pid, line.job) for line in cluster.lines() if line.event == "start")
    ((busier, _),) = Counter(pid for _, pid, _ in starts).most_common(1)
    order = [in_buckets[job] for _, pid, job in starts if pid == busier and job in in_buckets]
    first = Counter(order[: len(order) // 6])
    assert first[5] > first[3] > first[1] > 0


def bring_forward(cluster: RealCluster, accepted: list[str], due: float) -> None:
    """What the master holds is due in the same moment, too; one is told of, as a signal does."""
    due_us = round(due * 1e6)
    cluster.place.rows(f"UPDATE jm_job SET due_us = {due_us} WHERE status = 2 RETURNING id")
    cluster.produce(
        "from datetime import datetime, timezone\n"
        f"print(app.jm.jobs.reschedule({accepted[4]!r}, datetime.fromtimestamp({due!r}, timezone.utc)))"
    )


def runs(cluster: RealCluster) -> int:
    return sum(line.event == "end" for line in cluster.lines())


def engine_memory(worker: Worker) -> int:
    """What its engine has at this moment, in bytes."""
    return worker.engine().memory_info().rss


LIMITS = """
import tests.faults.load_app as app
from jobmaster import MessageTooLarge
def takes(size):
    try:
        print(app.echo.delay("x" * size).id)
    except MessageTooLarge as error:
        assert "max_message_bytes" in str(error), error
        return False
    return True
fits, too_large = 0, 200_000
while too_large - fits > 1:
    middle = (fits + too_large) // 2
    fits, too_large = (middle, too_large) if takes(middle) else (fits, middle)
assert 130_000 < fits < 131_072, fits
assert takes(fits) and not takes(fits + 1) and not takes(10_000_000)
try:
    app.jm.enqueue_many([app.echo.job("small"), app.echo.job("x" * too_large)])
except MessageTooLarge:
    pass
else:
    raise AssertionError("half of a batch was taken")
"""


@pytest.mark.fault("G4")
def test_what_is_one_byte_too_large_is_refused_before_anything_is_stored(cluster: RealCluster) -> None:
    accepted = cluster.produce(LIMITS)
    stored = cluster.place.rows("SELECT job_id FROM jm_message UNION SELECT id FROM jm_job")
    assert {job for (job,) in stored} == set(accepted)
    largest, too_large = cluster.produce(
        "import tests.faults.load_app as app\nprint(app.blob.delay(1_048_574).id)\nprint(app.blob.delay(1_048_575).id)"
    )
    cluster.start_worker(*APP)
    cluster.judge([*accepted, largest])
    cluster.judge([too_large], statuses={7})
    (told,) = cluster.produce(f"error = app.jm.result({too_large!r}).error\nprint(str(error).replace(' ', '_'))")
    assert "max_result_bytes" in told
    assert "1,048,577_bytes" in told


# Kept as they are, or refused with a typed error before anything is stored.
HOSTILE = """
import math
import tests.faults.load_app as app
from jobmaster import SerializationError
deep = []
for _ in range(10_000):
    deep = [deep]
values = ["", "a\\0b", "\\u202ex", "\\ufeff", "\U0001f984" * 9, "</script><b>", "'; DROP TABLE jm_job; --", "%_\\\\",
          0.1, -0.0, math.inf, 5e-324, 2**63 - 1, -(2**63), 2**63, 2**64, 2**300, {}, {"": {"": None}}, {"a\\0": 1},
          {1: 2}, b"\\0\\xff", [[[[]]]], {"$": 1}, {"__type__": "os.system"}, None, "a\\ud800b", deep,
          object(), {(1, 2): 3}]
kept = []
for number, value in enumerate(values):
    try:
        kept.append((number, value, app.echo.delay(value)))
        print(kept[-1][2].id)
    except SerializationError as error:
        print("refused", number, file=sys.stderr)
for number, value, result in kept:
    got = result.get(timeout=60)
    assert repr(got) == repr(value), (number, got, value)
result = app.echo.delay(math.nan)
print(result.id)
assert math.isnan(result.get(timeout=60))
"""


@pytest.mark.fault("G5")
def test_hostile_data_comes_back_as_it_was_and_is_shown_as_text(cluster: RealCluster) -> None:
    cluster.start_worker(*APP)
    accepted = cluster.produce(HOSTILE)
    assert len(accepted) >= 20
    cluster.judge(accepted)
    printed = cluster.produce(SHOWN.format(jobs=accepted, script=accepted[5]))
    assert printed[-1] == "shown"
    assert "</script><b>" in "".join(printed), "a terminal shows it as it is"


SHOWN = """
from jobmaster.cli.program import program
from flask import Flask
from jobmaster.web import JobMasterWeb
host = Flask("host")
JobMasterWeb(app.jm, auth=lambda request: True).init_app(host)
visitor = host.test_client()
for job in {jobs!r}:
    page = visitor.get("/jobs/job?id=" + job)
    assert page.status_code == 200, page.text
    assert "</script><b>" not in page.text
assert "&lt;/script&gt;&lt;b&gt;" in visitor.get("/jobs/job?id={script}").text
for job in {jobs!r}:
    try:
        program(["jobs", "show", "-A", "tests.faults.load_app:jm", job])
    except SystemExit as end:
        assert end.code == 0, job
print("shown")
"""

LATER = """
import tests.faults.load_app as app
@app.jm.task(name="later")
async def later():
    pass
for n in range(60):
    print((later if n % 3 == 0 else app.work_async).delay().id)
"""


@pytest.mark.fault("G6")
def test_jobs_that_nobody_can_run_are_put_aside_and_run_when_somebody_can(cluster: RealCluster) -> None:
    accepted = cluster.produce(LATER)
    unknown, garbage = accepted[::3], accepted[1]
    known = [job for job in accepted if job not in unknown and job != garbage]
    spoil(cluster, garbage)
    worker = cluster.start_worker(*APP)
    cluster.judge(known)
    wait_for(lambda: {cluster.statuses().get(job) for job in unknown} == {(2, "unroutable")}, what=cluster.state)
    cluster.judge([garbage], statuses={7})
    assert cluster.statuses()[garbage] == (7, "unreadable")
    assert worker.terminate() == 0
    cluster.environment["FAULTS_LATER"] = "1"
    cluster.start_worker(*APP)
    cluster.judge(accepted, statuses={5, 7})
    assert Counter(status for status, _ in cluster.statuses().values()) == {5: 59, 7: 1}


def spoil(cluster: RealCluster, job: str) -> None:
    """Bytes that are no envelope, in the place of a job's message."""
    on_a_server = cluster.place.url.startswith("postgresql")
    key, garbage = (f"'{job}'", r"'\xc1ff00'") if on_a_server else (f"x'{job.replace('-', '')}'", "x'c1ff00'")
    spoilt = cluster.place.rows(f"UPDATE jm_message SET payload = {garbage} WHERE job_id = {key} RETURNING job_id")
    assert spoilt == [(job,)]


ARRIVALS = """
import os
import tests.faults.load_app as app
def arrive(number):
    for _ in range(number):
        for result in app.jm.enqueue_many([app.gated.job("go") for _ in range(1000)]):
            print(result.id)
arrive(2)
while not os.path.exists("more"):
    time.sleep(0.01)
arrive(6)
"""


@pytest.mark.fault("G7")
def test_handlers_that_are_slower_than_arrivals_fill_a_buffer_and_no_more(cluster: RealCluster) -> None:
    cluster.environment["JOBMASTER_BUFFER_PER_BUCKET"] = "1000"
    producer = cluster.producer(ARRIVALS)
    worker = cluster.start_worker(*APP, "-c", "4")
    wait_for(lambda: depth(cluster) >= 1900, what=cluster.state)
    before = engine_memory(worker)
    (cluster.folder / "more").touch()
    accepted = producer.finished()
    wait_for(lambda: depth(cluster) >= 7900, what=cluster.state)
    assert engine_memory(worker) - before < 4 * MEGABYTE
    assert said(cluster)["waiting"] <= 1000
    assert said(cluster)["running"] == 4
    (cluster.folder / "go").touch()
    cluster.judge(accepted)


def depth(cluster: RealCluster) -> int:
    """How many jobs wait in the buckets, as people see it."""
    return sum(waiting for _, waiting in cluster.place.rows("SELECT token, depth FROM jm_bucket") if waiting)


def said(cluster: RealCluster) -> dict[str, int]:
    """What the worker last said of itself."""
    text = "stats" if cluster.place.url.startswith("sqlite") else "convert_from(stats, 'UTF8')"
    ((_, stats),) = cluster.place.rows(f"SELECT name, CAST({text} AS TEXT) FROM jm_worker WHERE ended = 0")
    return json.loads(stats)


MIXED = """
import tests.faults.load_app as app
from jobmaster import Priority
low = [app.work_async.options(priority=Priority.VERY_LOW).job() for _ in range(60)]
critical = [app.work_async.options(priority=Priority.CRITICAL).job(seconds=0.002) for _ in range(2000)]
for jobs in (critical, low):
    print(*[result.id for result in app.jm.enqueue_many(jobs)])
"""


@pytest.mark.fault("G8")
def test_endless_critical_work_leaves_the_lowest_priority_its_share(cluster: RealCluster) -> None:
    accepted = cluster.produce(MIXED)
    lowest = set(accepted[-60:])
    cluster.start_worker(*APP, "-c", "4")
    cluster.judge(accepted)
    starts = [job for _, job in sorted((line.at, line.job) for line in cluster.lines() if line.event == "start")]
    last = max(place for place, job in enumerate(starts) if job in lowest)
    assert last < len(lowest) / 0.05, "a twentieth of all slots at the least"
