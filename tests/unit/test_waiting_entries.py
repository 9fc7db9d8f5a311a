"""What waits in an engine's memory: who goes first."""

from __future__ import annotations

import dataclasses

from jobmaster.engine.life import Stage
from jobmaster.engine.waiting import Waiting


@dataclasses.dataclass
class Bucket:
    priority: int = 3


@dataclasses.dataclass
class Life:
    bucket: Bucket = dataclasses.field(default_factory=Bucket)
    dropped: bool = False


@dataclasses.dataclass(eq=False)
class Entry:
    due_us: int
    life: Life = dataclasses.field(default_factory=Life)
    stage: Stage = Stage.WAITING
    gone: bool = False
    alive: bool = True
    guarded: bool = False
    key: bytes = b""
    attempts: int = 0
    failures: int = 0


def order(waiting: Waiting) -> list[int]:
    taken = []
    while (due_us := take(waiting)) is not None:
        taken.append(due_us)
    return taken


def take(waiting: Waiting) -> int | None:
    """As the runner does it."""
    entry = waiting.take(set(), lambda _: True)
    if entry is None:
        return None
    entry.stage = Stage.ASKING
    return entry.due_us


def test_what_the_master_held_goes_before_what_was_due_later() -> None:
    waiting = Waiting()
    waiting.add([Entry(50), Entry(60)], 100)
    waiting.add_claimed([Entry(40), Entry(10), Entry(55), Entry(200)], 100)
    assert order(waiting) == [10, 40, 50, 60, 55]
    waiting.promote(300)
    assert order(waiting) == [200]


def test_who_was_interrupted_goes_before_all_others_and_who_failed_does_not() -> None:
    waiting = Waiting()
    waiting.add([Entry(50)], 100)
    waiting.add_claimed(
        [Entry(70, attempts=2, failures=1), Entry(60, attempts=1), Entry(80, attempts=1, failures=1)], 100
    )
    assert order(waiting) == [60, 70, 50, 80]


def test_what_may_have_run_goes_first_in_its_own_order() -> None:
    waiting = Waiting()
    waiting.add_first([Entry(3), Entry(4), Entry(200)], 100)
    waiting.add_first([Entry(7), Entry(8)], 100)
    assert order(waiting) == [7, 8, 3, 4]
    waiting.promote(300)
    assert order(waiting) == [200]


def test_adopted_buckets_take_turns_behind_what_was_interrupted_for_certain() -> None:
    waiting = Waiting()
    waiting.add([Entry(50), Entry(51)], 100)
    waiting.add_heads([Entry(1), Entry(2), Entry(3), Entry(200)], 100)
    waiting.add_claimed([Entry(60, attempts=1)], 100)
    assert (take(waiting), take(waiting)) == (60, 1)
    waiting.add_claimed([Entry(61, attempts=1)], 100)
    waiting.add_heads([Entry(11), Entry(12)], 100)
    waiting.add_heads([Entry(21)], 100)
    assert order(waiting) == [61, 2, 11, 21, 3, 12, 50, 51]
    waiting.promote(300)
    assert order(waiting) == [200]


def test_of_adopted_buckets_that_were_dropped_nothing_takes_a_turn() -> None:
    waiting = Waiting()
    gone = Life()
    waiting.add_heads([Entry(1, gone, alive=False), Entry(2, gone, alive=False)], 100)
    gone.dropped = True
    waiting.drop_dead()
    waiting.add_heads([Entry(11), Entry(12)], 100)
    assert order(waiting) == [11, 12]
    waiting.add_heads([Entry(5)], 100)
    assert (len(waiting), order(waiting)) == (1, [5])


def test_what_the_master_held_is_taken_from_an_empty_memory_too() -> None:
    waiting = Waiting()
    waiting.add_claimed([Entry(10), Entry(5)], 100)
    assert sorted(order(waiting)) == [5, 10]


def test_those_that_may_run_apart_only_hold_up_nobody_when_they_become_due() -> None:
    waiting = Waiting()
    apart = [Entry(100, guarded=True) for _ in range(100)]
    waiting.add_apart(apart, 0)
    waiting.promote(200)
    other = Entry(150)
    waiting.add([other], 200)
    assert waiting.take_apart(set(), lambda _: False) is None
    assert waiting.take(set(), lambda _: False) is other
    assert waiting.take_apart(set(), lambda _: True) is apart[0]
