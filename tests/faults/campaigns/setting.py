"""What all campaigns share: a store, worker trees, producers at a rate, and a side log that is read as it grows."""

from __future__ import annotations

import argparse
import json
import os
import signal
import statistics
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.faults import wording
from tests.faults.campaigns.streams import Streams
from tests.faults.places import PostgresPlace, SqlitePlace
from tests.faults.real_cluster import RealCluster, Worker
from tests.faults.side_log import Line, lines_of
from tests.servers.postgres import PostgresServer

FINAL = {5, 7, 8}


def arguments(description: str, *, number: int, **options: float) -> argparse.Namespace:
    """The command line of a campaign."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--store", choices=["sqlite", "postgresql"], required=True)
    parser.add_argument("--number", type=int, default=number)
    parser.add_argument("--keep", action="store_true", help="leave the folder with the logs")
    for name, default in options.items():
        parser.add_argument(f"--{name}", type=type(default), default=default)
    return parser.parse_args()


class Campaign:
    """One cluster under faults, on a durable store and with JobMaster's defaults.

    Attributes:
        server: the PostgreSQL server; None on SQLite.
    """

    def __init__(self, cluster: RealCluster, server: PostgresServer | None, store: str) -> None:
        self.cluster = cluster
        self.server = server
        self.store = store
        self.log = SideLog(cluster.side_log)
        self.struck: Counter[str] = Counter()
        self.streams = Streams(cluster)
        self._begun = time.monotonic()

    def tell(self, text: str) -> None:
        """A line for whoever waits: how far it is."""
        print(f"  {time.monotonic() - self._begun:6.0f} s  {text}", flush=True)

    def until(self, condition: object, *, timeout: float, every: float = 0.1, what: str = "") -> float:
        """Look until it holds; the seconds that it took."""
        begun = time.monotonic()
        while not condition():  # type: ignore[operator]
            if time.monotonic() - begun > timeout:
                found = f"{self.streams.state()}, {len(self.log.running)} run"
                raise TimeoutError(f"waited {timeout} s in vain for {what}; {self.cluster.state()[-6000:]}\n{found}")
            time.sleep(every)
        return time.monotonic() - begun

    def count(self, statement: str) -> int:
        """The first number that a statement answers."""
        (row,) = self.cluster.place.rows(f"SELECT '', n FROM (SELECT ({statement}) AS n) AS counted")
        return int(row[1])

    def waiting(self) -> int:
        """Jobs that are not final, roughly."""
        return self.count("SELECT count(*) FROM jm_message")

    def unfinished(self, accepted: Iterable[str]) -> set[str]:
        """Those of them that have not become final. (Rows may be gone: retention is at work, too.)"""
        return set(accepted) - self.cluster.audit().keys()

    def judge(self, *, allowed: Sequence[int] = (5,), timeout: float = 300) -> dict[str, object]:
        """Wait until all that was accepted is final; nothing may be lost, or decided twice."""
        accepted = self.streams.accepted()
        self.tell(f"{len(accepted):,} jobs were accepted from producers; waiting until each of them is final")
        # First the cheap question, then the exact one.
        self.until(lambda: self.waiting() == 0, timeout=timeout, every=1.0, what="an empty backlog")
        self.until(lambda: not self.unfinished(accepted), timeout=timeout, every=2.0, what="final rows")
        moves = self.cluster.audit()
        became = {job: steps[-1][1] for job, steps in moves.items()}
        doubled = [job for job, steps in moves.items() if len(steps) != 1]
        wrong = Counter(became[job] for job in accepted if became[job] not in allowed)
        self.log.read()
        ended = Counter(line.job for line in self.log.lines if line.event == "end")
        silent = [job for job in accepted if became[job] == 5 and not ended[job]]
        assert not doubled, f"{len(doubled)} decided twice: {[(job, moves[job]) for job in doubled[:5]]}"
        assert not wrong, f"ended otherwise than allowed: {wrong}"
        assert not silent, f"{len(silent)} succeeded without having run: {silent[:5]}"
        return {
            "store": self.store,
            "struck": dict(self.struck),
            "accepted": len(accepted),
            "refused": dict(self.streams.refused()),
            "jobs": len(moves),
            "lost": 0,
            "doubled": 0,
            "extra_runs": sum(count - 1 for count in ended.values()),
        }


class SideLog:
    """The side log, read as it grows."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._at = 0
        self.lines: list[Line] = []
        self.running: dict[tuple[str, int], Line] = {}
        """Runs that began and have not ended, by job and process."""

    def read(self) -> list[Line]:
        """What is new."""
        if not self._path.exists():
            return []
        with self._path.open("rb") as file:
            file.seek(self._at)
            data = file.read()
        whole = data.rpartition(b"\n")[0]
        self._at += len(whole) + 1 if whole else 0
        new = lines_of(data.decode())
        for line in new:
            if line.event == "start":
                self.running[line.job, line.pid] = line
            else:
                self.running.pop((line.job, line.pid), None)
        self.lines += new
        return new

    def running_in(self, processes: set[int]) -> set[str]:
        """The jobs that run in these processes, as far as the log says."""
        self.read()
        return {job for job, pid in self.running if pid in processes}

    def still_running(self, jobs: set[str]) -> set[str]:
        """Those of the jobs that run."""
        self.read()
        return jobs & {job for job, _ in self.running}

    def forget(self, processes: set[int]) -> None:
        """These processes are dead."""
        self.running = {key: line for key, line in self.running.items() if key[1] not in processes}


@contextmanager
def campaign(store: str, *, keep: bool = False, **environment: str) -> Iterator[Campaign]:
    """A new cluster on a durable store."""
    with _folder(keep=keep) as folder:
        server = PostgresServer(durable=True).start() if store == "postgresql" else None
        place = PostgresPlace(server.create_database("faults")) if server else SqlitePlace(folder)
        cluster = RealCluster(folder, place)
        for name in ("JOBMASTER_LEASE", "JOBMASTER_RENEW_EVERY"):
            cluster.environment.pop(name, None)
        cluster.environment.update(environment)
        try:
            cluster.provision()
            yield Campaign(cluster, server, store)
        finally:
            cluster.close()
            if server is not None:
                server.stop()


@contextmanager
def _folder(*, keep: bool) -> Iterator[Path]:
    if keep:
        folder = Path(tempfile.mkdtemp(prefix="campaign-"))
        print(f"  logs, the side log and the ids that were accepted: {folder}", flush=True)
        yield folder
        return
    with tempfile.TemporaryDirectory(prefix="campaign-") as name:
        yield Path(name)


def kill_engine(worker: Worker) -> set[int]:
    """SIGKILL for one engine of a tree; its process id."""
    engine = worker.engine()
    engine.send_signal(signal.SIGKILL)
    return {engine.pid}


def spread(values: Sequence[float]) -> dict[str, float]:
    """p50, p99 and the worst."""
    if not values:
        return {}
    ordered = sorted(values)
    return {
        "n": len(ordered),
        "p50": round(statistics.median(ordered), 3),
        "p99": round(ordered[min(len(ordered) - 1, int(len(ordered) * 0.99))], 3),
        "max": round(ordered[-1], 3),
    }


def publish(name: str, told: Mapping[str, object], *, targets: Mapping[str, bool]) -> None:
    """Print the result, and keep it where FAULTS_SCORES says.

    Args:
        targets: in words what the figures were to be, and whether they are. What must never be was asserted before.
    """
    line = {"campaign": name, **told, "missed": [words for words, is_met in targets.items() if not is_met]}
    print(wording.told(line), flush=True)
    if place := os.environ.get("FAULTS_SCORES"):
        with Path(place).open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
