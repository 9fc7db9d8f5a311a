"""Buckets: units of ownership."""

from __future__ import annotations

import msgspec

from jobmaster.model.job import Fence
from jobmaster.model.states import BucketStatus


class Bucket(msgspec.Struct, frozen=True):
    """One agent + lane + priority + owner + epoch, as its row in the master says.

    `owner` is a worker's id or None (ownerless: waits to be adopted, takes messages meanwhile).
    `epoch` is the fencing token: it grows with every change of owner. `adopted_us` is the moment of the last adoption.
    """

    id: int
    agent: str
    lane: str
    priority: int
    epoch: int
    status: BucketStatus = BucketStatus.ACTIVE
    owner: int | None = None
    adopted_us: int = 0
    depth: int = 0
    """Waiting messages, as the owner last published."""
    clean: bool = False
    """The last owner left nothing started behind (or there was none): what waits can be started without asking."""

    @property
    def fence(self) -> Fence:
        """The fence of the present owner. Only for a bucket that has one."""
        if self.owner is None:
            raise ValueError(f"bucket {self.id} has no owner, so nobody can write in its name")
        return Fence(self.id, self.epoch, self.owner)


class NewBucket(msgspec.Struct, frozen=True):
    """A bucket to open. `token` makes a repeat after a lost reply find the same bucket (R5)."""

    token: str
    agent: str
    lane: str
    priority: int
