"""A worker as users start it: `jobmaster worker -A ...`, a process of its own."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Self

from jobmaster.app import JobMaster
from jobmaster.demo.endings import only_clean_up
from jobmaster.errors import JobMasterError
from jobmaster.model.worker import WorkerStatus

APP = "jobmaster.demo.app"
GRACE = 1
READY_WITHIN = 30.0
_LOOK_EVERY = 0.03


class WorkerEndedError(JobMasterError):
    """The worker ended by itself; the text has the end of what it said."""


class WorkerProcess:
    """Runs from `__enter__` to `__exit__`, in a process group of its own: Ctrl-C reaches it through us only.

    Args:
        log: the file that gets what it says.
    """

    def __init__(self, log: Path) -> None:
        self._log = log
        self.name = f"demo-{os.getpid()}"
        self.arguments = ("worker", "-A", APP, "--name", self.name, "--grace", str(GRACE))

    def __enter__(self) -> Self:
        command = [*jobmaster_command(), *self.arguments]
        with open(self._log, "ab", opener=lambda path, flags: os.open(path, flags, 0o600)) as log:
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        only_clean_up()
        self._stop()

    @property
    def pid(self) -> int:
        """The process that was started; those that it starts itself are its children."""
        return self._process.pid

    @property
    def is_alive(self) -> bool:
        """Whether it has not ended."""
        return self._process.poll() is None

    def wait_until_ready(self, app: JobMaster) -> None:
        """Return when the master knows it as a living worker.

        Raises:
            WorkerEndedError: it ended, or took too long.
        """
        deadline = time.monotonic() + READY_WITHIN
        while (self.name, WorkerStatus.ACTIVE) not in {(worker.name, worker.status) for worker in app.workers.list()}:
            if not self.is_alive or time.monotonic() > deadline:
                raise self.ended()
            time.sleep(_LOOK_EVERY)

    def last_words(self, lines: int) -> str:
        """The end of what it has said."""
        return "\n".join(self._log.read_text(errors="replace").splitlines()[-lines:])

    def ended(self) -> WorkerEndedError:
        """What to raise where it has ended."""
        code = self._process.poll()
        what = f"was not ready within {READY_WITHIN:g} s" if code is None else f"ended with exit code {code}"
        return WorkerEndedError(f"The worker (pid {self.pid}) {what}. It said:\n{self.last_words(20)}")

    def _stop(self) -> None:
        if self.is_alive:
            self._process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(GRACE + 3)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        self._process.wait()


def jobmaster_command() -> list[str]:
    """How this installation's `jobmaster` is started: its console script, where there is one."""
    script = Path(sys.executable).parent / "jobmaster"
    return [str(script)] if script.is_file() else [sys.executable, "-m", "jobmaster.cli"]


def typed_command() -> str:
    """The same as a person types it in the current folder."""
    command = jobmaster_command()
    if shutil.which("jobmaster") == command[0]:
        return "jobmaster"
    here = Path.cwd()
    first = Path(command[0])
    return " ".join([str(first.relative_to(here)) if first.is_relative_to(here) else str(first), *command[1:]])
