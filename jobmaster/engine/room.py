"""How many jobs may wait in memory for one bucket: by number, and by bytes where they are large."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import TypeVar

    from jobmaster.engine.tuning import Tuning

    T = TypeVar("T")

BUFFER_BYTES: Final = 32 << 20
"""Of messages that wait in memory for one bucket, about, where they are large; and as much of held jobs."""
FEWEST: Final = 64
"""So many may wait for one bucket, however large they are."""
SAMPLED: Final = 16
"""Of so many jobs one is looked at for its size."""


def room_for(jobs: Sequence[T], size: Callable[[T], int], *, before: int | None, tuning: Tuning) -> int | None:
    """How many jobs of this size fill a bucket's buffer; None: more than it takes anyway.

    A few of them are looked at: this happens at every read and claim.

    Args:
        jobs: what has come now. Too few say nothing.
        size: of one of them, in bytes.
        before: what the last ones have said.
        tuning: of the engine.
    """
    if len(jobs) < SAMPLED:
        return before
    sample = jobs[::SAMPLED]
    fit = BUFFER_BYTES * len(sample) // (sum(map(size, sample)) or 1)
    return None if fit >= tuning.buffer_per_bucket else max(fit, 2 * tuning.slots, FEWEST)


def most_of(tuning: Tuning, fit: int | None) -> int:
    """How many may wait, where so many fit; None: more than is allowed."""
    return tuning.buffer_per_bucket if fit is None else min(tuning.buffer_per_bucket, fit)


def has_room(tuning: Tuning, most: int, waiting: int) -> bool:
    """Whether so much is free that it is worth a statement."""
    return most - waiting >= min(tuning.least_room, most // 2)
