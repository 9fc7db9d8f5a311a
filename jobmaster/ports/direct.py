"""A shorter way into a store that has a thread of its own: jobs are handed to it from any thread, without a loop.

An agent may offer this beside `Agent.push`; it changes nothing in what a push means. What a store does not simply
accept comes back, and its giver goes the ordinary way.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from jobmaster.model.job import NewJob


class Handed(Protocol):
    """Jobs on their way into one bucket, and who is told. `answered` is called in the store's thread or a caller's.

    Whoever calls it may be interrupted there: then it is called again, with the same or a less certain answer. Only
    the first counts.
    """

    @property
    def bucket(self) -> int:
        """Into which bucket."""
        ...

    @property
    def jobs(self) -> Sequence[NewJob]:
        """What is to be pushed, all or none."""
        ...

    def answered(self, error: Exception | None) -> None:
        """None: they are durable. Else what `Agent.push` would have raised. Must be quick, and must not raise."""
        ...


@runtime_checkable
class DirectAgent(Protocol):
    """What an agent has that takes jobs from any thread."""

    def hand(self, handed: Handed) -> None:
        """Push the jobs with whatever else is handed over meanwhile; `handed.answered` says how it ended.

        Raises:
            SerializationError: a job cannot be stored anywhere; `answered` is not called.
            StoreUnavailable: the store is closed; same.
        """
        ...

    def take_back(self, handed: Handed) -> bool:
        """True: it had not been begun, nothing is stored, and `answered` will not be called."""
        ...
