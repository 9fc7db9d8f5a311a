"""Who is to blame when a process dies, and what becomes of a row that its owner lost (docs/protocol.md: *recover*).

A job is counted each time that it was running when its process died. A count is no verdict: of sixty jobs that ran
together one may be to blame, and somebody may just have pulled a plug. So one that was counted `max_recoveries - 1`
times runs in a process of its own, and after a crash at once those that had begun last: most jobs that crash do so in
their first moments. A death there names it for certain, harms no other job, and quarantines it from the count on at
which nobody tries again; its engine sees that and says so (`engine/runner.py`). What is here ends only jobs that went
down with their worker so often that nobody would try again.

Why a job that kills its process crashes `max_recoveries` times at most, and two crowds at most where that is three:
each death counts it, wherever it ran, and the count is the master's. A first suspect runs apart from its first count
on; one that was not among them, or whose suspicion was forgotten, from its second. All crashes that follow happen
apart, and the one with which the count reaches `max_recoveries` is its last. Who is a suspect decides only where a
job runs, never whether it is convicted.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from jobmaster.model.job import Blame, ErrorInfo
from jobmaster.model.reasons import QUARANTINED, WORKER_LOST
from jobmaster.model.states import JobStatus

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jobmaster.model.ids import JobKey

PATIENCE = 3
"""A job that nobody saw crash alone may go down with its worker so many times as often as one that is seen."""
FIRST_SUSPECTS = 4
"""So many runs may have begun between the one that crashes its process and the crash."""
CRASHES = frozenset({"SIGSEGV", "SIGABRT", "SIGBUS", "SIGFPE", "SIGILL", "SIGTRAP", "SIGSYS"})
"""Signals that a process brings on itself."""
ERROR_TYPE = "jobmaster.errors.WorkerLostError"


class Testimony(NamedTuple):
    """What a supervisor said, and when, about a job of a dead process: `reason` "" excuses it."""

    reason: str
    worker: int
    at_us: int


class Recovered(NamedTuple):
    """The row after its recovery: HeldOnMaster (due when it was, suspect, gen + 1), Cancelled or Failed."""

    status: JobStatus
    recoveries: int
    reason: str


def recovered(
    *, status: JobStatus, at_most_once: bool, recoveries: int, tombstone: bool, blame: str | None, max_recoveries: int
) -> Recovered:
    """What `recover(row)` makes of a row in a bucket status.

    `blame` is what was testified about the process that had the job: a reason (it ran there), "" (it is excused: it
    did not run there, or nobody died), or None (nobody saw anything: then a run counts and a waiting job does not).
    """
    if status is JobStatus.PROCESSING and at_most_once:
        return Recovered(JobStatus.FAILED, recoveries, WORKER_LOST)
    ran = status is JobStatus.PROCESSING if blame is None else bool(blame)
    counted = recoveries + 1 if ran else recoveries
    if tombstone:
        return Recovered(JobStatus.CANCELLED, counted, "")
    if counted > recoveries and is_hopeless(counted, max_recoveries=max_recoveries):
        return Recovered(JobStatus.FAILED, counted, QUARANTINED)
    return Recovered(JobStatus.HELD_ON_MASTER, counted, "")


def is_hopeless(recoveries: int, *, max_recoveries: int) -> bool:
    """Whether a job that nobody saw crash alone is given up all the same, after so many recoveries."""
    return recoveries >= max_recoveries * PATIENCE


def runs_apart(recoveries: int, *, max_recoveries: int) -> bool:
    """Whether a job that was counted so often runs in a process of its own from now on."""
    return recoveries >= max(1, max_recoveries - 1)


def blamed(evidence: Sequence[JobKey], reason: str) -> list[Blame]:
    """Whom a dead process accuses: all that ran in it. `evidence`: the runs noted in shared memory."""
    return [Blame(key, reason) for key in evidence]


def first_suspects(evidence: Sequence[JobKey], reason: str) -> list[JobKey]:
    """Of those that ran in a dead process, in the order in which they began: who runs apart from now on.

    Those that began last, where the process crashed of itself. Nobody where it was killed from outside, or held too
    much memory: that names none of them.
    """
    crashed = reason in CRASHES or reason.startswith("exit ")
    return list(evidence[-FIRST_SUSPECTS:]) if crashed else []


def quarantine_error(recoveries: int, cause: str) -> ErrorInfo:
    """What a quarantined job says of itself.

    Args:
        recoveries: how often its process died, this time included.
        cause: what its process died of, the last time: a signal, "out of memory"; empty where nobody saw it.
    """
    times = "once" if recoveries == 1 else f"{recoveries} times"
    last = f", the last time of {cause}" if cause else "; nobody saw of what"
    told = f"its process died {times} while it ran{last}. It is not started again by itself"
    then = "`jobmaster jobs show` tells of each attempt; when the cause is mended, `jobmaster jobs retry` runs it again"
    return ErrorInfo(ERROR_TYPE, f"{told}. {then}.")


def lost_error(cause: str) -> ErrorInfo:
    """What a run says whose process died of `cause`; "": nobody saw of what."""
    return ErrorInfo(ERROR_TYPE, f"the process that ran the task ended: {cause or 'nobody saw how'}")


def final_error(after: Recovered, cause: str) -> ErrorInfo | None:
    """What the row says that a recovery ended as Failed; None where it is not."""
    if after.status is not JobStatus.FAILED:
        return None
    return quarantine_error(after.recoveries, cause) if after.reason == QUARANTINED else lost_error(cause)
