"""What a run took place on, and what processes used of it."""

from __future__ import annotations

import contextlib
import importlib.metadata
import os
import platform
import subprocess
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import psutil

PACKAGES = (
    "jobmaster", "celery", "dramatiq", "procrastinate", "pgqueuer", "rq", "taskiq", "taskiq-nats", "taskiq-redis",
    "asyncpg", "psycopg", "uvloop", "redis", "nats-py",
)  # fmt: skip


def hardware() -> dict[str, object]:
    """Processor, cores, memory, kernel."""
    model = "unknown"
    with contextlib.suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        model = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), model)
    return {
        "processor": model,
        "cores": os.cpu_count(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
    }


def versions() -> dict[str, str]:
    """Of the packages that took part, as installed."""
    found = {}
    for name in PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    return found


def commit(folder: Path) -> str:
    """The commit that was measured, and "+" if files differ from it."""
    try:
        head = _git(folder, "rev-parse", "--short=12", "HEAD")
        return head + (
            "+"
            if _git(folder, "status", "--porcelain", "--", "jobmaster", "benchmarks", ":!benchmarks/results")
            else ""
        )
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def _git(folder: Path, *arguments: str) -> str:
    command = ["git", "-C", str(folder), *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def busy() -> float:
    """Seconds that all cores together have worked since the machine started."""
    times = psutil.cpu_times()
    return float(times.user + times.nice + times.system + times.irq + times.softirq + times.steal)


def await_quiet(*, cores: float = 0.3, at_most: float = 5.0) -> None:
    """Wait until the whole machine uses less than `cores`, but not longer than `at_most` seconds."""
    until = time.monotonic() + at_most
    while time.monotonic() < until:
        before, begun = busy(), time.monotonic()
        time.sleep(0.3)
        if (busy() - before) / (time.monotonic() - begun) < cores:
            return


def trees(pids: Iterable[int]) -> list[psutil.Process]:
    """These processes and all that descend from them."""
    found = []
    for pid in pids:
        with contextlib.suppress(psutil.Error):
            top = psutil.Process(pid)
            found += [top, *top.children(recursive=True)]
    return found


def used(pids: Iterable[int]) -> float:
    """Seconds of processor time of these trees, those of children that have ended included."""
    total = 0.0
    for process in trees(pids):
        with contextlib.suppress(psutil.Error):
            times = process.cpu_times()
            total += times.user + times.system + times.children_user + times.children_system
    return total


@dataclass(frozen=True, slots=True)
class Reading:
    """Seconds since a meter was made: of the clock, and of processor time."""

    wall_s: float
    servers_s: float
    workers_s: float
    elsewhere_s: float


class Meter:
    """Splits processor time between the servers, the workers and all other programs of the machine, from now on."""

    def __init__(self, *, servers: Iterable[int], workers: Iterable[int]) -> None:
        self._servers, self._workers = list(servers), list(workers)
        self._begun = self._now()

    def read(self) -> Reading:
        wall, servers, workers, others = (now - then for now, then in zip(self._now(), self._begun, strict=True))
        return Reading(wall, servers, workers, max(0.0, others - servers - workers))

    def _now(self) -> tuple[float, float, float, float]:
        return time.monotonic(), used(self._servers), used(self._workers), busy() - time.process_time()


def memory_mb(pids: Iterable[int]) -> list[dict[str, float]]:
    """RSS and PSS of each process of these trees, the oldest first."""
    found = []
    for process in trees(pids):
        with contextlib.suppress(psutil.Error):
            memory = process.memory_full_info()
            found.append({"rss": memory.rss / 1e6, "pss": memory.pss / 1e6})
    return found
