"""Job keys: UUIDs of version 7 that we make, and of version 5 for ids that callers choose.

Inside, a key is its 16 bytes: half the size and a tenth of the time of a `uuid.UUID`. People see the usual text.
Formulas: RFC 9562, sections 5.5 and 5.7.
"""

from __future__ import annotations

import os
import random
import time
from typing import NewType
from uuid import UUID, uuid5

JobKey = NewType("JobKey", bytes)
"""A job's key: the 16 bytes of a UUID."""

_VERSION = 0x7 << 76 | 0b10 << 62
_RANDOM = (1 << 80) - 1 ^ 0xF << 76 ^ 0b11 << 62
_CUSTOM = UUID("5b1f2a36-6f4e-5d0e-9b63-6a6f626d6173")

_random = random.SystemRandom() if os.name == "nt" else random.Random(os.urandom(32))  # noqa: S311 - uniqueness, no secret
_random_bits = _random.getrandbits
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=lambda: _random.seed(os.urandom(32)))


def new_job_key() -> JobKey:
    """A new key, ordered by the time of its making to the millisecond (UUID version 7)."""
    millis = time.time_ns() // 1_000_000
    return (millis << 80 | _random_bits(80) & _RANDOM | _VERSION).to_bytes(16, "big")  # type: ignore[return-value]


def key_text(key: JobKey) -> str:
    """The usual text of a key: 36 characters with dashes."""
    text = key.hex()
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def parse_key(text: str) -> tuple[JobKey, str | None]:
    """The key of an id that a person or a program wrote, and the id itself where it is no UUID.

    An id that is no UUID keeps its text beside the key, which is derived from it (version 5): equal texts, equal keys.
    """
    try:
        return JobKey(UUID(text).bytes), None
    except ValueError:
        return JobKey(uuid5(_CUSTOM, text).bytes), text
