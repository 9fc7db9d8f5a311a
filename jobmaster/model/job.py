"""What a job is while it travels, waits, runs and ends: the values that cross the ports.

Times are integer microseconds since the epoch (UTC) by the store's clock and end in `_us`.
"""

from __future__ import annotations

from typing import Annotated, Any, NamedTuple

import msgspec

from jobmaster.model import versions
from jobmaster.model.ids import JobKey
from jobmaster.model.states import CancelOutcome, JobStatus


class Envelope(msgspec.Struct, frozen=True, array_like=True):
    """Everything that a worker needs to run a job, as it travels in a message and lies in the job's row.

    New fields are added at the end with a default, so that older and newer programs read each other's envelopes. What
    older code must not ignore raises `version` (`model.versions`), and leaves place and type of all fields before it.
    `None` for a limit means: as the task's definition says.
    """

    task: str
    call: bytes
    created_us: int
    scheduled_us: int
    lane: str = ""
    priority: int = 3
    at_most_once: bool = False
    metadata: dict[str, object] = {}
    expires_us: int | None = None
    timeout: float | None = None
    soft_timeout: float | None = None
    max_retries: int | None = None
    keep_result: float | None = None
    reply_to: str = ""
    custom_id: str | None = None
    trigger: int = 1
    """What made the job: `model.schedule.Trigger`."""
    is_data: bool = False
    """The call is a MessageData bag for a handler, not args and kwargs."""
    version: Annotated[int, msgspec.Meta(le=versions.ENVELOPE_VERSION)] = 1
    schedule: bytes | None = None
    """Key of the schedule whose occurrence it is."""
    overlap: int = 0
    """Of an occurrence, whether it may run beside another one: `model.schedule.Overlap`."""


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Envelope)


def encode_envelope(envelope: Envelope) -> bytes:
    """The envelope as bytes (msgpack array)."""
    return _encoder.encode(envelope)


def decode_envelope(payload: bytes) -> Envelope:
    """The envelope in `payload`; of a newer version than this code knows, one of a task that nobody has here.

    Raises:
        msgspec.DecodeError: the bytes are no envelope (somebody else's message, or a damaged one).
    """
    try:
        return _decoder.decode(payload)
    except msgspec.ValidationError:
        newer = _newer_envelope(payload)
        if newer is None:
            raise
        return newer


def _newer_envelope(payload: bytes) -> Envelope | None:
    """What this code can tell of an envelope of a newer version, to park its job; None: it is none."""
    fields: Any = msgspec.msgpack.decode(payload)
    if not isinstance(fields, list) or len(fields) <= _VERSION_AT:
        return None
    version = fields[_VERSION_AT]
    if not isinstance(version, int) or isinstance(version, bool) or version <= versions.ENVELOPE_VERSION:
        return None
    fields[_VERSION_AT] = versions.ENVELOPE_VERSION
    try:
        known = msgspec.convert(fields, Envelope)
    except msgspec.ValidationError:  # it broke its promise about the older fields: whose task it is must do
        if not isinstance(fields[0], str):
            return None
        known = Envelope(task=fields[0], call=b"", created_us=0, scheduled_us=0)
    return msgspec.structs.replace(known, task=versions.parked_as(known.task, version), version=version)


_VERSION_AT = Envelope.__struct_fields__.index("version")
_EXPIRES_AT = Envelope.__struct_fields__.index("expires_us")


def with_expiry(payload: bytes, expires_us: int | None) -> bytes:
    """The same envelope with another `expires_us`; what newer code has added to it stays.

    Raises:
        msgspec.DecodeError: the bytes are no envelope.
    """
    fields = msgspec.msgpack.decode(payload, type=list[Any])
    fields[_EXPIRES_AT] = expires_us
    return msgspec.msgpack.encode(fields)


def unreadable_envelope(due_us: int) -> Envelope:
    """What stands for an envelope that can't be read, so that its job can be ended and seen by people."""
    return Envelope(task="(unreadable)", call=b"", created_us=due_us, scheduled_us=due_us)


class NewJob(msgspec.Struct, frozen=True):
    """A job on its way in: to an agent as a message, or to the master as a held row.

    Either `due_us` is given, or the store computes it as its own now plus `delay_us`.
    """

    key: JobKey
    envelope: Envelope
    payload: bytes
    due_us: int | None = None
    delay_us: int = 0
    verify: bool = False
    """True: start only by a guarded write, because another copy may exist (R3)."""


class Message(msgspec.Struct, frozen=True):
    """A job as an agent holds it. `seq` names the message; (key, gen) names the assignment it was made for."""

    seq: int
    bucket: int
    key: JobKey
    gen: int
    due_us: int
    payload: bytes
    verify: bool = False


class ErrorInfo(msgspec.Struct, frozen=True, array_like=True):
    """An exception as it is stored."""

    type: str
    message: str = ""
    traceback: str = ""


def exception_name(error: BaseException) -> str:
    """`module.QualName` of the exception's type, without the module for built-in ones: `ErrorInfo.type`."""
    kind = type(error)
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


class Fence(NamedTuple):
    """The proof that a write comes from a bucket's owner: bucket, epoch, and the owner's worker id (I3)."""

    bucket: int
    epoch: int
    owner: int


class ClaimedJob(msgspec.Struct, frozen=True):
    """A held job that its new owner takes straight into memory (R14')."""

    key: JobKey
    gen: int
    bucket: int
    payload: bytes
    due_us: int
    attempts: int
    failures: int
    recoveries: int
    suspect: bool
    checkpoint: bytes | None = None


class Start(msgspec.Struct, frozen=True):
    """One job in a guarded start (R10) or an early row (R11).

    `status` is Processing for a start, Queued for the early row of a job that waits in memory.
    """

    key: JobKey
    gen: int
    nonce: int
    envelope: Envelope
    payload: bytes
    due_us: int
    status: JobStatus = JobStatus.PROCESSING
    seq: int | None = None
    started_us: int = 0
    attempt: int = 1
    take_over: bool = False
    """At-most-once: the message may leave once the start is recorded."""


class Blame(msgspec.Struct, frozen=True):
    """Evidence that a job was running when its process died: `reason` names the signal, or "out of memory"."""

    key: JobKey
    reason: str


class Verdict(msgspec.Struct, frozen=True):
    """Answer to one `Start`. `yes` is the only permission to run.

    `attempt` is the attempt's number, `recoveries` how often the job was recovered, both as the row has them now.
    """

    yes: bool
    attempt: int = 1
    recoveries: int = 0


class Outcome(msgspec.Struct, frozen=True):
    """How an attempt ended (R12).

    `status` is a final status, or HeldOnMaster for another attempt, `delay_us` after the store's now.
    `failures` counts spent retries, this one included. `recovered`, with HeldOnMaster: the process that ran it died;
    that is a recovery, and no failure.
    """

    key: JobKey
    gen: int
    envelope: Envelope
    payload: bytes
    due_us: int
    status: JobStatus
    attempt: int
    seq: int | None = None
    failures: int = 0
    started_us: int | None = None
    finished_us: int = 0
    delay_us: int = 0
    result: bytes | None = None
    error: ErrorInfo | None = None
    reason: str = ""
    checkpoint: bytes | None = None
    recovered: bool = False


def result_until_us(envelope: Envelope, result: bytes | None, finished_us: int | None) -> int | None:
    """Until when the result is kept; None: as long as its job (or there is none)."""
    if result is None or finished_us is None or envelope.keep_result is None:
        return None
    return finished_us + round(envelope.keep_result * 1_000_000)


class Settled(msgspec.Struct, frozen=True):
    """Answer to one `Outcome`: whether this outcome is the one that counts."""

    done: bool


class JobState(msgspec.Struct, frozen=True):
    """What a waiting client asks for: status and, when final, how it ended."""

    key: JobKey
    status: JobStatus
    result: bytes | None = None
    error: ErrorInfo | None = None
    reason: str = ""
    attempts: int = 0


class JobRecord(msgspec.Struct, frozen=True):
    """A job as people and programs see it: its row in the master, or its message where it has none yet."""

    key: JobKey
    status: JobStatus
    task: str
    lane: str
    priority: int
    created_us: int
    scheduled_us: int
    due_us: int
    envelope: Envelope | None = None
    custom_id: str | None = None
    gen: int = 0
    bucket: int | None = None
    worker: int | None = None
    started_us: int | None = None
    finished_us: int | None = None
    attempts: int = 0
    failures: int = 0
    recoveries: int = 0
    result: bytes | None = None
    error: ErrorInfo | None = None
    reason: str = ""
    in_master: bool = True


class AttemptRecord(msgspec.Struct, frozen=True):
    """One execution of a job. Only attempts that failed, were repeated or recovered have a record."""

    key: JobKey
    attempt: int
    status: JobStatus
    worker: int | None
    bucket: int | None
    started_us: int | None
    finished_us: int | None
    error: ErrorInfo | None = None
    reason: str = ""


class CancelReply(msgspec.Struct, frozen=True):
    """Answer to one cancel, with the owner that must be told where the outcome is REQUESTED."""

    outcome: CancelOutcome
    owner: int | None = None
