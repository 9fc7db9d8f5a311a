"""One execution of a job: what it is given, how it ends, why it is stopped."""

from __future__ import annotations

from enum import Enum

import msgspec

from jobmaster.model.ids import JobKey
from jobmaster.model.job import Envelope, ErrorInfo


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


RETURNED_NOTHING = Ended(End.RETURNED)
"""The end of most runs: it came to its end, and there is no result."""


class Run(msgspec.Struct, eq=False):
    """One execution that is about to happen. Of all fields only `halting` changes.

    `payload` holds the bytes of `envelope`.
    """

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
    halting: bool = False
    """The run was told to end (its soft limit does not count). A process of a pool never hears of it."""


Finished = tuple[Run, Ended, float]
"""A run, how it ended, and when (`Clock.monotonic` of the process that submitted it)."""


class Halt(Enum):
    """Why a run is stopped."""

    CANCEL = 1
    SOFT_LIMIT = 2
    HARD_LIMIT = 3
    SHUTDOWN = 4
