"""The demo's jobs as data: what each one is, and how it must end."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum, auto
from pathlib import Path
from typing import Any

from jobmaster.demo.app import count_words, remind, unreliable, wait
from jobmaster.demo.files import Found, TextFile
from jobmaster.model.states import JobStatus, Priority
from jobmaster.task import Job
from jobmaster.views import JobQuery

DUE_AFTER = 2.0
LATEST = 0.5
"""Seconds after its time at which a due job has started at the latest."""


class Cancel(Enum):
    """When the demo cancels a job."""

    NEVER = auto()
    WAITING = auto()
    RUNNING = auto()


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """Jobs of one kind. Task, lane and priority together tell them from other kinds.

    `ends`, `attempts` and `error` (its type) are how each of them must end; `due_after` in seconds.
    """

    title: str
    task: str
    lane: str
    priority: Priority
    ends: JobStatus
    attempts: int = 1
    error: str = ""
    due_after: float = 0.0
    cancel: Cancel = Cancel.NEVER

    @property
    def plan(self) -> str:
        """How they must end, in words."""
        if self.attempts > 1:
            return f"{self.ends}, attempt {self.attempts}"
        return f"{self.ends} on time" if self.due_after and self.cancel is Cancel.NEVER else str(self.ends)

    @property
    def query(self) -> JobQuery:
        """Asks for the jobs of this kind."""
        return JobQuery(task=self.task, lane=self.lane, priority=self.priority)


DOCUMENTS = Kind(
    title="count words: documents",
    task=count_words.name,
    lane="files",
    priority=Priority.HIGH,
    ends=JobStatus.SUCCEEDED,
)
CODE = Kind(
    title="count words: code", task=count_words.name, lane="files", priority=Priority.MEDIUM, ends=JobStatus.SUCCEEDED
)
DATA = Kind(
    title="count words: data", task=count_words.name, lane="files", priority=Priority.LOW, ends=JobStatus.SUCCEEDED
)
RETRIED = Kind(
    title="fails once, is retried", task=unreliable.name, lane="errands", priority=Priority.HIGH,
    ends=JobStatus.SUCCEEDED, attempts=2,
)  # fmt: skip
FAILING = Kind(
    title="its file is missing", task=count_words.name, lane="errands", priority=Priority.MEDIUM,
    ends=JobStatus.FAILED, error="FileNotFoundError",
)  # fmt: skip
DELAYED = Kind(
    title=f"due in {DUE_AFTER:g} s", task=remind.name, lane="errands", priority=Priority.CRITICAL,
    ends=JobStatus.SUCCEEDED, due_after=DUE_AFTER,
)  # fmt: skip
CANCELLED_WAITING = Kind(
    title="cancelled as it waits", task=wait.name, lane="errands", priority=Priority.VERY_LOW,
    ends=JobStatus.CANCELLED, attempts=0, due_after=3600.0, cancel=Cancel.WAITING,
)  # fmt: skip
CANCELLED_RUNNING = Kind(
    title="cancelled as it runs", task=wait.name, lane="errands", priority=Priority.LOW,
    ends=JobStatus.CANCELLED, cancel=Cancel.RUNNING,
)  # fmt: skip

KINDS = (DOCUMENTS, CODE, DATA, RETRIED, FAILING, DELAYED, CANCELLED_WAITING, CANCELLED_RUNNING)
_KIND_OF = {kind.priority: kind for kind in (DOCUMENTS, CODE, DATA)}


@dataclass(frozen=True, slots=True)
class Planned:
    """One job. `file` is what it reads, where it reads one."""

    kind: Kind
    job: Job[Any]
    file: TextFile | None = None

    @property
    def title(self) -> str:
        """The job, in words."""
        return self.kind.title if self.file is None else f"count words of {self.file.path}"


def plan_jobs(found: Found) -> list[Planned]:
    """All jobs of the demo."""
    return [*_errands(found.folder), *(_file_job(file) for file in found.files)]


def _file_job(file: TextFile) -> Planned:
    return Planned(_KIND_OF[file.priority], count_words.options(priority=file.priority).job(file.path), file)


def _errands(folder: Path) -> Sequence[Planned]:
    missing = str(folder.absolute() / "no-such-file.txt")
    return (
        Planned(RETRIED, unreliable.options(priority=RETRIED.priority).job()),
        Planned(FAILING, count_words.options(priority=FAILING.priority, lane=FAILING.lane).job(missing)),
        Planned(DELAYED, remind.options(priority=DELAYED.priority, delay=DELAYED.due_after).job()),
        Planned(
            CANCELLED_WAITING,
            wait.options(priority=CANCELLED_WAITING.priority, delay=CANCELLED_WAITING.due_after).job(60),
        ),
        Planned(CANCELLED_RUNNING, wait.options(priority=CANCELLED_RUNNING.priority).job(60)),
    )
