"""Which bucket takes a new job."""

from __future__ import annotations

import random
from collections import Counter

from jobmaster.model.bucket import Bucket
from jobmaster.model.states import BucketStatus
from jobmaster.rules.placement import candidates, choose


def bucket(number: int, **changes) -> Bucket:
    values = {"agent": "a", "lane": "", "priority": 3, "epoch": 1, "owner": 7, **changes}
    return Bucket(id=number, **values)


def ids(buckets: list[Bucket]) -> list[int]:
    return [one.id for one in buckets]


def test_only_the_lane_and_the_priority_of_the_job_count() -> None:
    buckets = [bucket(1), bucket(2, lane="mail"), bucket(3, priority=4)]

    assert ids(candidates(buckets, lane="", priority=3)) == [1]
    assert ids(candidates(buckets, lane="mail", priority=3)) == [2]
    assert candidates(buckets, lane="mail", priority=4) == []


def test_a_live_owner_is_better_than_none_and_none_better_than_a_lost_one() -> None:
    lost = bucket(1, status=BucketStatus.LOST, owner=None)
    ownerless = bucket(2, owner=None)
    owned = bucket(3)

    assert ids(candidates([lost, ownerless, owned], lane="", priority=3)) == [3]
    assert ids(candidates([lost, ownerless], lane="", priority=3)) == [2]
    assert ids(candidates([lost], lane="", priority=3)) == [1]


def test_a_bucket_that_closes_or_drains_is_never_chosen() -> None:
    closing = [bucket(number, status=status) for number, status in enumerate(BucketStatus)]
    takes = {BucketStatus.ACTIVE, BucketStatus.LOST}

    for one in closing:
        assert bool(candidates([one], lane="", priority=3)) == (one.status in takes), one.status


def test_of_two_drawn_buckets_the_emptier_one_is_taken() -> None:
    full, empty = bucket(1, depth=50), bucket(2, depth=0)

    assert {choose([full, empty], random.Random(seed).randrange).id for seed in range(50)} == {2}


def test_draws_are_two_different_buckets_and_reach_all_of_them() -> None:
    draw = random.Random(1)
    counts = Counter(choose([bucket(number) for number in range(5)], draw.randrange).id for _ in range(5_000))

    assert sorted(counts) == list(range(5))
    assert min(counts.values()) > 700


def test_no_bucket_gives_none_and_one_gives_that_one() -> None:
    assert choose([], random.randrange) is None
    assert choose([bucket(1)], random.randrange).id == 1
