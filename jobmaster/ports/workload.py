"""What the engine knows of the user's code: policies by task name, and how to run one job.

The implementation decodes arguments, builds the context, calls the function, encodes the result and turns every
exception into an `Ended`. It never raises but for `BaseException`s that stop a process (KeyboardInterrupt, SystemExit).
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from enum import Enum
from typing import Any, Protocol

import msgspec

from jobmaster.model.ids import JobKey
from jobmaster.model.job import Envelope, ErrorInfo
from jobmaster.model.policy import TaskPolicy


class End(Enum):
    """How one execution ended."""

    RETURNED = 1
    RAISED = 2
    RETRY = 3
    IGNORED = 4
    REJECTED = 5
    REQUEUED = 6
    CANCELLED = 7
    """The run was stopped because the job was cancelled."""
    TIMED_OUT = 8
    """The hard limit passed and the run was stopped."""
    INTERRUPTED = 9
    """The run was stopped by a shutdown: it is handed back and spends nothing."""
    CRASHED = 10
    """The process of the run died; `reason` has the signal."""


class Ended(msgspec.Struct, frozen=True):
    """Result of one execution. `retryable` False: the task gives up on this exception type, no retry."""

    end: End
    result: bytes | None = None
    error: ErrorInfo | None = None
    reason: str = ""
    retryable: bool = True
    countdown: float | None = None
    """Seconds that `Retry` asked for; None: the task's back-off decides."""
    max_retries: int | None = None
    """Limit that `Retry` gave for this job."""
    checkpoint: bytes | None = None


class Run(msgspec.Struct, frozen=True):
    """One execution that is about to happen."""

    key: JobKey
    envelope: Envelope
    payload: bytes
    attempt: int
    failures: int
    max_retries: int
    scheduled_us: int
    deadline_us: int | None
    timeout: float | None
    soft_timeout: float | None
    worker: str
    checkpoint: bytes | None = None
    cancelled: Callable[[], bool] | None = None
    """Asks whether the run was told to stop; None where the pool can't know (a child process asks its own flag)."""


class Workload(Protocol):
    """The user's tasks, as one process has them."""

    def policy(self, task: str) -> TaskPolicy | None:
        """The policy of a task, or None: this process does not know it (the job goes back as "unroutable")."""
        ...

    def invoke_async(self, run: Run) -> Coroutine[Any, Any, Ended]:
        """The coroutine of an async task's run. Cancelling it (CancelledError) passes through to the caller."""
        ...

    def invoke_sync(self, run: Run) -> Ended:
        """Run a sync task to its end in the calling thread."""
        ...


class Halt(Enum):
    """Why a run is stopped."""

    CANCEL = 1
    SOFT_LIMIT = 2
    HARD_LIMIT = 3
    SHUTDOWN = 4


class Pool(Protocol):
    """Runs jobs. All methods are called on the engine's event loop, `done` too, exactly once per submitted run."""

    @property
    def capacity(self) -> int | None:
        """How many runs at once, or None: as many as there are slots."""
        ...

    def submit(self, run: Run, done: Callable[[Ended], None]) -> None:
        """Start the run now (or as soon as a place is free). May call `done` before it returns."""
        ...

    def halt(self, key: JobKey, why: Halt) -> bool:
        """Stop a run: soft limit raises inside it, the others end it. False: the run is unknown (it ended).

        A pool that can't end a run in its process (a thread that does not listen) reports `stuck` keys instead.
        """
        ...

    def stuck(self) -> list[JobKey]:
        """Runs that were told to end and could not be ended from inside the process for a second or more."""
        ...

    async def close(self) -> None:
        """Stop all places. Runs that are left are reported INTERRUPTED."""
        ...
