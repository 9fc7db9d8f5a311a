"""A job's row, the same on every database: its columns in one order, made from an envelope, read into values."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from jobmaster.model.ids import JobKey
from jobmaster.model.job import ErrorInfo, result_until_us
from jobmaster.model.states import JobStatus

if TYPE_CHECKING:
    from jobmaster.model.job import Envelope

COLUMNS = (
    "id, status, gen, bucket, nonce, task, lane, priority, at_most_once, created_us, scheduled_us, due_us, touched_us, "
    "expires_us, started_us, finished_us, attempts, failures, recoveries, suspect, reason, worker, custom_id, "
    "trigger_kind, payload, result, result_until_us, error, checkpoint"
)
STATE = (
    "id, status, gen, bucket, nonce, attempts, failures, recoveries, at_most_once, worker, started_us, suspect, due_us"
)
"""The columns of `State`."""
HELD, ASSIGNED, PROCESSING, SUCCEEDED, QUEUED, FAILED, CANCELLED = 2, 3, 4, 5, 6, 7, 8
FINAL = (SUCCEEDED, FAILED, CANCELLED)
WAITING = (ASSIGNED, QUEUED)

Row = tuple[Any, ...]

_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(ErrorInfo)


class State(NamedTuple):
    """What decides over a row's next move."""

    key: JobKey
    status: int
    gen: int
    bucket: int | None
    nonce: int | None
    attempts: int
    failures: int
    recoveries: int
    at_most_once: int
    worker: int | None
    started_us: int | None
    suspect: int
    due_us: int

    def mine(self, bucket: int, gen: int) -> bool:
        """Whether the row is of this assignment (docs/protocol.md: *mine*)."""
        return self.bucket == bucket and self.gen == gen

    @property
    def final(self) -> bool:
        """The row never changes again."""
        return self.status in FINAL


def job_row(
    key: JobKey,
    envelope: Envelope,
    payload: bytes,
    *,
    status: int,
    due_us: int,
    now_us: int,
    gen: int = 0,
    bucket: int | None = None,
    nonce: int | None = None,
    started_us: int | None = None,
    finished_us: int | None = None,
    attempts: int = 0,
    failures: int = 0,
    recoveries: int = 0,
    suspect: bool = False,
    reason: str = "",
    worker: int | None = None,
    result: bytes | None = None,
    error: bytes | None = None,
    checkpoint: bytes | None = None,
) -> Row:
    """Values in the order of COLUMNS. A final row has `finished_us`, others have none."""
    return (
        key, status, gen, bucket, nonce, envelope.task, envelope.lane, envelope.priority, envelope.at_most_once,
        envelope.created_us, envelope.scheduled_us, due_us, now_us, envelope.expires_us, started_us, finished_us,
        attempts,
        failures, recoveries, suspect, reason, worker, envelope.custom_id, envelope.trigger, payload, result,
        result_until_us(envelope, result, finished_us), error, checkpoint,
    )  # fmt: skip


def encode_error(error: ErrorInfo | None) -> bytes | None:
    """An error as it is stored."""
    return None if error is None else _encoder.encode(error)


def decode_error(stored: bytes | None) -> ErrorInfo | None:
    """A stored error."""
    return None if stored is None else _decoder.decode(stored)


def signed(number: int) -> int:
    """An unsigned 64-bit number as the signed one with the same bits, which is what a column holds."""
    return number if number < 1 << 63 else number - (1 << 64)


STATUS_OF = {status.value: status for status in JobStatus}
