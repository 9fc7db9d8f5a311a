"""Workers, their leases, and the commands that reach them."""

from __future__ import annotations

from enum import Enum

import msgspec

from jobmaster.model.bucket import Bucket
from jobmaster.model.ids import JobKey
from jobmaster.model.states import WorkerMode


class Registration(msgspec.Struct, frozen=True):
    """A worker that starts. (name, boot) is its identity; of two boots of one name the higher number wins (R4)."""

    name: str
    boot: int
    agent: str
    lanes: tuple[str, ...]
    mode: WorkerMode
    host: str = ""
    pid: int = 0
    slots: int = 0
    version: str = ""
    schema_version: str = ""
    """The newest schema that its code knows; empty: it did not say."""


class Predecessor(msgspec.Struct, frozen=True):
    """A worker whose lease was alive when a newer boot of its name ended it. Its process may run, or be gone."""

    worker: int
    host: str
    pid: int
    renewed_us: int


class Registered(msgspec.Struct, frozen=True):
    """Answer to a registration: the worker's id, which is the owner in every fence of this boot.

    `replaced` is the worker of an older boot whose living lease was ended by this call; None on its repeat.
    """

    worker: int
    now_us: int
    replaced: Predecessor | None = None


class Demand(msgspec.Struct, frozen=True):
    """A hungry worker: it would take messages of this lane and priority into this bucket of its own."""

    bucket: int
    lane: str
    priority: int


class Renewal(msgspec.Struct, frozen=True):
    """One worker's part of a renewal (R6).

    `held` lists the (key, gen) of the Queued and Processing rows that the worker has in memory, as counted after the
    reply whose `now_us` is `cut_us` had arrived. `adopt` is how many lost or ownerless buckets it would take now.
    `depths` are the waiting messages per bucket; `demands` what it would take from others; `stats` is JSON for people.
    """

    worker: int
    number: int
    held: list[tuple[JobKey, int]] = []
    cut_us: int = 0
    adopt: int = 0
    stopping: bool = False
    depths: dict[int, int] = {}
    demands: list[Demand] = []
    cancels_after: int = 0
    stats: bytes = b"{}"


class Command(msgspec.Struct, frozen=True):
    """An order to a worker: ping, stop, pause, resume, concurrency or revoke, with JSON arguments."""

    id: int
    verb: str
    args: bytes = b"{}"


class Grant(msgspec.Struct, frozen=True):
    """A renewal's reply, the only grant there is (R7): the buckets that the worker owns now, with their epochs.

    `gone` is True when the worker's lease was ended by a newer boot or an operator: nothing is owned any more.
    `cancels` are the tombstones stored after `cancels_after`, `cancels_upto` is where to go on.
    """

    number: int
    now_us: int
    buckets: list[Bucket] = []
    cancels: list[JobKey] = []
    cancels_upto: int = 0
    commands: list[Command] = []
    demands: list[Demand] = []
    gone: bool = False
    trust_until_ns: int = 0
    """Filled in by the keeper: until when (Clock.trust_ns) this very answer may be trusted."""
    workers: int = 1
    """How many workers of the cluster live: they share what the master may be asked without need."""
    suspects: list[JobKey] = []
    """Filled in by the keeper: jobs that run apart, because a process of this worker has just died of one of them."""


class WorkerStatus(Enum):
    """Derived from the lease and the stop flag."""

    ACTIVE = 1
    STOPPING = 2
    DEAD = 3

    @property
    def lives(self) -> bool:
        """Whether its lease goes on: it may still run jobs, and it answers orders."""
        return self is not WorkerStatus.DEAD


class WorkerRecord(msgspec.Struct, frozen=True):
    """A worker as people see it."""

    id: int
    name: str
    boot: int
    agent: str
    lanes: tuple[str, ...]
    mode: WorkerMode
    status: WorkerStatus
    host: str
    pid: int
    slots: int
    version: str
    started_us: int
    renewed_us: int
    lease_until_us: int
    stats: bytes = b"{}"
    schema_version: str = ""


class CommandReply(msgspec.Struct, frozen=True):
    """A worker's answer to a command; `answered_us` is None while it has not answered."""

    id: int
    worker: int
    verb: str
    answered_us: int | None = None
    reply: bytes = b"{}"
