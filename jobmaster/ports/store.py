"""What the engine holds: a master and an agent as one object, with the steps that touch both.

In standalone one database is both, and `settle` is one transaction. With a separate agent `stores.split.SplitStore`
does the two steps in their order. The engine can't tell which it has.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from jobmaster.model.job import Fence, Outcome, Settled, Start, Verdict
from jobmaster.ports.agent import Agent
from jobmaster.ports.master import MasterStore


class Store(MasterStore, Agent, Protocol):
    """Master and agent together."""

    @property
    def standalone(self) -> bool:
        """True: rows and messages are one database, so that waiting jobs need no early rows to be seen."""
        ...

    async def settle(self, fence: Fence, outcomes: Sequence[Outcome]) -> list[Settled]:
        """R12 then R13: finish in the master, then remove each outcome's message by its `seq`, stale or not.

        Raises:
            Fenced: nothing was finished and no message removed.
        """
        ...

    async def take_over(self, fence: Fence, starts: Sequence[Start]) -> list[Verdict]:
        """R10: guarded start.

        Then the messages of those with `take_over` that got yes, and of all that got no, leave.
        """
        ...

    async def set_free(self, fence: Fence, jobs: Sequence[Outcome], *, ended: bool) -> None:
        """R21 (`ended` False: release) or the graceful stop's hand-back (`ended` True), then remove their messages."""
        ...

    async def drain(self, fence: Fence, *, limit: int) -> bool:
        """R16: one step: fence with closing, read, drain_in, remove. True: nothing is left."""
        ...

    async def drain_orphan(self, bucket: int, *, limit: int) -> bool:
        """R18: as `drain`, for a bucket that the master does not know: jobs without a row become HeldOnMaster, suspect.

        The agent's row is closed at the highest epoch, and deleted once it is empty. True: nothing is left.
        """
        ...
