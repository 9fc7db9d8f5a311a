"""*own(b)* of docs/protocol.md: the proof that a write comes from the owner, once a batch, under the write lock."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from jobmaster.ports.answers import Fenced

if TYPE_CHECKING:
    from jobmaster.model.job import Fence
    from jobmaster.stores.sql.sqlite.transaction import Transaction

OWN = "SELECT agent, lane, priority, status, owner, epoch FROM jm_bucket WHERE id = ?"

ACTIVE, COMPLETING, DRAINING, LOST = 1, 2, 4, 5


class Owned(NamedTuple):
    """The bucket that the caller owns."""

    agent: str
    lane: str
    priority: int
    status: int


def own(transaction: Transaction, fence: Fence, *, statuses: tuple[int, ...] = ()) -> Owned:
    """The fence's bucket.

    Raises:
        Fenced: it has another owner or epoch, is gone, or is in none of `statuses` (empty: any will do).
    """
    row = transaction.row(OWN, (fence.bucket,))
    if row is None:
        raise Fenced(f"bucket {fence.bucket} is gone")
    agent, lane, priority, status, owner, epoch = row
    if (owner, epoch) != (fence.owner, fence.epoch):
        raise Fenced(
            f"bucket {fence.bucket} is owned by worker {owner} at epoch {epoch}, not by {fence.owner} at {fence.epoch}"
        )
    if statuses and status not in statuses:
        raise Fenced(f"bucket {fence.bucket} has status {status}")
    return Owned(agent, lane, priority, status)
