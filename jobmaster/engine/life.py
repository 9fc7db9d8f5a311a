"""One process's memory of one bucket at one epoch: a *life* in the protocol's words."""

from __future__ import annotations

import asyncio
from collections import deque
from enum import Enum
from typing import TYPE_CHECKING

import msgspec
from msgspec.structs import replace

from jobmaster.model.states import BucketStatus

if TYPE_CHECKING:
    from collections.abc import Iterable

    from jobmaster.model.bucket import Bucket
    from jobmaster.model.ids import JobKey
    from jobmaster.model.job import ClaimedJob, Envelope, Message
    from jobmaster.model.policy import TaskPolicy
    from jobmaster.model.run import Halt, Run
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


class Entry(msgspec.Struct, eq=False):
    """One job in memory, of one life.

    Attributes:
        identity: (key, gen), under which its life holds it.
        seq: the number of its message; None: it has none (any more).
        guarded: may start only by a guarded start (R10): verify is set, it is a suspect, at-most-once, or an
            occurrence that may have to wait for its turn.
        in_master: the master may know it (from the moment of sending): it is counted in `held`.
        recorded: its Processing row was sent to the master.
        place: where the keeper's shared memory notes its run.
        started_us, started_at: by the store's clock, and by the process's monotonic one.
        granted_at: when (monotonic) the master said yes to a guarded start; until then, when it was asked.
        policy: of its task, as it was when the run started.
        run: the latest run.
        stopped_by: what told the run to end, the latest; None while nothing did.
        gone: the store has settled it, and it has left memory.
    """

    life: Life
    identity: tuple[JobKey, int]
    key: JobKey
    gen: int
    due_us: int
    envelope: Envelope
    payload: bytes
    seq: int | None = None
    guarded: bool = False
    stage: Stage = Stage.WAITING
    in_master: bool = False
    recorded: bool = False
    attempts: int = 0
    failures: int = 0
    recoveries: int = 0
    nonce: int = 0
    checkpoint: bytes | None = None
    started_us: int = 0
    started_at: float = 0.0
    granted_at: float = 0.0
    place: int = -1
    policy: TaskPolicy | None = None
    run: Run | None = None
    stopped_by: Halt | None = None
    gone: bool = False

    @property
    def is_unseen(self) -> bool:
        """It is a message in memory and nothing else: nobody was told of it.

        If it is guarded, whoever reads it next knows that as well: it was in an adopted bucket, or is at-most-once.
        """
        if self.stage is not Stage.WAITING or self.seq is None or self.in_master or self.gen:
            return False
        return not self.guarded or self.seq <= self.life.high_mark or self.envelope.at_most_once

    @property
    def alive(self) -> bool:
        """False once its life was dropped, or the entry was forgotten."""
        return not (self.gone or self.life.dropped)


class Life:
    """The jobs of one bucket that are in memory, and where its reading stands."""

    __slots__ = (
        "_gone", "bucket", "completing", "cursor", "depth", "dropped", "entries", "fence", "full_reread_at",
        "held_back", "high_mark", "more", "next_due_us", "numbers", "open", "read_wanted", "reading", "reread_at",
        "room_for", "rowless", "twins", "unsettled", "waiting",
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
        self.held_back = False
        """It is read after the next claim."""
        self.reading = asyncio.Lock()
        self.reread_at = 0.0
        """When (monotonic seconds) it is read again below the cursor, if it is still unsettled then."""
        self.full_reread_at = 0.0
        """When all below the cursor is read again although nothing asks for it."""
        self.rowless: deque[tuple[float, Entry]] = deque()
        """With a separate agent: entries without a row, and since when (monotonic seconds) they are in memory."""
        self.waiting = 0
        self.room_for: int | None = None
        """How many may wait here, where they are so large that it is fewer than usual."""
        self.depth = 0
        self.completing = bucket.status is BucketStatus.COMPLETING
        """Producers are sent elsewhere: what waits here is run, and then the bucket is closed (R24)."""

    def told(self, bucket: Bucket) -> None:
        """A renewal's answer names the bucket again, as it is now."""
        self.bucket = bucket
        self.completing = bucket.status is BucketStatus.COMPLETING

    def message_entry(self, message: Message, envelope: Envelope, *, guarded: bool = False) -> Entry | None:
        """Take a message into memory, or None where it is there already, or was lately removed (R9)."""
        seq = message.seq
        if seq in self.numbers:
            return None
        self.numbers.add(seq)
        key, gen = identity = (message.key, message.gen)
        if identity in self.entries:
            self.twins.setdefault(identity, []).append(message)
            return None
        guarded = guarded or message.verify or gen > 0 or seq <= self.high_mark or envelope.at_most_once
        entry = self.entries[identity] = Entry(
            self, identity, key, gen, message.due_us, envelope, message.payload, seq, guarded
        )
        return entry

    def claimed_entry(self, job: ClaimedJob, envelope: Envelope) -> Entry | None:
        """Take a claimed job into memory (R14'); it has a row, and no message."""
        identity = (job.key, job.gen)
        if identity in self.entries:
            return None
        entry = Entry(self, identity, job.key, job.gen, job.due_us, envelope, job.payload)
        entry.in_master = True
        entry.guarded = job.suspect or job.recoveries > 0 or envelope.at_most_once or envelope.overlap > 0
        entry.attempts, entry.failures, entry.recoveries = job.attempts, job.failures, job.recoveries
        entry.checkpoint = job.checkpoint
        self.entries[identity] = entry
        return entry

    def unread(self, most: int) -> int:
        """Forget up to `most` of the newest waiting jobs as if they had never been read; how many they were.

        Only what nobody was told of: no row, no question, no second copy; and all messages behind the new cursor go.
        """
        if self.cursor is None or self.twins or most <= 0:
            return 0
        plain = {entry.seq: entry for entry in self.entries.values() if entry.is_unseen}
        barrier = max((entry.seq or 0 for entry in self.entries.values() if entry.seq not in plain), default=0)
        newest = sorted(seq for seq in plain if seq is not None and seq > barrier)[-most:]
        if not newest or newest[-1] > self.cursor.seq:
            return 0
        for seq in newest:
            entry = plain[seq]
            entry.gone = True
            del self.entries[entry.identity]
            self.numbers.discard(seq)
        self.waiting -= len(newest)
        self.cursor = replace(self.cursor, seq=newest[0] - 1)
        self.more = True
        return len(newest)

    def await_rows(self, entries: Iterable[Entry], now: float) -> None:
        """These get a row of their own if they still wait after a while."""
        rowless = self.rowless
        while rowless and rowless[0][1].stage is not Stage.WAITING:
            rowless.popleft()
        rowless.extend((now, entry) for entry in entries)

    def forget(self, entries: Iterable[Entry]) -> list[Message]:
        """The store has settled these jobs: they leave memory. Returns second copies, to be taken under guard."""
        mine, gone = self.entries, self._gone
        for entry in entries:
            if mine.get(entry.identity) is entry:
                del mine[entry.identity]
            entry.gone = True
            if entry.seq is not None:
                gone.append(entry.seq)
        self._forget_old_numbers()
        return self._released_twins(entries) if self.twins else []

    def message_removed(self, entry: Entry) -> None:
        """Its message has left the agent: a read that was under way must not bring it again."""
        if entry.seq is not None:
            self._gone.append(entry.seq)
            self._forget_old_numbers()
            entry.seq = None

    def _forget_old_numbers(self) -> None:
        gone, numbers = self._gone, self.numbers
        while len(gone) > _REMEMBERED:
            numbers.discard(gone.popleft())

    def _released_twins(self, entries: Iterable[Entry]) -> list[Message]:
        released = []
        for entry in entries:
            released += self.twins.pop(entry.identity, [])
        self.numbers.difference_update(twin.seq for twin in released)
        return released

    def held(self) -> list[tuple[JobKey, int]]:
        """The rows that this life has in memory (R8)."""
        return [identity for identity, entry in self.entries.items() if entry.in_master]

    def busy(self) -> bool:
        """True while something of it is started, running, or on its way to the store."""
        return any(entry.stage is not Stage.WAITING for entry in self.entries.values())
