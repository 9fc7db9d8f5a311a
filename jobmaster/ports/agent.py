"""The agent: a durable, fast buffer of messages, one bucket per owner.

The rules of docs/protocol.md are named R1 to R24. Promises common to all verbs:

- Each verb is one atomic step, and safe when repeated, reordered, or applied after its caller gave up.
- Errors: `Refused`/`Fenced` certainly no effect; `StoreUnavailable` certainly no effect; `OutcomeUnknown` maybe.
- Signals are hints: they may be lost or come twice; nobody relies on them for correctness.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Protocol

import msgspec

from jobmaster.model.job import Fence, Message, NewJob


class Cursor(msgspec.Struct, frozen=True):
    """Where an owner's reading stands. Only the agent that made it reads it.

    `seq`: messages up to here were read, or were not due then. `due_us`: later ones were read up to this due time, and
    of those due at exactly that time the ones numbered up to `due_seq` (a limit may cut jobs that share a due time).
    """

    seq: int = 0
    due_us: int = 0
    due_seq: int = 2**63 - 1


class Read(msgspec.Struct, frozen=True):
    """Answer of a read: messages, the cursor to go on with, the earliest due time of what was left for later."""

    messages: list[Message]
    cursor: Cursor
    now_us: int
    more: bool = False
    """True: the limit was reached and there is more to read at once."""
    next_due_us: int | None = None
    unsettled: bool = False
    """True: a message may still appear at or below this cursor (an insert under way): `reread` until that says no."""


class Reread(msgspec.Struct, frozen=True):
    """Answer of a reread. `unsettled`: a message may still appear at or below the cursor; ask again soon."""

    messages: list[Message]
    unsettled: bool = False


class Takeover(msgspec.Struct, frozen=True):
    """Answer of a fence: `high_mark` is the highest message number that an earlier life can have seen."""

    high_mark: int


class Durability(msgspec.Struct, frozen=True):
    """What an acknowledgement survives: "nothing", "process" or "host", and how that was found out."""

    survives: str
    evidence: str


class Subscription(Protocol):
    """A running subscription to signals."""

    def close(self) -> None:
        """End it. May be called twice."""
        ...


class Agent(Protocol):
    """Messages of many buckets. See the module's text for the promises common to all verbs."""

    @property
    def gapless(self) -> bool:
        """True: no message can appear below a cursor: no read is ever `unsettled`, and nobody rereads to be sure."""
        ...

    async def push(self, bucket: int, jobs: Sequence[NewJob]) -> None:
        """R1: store the jobs as messages of gen 0, all or none; one whose key is in this bucket already is stored.

        The bucket's row is held (shared) until the insert commits. Where the agent and the master are one database, a
        bucket that the master knows and the agent does not is open.

        Raises:
            Refused: the bucket is closing, closed or unknown: nothing is stored.
        """
        ...

    async def read(self, fence: Fence, cursor: Cursor | None, *, limit: int, window_us: int) -> Read:
        """Messages of the bucket after the cursor that are due within `window_us` from the store's now.

        In order of arrival, at most `limit`. `cursor` None reads from the start. A message not yet due is left, and is
        found by a later read with the cursor given then. Reading changes nothing. Where the agent and the master are
        one database, no read looks further ahead than `MasterRules.window_us`: what is due later can still be
        cancelled for certain.

        Raises:
            Fenced: the agent's row carries a higher epoch.
        """
        ...

    async def reread(
        self, fence: Fence, cursor: Cursor, *, known: Collection[int], limit: int, window_us: int, full: bool = False
    ) -> Reread:
        """R9: due messages at or below the cursor whose numbers are not in `known` (late commits), at most `limit`.

        `known` is a view of the owner's memory: quick to ask `in`, slow to copy. An agent that remembers up to
        which number nothing can appear any more may begin there, unless `full` is set.
        """
        ...

    async def remove(self, fence: Fence, seqs: Sequence[int]) -> None:
        """R13: remove these messages. Unknown numbers are fine. Needs no epoch: the master has settled them."""
        ...

    async def fence(self, fence: Fence) -> Takeover:
        """R15'a 1: make the bucket's row if absent, take `fence.epoch`, open it. A repeat at the same epoch succeeds.

        Raises:
            Fenced: the row carries a higher epoch.
        """
        ...

    async def close(self, fence: Fence) -> bool:
        """R24: closing, empty? and closed in one step.

        True: the bucket is gone (or was). False: it has messages; open again.

        Raises:
            Fenced: the row carries another epoch.
        """
        ...

    async def hand_over(
        self, fence: Fence, to: int, *, cursor: Cursor, high_mark: int, limit: int, window_us: int
    ) -> int:
        """R20: move up to `limit` messages that the owner has not read (beyond its cursor) to the end of bucket `to`.

        The newest go first. Messages up to `high_mark` arrive with verify set; gen other than 0 stays. Both buckets
        are held.

        Returns:
            How many moved; 0 where `to` is closed or unknown.

        Raises:
            Fenced: the row of `fence.bucket` carries another epoch.
        """
        ...

    async def depths(self, buckets: Sequence[int]) -> dict[int, int]:
        """Waiting messages per bucket; may be an estimate above 1,000."""
        ...

    async def orphans(self, known: Collection[int]) -> list[int]:
        """R18: buckets that have a row here and are not in `known`; a standalone store has none."""
        ...

    async def drain_read(self, bucket: int, epoch: int, *, limit: int) -> list[Message]:
        """R16: fence at `epoch` with closing set, then the first messages, due or not.

        Raises:
            Fenced: the row carries a higher epoch.
        """
        ...

    async def durability(self) -> Durability:
        """What an acknowledgement of this agent survives, as its settings say now."""
        ...

    def subscribe(self, topic: str, callback: Callable[[], None]) -> Subscription:
        """Call `callback` on the running loop after signals for `topic`.

        "bucket:<id>", "worker:<id>" (one worker), "workers" (all of them), "held", "client:<token>".
        """
        ...

    async def signal(self, topics: Collection[str]) -> None:
        """Send hints by hand (verbs send their own)."""
        ...
