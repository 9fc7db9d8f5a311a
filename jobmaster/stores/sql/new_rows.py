"""Rows of jobs that had none in the master: started out of a message, drained out of a bucket, from elsewhere."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from jobmaster.model.job import Verdict, encode_envelope, unreadable_envelope
from jobmaster.model.reasons import QUARANTINED, UNREADABLE
from jobmaster.model.states import JobStatus
from jobmaster.rules.recovery import is_hopeless, quarantine_error
from jobmaster.stores.sql.job_rows import CANCELLED, FAILED, HELD, Row, encode_error, job_row
from jobmaster.stores.sql.records import readable

if TYPE_CHECKING:
    from jobmaster.model.aged import AgedJob
    from jobmaster.model.job import Fence, Message, Start
    from jobmaster.rules.recovery import Testimony


class FirstStart(NamedTuple):
    """The row of a job that had none, and what its start is told once the row is there."""

    row: Row
    verdict: Verdict


def first_start(
    start: Start,
    fence: Fence,
    *,
    nonce: int,
    cancelled: bool,
    heard: Testimony | None,
    max_recoveries: int,
    now_us: int,
) -> FirstStart:
    """How a job starts, or ends, whose message was the authority until now.

    Args:
        start: what its owner asks for.
        fence: the owner's.
        nonce: of the start, as it is stored.
        cancelled: a tombstone of the job exists.
        heard: what was testified of a run that nobody had noted; it was one, and counts.
        max_recoveries: after so many the job is quarantined.
        now_us: the store's clock.
    """
    blame = heard.reason if heard and not cancelled else ""
    counted = 1 if blame else 0
    quarantined = bool(counted) and is_hopeless(counted, max_recoveries=max_recoveries)
    ended = cancelled or quarantined
    runs = start.status is JobStatus.PROCESSING and not ended
    attempt = start.attempt + counted  # the run that was not noted was one, too
    attempts = attempt if runs else attempt - 1
    row = job_row(
        start.key,
        start.envelope,
        start.payload,
        status=CANCELLED if cancelled else FAILED if quarantined else start.status.value,
        due_us=start.due_us,
        now_us=now_us,
        gen=start.gen + 1 if ended else start.gen,
        bucket=None if ended else fence.bucket,
        nonce=None if ended else nonce,
        started_us=(start.started_us or now_us) if runs else None,
        finished_us=now_us if ended else None,
        attempts=attempts,
        recoveries=counted,
        suspect=bool(blame),
        reason=QUARANTINED if quarantined else "",
        worker=fence.owner,
        error=encode_error(quarantine_error(counted, blame)) if quarantined else None,
    )
    return FirstStart(row, Verdict(yes=not ended, attempt=attempts if ended else attempt, recoveries=counted))


def drained_row(message: Message, *, cancelled: bool, now_us: int) -> Row:
    """A message that no owner read: it is held from now on; `cancelled`: a tombstone of it exists, so it ends."""
    envelope = readable(message.payload)
    status = FAILED if envelope is None else CANCELLED if cancelled else HELD
    return job_row(
        message.key,
        envelope or unreadable_envelope(message.due_us),
        message.payload,
        status=status,
        due_us=max(message.due_us, now_us),
        now_us=now_us,
        gen=message.gen + 1,
        finished_us=None if status == HELD else now_us,
        suspect=True,
        reason=UNREADABLE if envelope is None else "",
    )


def archived_row(job: AgedJob) -> Row:
    """The row in an archive: it belongs to no bucket of this cluster."""
    record = job.record
    if record.envelope is None:
        raise ValueError("an aged record carries its envelope")
    return job_row(
        record.key,
        record.envelope,
        encode_envelope(record.envelope),
        status=record.status.value,
        due_us=record.due_us,
        now_us=record.finished_us or 0,
        gen=record.gen,
        started_us=record.started_us,
        finished_us=record.finished_us,
        attempts=record.attempts,
        failures=record.failures,
        recoveries=record.recoveries,
        reason=record.reason,
        result=record.result,
        error=encode_error(record.error),
    )


def archived_attempts(job: AgedJob) -> list[Row]:
    """The attempts of such a job, in the order of `ADD_ATTEMPT`."""
    return [
        (
            job.record.key, one.attempt, one.status.value, one.worker, one.bucket, one.started_us, one.finished_us,
            one.reason, encode_error(one.error),
        )
        for one in job.attempts
    ]  # fmt: skip
