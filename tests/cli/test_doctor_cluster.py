"""The doctor at a cluster: workers that were killed, frozen, doubled or outdated, and jobs that do not get on."""

from __future__ import annotations

import contextlib
import signal
import sqlite3
from collections.abc import Iterator
from typing import Any

import pytest

from jobmaster import JobMaster
from jobmaster.cli.checks.finding import Finding, State
from tests.cli.consulting import consult, len_of
from tests.cli.terminal import Terminal, WorkerProcess

pytestmark = pytest.mark.backend("sqlite")

FAST = {"JOBMASTER_LEASE": "1", "JOBMASTER_RENEW_EVERY": "0.3"}
SECONDS = 1_000_000


class Sick:
    """A project with workers. Their lease is the usual one: on a busy machine one of a second ends by itself."""

    def __init__(self, terminal: Terminal) -> None:
        self.terminal = terminal
        self.settings: dict[str, Any] = {}

    def with_short_leases(self) -> Sick:
        """For tests that wait for the end of one."""
        self.terminal.environment |= FAST
        self.settings |= {"lease": 1, "renew_every": 0.3}
        return self

    def doctor(self) -> dict[str, Finding]:
        """What is not well, by check, for an app with tasks of the lanes default and mail."""
        return consult(self.terminal.folder, cluster="shop", change=_name_mail, **self.settings).bad()

    def until(self, check: str, part: str) -> dict[str, Finding]:
        """What is not well, once a check says this."""
        seen: list[dict[str, Finding]] = []

        def says_so() -> bool:
            seen.append(self.doctor())
            return check in seen[-1] and part in seen[-1][check].fact

        self.terminal.until(says_so, f"{check} says {part!r}")
        return seen[-1]

    def change(self, statement: str, *values: Any) -> None:
        """What only somebody with a tool for databases does."""
        with contextlib.closing(sqlite3.connect(self.terminal.folder / "jobmaster.db", timeout=10)) as session:
            session.execute(statement, values)
            session.commit()

    @contextlib.contextmanager
    def worker(self, name: str, *arguments: str, **environment: str) -> Iterator[WorkerProcess]:
        with self.terminal.worker("-A", "shop", "-n", name, *arguments, **environment) as worker:
            worker.ready()
            yield worker


def _name_mail(app: JobMaster) -> None:
    app.task(name="shop.mail", lane="mail")(len_of)


@pytest.fixture
def sick(terminal: Terminal) -> Sick:
    return Sick(terminal)


def test_a_killed_worker_is_stale_and_its_buckets_are_lost(sick: Sick) -> None:
    with sick.with_short_leases().worker("alpha") as worker:
        sick.terminal.until(lambda: sick.doctor() == {}, "all is well")
        worker.signal_all(signal.SIGKILL)
        worker.end()

        found = sick.until("stale", "vanished")

    assert found["stale"].fact.startswith("alpha (pid")
    assert "without a goodbye" in found["stale"].fact
    assert found["workers"].fact.startswith("0 live")
    assert "lost, of lanes default,mail" in found["buckets"].fact


def test_buckets_that_a_living_worker_cannot_adopt_are_named_by_their_lane(sick: Sick) -> None:
    sick.with_short_leases()
    with sick.worker("beta", "-Q", "default"), sick.worker("alpha", "-Q", "mail") as worker:
        worker.signal_all(signal.SIGKILL)
        worker.end()

        sick.until("lanes", "nobody serves mail")
        found = sick.until("buckets", "lost, of lanes mail")

    assert "jobmaster worker -Q mail" in found["buckets"].advice
    assert found["lanes"].fact == "nobody serves mail"


def test_a_worker_that_stopped_in_peace_is_not_stale(sick: Sick) -> None:
    with sick.worker("alpha") as worker:
        worker.signal()
        assert worker.end() == 0

    found = sick.doctor()
    assert found.keys() == {"workers"}, found


def test_a_frozen_worker_is_late(sick: Sick) -> None:
    sick.terminal.environment |= {"JOBMASTER_LEASE": "60", "JOBMASTER_RENEW_EVERY": "0.3"}
    sick.settings |= {"lease": 60, "renew_every": 0.3}
    with sick.worker("alpha") as worker:
        worker.signal_all(signal.SIGSTOP)
        try:
            found = sick.until("stale", "has not renewed its lease for")
        finally:
            worker.signal_all(signal.SIGCONT)

    assert found["stale"].fact.startswith("alpha (pid")
    assert found.keys() == {"stale"}


HOST = """
import os, socket
socket.gethostname = lambda: os.environ["TEST_HOST"]
"""


def test_a_worker_that_somebody_paused(sick: Sick) -> None:
    with sick.worker("alpha"):
        sick.terminal.json("-A", "shop", "workers", "pause", "alpha")

        found = sick.until("paused", "alpha")

    assert list(found) == ["paused"]
    assert found["paused"].advice.endswith("jobmaster workers resume alpha")


def test_two_workers_of_one_name_on_two_hosts(sick: Sick) -> None:
    sick.terminal.write("hosts/sitecustomize.py", HOST)
    path = {"PYTHONPATH": str(sick.terminal.folder / "hosts")}
    with (
        sick.worker("alpha", TEST_HOST="blue", **path),
        sick.worker("alpha", TEST_HOST="green", **path),
    ):
        found = sick.doctor()

    assert "alpha: pid" in found["names"].fact
    assert "on blue and pid" in found["names"].fact
    assert "on green have the same name" in found["names"].fact
    assert "--name" in found["names"].advice


def test_a_worker_of_another_version(sick: Sick) -> None:
    with sick.worker("alpha"):
        sick.change("UPDATE jm_worker SET version = '0.0.9'")
        found = sick.doctor()

    assert found["versions"].fact.startswith("0.0.9: alpha; here ")


def test_a_schedule_that_the_planner_has_given_up(sick: Sick) -> None:
    with sick.worker("alpha"):
        for name in ("hourly", "daily"):
            add = ("schedules", "add", "shop.hello", "every hour", '{"name": "J"}', "-n", name)
            assert sick.terminal.run("-A", "shop", *add).returncode == 0
        well = sick.doctor()
        # As the planner parks one whose rule fails (tests/journeys/test_schedules.py).
        sick.change("UPDATE jm_schedule SET error = 'RuntimeError: clouds', plan_at_us = NULL WHERE name = 'hourly'")
        one = sick.doctor()
        sick.change("UPDATE jm_schedule SET error = 'RuntimeError: clouds', plan_at_us = NULL")
        both = sick.doctor()

    assert "broken" not in well
    assert one["broken"].state is State.WARNING
    assert one["broken"].fact == "hourly: the planner could not compute when it fires (RuntimeError: clouds)"
    assert "jobmaster schedules show hourly" in one["broken"].advice
    assert both["broken"].fact == "daily, hourly: the planner could not compute when they fire (RuntimeError: clouds)"


def test_settings_that_the_cluster_has_not(sick: Sick) -> None:
    with sick.worker("alpha") as worker:
        sick.settings["lease"] = 7
        running = sick.doctor()
        worker.signal()
        assert worker.end() == 0
    ended = sick.doctor()

    assert (running["agreement"].state, running["agreement"].fact) == (
        State.FAULT, "lease is 10s in the cluster and 7s here",
    )  # fmt: skip
    assert ended["agreement"].state is State.WARNING


def test_jobs_that_nobody_knows_that_are_quarantined_and_that_wait(sick: Sick) -> None:
    sick.terminal.write(
        "more.py", "import os, signal\nfrom shop import jm\n"
        "@jm.task(name='more.strange')\ndef strange(): pass\n"
        "@jm.task(name='more.deadly')\ndef deadly(): os.kill(os.getpid(), signal.SIGKILL)\n",
    )  # fmt: skip
    with sick.worker("alpha"):
        assert sick.terminal.run("-A", "more", "run", "more.strange").returncode == 0
        unroutable = sick.until("unroutable", "more.strange")
    with sick.terminal.worker("-A", "more:jm", JOBMASTER_MAX_RECOVERIES="0") as worker:
        worker.ready()
        assert sick.terminal.run("-A", "more:jm", "run", "more.deadly").returncode == 0
        quarantined = sick.until("quarantined", "more.deadly (1)")
    job = sick.terminal.enqueue("shop.mail", order_id=7)
    sick.change("UPDATE jm_message SET due_us = due_us - ?", 600 * SECONDS)
    waiting = sick.doctor()
    sick.change("UPDATE jm_message SET due_us = due_us + ?", 600 * SECONDS)
    short = sick.doctor()

    assert "Start a worker whose code has these tasks" in unroutable["unroutable"].advice
    assert "--reason quarantined" in quarantined["quarantined"].advice
    assert waiting["waiting"].fact == f"job {job} has waited for 10 min"
    assert "waiting" not in short


def test_a_job_that_runs_for_long_does_not_wait(sick: Sick) -> None:
    with sick.worker("alpha"):
        sick.terminal.enqueue("shop.until_released", n=1)
        sick.terminal.until(
            lambda: sick.terminal.json("jobs", "list", "--status", "running")["jobs"] != [], "its row says that it runs"
        )
        sick.change("UPDATE jm_message SET due_us = due_us - ?", 600 * SECONDS)
        sick.change("UPDATE jm_job SET due_us = due_us - ?", 600 * SECONDS)
        found = sick.doctor()
        sick.terminal.write("release", "")

    assert found == {}


FAST_CLOCK = """
import time
before = time.time_ns
time.time_ns = lambda: before() + 30_000_000_000
"""


@pytest.mark.backend("postgresql")
def test_a_worker_whose_host_counts_another_time(sick: Sick, postgres_database: str) -> None:
    sick.terminal.environment |= {"JOBMASTER_MASTER": postgres_database, "JOBMASTER_SURVIVES": "process"}
    sick.settings |= {"master": postgres_database, "survives": "process"}
    sick.terminal.write("clock/sitecustomize.py", FAST_CLOCK)
    with sick.worker("alpha", PYTHONPATH=str(sick.terminal.folder / "clock")):
        found = sick.until("worker clocks", "alpha 30 s ahead")

    assert "time server" in found["worker clocks"].advice
