"""Real worker trees and producers on one database, and what the side log says afterwards."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import psutil

from tests.faults.places import Place

ROOT = Path(__file__).resolve().parents[2]
APP = "tests.faults.workload_app:jm"


class Line(NamedTuple):
    """One line of the side log."""

    event: str
    job: str
    attempt: int
    pid: int
    at: float


class Worker:
    """One `jobmaster worker` tree."""

    def __init__(self, process: subprocess.Popen[bytes], log: Path) -> None:
        self.process = process
        self.log = log

    def tree(self) -> list[psutil.Process]:
        """The supervisor and everything below it."""
        with contextlib.suppress(psutil.NoSuchProcess):
            top = psutil.Process(self.process.pid)
            return [top, *top.children(recursive=True)]
        return []

    def engine(self) -> psutil.Process:
        """The (first) engine process."""
        return psutil.Process(self.process.pid).children()[0]

    def kill_tree(self) -> None:
        """SIGKILL for all of it, supervisor first, as a host that vanishes."""
        tree = self.tree()
        for process in tree:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.send_signal(signal.SIGKILL)
        psutil.wait_procs(tree, timeout=10)
        self.process.wait(10)

    def terminate(self, *, timeout: float = 40) -> int:
        """SIGTERM to the supervisor; its exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout)

    def text(self) -> str:
        """What it wrote so far."""
        return self.log.read_text(errors="replace")


class Producer:
    """A producer process and the ids that it got back."""

    def __init__(self, process: subprocess.Popen[bytes], output: Path) -> None:
        self.process = process
        self.output = output

    def finished(self, *, timeout: float = 60) -> list[str]:
        """Wait for its end; the ids that were accepted."""
        assert self.process.wait(timeout) == 0, self.output.read_text()
        return self.output.read_text().split()


class RealCluster:
    """A database, a folder with a side log, and worker trees."""

    def __init__(self, folder: Path, place: Place) -> None:
        self.folder = folder
        self.place = place
        self.side_log = folder / "runs.log"
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("JOBMASTER_")},
            "FAULTS_MASTER": place.url,
            "FAULTS_LOG": str(self.side_log),
            "PYTHONPATH": str(ROOT),
            "JOBMASTER_LEASE": "1",
            "JOBMASTER_RENEW_EVERY": "0.3",
        }
        self.workers: list[Worker] = []
        self.producers: list[Producer] = []

    def start_worker(self, *arguments: str, name: str | None = None) -> Worker:
        """`jobmaster worker -A …`, as users start it; returns once it is ready."""
        log = self.folder / f"worker-{len(self.workers)}.log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                [
                    sys.executable,
                    "-m",
                    "jobmaster.cli",
                    "worker",
                    "-A",
                    APP,
                    *(("-n", name) if name else ()),
                    *arguments,
                ],
                cwd=self.folder,
                env=self.environment,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        worker = Worker(process, log)
        self.workers.append(worker)
        wait_for(lambda: "worker_ready" in worker.text() or process.poll() is not None, what=worker.text)
        assert process.poll() is None, worker.text()
        return worker

    def producer(self, program: str) -> Producer:
        """A producer process that runs `program` with the app imported as `app`, and prints accepted ids."""
        output = self.folder / f"accepted-{len(self.producers)}.txt"
        with output.open("wb") as file:  # a file, not a pipe: nobody has to read along
            process = subprocess.Popen(
                [sys.executable, "-u", "-c", "import tests.faults.workload_app as app, sys, time\n" + program],
                cwd=self.folder,
                env=self.environment,
                stdout=file,
            )
        self.producers.append(Producer(process, output))
        return self.producers[-1]

    def produce(self, program: str, *, timeout: float = 60) -> list[str]:
        """Run a producer to its end; the lines that it printed."""
        return self.producer(program).finished(timeout=timeout)

    def provision(self) -> None:
        """Make the database, and watch every final status from here on."""
        self.produce("app.jm.jobs.count()")
        self.place.watch()

    def arm(self, points: str) -> None:
        """Crash points (`jobmaster.crash_points`) for processes that start from now on; "" disarms."""
        strikes = self.folder / "strikes"
        strikes.mkdir(exist_ok=True)
        self.environment |= {"JOBMASTER_CRASH_POINTS": points, "JOBMASTER_CRASH_FOLDER": str(strikes)}

    def strikes(self, point: str = "") -> list[int]:
        """The processes that were struck (at this point), in no order."""
        found = (self.folder / "strikes").glob(f"{point}*")
        return [int(text) for file in found if (text := file.read_text())]

    def statuses(self) -> dict[str, tuple[int, str]]:
        """Status and reason by job id, of all rows."""
        return {
            job: (status, reason) for job, status, reason in self.place.rows("SELECT id, status, reason FROM jm_job")
        }

    def audit(self) -> dict[str, list[tuple[int | None, int]]]:
        """Every step into, out of, or within the final statuses, by job."""
        moves = defaultdict(list)
        for job, was, became in self.place.rows("SELECT job_id, was, became FROM test_audit"):
            moves[job].append((was, became))
        return moves

    def state(self) -> str:
        """What somebody wants to know who waits in vain."""
        producers = [(one.process.poll(), one.output.read_text().count("\n")) for one in self.producers]
        statuses = Counter(status for status, _ in self.statuses().values())
        buckets = self.place.rows("SELECT token, status, owner, epoch, depth FROM jm_bucket")
        logs = "\n".join(worker.text()[-1000:] for worker in self.workers[-2:])
        return f"{logs}\nproducers {producers}, runs {len(self.lines())}, jobs {statuses}, buckets {buckets}"

    def lines(self) -> list[Line]:
        """The side log."""
        if not self.side_log.exists():
            return []
        lines = []
        # What is read may end in the middle of a line that is being written.
        for text in self.side_log.read_text().rpartition("\n")[0].splitlines():
            event, job, attempt, pid, at = text.split()
            lines.append(Line(event, job, int(attempt), int(pid), float(at)))
        return lines

    def close(self) -> None:
        """End everything that is left."""
        for producer in self.producers:
            if producer.process.poll() is None:
                producer.process.kill()
                producer.process.wait(10)
        for worker in self.workers:
            if worker.process.poll() is None:
                worker.kill_tree()
        self.place.close()


def wait_for(condition: Callable[[], object], *, timeout: float = 30, what: Callable[[], str] = str) -> float:
    """Look until the condition holds; the seconds that it took."""
    begun = time.monotonic()
    while not condition():
        if time.monotonic() - begun > timeout:
            raise TimeoutError(f"waited {timeout} s in vain; {what()[-4000:]}")
        time.sleep(0.01)
    return time.monotonic() - begun
