"""A demo told as one JSON object."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from jobmaster.demo.app import EVERY, HEARTBEAT, jm
from jobmaster.demo.look import Look
from jobmaster.demo.plan import KINDS

if TYPE_CHECKING:
    from jobmaster.demo.checking import Checked
    from jobmaster.demo.files import Found
    from jobmaster.demo.story import Sent
    from jobmaster.demo.telling import Show, ShowRuns
    from jobmaster.demo.worker_process import WorkerProcess


class JsonTelling:
    """One JSON object at the end."""

    def __init__(self) -> None:
        self._worker = 0

    def start(self, found: Found, worker: WorkerProcess) -> None:
        """Remember the worker."""
        self._worker = worker.pid

    @contextmanager
    def watching(self, sent: Sequence[Sent]) -> Iterator[Show]:
        """Look, and say nothing."""
        look = Look(sent)

        def show() -> int:
            look.again()
            return look.ended

        yield show

    def end(self, checked: Checked, found: Found, worker: WorkerProcess, *, once: bool) -> None:
        """Print the object."""
        told = {
            "as_planned": checked.is_as_planned,
            "differences": checked.differences,
            "jobs": checked.jobs,
            "kinds": [
                {"title": kind.title, "lane": kind.lane, "priority": kind.priority.name.lower(), "plan": kind.plan,
                 "as_planned": checked.as_planned.get(kind, 0)}
                for kind in KINDS
            ],
            "folder": str(found.folder.absolute()),
            "files": checked.files,
            "files_changed_meanwhile": checked.left_out,
            "words": checked.words,
            "different_words": checked.distinct,
            "most_frequent": dict(checked.most),
            "late_seconds": checked.late,
            "schedule": {
                "name": HEARTBEAT,
                "every_seconds": EVERY.total_seconds(),
                "runs": [run.at.isoformat() for run in checked.fired.runs],
                "latest_seconds": checked.fired.latest,
            },
            "pid": os.getpid(),
            "worker_pid": self._worker,
            "ran_in_pids": checked.processes,
            "failed_job": checked.failed.id if checked.failed else None,
            "master": str(jm.settings.master),
        }  # fmt: skip
        print(json.dumps(told, indent=2), flush=True)  # noqa: T201 - the answer

    @contextmanager
    def staying(self) -> Iterator[ShowRuns]:
        """Nothing: the object was the answer."""
        yield lambda _runs: None

    def goodbye(self) -> None:
        """Nothing: the object was the answer."""
