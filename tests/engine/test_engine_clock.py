"""The engine's estimate of the store's clock."""

from __future__ import annotations

from jobmaster.engine.store_clock import StoreClock

SECOND = 1_000_000


class Hand:
    """A clock that the test turns."""

    def __init__(self) -> None:
        self.seconds = 1000.0

    def monotonic(self) -> float:
        return self.seconds

    def now_us(self) -> int:
        return 0

    def trust_ns(self) -> int:
        return 0


def test_the_answer_with_the_shortest_way_counts() -> None:
    hand = Hand()
    clock = StoreClock(hand)
    clock.learn(5_000 * SECOND)
    hand.seconds += 1
    clock.learn(5_000 * SECOND)  # was a second on its way
    assert abs(clock.now_us() - 5_001 * SECOND) < SECOND // 1000


def test_a_store_clock_that_is_set_back_is_followed_within_two_minutes() -> None:
    hand = Hand()
    clock = StoreClock(hand)
    clock.learn(9_000 * SECOND)
    for passed in range(1, 121):
        hand.seconds += 1
        clock.learn((5_000 + passed) * SECOND)
    assert abs(clock.now_us() - 5_120 * SECOND) < SECOND


def test_a_store_clock_that_is_set_forward_is_followed_at_once() -> None:
    hand = Hand()
    clock = StoreClock(hand)
    clock.learn(5_000 * SECOND)
    clock.learn(9_000 * SECOND)
    assert clock.now_us() == 9_000 * SECOND
