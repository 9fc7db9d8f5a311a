"""Runs drivers and workers of contestants, each in processes of their own, and watches them."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Self

import psutil
import psycopg
from compare import machine
from compare.contestants import Contestant
from compare.servers import Servers
from peers import slots

HERE = Path(__file__).resolve().parent
PEERS = HERE.parent / "peers"
ROOT = HERE.parent.parent
STUCK_S = 20
"""A worker that starts no job for so long has failed."""


class FailedError(Exception):
    """A contestant did not do what it was asked for; the text is what it wrote."""


class Worker:
    """A running worker of a contestant, with all its processes."""

    def __init__(self, process: subprocess.Popen[bytes], log: Path) -> None:
        self.process = process
        self.log = log
        self.begun = time.monotonic()

    @property
    def pid(self) -> int:
        return self.process.pid

    def check(self) -> None:
        if self.process.poll() is not None:
            raise FailedError(f"the worker ended with {self.process.returncode}: {self.tail()}")

    def tail(self) -> str:
        return self.log.read_text(errors="replace")[-2000:]

    def stop(self, seconds: float = 10) -> None:
        """SIGTERM; what is left after `seconds` is killed."""
        tree = machine.trees([self.pid])
        with contextlib.suppress(ProcessLookupError):
            self.process.send_signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(seconds)
        for process in tree:
            with contextlib.suppress(psutil.Error):
                process.kill()
        self.process.wait()


class Stage:
    """One contestant on its own empty database, with a folder for what its jobs note."""

    def __init__(
        self, servers: Servers, contestant: Contestant, *, environment: Mapping[str, str] | None = None
    ) -> None:
        self.servers = servers
        self.contestant = contestant
        self.folder = Path(tempfile.mkdtemp(prefix=f"{contestant.name}-", dir=servers.disk.folder))
        self.slots = self.folder / "slots"
        self.slots.mkdir()
        self.database = "bench_" + contestant.driver
        self.address = servers.postgres.dsn(self.database)
        if "sqlite" in contestant.needs:
            self.address = f"sqlite:///{self.folder}/bench.db"
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        preload = servers.disk.environment if "sqlite" in contestant.needs else {}
        self.environment = {
            **os.environ, **servers.addresses(self.database), **preload,
            "PATH": path, "PYTHONPATH": str(PEERS), "BENCH_SLOTS": str(self.slots), "BENCH_MASTER": self.address,
            **contestant.environment, **(environment or {}),
        }  # fmt: skip

    def __enter__(self) -> Self:
        if "postgres" in self.contestant.needs:
            self.servers.fresh_database(self.database)
        self.command("reset")
        return self

    def __exit__(self, *_: object) -> None:
        for file in self.folder.rglob("*"):
            if file.is_file():
                file.unlink()

    def command(self, *words: object, environment: Mapping[str, str] | None = None, timeout: float = 600) -> Any:
        """Let the driver do something, and wait; its answer."""
        done = subprocess.run(
            [sys.executable, f"{self.contestant.driver}.py", *map(str, words)],
            cwd=PEERS, env={**self.environment, **(environment or {})}, capture_output=True, text=True,
            check=False, timeout=timeout,
        )  # fmt: skip
        if done.returncode:
            raise FailedError(f"{self.contestant.name} {words[0]} ended with {done.returncode}: {done.stderr[-2000:]}")
        return json.loads(done.stdout.splitlines()[-1])

    @contextlib.contextmanager
    def worker(self, processes: int = 1, *, environment: Mapping[str, str] | None = None) -> Iterator[Worker]:
        """A worker, while the block runs."""
        for file in self.slots.iterdir():
            file.unlink()
        with self.second_worker(processes, environment=environment) as worker:
            yield worker

    @contextlib.contextmanager
    def second_worker(self, processes: int = 1, *, environment: Mapping[str, str] | None = None) -> Iterator[Worker]:
        """One more, whose runs are counted together with those of the first."""
        log = self.folder / f"worker-{time.monotonic_ns()}.log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                [sys.executable, f"{self.contestant.driver}.py", "worker", str(processes)],
                cwd=PEERS, env={**self.environment, **(environment or {})}, stdout=output, stderr=output,
                start_new_session=True,
            )  # fmt: skip
        worker = Worker(process, log)
        try:
            yield worker
        finally:
            worker.stop()

    def await_runs(self, worker: Worker, count: int) -> tuple[float, float]:
        """Wait until `count` jobs have started; the moments of the first and the last start."""
        seen, moved = 0, time.monotonic()
        while True:
            runs, first, last = slots.totals(self.slots)
            if runs >= count:
                return first, last
            if runs > seen:
                seen, moved = runs, time.monotonic()
            if time.monotonic() - moved > STUCK_S:
                raise FailedError(f"{self.contestant.name}: {runs} of {count} jobs started: {worker.tail()}")
            worker.check()
            time.sleep(0.005)

    def await_final(self, worker: Worker, count: int) -> float | None:
        """Wait until the database says that `count` jobs are final, looking every 2 ms; the moment, or None."""
        if self.contestant.final is None:
            return None
        until = time.monotonic() + STUCK_S
        with self.rows() as query:
            while query(self.contestant.final)[0][0] < count:
                if time.monotonic() > until:
                    raise FailedError(f"{self.contestant.name}: not all of {count} jobs became final: {worker.tail()}")
                time.sleep(0.002)
            return time.monotonic()

    @contextlib.contextmanager
    def rows(self) -> Iterator[Callable[[str], list[tuple[Any, ...]]]]:
        """A function that asks the contestant's database, on a connection of its own."""
        if "sqlite" in self.contestant.needs:
            with contextlib.closing(sqlite3.connect(self.folder / "bench.db", timeout=10)) as file:
                yield lambda statement: file.execute(statement).fetchall()
        else:
            with psycopg.connect(self.servers.postgres.dsn(self.database), autocommit=True) as connection:
                yield lambda statement: connection.execute(statement).fetchall()  # type: ignore[arg-type, call-overload]
