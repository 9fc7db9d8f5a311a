"""What becomes of a message whose bucket nobody knows any more (R18)."""

from __future__ import annotations

import msgspec

from jobmaster.errors import SerializationError
from jobmaster.model.job import Message, NewJob, decode_envelope, unreadable_envelope
from jobmaster.rules.storable import check_jobs


def held_again(message: Message, now_us: int) -> NewJob:
    """The message as a job for `MasterStore.hold`: suspect, because its owner may have started it.

    One that cannot be read gets an envelope whose task nobody has: it is held as unroutable and people see it, instead
    of standing in the way of the others.
    """
    try:
        job = NewJob(message.key, decode_envelope(message.payload), message.payload, due_us=message.due_us, verify=True)
        check_jobs([job], now_us)
    except (msgspec.DecodeError, UnicodeDecodeError, SerializationError):
        return NewJob(message.key, unreadable_envelope(now_us), message.payload, due_us=now_us, verify=True)
    return job
