"""Real worker trees and producers on one database, and what the side log says afterwards."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable
from pathlib import Path

import psutil

from tests.faults import score
from tests.faults.places import Place
from tests.faults.score import Score
from tests.faults.side_log import Line, Strike, late_outcomes, lines_of, recoveries, runs_beyond_the_first

ROOT = Path(__file__).resolve().parents[2]
APP = "tests.faults.workload_app:jm"
FINAL = frozenset({5, 7, 8})
"""Succeeded, Failed, Cancelled."""
SUCCEEDED = 5

PATIENCE = 4 if score.DEFAULTS else 2
"""So many times as long as usual everything may take: on a slow machine, and even longer with the default lease."""

PATIENT = {"JOBMASTER_ACCEPT_TIMEOUT": "20"}
"""Calls wait for a busy machine."""
QUICK = {"JOBMASTER_LEASE": "1", "JOBMASTER_RENEW_EVERY": "0.3", **PATIENT}
"""The same, and leases that end soon."""

Struck = Callable[[str, Collection[int], float], None]


class Worker:
    """One `jobmaster worker` tree.

    Args:
        process: the supervisor.
        log: what it writes.
        struck: is told of each fault: its kind, the processes that it hit, and when.
    """

    def __init__(self, process: subprocess.Popen[bytes], log: Path, struck: Struck = lambda *_: None) -> None:
        self.process = process
        self.log = log
        self._struck = struck

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
        self._strike("kill of a tree", signal.SIGKILL)
        self.process.wait(10)

    def kill_engine(self) -> int:
        """SIGKILL for the (first) engine; its process id."""
        engine, at = self.engine(), time.time()
        engine.kill()
        self._struck("kill of an engine", [engine.pid], at)
        return engine.pid

    def freeze(self) -> None:
        """SIGSTOP for all of it, as a virtual machine that is moved."""
        self._strike("freeze of a tree", signal.SIGSTOP)

    def thaw(self) -> None:
        """SIGCONT for all of it."""
        self.signalled(signal.SIGCONT)

    def signalled(self, number: signal.Signals) -> list[int]:
        """A signal to every process, supervisor first; after SIGKILL they are gone. Their ids."""
        tree = self.tree()
        for process in tree:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.send_signal(number)
        if number == signal.SIGKILL:
            wait_for(lambda: not any(map(_lives, tree)), timeout=10)
        return [process.pid for process in tree]

    def _strike(self, kind: str, number: signal.Signals) -> None:
        at = time.time()
        self._struck(kind, self.signalled(number), at)

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
        assert self.process.wait(timeout * PATIENCE) == 0, self.output.read_text()
        return self.output.read_text().split()


class RealCluster:
    """A database, a folder with a side log, and worker trees.

    Args:
        folder: where logs and the output of producers go.
        place: the database.
        counts: what is counted; without it, the running test's own score.

    Attributes:
        score: what `judge` fills. A fault that no method here has made is told to `struck`.
    """

    def __init__(self, folder: Path, place: Place, *, counts: Score | None = None) -> None:
        self.folder = folder
        self.place = place
        self.score = counts or score.of_the_test()
        self.side_log = folder / "runs.log"
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("JOBMASTER_")},
            "FAULTS_MASTER": place.url,
            "FAULTS_LOG": str(self.side_log),
            "PYTHONPATH": str(ROOT),
            **({} if score.DEFAULTS else QUICK),
        }
        self.workers: list[Worker] = []
        self.producers: list[Producer] = []
        self._strikes: list[Strike] = []
        self._actions: dict[str, str] = {}
        self._counted: set[str] = set()

    def with_long_leases(self) -> None:
        """For tests in which no lease is to end: one of a second does so by itself where the machine stalls."""
        if not score.DEFAULTS:
            self.environment |= {"JOBMASTER_LEASE": "10", "JOBMASTER_RENEW_EVERY": "0.3"}

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
        worker = Worker(process, log, self.struck)
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
        if not self.place.is_made():
            own, self.environment = self.environment, {**self.environment, **PATIENT}
            self.produce("app.jm.jobs.count()")
            self.environment = own
        self.place.watch()

    def arm(self, points: str) -> None:
        """Crash points (`jobmaster.crash_points`) for processes that start from now on; "" disarms."""
        strikes = self.folder / "strikes"
        strikes.mkdir(exist_ok=True)
        self._actions |= re.findall(r"([a-z_.]+)=([a-z]+)", points)
        self.environment |= {"JOBMASTER_CRASH_POINTS": points, "JOBMASTER_CRASH_FOLDER": str(strikes)}

    def strikes(self, point: str = "") -> list[int]:
        """The processes that were struck (at this point), in no order."""
        found = (self.folder / "strikes").glob(f"{point}*")
        return [int(text) for file in found if (text := file.read_text())]

    def struck(self, kind: str, processes: Collection[int] = (), at: float | None = None) -> None:
        """A fault has hit these processes, now or at that time of day; what ran in them is to start again.

        The kind begins with what was done: kill, freeze, stop, lose, cut, ... (`side_log.Strike`).
        """
        self._strikes.append(Strike(kind, frozenset(processes), time.time() if at is None else at))

    def judge(
        self,
        accepted: Iterable[str],
        *,
        extra: int | None = 0,
        statuses: Collection[int] = frozenset({SUCCEEDED}),
        timeout: float = 30,
    ) -> None:
        """Wait until all accepted jobs are final, and say whether nothing was lost and everything decided once.

        Args:
            accepted: ids whose callers were told that the job is accepted.
            extra: at most so many runs beyond the first of each job; None: as many as there are.
            statuses: the final ones that they may have (5 Succeeded, 7 Failed, 8 Cancelled).
            timeout: seconds, times `PATIENCE`.
        """
        jobs = set(accepted)
        self.score.accepted += len(self._new(jobs))
        try:
            wait_for(lambda: not self._unfinished(jobs), timeout=timeout, what=self.state)
        finally:
            self.score.lost += len(self._unfinished(jobs))
        moves = self.audit()
        doubled = {job: steps for job, steps in moves.items() if len(steps) != 1 or steps[0][0] in FINAL}
        self.score.doubled += len(self._new(f"{job} doubled" for job in doubled))
        repeated = self._count_runs(jobs)
        assert not doubled, f"one step into a final status, and none out of it: {doubled}"
        unwatched = jobs - moves.keys()
        assert not unwatched, f"each final status was seen when it came: {unwatched}"
        ends = {job: end for job, end in self.statuses().items() if job in jobs}
        others = {job: end for job, end in ends.items() if end[0] not in statuses}
        assert not others, f"ended otherwise than in {set(statuses)}: {others}"
        ended = {line.job for line in self.lines() if line.event == "end"}
        silent = [job for job, (status, _) in ends.items() if status == SUCCEEDED and job not in ended]
        assert not silent, f"what succeeded has run to its end: {silent}"
        assert extra is None or repeated <= extra, f"{repeated} runs more than one of each job, {extra} are allowed"

    def _unfinished(self, jobs: set[str]) -> set[str]:
        return jobs - {job for job, (status, _) in self.statuses().items() if status in FINAL}

    def _count_runs(self, jobs: set[str]) -> int:
        """Fill the score with what side log and strikes say; how many runs of these jobs were not their first."""
        strikes = [*self._strikes, *self._at_crash_points()]
        for strike in strikes:
            if self._new([str(strike)]):
                self.score.struck(strike.kind)
        lines = [line for line in self.lines() if line.job in jobs]
        new = self._new(f"{job} counted" for job in jobs)
        counted = [line for line in lines if f"{line.job} counted" in new]
        self.score.extra_runs += runs_beyond_the_first(counted)
        self.score.late_refused += late_outcomes(counted, strikes)
        for seconds in recoveries(counted, strikes):
            self.score.recovered(seconds)
        return runs_beyond_the_first(lines)

    def _new(self, names: Iterable[str]) -> set[str]:
        """Those that were not counted yet: a test may judge more than once."""
        new = set(names) - self._counted
        self._counted |= new
        return new

    def _at_crash_points(self) -> list[Strike]:
        return [
            Strike(f"{self._actions[file.stem]} at {file.stem}", frozenset({int(text)}), file.stat().st_mtime)
            for file in (self.folder / "strikes").glob("*.*.*")
            if (text := file.read_text())
        ]

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
        return lines_of(self.side_log.read_text())

    def close(self) -> None:
        """End everything that is left."""
        for producer in self.producers:
            if producer.process.poll() is None:
                producer.process.kill()
                producer.process.wait(10)
        for worker in self.workers:
            if worker.process.poll() is None:
                worker.signalled(signal.SIGKILL)
                worker.process.wait(10)
        self.place.close()


def _lives(process: psutil.Process) -> bool:
    """Whether it is more than an entry that its new parent has not fetched yet, which may take a second or two."""
    try:
        return bool(process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def wait_for(condition: Callable[[], object], *, timeout: float = 30, what: Callable[[], str] = str) -> float:
    """Look until the condition holds; the seconds that it took. It waits `PATIENCE` times as long as it is told."""
    begun = looked = time.monotonic()
    while not condition():
        now = time.monotonic()
        if now - begun > timeout * PATIENCE:
            raise TimeoutError(f"waited {timeout * PATIENCE} s in vain; {what()[-4000:]}")
        # A condition that costs something is asked less often: the test must not be the load.
        time.sleep(max(0.01, min(0.5, 2 * (now - looked))))
        looked = time.monotonic()
    return time.monotonic() - begun
