"""Measures what is promised about one machine and one SQLite file. See README.md beside this file."""

from __future__ import annotations

import argparse
import json
import os
import platform
import signal
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Self

import psutil

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent


def median_of(values: list[float], share: float = 0.5) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]


class Stage:
    """A folder, its database, a side log, and the worker of one measurement."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="jobmaster-promises-"))
        self.log = self.folder / "side.log"
        self.environment = {
            **os.environ,
            "PROMISES_MASTER": f"sqlite:///{self.folder}/promises.db",
            "PROMISES_LOG": str(self.log),
            "PYTHONPATH": f"{ROOT}:{HERE}",
        }
        self.worker: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.worker is not None:
            self.worker.send_signal(signal.SIGTERM)
            assert self.worker.wait(40) == 0

    def start_worker(self, *arguments: str) -> float:
        """Start `jobmaster worker`; seconds until it is ready."""
        begun = time.monotonic()
        output = self.folder / "worker.log"
        with output.open("wb") as file:
            self.worker = subprocess.Popen(
                [sys.executable, "-m", "jobmaster.cli", "worker", "-A", "promises_app", *arguments],
                cwd=self.folder, env=self.environment, stdout=file, stderr=subprocess.STDOUT,
            )  # fmt: skip
        while "worker_ready" not in output.read_text():
            assert self.worker.poll() is None, output.read_text()
            time.sleep(0.005)
        return time.monotonic() - begun

    def produce(self, program: str) -> str:
        """Run a producer process; what it printed."""
        return subprocess.run(
            [sys.executable, "-c", "import time, threading\nfrom promises_app import *\n" + program],
            cwd=self.folder, env=self.environment, check=True, capture_output=True, text=True,
        ).stdout  # fmt: skip

    def noted(self, word: str) -> list[list[str]]:
        lines = self.log.read_text().splitlines() if self.log.exists() else []
        return [line.split()[1:] for line in lines if line.startswith(word + " ")]

    def wait_until(self, count: int, word: str, seconds: float = 60) -> None:
        deadline = time.monotonic() + seconds
        while len(self.noted(word)) < count:
            assert time.monotonic() < deadline, f"only {len(self.noted(word))} of {count} {word}"
            time.sleep(0.02)


def start_latency() -> dict[str, float]:
    with Stage() as stage:
        stage.start_worker()
        stage.produce("for _ in range(20): nothing.delay().get(timeout=5)")
        stage.produce("for _ in range(500):\n started.delay(sent=time.time())\n time.sleep(0.02)")
        stage.wait_until(500, "started")
        values = [float(fields[0]) * 1e3 for fields in stage.noted("started")]
        took = stage.produce(
            "times = []\n"
            "for _ in range(300):\n t = time.perf_counter(); nothing.delay().get(timeout=5); "
            "times.append(time.perf_counter() - t)\nprint(*times)"
        )
        results = [float(field) * 1e3 for field in took.split()]
    return {
        "start_p50_ms": median_of(values),
        "start_p99_ms": median_of(values, 0.99),
        "result_p50_ms": median_of(results),
        "result_p99_ms": median_of(results, 0.99),
    }


def lateness() -> dict[str, float]:
    with Stage() as stage:
        stage.start_worker()
        # The first call opens the store; it is not what is measured.
        stage.produce(
            "nothing.delay()\n"
            "for _ in range(20):\n due.options(delay=2).delay(moment=time.time() + 2)\n time.sleep(0.1)"
        )
        stage.wait_until(20, "late")
        values = [float(fields[0]) * 1e3 for fields in stage.noted("late")]
    return {"late_p50_ms": median_of(values), "late_max_ms": max(values), "early_max_ms": max(0.0, -min(values))}


def shares() -> dict[str, float]:
    with Stage() as stage:
        stage.produce(
            "for level in range(1, 6):\n"
            "    jm.enqueue_many([share.options(priority=level).job(level=level) for _ in range(4000)])"
        )
        stage.start_worker("-c", "4")
        stage.wait_until(100, "share")
        time.sleep(10)
        rows = stage.noted("share")
        assert stage.worker is not None
        counted = Counter(int(level) for level, _ in rows)
        stage.worker.send_signal(signal.SIGTERM)
    total = sum(counted.values())
    return {f"share_{level}_percent": 100 * counted[level] / total for level in range(1, 6)} | {"share_jobs": total}


def very_low_wait() -> dict[str, float]:
    with Stage() as stage:
        stage.produce("jm.enqueue_many([share.options(priority=5).job(level=5) for _ in range(9000)])")
        stage.start_worker("-c", "4")
        stage.wait_until(200, "share")
        sent = float(stage.produce("print(time.time()); share.options(priority=1).delay(level=1)"))
        deadline = time.monotonic() + 30
        while not (low := [row for row in stage.noted("share") if row[0] == "1"]) and time.monotonic() < deadline:
            time.sleep(0.02)
        assert len(stage.noted("share")) < 9000, "the critical jobs ended too early"
    return {"very_low_wait_s": float(low[0][1]) - sent}


def idle() -> dict[str, float]:
    with Stage() as stage:
        ready = stage.start_worker()
        stage.produce("nothing.delay().get(timeout=5)")
        time.sleep(5)
        assert stage.worker is not None
        top = psutil.Process(stage.worker.pid)
        tree = [top, *top.children(recursive=True)]

        def used() -> float:
            return sum(sum(process.cpu_times()[:2]) for process in tree)

        before, begun = used(), time.monotonic()
        time.sleep(20)
        share = (used() - before) / (time.monotonic() - begun) * 100
        memory = [process.memory_info().rss / 1e6 for process in tree]
    return {"idle_percent": share, "ready_s": ready, "supervisor_mb": memory[0], "engine_mb": max(memory[1:])}


def drain(count: int = 20_000) -> dict[str, float]:
    with Stage() as stage:
        stage.produce(f"for _ in range({count} // 500): jm.enqueue_many([nothing.job() for _ in range(500)])")
        database = sqlite3.connect(f"{stage.folder}/promises.db")
        begun = time.monotonic()
        stage.start_worker()
        ready = time.monotonic()
        while database.execute("SELECT count(*) FROM jm_job WHERE status = 5").fetchone()[0] < count:
            time.sleep(0.02)
        ended = time.monotonic()
        database.close()
    return {"drain_per_s": count / (ended - begun), "drain_after_ready_per_s": count / max(ended - ready, 1e-9)}


def enqueue() -> dict[str, float]:
    with Stage() as stage:
        one = stage.produce("nothing.delay()\nt = time.perf_counter()\nfor _ in range(1000): nothing.delay()\n"
                            "print(1000 / (time.perf_counter() - t))")  # fmt: skip
        eight = stage.produce(
            "nothing.delay()\ndef many():\n for _ in range(500): nothing.delay()\n"
            "threads = [threading.Thread(target=many) for _ in range(8)]\nt = time.perf_counter()\n"
            "[x.start() for x in threads]; [x.join() for x in threads]\nprint(4000 / (time.perf_counter() - t))"
        )
        raw = sqlite3.connect(stage.folder / "raw.db", isolation_level=None)
        raw.executescript(
            "pragma journal_mode=wal; pragma synchronous=full; create table t (id integer primary key, b blob)"
        )
        begun = time.perf_counter()
        for _ in range(1000):
            raw.execute("insert into t (b) values (zeroblob(160))")
        rate = 1000 / (time.perf_counter() - begun)
        raw.close()
    return {"delay_per_s": float(one), "delay_8_threads_per_s": float(eight), "raw_commits_per_s": rate}


def starts() -> dict[str, float]:
    def time_of(*command: str) -> float:
        times = []
        for _ in range(9):
            begun = time.perf_counter()
            subprocess.run([sys.executable, *command], check=True, capture_output=True, cwd=ROOT)
            times.append(time.perf_counter() - begun)
        return statistics.median(times) * 1e3

    bare = time_of("-c", "pass")
    return {
        "import_ms": time_of("-c", "import jobmaster") - bare,
        "help_ms": time_of("-m", "jobmaster.cli", "--help"),
        "python_ms": bare,
    }


MEASUREMENTS = (start_latency, lateness, shares, very_low_wait, idle, drain, enqueue, starts)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    parser.add_argument("--only", choices=[measure.__name__ for measure in MEASUREMENTS], action="append")
    arguments = parser.parse_args()
    figures: dict[str, object] = {"python": platform.python_version(), "cpus": os.cpu_count()}
    for measure in MEASUREMENTS:
        if arguments.only and measure.__name__ not in arguments.only:
            continue
        for name, value in measure().items():
            figures[name] = round(value, 3)
            print(f"{name:28} {value:12.3f}", flush=True)
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    main()
