"""What becomes of a cluster: passive and active again, archived; its old jobs and results; its agents; its workers."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sqlite3
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import msgspec
import pytest

from jobmaster import (
    Agent,
    ClusterArchived,
    ClusterMismatch,
    JobMaster,
    JobQuery,
    JobStatus,
    ResultExpired,
    Worker,
)
from jobmaster.engine.tuning import Tuning
from jobmaster.model.states import WorkerMode
from jobmaster.model.worker import Registration
from jobmaster.runtime import open_connections, tuning_of
from tests.cli.terminal import Terminal

pytestmark = pytest.mark.backend("sqlite")


def until(condition: Callable[[], bool], what: str, patience: float = 60) -> None:
    deadline = time.monotonic() + patience
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.02)


class Place:
    """Apps over the databases of one folder, closed at the end."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.apps: list[JobMaster] = []

    def dsn(self, name: str) -> str:
        return f"sqlite:///{self.folder}/{name}.db"

    def app(self, cluster: str, **settings: Any) -> JobMaster:
        app = JobMaster(cluster, master=self.dsn(cluster), accept_timeout=30, **settings)
        self.apps.append(app)

        @app.task(name="hello", metadata={"team": "a"})
        def hello(name: str) -> str:
            return f"Hello {name}"

        @app.task(name="brief", keep_result=0.2)
        async def brief(name: str) -> str:
            return f"Hello {name}"

        return app


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    made = Place(tmp_path)
    yield made
    for app in made.apps:
        app.close()


@pytest.fixture
def frequent_chores(monkeypatch: pytest.MonkeyPatch) -> None:
    """The janitor comes at once: its period is no setting."""
    monkeypatch.setattr("jobmaster.runtime.tuning_of", _tuning_with(janitor_every=0.05))


def _tuning_with(**changed: Any) -> Callable[..., Tuning]:
    return lambda settings, plan: msgspec.structs.replace(tuning_of(settings, plan), **changed)


# -- modes of the cluster


def test_a_passive_cluster_accepts_and_runs_nothing_until_it_is_active_again(place: Place) -> None:
    passive = place.app("modes-1", mode="passive")
    with passive:
        results = [passive.send("hello", name=str(number)) for number in range(3)]
        until(lambda: len(passive.workers.list()) == 1, "its worker lives")
        assert passive.workers.ping(timeout=30)[0].ok
        time.sleep(1.0)  # nothing is to happen, and nothing tells of that
        assert [result.status for result in results] == [JobStatus.HELD_ON_MASTER] * 3
        assert [bucket for bucket in passive.buckets.list() if bucket.owner] == []
    passive.close()

    active = place.app("modes-1", default=False)
    with active:
        assert [active.result(one.id).get(timeout=30) for one in results] == ["Hello 0", "Hello 1", "Hello 2"]


def test_a_cluster_that_becomes_passive_keeps_what_waits_in_buckets(place: Place) -> None:
    first = place.app("modes-2")
    waiting = first.send("hello", name="J")
    first.close()
    with place.app("modes-2", mode="passive") as passive:
        time.sleep(1.0)
        assert passive.jobs.get(waiting.id).status is not JobStatus.SUCCEEDED
    with place.app("modes-2") as active:
        assert active.result(waiting.id).get(timeout=30) == "Hello J"


def test_an_archived_cluster_is_read_and_not_changed(place: Place) -> None:
    active = place.app("modes-3")
    with active:
        ended = active.send("hello", name="J")
        assert ended.get(timeout=30) == "Hello J"
    held = active.scheduler.once_after("hello", 7200, {"name": "later"})
    active.close()

    archive = place.app("modes-3", mode="archived")
    refused = [
        lambda: archive.send("hello", name="x"),
        lambda: archive.scheduler.once_now("hello", {"name": "x"}),
        lambda: archive.jobs.cancel(held.id),
        lambda: archive.jobs.retry(ended.id),
        lambda: archive.jobs.reschedule(held.id, datetime.now(UTC)),
        lambda: archive.scheduler.cancel(held.id),
        lambda: archive.scheduler.reschedule(held.id, datetime.now(UTC)),
        lambda: archive.result(held.id).cancel(),
        lambda: asyncio.run(archive.jobs.acancel(held.id)),
        lambda: asyncio.run(archive.result(held.id).acancel()),
    ]
    with archive:  # its worker coordinates: it starts nothing
        for change in refused:
            with pytest.raises(ClusterArchived, match=r"'modes-3' is archived: it can be read.*cluster_mode to active"):
                change()
        assert archive.result(ended.id).get(timeout=30) == "Hello J"
        assert archive.jobs.get(held.id).status is JobStatus.HELD_ON_MASTER
        assert archive.jobs.count(JobQuery()) == {JobStatus.SUCCEEDED: 1, JobStatus.HELD_ON_MASTER: 1}
        assert archive.buckets.list() == () or all(bucket.owner is None for bucket in archive.buckets.list())


# -- what is old


@pytest.mark.usefixtures("frequent_chores")
def test_aged_jobs_move_to_the_archive_by_themselves(place: Place) -> None:
    archive = place.app("archive-9", mode="archived")
    source = place.app("source-9", archive_to="archive-9", retention=timedelta(minutes=10))
    with source:
        result = source.send("hello", name="J")
        assert result.get(timeout=30) == "Hello J"
        young = source.send("hello", name="young")
        assert young.get(timeout=30) == "Hello young"
        _age(place, "source-9", result.id, minutes=11)
        until(lambda: source.jobs.get(result.id) is None, "the aged job has left its cluster")
        assert source.jobs.get(young.id).status is JobStatus.SUCCEEDED
    moved = archive.jobs.get(result.id)
    assert (moved.status, moved.result, moved.kwargs) == (JobStatus.SUCCEEDED, "Hello J", {"name": "J"})
    assert moved.metadata == {"team": "a"}
    assert archive.jobs.get(young.id) is None


@pytest.mark.usefixtures("frequent_chores")
def test_jobs_older_than_the_retention_are_deleted(place: Place) -> None:
    with place.app("retention-9", retention=timedelta(minutes=10)) as app:
        old, young = (app.send("hello", name=name) for name in ("old", "young"))
        assert [result.get(timeout=30) for result in (old, young)] == ["Hello old", "Hello young"]
        _age(place, "retention-9", old.id, minutes=11)
        until(lambda: app.jobs.get(old.id) is None, "the old job is gone")
        assert app.jobs.get(young.id).status is JobStatus.SUCCEEDED


@pytest.mark.usefixtures("frequent_chores")
def test_a_result_is_kept_as_long_as_its_task_says_and_then_get_says_so(place: Place) -> None:
    with place.app("keep-9") as app:
        brief, kept = app.send("brief", name="J"), app.send("hello", name="J")
        assert kept.get(timeout=30) == "Hello J"
        until(lambda: app.jobs.get(brief.id).reason == "result expired", "its time has passed")
        again = app.result(brief.id)
        with pytest.raises(ResultExpired, match="kept for keep_result only"):
            again.get(timeout=30)
        assert (again.status, again.successful(), again.error) == (JobStatus.SUCCEEDED, True, None)
        assert app.result(kept.id).get(timeout=30) == "Hello J"


@pytest.mark.usefixtures("frequent_chores")
def test_keep_result_of_the_cluster_is_for_tasks_that_say_nothing(place: Place) -> None:
    with place.app("keep-8", keep_result=0.1) as app:
        result = app.send("hello", name="J")
        until(lambda: (info := app.jobs.get(result.id)) is not None and info.reason == "result expired", "it is gone")


def _age(place: Place, cluster: str, job_id: str, *, minutes: float) -> None:
    """Make a job as old as that."""
    with sqlite3.connect(place.folder / f"{cluster}.db", timeout=10) as database:
        moved = database.execute(
            "UPDATE jm_job SET finished_us = finished_us - ? WHERE id = ?",
            (round(minutes * 60e6), UUID(job_id).bytes),
        )
        assert moved.rowcount == 1
    database.close()


# -- agents


def test_going_back_to_standalone_is_refused_until_the_agents_are_drained(place: Place) -> None:
    def with_agent() -> JobMaster:
        return place.app("agents-9", agents=[Agent("a", place.dsn("a"))], workers=[Worker("a")])

    agents = with_agent()
    with agents:
        assert agents.send("hello", name="J").get(timeout=30) == "Hello J"
    left = agents.send("hello", name="left")  # into the bucket that its owner has left
    standalone = place.app("agents-9")
    with pytest.raises(ClusterMismatch, match=r"messages may wait in its agents: a .*--mode drain"):
        standalone.start()

    async def drain() -> None:
        connections = await open_connections(agents.settings)
        store = connections.store
        drainer = await store.register(Registration("drainer", 1, "a", ("",), WorkerMode.DRAIN))
        while (bucket := await store.claim_drain(drainer.worker, agent="a", older_us=0)) is not None:
            while not await store.drain(bucket.fence, limit=100):
                pass
            await store.retire(bucket.fence)
        await store.end_worker(drainer.worker)
        await connections.close()

    asyncio.run(drain())
    agents.close()
    with standalone:
        assert standalone.result(left.id).get(timeout=30) == "Hello left"


def test_an_agents_name_that_points_elsewhere_is_refused_at_the_start(place: Place) -> None:
    with place.app("agents-8", agents=[Agent("a", place.dsn("a"))]) as app:
        assert app.send("hello", name="J").get(timeout=30) == "Hello J"
    moved = {"agents": [Agent("a", place.dsn("b"))]}
    with pytest.raises(ClusterMismatch, match="agent 'a' points to another store than before"):
        place.app("agents-8", **moved).start()
    with place.app("agents-8", **moved, protect_agents=False) as app:
        assert app.send("hello", name="K").get(timeout=30) == "Hello K"


# -- modes of a worker, as typed


def test_a_coordinator_and_a_drain_worker_run_no_jobs_and_an_execution_worker_does(tmp_path: Path) -> None:
    terminal = Terminal(tmp_path)
    waiting = terminal.enqueue("shop.hello", name="J")
    with (
        terminal.worker("-A", "shop", "--mode", "coordinator", "-n", "boss") as boss,
        terminal.worker("-A", "shop", "--mode", "drain", "-n", "sink") as sink,
    ):
        boss.ready()
        sink.ready()
        listed = {worker["name"]: worker["mode"] for worker in terminal.json("workers", "list")}
        assert listed == {"boss": "coordinator", "sink": "drain"}
        assert [bucket["owner"] for bucket in terminal.json("buckets") if bucket["owner"]] == []
        assert terminal.ran() == []
        with terminal.worker("-A", "shop", "--mode", "execution", "-n", "hand") as hand:
            hand.ready()
            assert terminal.run("-A", "shop", "jobs", "tail", waiting).returncode == 0
            os.killpg(hand.process.pid, signal.SIGKILL)  # the boss finds what it owned
            hand.end()
        terminal.until(
            lambda: {bucket["status"] for bucket in terminal.json("buckets")} <= {"Lost", "ReadyToDrain", "Draining"},
            "the coordinator has marked the buckets of the dead worker",
        )
        boss.signal()
        sink.signal()
        assert (boss.end(), sink.end()) == (0, 0)
    assert terminal.ran() == ["hello J"]


def test_a_worker_that_contradicts_the_cluster_is_refused_with_both_values(tmp_path: Path) -> None:
    terminal = Terminal(tmp_path)
    with terminal.worker("-A", "shop", "-n", "first") as worker:
        worker.ready()
        for name, value, told in [
            ("LEASE", "20", "lease is 10s in the cluster and 20s here"),
            ("TIME_ZONE", "Europe/Berlin", "time_zone is UTC in the cluster and Europe/Berlin here"),
            ("RETENTION", "3600", "retention is 30d in the cluster and 1h here"),
        ]:
            done = terminal.run("-A", "shop", "worker", **{f"JOBMASTER_{name}": value})
            assert done.returncode == 1, done.stdout + done.stderr
            assert told in done.stderr
            assert "stop all workers first" in done.stderr
            assert "Traceback" not in done.stderr
        worker.signal()
        assert worker.end() == 0


STUBBORN = """
import time
from jobmaster import JobMaster

jm = JobMaster("stubborn")

@jm.task(max_retries=0, timeout=None)
def stays() -> None:
    print("it stays", flush=True)
    while True:
        try:
            time.sleep(60)
        except BaseException:
            pass
"""


def test_a_third_signal_ends_even_a_worker_whose_job_does_not_listen(tmp_path: Path) -> None:
    terminal = Terminal(tmp_path)
    terminal.write("stubborn.py", STUBBORN)
    assert terminal.run("-A", "stubborn", "run", "stubborn.stays").returncode == 0
    with terminal.worker("-A", "stubborn", "--grace", "60") as worker:
        worker.wait_for("it stays")
        for times in (1, 2, 3):
            worker.signal()
            worker.wait_for(f"times={times}")
        worker.end(30)  # half of the grace period
    assert "Succeeded" not in terminal.run("-A", "stubborn", "jobs", "list").stdout


@pytest.mark.parametrize(
    ("typed", "environment"),
    [(("--mode", "coordinator"), {}), (("--mode", "drain"), {}), ((), {"JOBMASTER_CLUSTER_MODE": "passive"})],
)
def test_once_is_refused_where_nothing_runs(
    tmp_path: Path, typed: tuple[str, ...], environment: dict[str, str]
) -> None:
    done = Terminal(tmp_path).run("-A", "shop", "worker", "--once", *typed, **environment)

    assert done.returncode == 2, done.stdout + done.stderr
    assert "runs no jobs, so --once has no end to wait for" in done.stderr


def test_the_files_of_a_cluster_belong_to_its_user_alone(place: Place) -> None:
    with place.app("modes-4", debug_log=str(place.folder / "events")) as app:
        assert app.send("hello", name="J").get(timeout=30) == "Hello J"
        made = [path for path in place.folder.rglob("*") if path.is_file()]
        assert len(made) >= 3
        assert [path for path in made if path.stat().st_mode & 0o077] == []

    own = logging.getLogger("jobmaster")
    assert (own.handlers, own.propagate, own.level) == ([], True, logging.NOTSET), "the program's logging is as before"
