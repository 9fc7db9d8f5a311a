"""Nobody's lease is called over for a time in which the store answered nobody (C1)."""

from __future__ import annotations

import pytest

from jobmaster.engine.silences import Silences
from jobmaster.engine.store_clock import StoreClock

AHEAD_US = 5_000_000_000_000


class OwnClock:
    """A process's clocks, that stand until a test moves them."""

    def __init__(self) -> None:
        self.seconds = 100.0

    def now_us(self) -> int:
        return round(self.seconds * 1e6)

    def trust_ns(self) -> int:
        return round(self.seconds * 1e9)

    def monotonic(self) -> float:
        return self.seconds


class Worker:
    """Knows the store's clock, and has renewed its lease of 10 s now and then."""

    def __init__(self) -> None:
        self.clock = OwnClock()
        self.ahead_us = AHEAD_US
        self.store_clock = StoreClock(self.clock)
        self.silences = Silences(clock=self.clock, store_clock=self.store_clock, lease=10.0)
        self.store_clock.learn(self.store_us)

    @property
    def store_us(self) -> int:
        return self.clock.now_us() + self.ahead_us

    def renews(self, *, after: float) -> int:
        self.clock.seconds += after
        self.store_clock.learn(self.store_us)
        self.silences.answered(self.store_us)
        return self.store_us

    def judges(self, *, after: float = 0.0) -> int:
        self.clock.seconds += after
        return self.silences.as_of_us()


@pytest.fixture
def worker() -> Worker:
    return Worker()


def test_one_that_has_just_come_judges_nobody_until_all_others_have_tried_to_renew(worker: Worker) -> None:
    """It may be the first that the store answers after a silence of which it does not know."""
    assert worker.judges() == 0
    worker.renews(after=0.5)
    assert worker.judges(after=3.3) == 0
    assert worker.judges(after=0.1) == pytest.approx(worker.store_us, abs=1000)


def test_one_that_renews_judges_by_the_present(worker: Worker) -> None:
    worker.renews(after=0.5)
    worker.renews(after=3.0)
    for _ in range(5):
        worker.renews(after=3.0)
        assert worker.judges(after=2.0) == pytest.approx(worker.store_us, abs=1000)


def test_during_a_silence_and_a_lease_after_it_the_last_answer_before_it_counts(worker: Worker) -> None:
    before = worker.renews(after=3.0)
    assert worker.judges(after=60.0) == before
    worker.renews(after=0.1)
    assert worker.judges() == before
    worker.renews(after=4.0)
    assert worker.judges(after=4.0) == before
    worker.renews(after=1.0)
    assert worker.judges(after=1.1) == pytest.approx(worker.store_us, abs=1000)


def test_one_silence_after_the_other_does_not_keep_the_dead_alive(worker: Worker) -> None:
    judged = []
    for _ in range(10):
        worker.renews(after=6.0)
        judged.append(worker.judges(after=1.0))
    assert judged[1:] == sorted(judged[1:])
    assert worker.store_us - judged[-1] < 20_000_000


def test_after_the_stores_clock_was_set_forward_leases_are_judged_as_of_before_for_a_whole_lease(
    worker: Worker,
) -> None:
    worker.renews(after=3.0)
    worker.renews(after=3.0)
    worker.renews(after=3.0)
    before = worker.store_us
    worker.ahead_us += 600_000_000
    assert worker.judges() == pytest.approx(before, abs=1000), "nobody has told it yet"
    worker.store_clock.learn(worker.store_us)
    assert worker.judges() == pytest.approx(before, abs=1000)
    worker.renews(after=3.0)
    assert worker.judges(after=2.0) == pytest.approx(before, abs=1000)
    worker.renews(after=1.0)
    assert worker.judges(after=3.9) == pytest.approx(before, abs=1000)
    assert worker.judges(after=0.2) == pytest.approx(worker.store_us, abs=1000)


def test_a_step_that_no_lease_can_end_by_changes_nothing(worker: Worker) -> None:
    worker.renews(after=3.0)
    worker.renews(after=3.0)
    worker.renews(after=3.0)
    worker.ahead_us += 4_000_000
    worker.renews(after=1.0)
    assert worker.judges() == pytest.approx(worker.store_us, abs=1000)
    worker.ahead_us -= 600_000_000
    worker.renews(after=1.0)
    assert worker.judges() >= worker.store_us, "followed later; the store takes the smaller one"
