"""Probes of a real worker: from its start through a stop, and what a hundred of them in a second cost."""

from __future__ import annotations

import json
import os
import signal
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager

import psutil
import pytest

from tests.cli.terminal import Terminal, WorkerProcess
from tests.servers.fault_proxy import FaultProxy

OFTEN = {"JOBMASTER_RENEW_EVERY": "0.3"}
FAST = OFTEN | {"JOBMASTER_LEASE": "1"}
"""Where a lease is to end: on a busy machine it does so by itself."""


class Probe:
    """Asks a worker's port."""

    def __init__(self, banner: str) -> None:
        self.url = banner.partition("url=")[2].split()[0].removesuffix("/healthz")
        self.port = self.url.rpartition(":")[2]

    def get(self, page: str, *, method: str = "GET") -> tuple[int, dict[str, object]]:
        request = urllib.request.Request(f"{self.url}/{page}", method=method)  # noqa: S310 - our own server
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310 - as above
                return answer.status, json.loads(answer.read() or b"{}")
        except urllib.error.HTTPError as error:
            with error:
                return error.code, json.loads(error.read() or b"{}")


@contextmanager
def probed(terminal: Terminal, *arguments: str, **environment: str) -> Iterator[tuple[WorkerProcess, Probe]]:
    with terminal.worker("-A", "shop", "-n", "alpha", "--health-port", "0", *arguments, **environment) as worker:
        yield worker, Probe(worker.ready())


def test_a_signal_makes_it_unready_at_once_and_it_stays_alive_until_its_jobs_have_ended(terminal: Terminal) -> None:
    with probed(terminal) as (worker, probe):
        terminal.until(lambda: probe.get("readyz")[1].get("buckets") == 10, "all its buckets are there")
        before = probe.get("readyz")
        terminal.enqueue("shop.until_released", n=1)
        terminal.until(lambda: terminal.ran() == ["began 1"], "the job runs")
        worker.signal()
        worker.wait_for("signal name=SIGTERM")
        ready, alive = probe.get("readyz"), probe.get("healthz")
        command = terminal.run("health", "--port", probe.port, "--ready")
        running = list(terminal.ran())
        terminal.write("release", "")
        code = worker.end()

    assert before == (200, {"ok": True, "engines": 1, "trusted": 1, "buckets": 10})
    assert ready == (503, {"ok": False, "why": "stopping: nothing new is started"})
    assert (alive[0], alive[1]["ok"], alive[1]["state"], alive[1]["engines"]) == (200, True, "stopping", 1)
    assert (command.returncode, "stopping" in command.stdout) == (1, True)
    assert (running, code) == (["began 1"], 0)
    assert terminal.ran() == ["began 1", "ended 1"]


def test_while_the_app_is_imported_it_is_alive_and_not_ready(terminal: Terminal) -> None:
    slow = "import time, os\nwhile not os.path.exists('imported'): time.sleep(0.01)\n"
    terminal.write("shop.py", slow + (terminal.folder / "shop.py").read_text())

    with terminal.worker("-A", "shop", "--health-port", "0") as worker:
        probe = Probe(worker.wait_for("/healthz\n"))
        alive, ready = probe.get("healthz"), probe.get("readyz")
        terminal.write("imported", "")
        worker.ready()
        after = probe.get("readyz")

    assert alive == (200, {"ok": True, "state": "starting"})
    assert (ready[0], str(ready[1]["why"]).partition(":")[0]) == (503, "starting")
    assert after[0] == 200


@pytest.mark.backend("postgresql")
@pytest.mark.parametrize("way", ["gone", "frozen"])
def test_a_master_that_goes_away_makes_it_unready_and_never_dead(
    terminal: Terminal, postgres_database: str, way: str
) -> None:
    with FaultProxy(postgres_database) as proxy:
        master = proxy.dsn(postgres_database)
        with probed(terminal, JOBMASTER_MASTER=master, **FAST) as (_, probe):
            if way == "gone":
                proxy.refuse()
                proxy.cut_all()
            else:
                proxy.stall()
            terminal.until(lambda: probe.get("readyz")[0] == 503, "it is not ready")
            ready, alive = probe.get("readyz"), probe.get("healthz")
            proxy.resume()
            proxy.accept()
            terminal.until(lambda: probe.get("readyz")[0] == 200, "it is ready again")

    assert any(part in str(ready[1]["why"]) for part in ("does not answer", "no answer within", "no lease"))
    assert "postgresql" not in str(ready)
    assert (alive[0], alive[1]["ok"]) == (200, True)


def test_an_engine_that_is_frozen_loses_its_readiness_with_its_lease(terminal: Terminal) -> None:
    with probed(terminal, **FAST) as (worker, probe):
        (engine,) = psutil.Process(worker.process.pid).children()
        os.kill(engine.pid, signal.SIGSTOP)
        try:
            terminal.until(lambda: probe.get("readyz")[0] == 503, "it is not ready")
            ready, alive = probe.get("readyz"), probe.get("healthz")
        finally:
            os.kill(engine.pid, signal.SIGCONT)
        terminal.until(lambda: probe.get("readyz")[0] == 200, "it is ready again")

    assert "1 of 1 engines has no lease" in str(ready[1]["why"])
    assert alive[0] == 200


def test_a_paused_worker_says_so(terminal: Terminal) -> None:
    with probed(terminal, **OFTEN) as (_, probe):
        terminal.json("workers", "pause", "alpha", "--timeout", "30")
        terminal.until(lambda: probe.get("readyz")[0] == 503, "it is not ready")
        paused = probe.get("readyz")
        ready = ("-A", "shop", "health", "--ready")
        terminal.until(lambda: terminal.run(*ready).returncode == 1, "its next renewal tells the others")
        cluster = terminal.run("-A", "shop", "health"), terminal.run(*ready)
        terminal.json("workers", "resume", "alpha", "--timeout", "30")
        terminal.until(lambda: probe.get("readyz")[0] == 200, "it is ready again")

    assert "jobmaster workers resume" in str(paused[1]["why"])
    assert [one.returncode for one in cluster] == [0, 1]
    assert "not paused" in cluster[1].stdout


def test_three_hundred_probes_cost_little_and_touch_no_store(terminal: Terminal) -> None:
    with probed(terminal) as (worker, probe):
        supervisor = psutil.Process(worker.process.pid)
        before = supervisor.cpu_times()
        for _ in range(150):
            assert probe.get("healthz")[0] == 200
            assert probe.get("readyz")[0] == 200
        after = supervisor.cpu_times()

    spent = after.user + after.system - before.user - before.system
    assert spent / 300 < 0.003, f"{spent / 300 * 1e6:.0f} µs of processor time a probe"


def test_the_readiness_of_a_cluster_needs_workers_for_every_lane(terminal: Terminal) -> None:
    terminal.enqueue("shop.hello", name="J")
    nobody = terminal.json("health", "--ready", code=1)
    with terminal.worker("-A", "shop", "-Q", "default", **OFTEN) as worker:
        worker.ready()
        terminal.until(lambda: terminal.run("-A", "shop", "health").returncode == 0, "it is well")
        half = terminal.json("health", "--ready", code=1)
    with terminal.worker("-A", "shop", **OFTEN) as worker:
        worker.ready()
        terminal.until(lambda: terminal.run("-A", "shop", "health", "--ready").returncode == 0, "it is ready")

    assert nobody["why"] == "no worker that runs jobs lives"
    assert half["why"] == "no worker that owns buckets and is not paused serves mail"


def test_nobody_answers_is_three(terminal: Terminal) -> None:
    dsn = "postgresql://shop@127.0.0.1:1/shop"

    codes = [
        terminal.run("-A", "shop", "health", *more, JOBMASTER_MASTER=dsn).returncode
        for more in ([], ["--ready"], ["--port", "1"], ["--json"])
    ]

    assert codes == [3, 3, 3, 3]


def test_a_probe_ends_within_its_timeout_where_the_supervisor_stands_still(terminal: Terminal) -> None:
    """It cannot say so itself: whoever asks hears nothing, which means the same."""
    with probed(terminal) as (worker, probe):
        os.kill(worker.process.pid, signal.SIGSTOP)
        try:
            began = time.monotonic()
            done = terminal.run("health", "--port", probe.port, "--timeout", "0.5")
            took = time.monotonic() - began
        finally:
            os.kill(worker.process.pid, signal.SIGCONT)

    assert done.returncode == 3
    assert "timed out" in done.stderr
    assert took < 20
