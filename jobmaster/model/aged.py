"""A final job on its way to an archived cluster: one format for all stores, so that the two may be of two kinds."""

from __future__ import annotations

import msgspec

from jobmaster.errors import SerializationError
from jobmaster.model.job import AttemptRecord, JobRecord


class AgedJob(msgspec.Struct, frozen=True):
    """A final job with everything that people can ask about it. The record carries its envelope and its result."""

    record: JobRecord
    attempts: list[AttemptRecord] = []
    version: int = 1


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(AgedJob)


def encode_aged(job: AgedJob) -> bytes:
    """The job as bytes (msgpack)."""
    return _encoder.encode(job)


def decode_aged(data: bytes) -> AgedJob:
    """The job in `data`.

    Raises:
        SerializationError: the bytes are no aged job.
    """
    try:
        return _decoder.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise SerializationError(
            f"A record for the archive cannot be read ({error}). It was made by another version or damaged on its way; "
            "archive the job again from its own cluster."
        ) from error
