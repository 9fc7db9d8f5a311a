"""One process's memory of one bucket at one epoch: a *life* in the protocol's words."""

from __future__ import annotations

import asyncio
from collections import deque
from enum import Enum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from jobmaster.model.bucket import Bucket
    from jobmaster.model.ids import JobKey
    from jobmaster.model.job import ClaimedJob, Envelope, Message
    from jobmaster.model.run import Halt
    from jobmaster.ports.agent import Cursor

_REMEMBERED = 10_000
"""Message numbers that a life remembers after their removal, against reads that were under way (R9)."""


class Stage(Enum):
    """Where a job in memory is."""

    WAITING = 1
    ASKING = 2
    """A guarded start is under way."""
    READY = 3
    """Its guarded start was answered with yes."""
    RUNNING = 4
    ENDED = 5
    """Its outcome is on the way to the store."""


class Entry:
    """One job in memory, of one life."""

    __slots__ = (
        "attempts", "checkpoint", "due_us", "envelope", "failures", "gen", "guarded", "halting", "in_master", "key",
        "life", "nonce", "payload", "place", "recorded", "recoveries", "seq", "stage", "started_at", "started_us",
        "stopped_by",
    )  # fmt: skip

    def __init__(self, *, life: Life, key: JobKey, gen: int, due_us: int, envelope: Envelope, payload: bytes) -> None:
        self.life = life
        self.key = key
        self.gen = gen
        self.due_us = due_us
        self.envelope = envelope
        self.payload = payload
        self.seq: int | None = None
        self.stage = Stage.WAITING
        self.guarded = False
        """Verify: may start only by a guarded start (R10)."""
        self.in_master = False
        """The master may know it (from the moment of sending): it is counted in `held`."""
        self.recorded = False
        """Its Processing row was sent to the master."""
        self.attempts = 0
        self.failures = 0
        self.recoveries = 0
        self.nonce = 0
        self.checkpoint: bytes | None = None
        self.started_us = 0
        self.started_at = 0.0
        self.place = -1
        self.halting = False
        self.stopped_by: Halt | None = None
        """What told the run to end, the latest; None while nothing did."""

    @property
    def suspect(self) -> bool:
        """It was running when a process died: it runs alone among its kind."""
        return self.recoveries > 0

    @property
    def alive(self) -> bool:
        """False once its life was dropped, or the entry was forgotten."""
        return not self.life.dropped and self.life.entries.get((self.key, self.gen)) is self


class Life:
    """The jobs of one bucket that are in memory, and where its reading stands."""

    __slots__ = (
        "_gone", "bucket", "cursor", "depth", "dropped", "entries", "fence", "full_reread_at", "high_mark", "more",
        "next_due_us", "numbers", "open", "read_wanted", "reading", "reread_at", "twins", "unsettled", "waiting",
    )  # fmt: skip

    def __init__(self, bucket: Bucket) -> None:
        self.bucket = bucket
        self.fence = bucket.fence
        self.entries: dict[tuple[JobKey, int], Entry] = {}
        self.twins: dict[tuple[JobKey, int], list[Message]] = {}
        """Second copies of jobs in memory: taken under guard when the first copy is settled."""
        self.numbers: set[int] = set()
        """Numbers of the messages that are in memory, or have lately left it: they are not taken again (R9)."""
        self._gone: deque[int] = deque()
        """Those of them that have left, the oldest first."""
        self.cursor: Cursor | None = None
        self.high_mark = 0
        self.more = False
        self.unsettled = False
        """A message may still appear below the cursor; only a reread can say that none will."""
        self.next_due_us: int | None = None
        self.open = False
        """Taken in: may be read, and its jobs may start."""
        self.dropped = False
        self.read_wanted = True
        self.reading = asyncio.Lock()
        self.reread_at = 0.0
        """When (monotonic seconds) it is read again below the cursor, if it is still unsettled then."""
        self.full_reread_at = 0.0
        """When all below the cursor is read again although nothing asks for it."""
        self.waiting = 0
        self.depth = 0

    def message_entry(self, message: Message, envelope: Envelope) -> Entry | None:
        """Take a message into memory, or None where it is there already, or was lately removed (R9)."""
        if message.seq in self.numbers:
            return None
        self.numbers.add(message.seq)
        identity = (message.key, message.gen)
        present = self.entries.get(identity)
        if present is not None:
            self.twins.setdefault(identity, []).append(message)
            return None
        entry = Entry(
            life=self,
            key=message.key,
            gen=message.gen,
            due_us=message.due_us,
            envelope=envelope,
            payload=message.payload,
        )
        entry.seq = message.seq
        entry.guarded = message.verify or message.gen > 0 or message.seq <= self.high_mark
        self.entries[identity] = entry
        return entry

    def claimed_entry(self, job: ClaimedJob, envelope: Envelope) -> Entry | None:
        """Take a claimed job into memory (R14'); it has a row, and no message."""
        identity = (job.key, job.gen)
        if identity in self.entries:
            return None
        entry = Entry(life=self, key=job.key, gen=job.gen, due_us=job.due_us, envelope=envelope, payload=job.payload)
        entry.in_master = True
        entry.guarded = job.suspect
        entry.attempts, entry.failures, entry.recoveries = job.attempts, job.failures, job.recoveries
        entry.checkpoint = job.checkpoint
        self.entries[identity] = entry
        return entry

    def forget(self, entry: Entry) -> list[Message]:
        """The store has settled the job: it leaves memory. Returns second copies, to be taken under guard."""
        identity = (entry.key, entry.gen)
        if self.entries.get(identity) is entry:
            del self.entries[identity]
        self.message_removed(entry)
        twins = self.twins.pop(identity, [])
        self.numbers.difference_update(twin.seq for twin in twins)
        return twins

    def message_removed(self, entry: Entry) -> None:
        """Its message has left the agent: a read that was under way must not bring it again."""
        if entry.seq is None:
            return
        self._gone.append(entry.seq)
        while len(self._gone) > _REMEMBERED:
            self.numbers.discard(self._gone.popleft())

    def held(self) -> list[tuple[JobKey, int]]:
        """The rows that this life has in memory (R8)."""
        return [identity for identity, entry in self.entries.items() if entry.in_master]

    def busy(self) -> bool:
        """True while something of it is started, running, or on its way to the store."""
        return any(entry.stage is not Stage.WAITING for entry in self.entries.values())
