"""Answers of a store that are no success and no failure of the store, and the one failure that time does not heal.

Every other trouble is `errors.StoreUnavailable` (certainly no effect) or `errors.OutcomeUnknown` (maybe applied, maybe
later): after the second only a repeat of the same call is allowed, and every call is safe to repeat.
"""

from __future__ import annotations

from jobmaster.errors import JobMasterError, StoreUnavailable


class Refused(JobMasterError):  # noqa: N818 - an answer, not an error
    """The store said no: certainly no effect. (A closed bucket, an older boot, a higher epoch.)"""


class HigherBoot(Refused):
    """A higher boot of this worker's name is registered.

    Attributes:
        boot: the highest one.
    """

    def __init__(self, name: str, boot: int) -> None:
        super().__init__(
            f"worker {name!r}: a newer process of this name is registered, boot={boot}. "
            "Stop this one, or give it another name."
        )
        self.boot = boot


class Fenced(Refused):
    """The caller does not own the bucket at this epoch any more. Nothing was changed."""


class StoreReplaced(StoreUnavailable):
    """The database was removed or replaced under the open store, which will answer no more; open it anew."""


class StoreOutdated(StoreReplaced):
    """The same database is still there, but what the open store writes to is no part of it any more."""
