"""What a store remembers about messages that may still appear below a cursor, with a clock that the test moves."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from jobmaster.stores.sql.postgresql import late_commits
from jobmaster.stores.sql.postgresql.late_commits import DEEP_EVERY, SETTLED_AFTER, Floor, Floors, Seen
from jobmaster.stores.sql.postgresql.numbering import first_of

BUCKET = 7
FIRST = first_of(BUCKET)
QUIET = Seen(100, 100)


class Clock:
    now = 1_000.0


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(late_commits, "time", SimpleNamespace(monotonic=lambda: made.now))
    return made


def floor() -> Floor:
    return Floors().of(BUCKET, 1)


def test_a_quiet_read_is_a_floor() -> None:
    known = floor()
    assert known.read(FIRST, FIRST + 10, QUIET) is False
    assert known.begin(FIRST + 10, full=False) == FIRST + 10
    assert known.begin(FIRST + 10, full=True) < FIRST


def test_a_quiet_read_from_above_the_floor_says_nothing_about_what_lies_between() -> None:
    known = floor()
    assert known.read(FIRST, FIRST + 10, Seen(100, 102))
    assert known.read(FIRST + 10, FIRST + 20, QUIET) is False
    assert known.begin(FIRST + 20, full=False) == FIRST


def test_a_look_settles_what_had_begun_before_the_mark_and_not_more() -> None:
    known = floor()
    known.read(FIRST, FIRST + 10, Seen(100, 102))
    assert known.looked(known.begin(FIRST + 10, full=False), FIRST + 10, Seen(101, 105), found=False)
    assert known.number == FIRST
    # What began before 102 has ended; what has begun since may have drawn its numbers above the mark only.
    assert known.looked(FIRST, FIRST + 10, Seen(102, 106), found=False) is False
    assert known.number == FIRST + 10


def test_the_floor_passes_a_late_message_only_when_its_owner_knows_it() -> None:
    known = floor()
    known.read(FIRST, FIRST + 10, Seen(100, 102))
    for _ in range(3):  # the answers were lost
        assert known.looked(known.begin(FIRST + 10, full=False), FIRST + 10, QUIET, found=True) is False
        assert known.number == FIRST
    assert known.looked(known.begin(FIRST + 10, full=False), FIRST + 10, QUIET, found=False) is False
    assert known.number == FIRST + 10


def test_a_look_that_does_not_begin_at_the_floor_settles_nothing() -> None:
    known = floor()
    known.read(FIRST, FIRST + 10, Seen(100, 102))
    assert known.looked(FIRST + 5, FIRST + 10, QUIET, found=False)
    assert known.number == FIRST


def test_beside_a_transaction_that_is_held_open_looks_are_short_but_for_one_a_second(clock: Clock) -> None:
    known, cursor, begins = floor(), FIRST, []
    for step in range(1_500):
        clock.now += 0.02
        known.read(cursor, cursor + 100, Seen(100, 1_000 + step))
        cursor += 100
        begin = known.begin(cursor, full=False)
        begins.append((cursor - begin, begin == known.number))
        assert known.looked(begin, cursor, Seen(100, 1_000 + step), found=False)
    lately = begins[100:]
    deep = sum(at_floor for _, at_floor in lately)
    assert deep <= len(lately) * 0.02 / DEEP_EVERY + 2
    assert max(length for length, at_floor in lately if not at_floor) <= 100 * (DEEP_EVERY / 0.02 + 2)
    assert len(known._marks) <= 1_500


def test_marks_are_never_many_however_quick_the_reads_are(clock: Clock) -> None:
    known, cursor = floor(), FIRST
    for _ in range(100_000):
        clock.now += 0.0001
        known.read(cursor, cursor + 1, Seen(100, 2_000))
        cursor += 1
    assert len(known._marks) <= 10 / late_commits.MARKS_APART + 1
    assert known._marks[-1].cursor == cursor


def test_an_old_mark_settles_although_somebody_holds_a_transaction_open(clock: Clock) -> None:
    known = floor()
    known.read(FIRST, FIRST + 10, Seen(100, 102))
    clock.now += SETTLED_AFTER - 0.1
    assert known.looked(known.begin(FIRST + 10, full=False), FIRST + 10, Seen(100, 200), found=False)
    clock.now += DEEP_EVERY
    assert known.looked(known.begin(FIRST + 10, full=False), FIRST + 10, Seen(100, 300), found=False) is False


def test_a_floor_belongs_to_one_epoch_and_one_reading() -> None:
    floors = Floors()
    first = floors.of(BUCKET, 1)
    first.read(FIRST, FIRST + 10, QUIET)
    assert floors.of(BUCKET, 1) is first
    assert floors.of(BUCKET, 1, anew=True).number == FIRST
    assert floors.of(BUCKET, 2).epoch == 2
    floors.forget(BUCKET)
    assert floors.of(BUCKET, 2).number == FIRST
