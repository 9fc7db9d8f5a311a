"""`jobmaster worker --engines N`: complete engines under one supervisor, and several supervisors on one master."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections import Counter
from typing import Any

import psutil
import pytest

from tests.cli.terminal import Terminal, WorkerProcess

STORES = [
    pytest.param("sqlite", marks=pytest.mark.backend("sqlite")),
    pytest.param("postgresql", marks=pytest.mark.backend("postgresql")),
]

APP = """
import os, threading, time
from jobmaster import JobMaster

jm = JobMaster("shop")
HERE = os.path.dirname(__file__)

def note(text):
    with open(os.path.join(HERE, "ran.txt"), "a") as file:
        file.write(text + "\\n")

@jm.task
def work(seconds: float) -> None:
    time.sleep(seconds)
    note(f"{os.getpid()} {threading.get_ident()}")

@jm.task(max_retries=0)
def until_released(n: int) -> int:
    note(f"began {n} {os.getpid()}")
    while not os.path.exists(os.path.join(HERE, "release")):
        time.sleep(0.01)
    return n
"""

WHEN_ALL_ARE_THERE = """while not os.path.exists(os.path.join(HERE, "begin")):
        time.sleep(0.01)
    time.sleep(seconds)"""


@pytest.fixture(params=STORES)
def shop(request: pytest.FixtureRequest, terminal: Terminal) -> Terminal:
    terminal.write("shop.py", APP)
    if request.param == "postgresql":
        terminal.environment["JOBMASTER_MASTER"] = request.getfixturevalue("postgres_database")
    return terminal


def enqueue(shop: Terminal, count: int, seconds: float, *, calls: int) -> None:
    """Enqueue jobs in so many calls, from one process."""
    code = (
        f"from shop import jm, work\nfor _ in range({calls}):\n"
        f"    jm.enqueue_many([work.job(seconds={seconds}) for _ in range({count // calls})])\njm.close()"
    )
    subprocess.run([sys.executable, "-c", code], cwd=shop.folder, env=shop.environment, check=True, timeout=60)


def pids_of(worker: WorkerProcess) -> set[int]:
    return {child.pid for child in psutil.Process(worker.process.pid).children()}


def living(shop: Terminal) -> dict[str, Any]:
    return {told["name"]: told for told in shop.json("workers", "list") if told["status"] == "active"}


def owned(shop: Terminal) -> dict[str, list[int]]:
    """The buckets of each living worker, by its name."""
    buckets: dict[str, list[int]] = {name: [] for name in living(shop)}
    for bucket in shop.json("buckets"):
        if bucket["owner"] in buckets:
            buckets[bucket["owner"]].append(bucket["id"])
    return buckets


def ran_in(shop: Terminal) -> Counter[int]:
    return Counter(int(line.split()[0]) for line in shop.ran())


def readiness(url: str) -> dict[str, Any]:
    """What the worker's port says of its readiness."""
    try:
        with urllib.request.urlopen(f"{url}/readyz", timeout=10) as answer:  # noqa: S310 - our own server
            found: dict[str, Any] = json.load(answer)
    except urllib.error.HTTPError as error:
        with error:
            found = json.load(error)
    return found


def test_each_engine_is_a_worker_with_buckets_of_its_own(shop: Terminal) -> None:
    with shop.worker("-A", "shop", "-n", "alpha", "--engines", "3", "--health-port", "0") as worker:
        banner = worker.ready()
        names = ["alpha.1", "alpha.2", "alpha.3"]
        shop.until(lambda: [len(ids) for ids in owned(shop).values()] == [5, 5, 5], "each has a bucket per priority")
        workers, buckets = living(shop), owned(shop)
        url = banner.partition("url=")[2].split()[0].removesuffix("/healthz")
        shop.until(lambda: readiness(url).get("buckets") == 15, "its supervisor has heard of all of them")
        ready = readiness(url)
        pids = pids_of(worker)
        worker.signal()
        code = worker.end()

    assert code == 0
    assert sorted(workers) == names
    assert {told["pid"] for told in workers.values()} == pids
    assert len({number for ids in buckets.values() for number in ids}) == 15
    assert [name for name in names if f"{name}: full, 20 slots" not in banner] == []
    assert (ready["engines"], ready["trusted"], ready["buckets"]) == (3, 3, 15)


def test_the_end_of_one_engine_leaves_the_others_alone(shop: Terminal) -> None:
    with shop.worker("-A", "shop", "-n", "alpha", "--engines", "2") as worker:
        worker.ready()
        shop.until(lambda: [len(ids) for ids in owned(shop).values()] == [5, 5], "both are ready")
        before, buckets = living(shop), owned(shop)
        job = shop.enqueue("shop.until_released", n=1)
        shop.until(lambda: any(line.startswith("began 1") for line in shop.ran()), "the job runs")
        victim = int(shop.ran()[0].split()[2])
        (name,) = [told["name"] for told in before.values() if told["pid"] == victim]
        (other,) = set(before) - {name}
        os.kill(victim, signal.SIGKILL)
        shop.until(lambda: len([line for line in shop.ran() if line.startswith("began 1")]) == 2, "it runs again")
        shop.until(lambda: name in living(shop) and living(shop)[name]["pid"] != victim, "another process took over")
        after, later = living(shop), owned(shop)
        shop.write("release", "")
        worker.signal()
        assert worker.end() == 0

    assert (after[other]["pid"], after[other]["id"]) == (before[other]["pid"], before[other]["id"])
    assert set(buckets[other]) <= set(later[other])
    assert shop.json("jobs", "show", job)["recoveries"] == 1


def test_two_supervisors_on_one_master_share_what_comes(shop: Terminal) -> None:
    with (
        shop.worker("-A", "shop", "-n", "one", "--engines", "2", "-c", "4") as first,
        shop.worker("-A", "shop", "-n", "two", "--engines", "2", "-c", "4") as second,
    ):
        for worker in (first, second):
            worker.ready()
        shop.until(lambda: [len(ids) for ids in owned(shop).values()] == [5, 5, 5, 5], "all have their buckets")
        enqueue(shop, 400, 0.01, calls=40)
        shop.until(lambda: len(shop.ran()) == 400, "all jobs have run")
        pids = pids_of(first) | pids_of(second)
        for worker in (first, second):
            worker.signal()
        assert [worker.end() for worker in (first, second)] == [0, 0]

    shares = ran_in(shop)
    assert set(shares) == pids
    assert min(shares.values()) >= 400 / 4 / 4, shares
    assert shop.json("jobs", "list", "--status", "succeeded", "--limit", "1")["jobs"]


def test_a_backlog_of_one_bucket_feeds_every_engine_of_two_supervisors(shop: Terminal) -> None:
    # More than one engine reads ahead: what is beyond that can be given to others. Nothing ends before all can run.
    jobs = 6000
    shop.write("shop.py", APP.replace("time.sleep(seconds)", WHEN_ALL_ARE_THERE))
    enqueue(shop, jobs, 0.005, calls=6)
    with (
        shop.worker("-A", "shop", "-n", "one", "--engines", "2", "-c", "4") as first,
        shop.worker("-A", "shop", "-n", "two", "--engines", "2", "-c", "4") as second,
    ):
        shop.until(lambda: len(living(shop)) == 4, "all engines are there")
        shop.write("begin", "")
        shop.until(lambda: len(shop.ran()) == jobs, "all jobs have run")
        pids = pids_of(first) | pids_of(second)
        for worker in (first, second):
            worker.signal()
        assert [worker.end() for worker in (first, second)] == [0, 0]

    shares = ran_in(shop)
    assert set(shares) == pids
    assert max(shares.values()) < jobs * 0.6, shares


def test_a_restart_in_the_place_of_a_killed_worker_is_no_second_worker(shop: Terminal) -> None:
    with shop.worker("-A", "shop", "-n", "alpha") as killed:
        killed.ready()
        killed.signal_all(signal.SIGKILL)
        killed.end()
    with shop.worker("-A", "shop", "-n", "alpha") as worker:
        worker.ready()
        worker.signal()
        assert worker.end() == 0

    assert "another with --name" not in worker.output
    assert "worker_replaces" not in worker.output
