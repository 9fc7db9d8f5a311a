"""What an engine and a process of its pool send each other (links/framing.py: LAUNCH, RUN, END)."""

from __future__ import annotations

import msgspec

from jobmaster.model.ids import JobKey
from jobmaster.model.job import ErrorInfo


class PoolLaunch(msgspec.Struct, frozen=True):
    """What a process of a pool is told first.

    Attributes:
        entry: "module:function"; it is called with `arguments` and answers a `Workload`.
        arguments: whatever the entry understands.
    """

    entry: str
    arguments: bytes


class SentRun(msgspec.Struct, frozen=True, array_like=True):
    """A run on its way to a process; the fields are those of `Run`. `number` is told in the answer."""

    number: int
    key: JobKey
    payload: bytes
    attempt: int
    failures: int
    max_retries: int
    scheduled_us: int
    deadline_us: int | None
    timeout: float | None
    soft_timeout: float | None
    worker: str
    checkpoint: bytes | None


class SentEnd(msgspec.Struct, frozen=True, array_like=True):
    """How a run ended, on its way back; the other fields are those of `Ended`.

    `is_last`: something of the run may still be alive in the process, so that no other one may run there.
    """

    number: int
    end: int
    result: bytes | None = None
    error: ErrorInfo | None = None
    reason: str = ""
    retryable: bool = True
    countdown: float | None = None
    max_retries: int | None = None
    checkpoint: bytes | None = None
    is_last: bool = False
