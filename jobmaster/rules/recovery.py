"""Who is to blame when a process dies, and what becomes of a row that its owner lost (docs/protocol.md: *recover*)."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from jobmaster.model.job import Blame
from jobmaster.model.reasons import QUARANTINED, WORKER_LOST
from jobmaster.model.states import JobStatus

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jobmaster.model.ids import JobKey


class Recovered(NamedTuple):
    """The row after its recovery: HeldOnMaster (due now, suspect, gen + 1), Cancelled or Failed."""

    status: JobStatus
    recoveries: int
    reason: str


def recovered(
    *, status: JobStatus, at_most_once: bool, recoveries: int, tombstone: bool, blame: str | None, max_recoveries: int
) -> Recovered:
    """What `recover(row)` makes of a row in a bucket status.

    `blame` is what was testified about the process that had the job: a reason (it is to blame), "" (it ran beside the
    one that is, and is excused), or None (nobody saw anything: then a run counts and a waiting job does not).
    """
    if status is JobStatus.PROCESSING and at_most_once:
        return Recovered(JobStatus.FAILED, recoveries, WORKER_LOST)
    to_blame = status is JobStatus.PROCESSING if blame is None else bool(blame)
    counted = recoveries + 1 if to_blame else recoveries
    if tombstone:
        return Recovered(JobStatus.CANCELLED, counted, "")
    if counted > recoveries and counted >= max_recoveries:
        return Recovered(JobStatus.FAILED, counted, QUARANTINED)
    return Recovered(JobStatus.HELD_ON_MASTER, counted, "")


def blamed(evidence: Sequence[tuple[JobKey, bool]], reason: str) -> list[Blame]:
    """Whom a dead process accuses: the suspect that ran, if one did; else all that ran.

    `evidence` is (job, suspect?) of the runs noted in shared memory.
    """
    suspects = [key for key, suspect in evidence if suspect]
    return [Blame(key, reason) for key in (suspects or [key for key, _ in evidence])]
