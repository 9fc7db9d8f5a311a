"""Which bucket takes a new job: of two drawn at random the emptier one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from jobmaster.model.states import BucketStatus

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from jobmaster.model.bucket import Bucket


def candidates(buckets: Sequence[Bucket], *, lane: str, priority: int) -> list[Bucket]:
    """The buckets of this lane and priority that are worth pushing to, the best kind only.

    A live owner starts a job at once; an ownerless bucket waits to be adopted; a lost one waits for that, too, and its
    old owner's jobs come first.
    """
    kinds: dict[int, list[Bucket]] = {}
    for bucket in buckets:
        if bucket.lane == lane and bucket.priority == priority:
            kinds.setdefault(_kind(bucket), []).append(bucket)
    kinds.pop(_CLOSED, None)
    return kinds[min(kinds)] if kinds else []


def choose(buckets: Sequence[Bucket], draw: Callable[[int], int]) -> Bucket | None:
    """One of `candidates`: the emptier of two, by the depth that owners last published. None where there is none.

    `draw(n)` gives a random number from 0 to n - 1.
    """
    if not buckets:
        return None
    if len(buckets) == 1:
        return buckets[0]
    first = draw(len(buckets))
    second = draw(len(buckets) - 1)
    if second >= first:
        second += 1
    left, right = buckets[first], buckets[second]
    return left if left.depth <= right.depth else right


_CLOSED = 9


def _kind(bucket: Bucket) -> int:
    if bucket.status is BucketStatus.ACTIVE:
        return 0 if bucket.owner is not None else 1
    return 2 if bucket.status is BucketStatus.LOST else _CLOSED
