"""The bucket's row as a lock (docs/protocol.md: *own*): shared for a write in its name, else exclusive."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from jobmaster.ports.answers import Fenced

if TYPE_CHECKING:
    from jobmaster.model.job import Fence
    from jobmaster.stores.sql.postgresql.transaction import Transaction

ACTIVE, COMPLETING, DRAINING, LOST = 1, 2, 4, 5

# Under READ COMMITTED the newest version of the row is judged after a lock was waited for.
OWN = """
SELECT lane, priority, status FROM jm_bucket WHERE id = $1 AND owner = $2 AND epoch = $3 FOR {mode}
"""
SHARED = OWN.format(mode="SHARE")
EXCLUSIVE = OWN.format(mode="UPDATE")


class Owned(NamedTuple):
    """What the bucket's row says."""

    lane: str
    priority: int
    status: int


async def own(transaction: Transaction, fence: Fence, *, exclusively: bool = False) -> Owned:
    """Hold the bucket's row until the end of the transaction, and read the clock after that.

    Raises:
        Fenced: (owner, epoch) are not the fence's.
    """
    row = await transaction.row(EXCLUSIVE if exclusively else SHARED, fence.bucket, fence.owner, fence.epoch)
    if row is None:
        raise fenced(fence)
    await transaction.tick()
    return Owned(*row)


def fenced(fence: Fence) -> Fenced:
    """The error for a caller that lost the bucket."""
    return Fenced(f"bucket {fence.bucket} is not owned by worker {fence.owner} at epoch {fence.epoch} any more")
