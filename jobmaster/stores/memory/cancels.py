"""What people do to a job: cancel (R19), give it another time, run it again."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec.structs import replace

from jobmaster.model.job import CancelReply, unreadable_envelope
from jobmaster.model.states import BucketStatus, CancelOutcome, JobStatus
from jobmaster.rules.expiry import once_more, put_off
from jobmaster.rules.storable import check_key, check_moment
from jobmaster.stores.memory.rows import JobRow, envelope_of
from jobmaster.stores.memory.state import MasterState

if TYPE_CHECKING:
    from jobmaster.model.ids import JobKey
    from jobmaster.model.job import Message

STOPPABLE = (JobStatus.HELD_ON_MASTER, JobStatus.ASSIGNED_TO_BUCKET, JobStatus.QUEUED)


class Cancels(MasterState):
    """The verbs of people about one job."""

    async def cancel(self, key: JobKey) -> CancelReply:
        now = self._begin()
        check_key(key)
        row = self.jobs.get(key)
        if row is None:
            return self._cancel_message(key, now)
        return self._cancel_row(row, now)

    def _cancel_row(self, row: JobRow, now: int) -> CancelReply:
        if row.status.is_final:
            return self._answer_again(row)
        certain = self._is_certain(row)
        owner = self._owner(row.bucket)
        self._bury_once(row.key, now, certain=certain)
        if row.status in STOPPABLE:
            self._end_cancelled(row, now)
        if certain:
            return CancelReply(CancelOutcome.CANCELLED)
        self._tell_owner(owner)
        return CancelReply(CancelOutcome.REQUESTED, owner)

    def _is_certain(self, row: JobRow) -> bool:
        """It will not start: nobody has it, or its start is a guarded write that this cancel has already decided."""
        waits = row.status in STOPPABLE
        return row.status is JobStatus.HELD_ON_MASTER or (waits and row.envelope.at_most_once)

    def _answer_again(self, row: JobRow) -> CancelReply:
        tombstone = self.tombstones.get(row.key)
        if row.status is not JobStatus.CANCELLED or tombstone is None:
            return CancelReply(CancelOutcome.TOO_LATE)
        if tombstone.certain:
            return CancelReply(CancelOutcome.CANCELLED)
        return CancelReply(CancelOutcome.REQUESTED, row.worker)

    def _cancel_message(self, key: JobKey, now: int) -> CancelReply:
        """No row: the message is the authority, if it is here at all."""
        messages = self._messages_of(key)
        certain = bool(messages) and all(self._cannot_start(message, now) for message in messages)
        self._bury_once(key, now, certain=certain)
        if certain:
            self._end_cancelled(self.jobs.insert(_row_of(messages[0])), now)
            self._take_away(messages)
            return CancelReply(CancelOutcome.CANCELLED)
        owner = self._owner(messages[0].bucket) if messages else None
        self._tell_owner(owner)
        return CancelReply(CancelOutcome.REQUESTED, owner)

    def _cannot_start(self, message: Message, now: int) -> bool:
        envelope = envelope_of(message)
        guarded = message.verify or (envelope is not None and envelope.at_most_once)
        return guarded or self._is_unread(message, now)

    def _is_unread(self, message: Message, now: int) -> bool:
        """Nobody can have it in memory: its bucket has no owner, or no read looks so far ahead."""
        bucket = self.buckets.get(message.bucket)
        if bucket is not None and bucket.owner is None and bucket.clean and bucket.status is BucketStatus.ACTIVE:
            return True
        return message.due_us > now + self.rules.window_us

    def _bury_once(self, key: JobKey, now: int, *, certain: bool) -> None:
        if key not in self.tombstones:
            self._bury(key, now, certain=certain)

    def _end_cancelled(self, row: JobRow, now: int) -> None:
        self.jobs.change(row, status=JobStatus.CANCELLED, bucket=None, gen=row.gen + 1, touched_us=now, finished_us=now)
        self._tell(row)

    def _owner(self, bucket: int | None) -> int | None:
        row = self.buckets.get(bucket) if bucket is not None else None
        return row.owner if row is not None else None

    def _tell_owner(self, owner: int | None) -> None:
        self.hub.send(("workers" if owner is None else f"worker:{owner}",))

    async def reschedule(self, key: JobKey, due_us: int) -> bool:
        now = self._begin()
        check_key(key)
        check_moment(due_us, "due time")
        row = self.jobs.get(key)
        if row is not None:
            if row.status is not JobStatus.HELD_ON_MASTER:
                return False
            said = row.envelope
            payload, expires_us = put_off(row.payload, said.expires_us, said.trigger, due_us)
            envelope = replace(said, expires_us=expires_us)
            self.jobs.change(row, due_us=due_us, touched_us=now, payload=payload, envelope=envelope)
            self._tell(row)
            return True
        messages = self._messages_of(key)
        if not messages or not all(self._is_unread(message, now) for message in messages):
            return False
        for message in messages:
            self._move_due(message, due_us)
        return True

    async def requeue(self, key: JobKey, *, due_us: int | None = None) -> bool:
        now = self._begin()
        check_key(key)
        if due_us is not None:
            check_moment(due_us, "due time")
        row = self.jobs.get(key)
        if row is None or not row.status.is_final:
            return False
        self.tombstones.pop(key, None)
        due = now if due_us is None else due_us
        payload, expires_us = once_more(row.payload, row.envelope.expires_us, due)
        self.jobs.change(
            row,
            status=JobStatus.HELD_ON_MASTER,
            bucket=None,
            worker=None,
            gen=row.gen + 1,
            due_us=due,
            payload=payload,
            envelope=replace(row.envelope, expires_us=expires_us),
            touched_us=now,
            failures=0,
            recoveries=0,
            suspect=False,
            started_us=None,
            finished_us=None,
            result=None,
            error=None,
            reason="",
        )
        self._tell(row)
        return True


def _row_of(message: Message) -> JobRow:
    return JobRow(
        key=message.key,
        envelope=envelope_of(message) or unreadable_envelope(message.due_us),
        payload=message.payload,
        status=JobStatus.HELD_ON_MASTER,
        due_us=message.due_us,
        gen=message.gen,
    )
