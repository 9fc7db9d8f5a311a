"""Numbers of messages: the bucket in the upper bits, a sequence of the database in the lower ones.

So one index serves the reads and removals of all buckets, and no statement leaves the planner a choice between a short
index on the bucket and the right one. 2**41 messages in a database's life, 2**22 buckets.
"""

from __future__ import annotations

SEQUENCE_BITS = 41
MOST_BUCKETS = (1 << (63 - SEQUENCE_BITS)) - 1
"""Numbers of buckets stay below this: the end of the last one must be a number, too."""


def first_of(bucket: int) -> int:
    """The number below every message of the bucket."""
    return bucket << SEQUENCE_BITS


def end_of(bucket: int) -> int:
    """The number above every message of the bucket."""
    return (bucket + 1) << SEQUENCE_BITS


def next_seq(bucket: str) -> str:
    """The next message's number in a statement; `bucket` is an expression of type bigint."""
    return f"({bucket} << {SEQUENCE_BITS} | nextval('jm_message_seq_seq'))"
