"""A terminal in a user's project: commands as they are typed, workers as processes whose lines can be waited for."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

PROGRAM = str(Path(sys.executable).with_name("jobmaster"))
PATIENCE = 60.0
"""Seconds that a command may take, or something that is waited for: other tests run at the same time."""

APP = """
import os, threading, time
from jobmaster import JobMaster

jm = JobMaster("shop")
HERE = os.path.dirname(__file__)

def note(text):
    with open(os.path.join(HERE, "ran.txt"), "a") as file:
        file.write(text + "\\n")

@jm.task
def hello(name: str) -> str:
    note(f"hello {name}")
    return f"Hello {name}"

@jm.task(lane="mail", max_retries=0)
async def mail(order_id: int) -> int:
    return order_id

@jm.task(max_retries=0)
def broken() -> None:
    raise ValueError("no stock left")

@jm.task(max_retries=0)
def until_released(n: int) -> int:
    note(f"began {n}")
    while not os.path.exists(os.path.join(HERE, "release")):
        time.sleep(0.01)
    note(f"ended {n}")
    return n
"""


class WorkerProcess:
    """`jobmaster worker` as a process; its output is collected by a thread."""

    def __init__(self, arguments: list[str], folder: Path, environment: dict[str, str]) -> None:
        self.process = subprocess.Popen(
            [PROGRAM, "worker", *arguments],
            cwd=folder,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        self._lines: list[str] = []
        self._news = threading.Condition()
        self._ended = False
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    @property
    def output(self) -> str:
        """Everything that it has written so far."""
        with self._news:
            return "".join(self._lines)

    def wait_for(self, part: str, *, times: int = 1) -> str:
        """The output, once `part` stands in it so many times. Fails where it ends before."""
        deadline = time.monotonic() + PATIENCE
        with self._news:
            while (text := "".join(self._lines)).count(part) < times:
                left = deadline - time.monotonic()
                assert not self._ended, f"it ended, and {part!r} had not come {times} times:\n{text}"
                assert left > 0, f"{part!r} did not come {times} times in time:\n{text}"
                self._news.wait(left)
        return text

    def ready(self) -> str:
        """The output, once the banner is there."""
        return self.wait_for("Ctrl-C stops gracefully")

    def signal(self, number: signal.Signals = signal.SIGTERM) -> None:
        self.process.send_signal(number)

    def signal_all(self, number: signal.Signals) -> None:
        """What a terminal does: the signal reaches the supervisor and all its engines."""
        os.killpg(self.process.pid, number)

    def end(self, timeout: float = PATIENCE) -> int:
        """Wait for the end; the exit code."""
        code = self.process.wait(timeout)
        self._reader.join(timeout)
        return code

    def close(self) -> None:
        """Leave nothing behind, whatever the test did."""
        if self.process.poll() is None:
            self.process.kill()  # its engines die with it
        self.process.wait(PATIENCE)
        self._reader.join(PATIENCE)
        if self.process.stdout is not None:
            self.process.stdout.close()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            with self._news:
                self._lines.append(line)
                self._news.notify_all()
        with self._news:
            self._ended = True
            self._news.notify_all()


class Terminal:
    """A folder with an app `shop.py`, and a shell in it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        # A busy machine is no store that does not answer.
        self.environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1", "JOBMASTER_ACCEPT_TIMEOUT": "30"}
        self.environment.pop("COLUMNS", None)  # what a test runner says of itself
        self.write("shop.py", APP)

    def write(self, name: str, text: str) -> Path:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        return path

    def run(self, *arguments: str, input: str | None = None, **environment: str) -> subprocess.CompletedProcess[str]:
        """Type `jobmaster ARGUMENTS` and wait for its end."""
        return subprocess.run(
            [PROGRAM, *arguments],
            cwd=self.folder,
            env=self.environment | environment,
            input=input,
            capture_output=True,
            text=True,
            check=False,
            timeout=PATIENCE,
        )

    def json(self, *arguments: str, code: int = 0) -> Any:
        """The JSON that a command answers."""
        done = self.run("-A", "shop", "--json", *arguments)
        assert done.returncode == code, done.stdout + done.stderr
        return json.loads(done.stdout)

    def enqueue(self, task: str, **arguments: object) -> str:
        """Enqueue a job from a process of its own; its id."""
        job_id: str = self.json("run", task, json.dumps(arguments))["id"]
        return job_id

    @contextlib.contextmanager
    def worker(self, *arguments: str, **environment: str) -> Iterator[WorkerProcess]:
        """A worker, which is gone after the block."""
        worker = WorkerProcess(list(arguments) or ["-A", "shop"], self.folder, self.environment | environment)
        try:
            yield worker
        finally:
            worker.close()

    def ran(self) -> list[str]:
        """What the tasks have noted, in order."""
        path = self.folder / "ran.txt"
        return path.read_text(encoding="utf-8").splitlines() if path.exists() else []

    def until(self, condition: Callable[[], bool], what: str) -> None:
        """Wait until it is so."""
        deadline = time.monotonic() + PATIENCE
        while not condition():
            assert time.monotonic() < deadline, f"it never came to this: {what}; ran: {self.ran()}"
            time.sleep(0.01)
