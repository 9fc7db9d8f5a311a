"""Jobs that were read ahead become unread again, so that another engine can have them: which, and which never."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from jobmaster.engine.life import Entry, Life, Stage
from jobmaster.model.bucket import Bucket
from jobmaster.model.ids import JobKey
from jobmaster.model.job import Envelope, Message
from jobmaster.ports.agent import Cursor

ENVELOPE = Envelope(task="t", call=b"", created_us=1, scheduled_us=1)


def message(seq: int, *, key: int | None = None) -> Message:
    return Message(bucket=1, seq=seq, key=JobKey(bytes([key or seq]) * 16), gen=0, due_us=1, verify=False, payload=b"")


def life_with(*numbers: int) -> Life:
    async def make() -> Life:
        return Life(Bucket(id=1, agent="a", lane="", priority=3, epoch=1, owner=7))

    life = asyncio.run(make())
    for number in numbers:
        assert life.message_entry(message(number), ENVELOPE) is not None
    life.waiting = len(numbers)
    life.cursor = Cursor(seq=max(numbers), due_us=99)
    return life


def seqs(life: Life) -> list[int | None]:
    return [entry.seq for entry in life.entries.values()]


def test_the_newest_go_and_can_be_read_again() -> None:
    life = life_with(1, 2, 3, 4, 5)
    newest = list(life.entries.values())[-1]

    assert life.unread(2) == 2

    assert (seqs(life), life.waiting, life.more) == ([1, 2, 3], 3, True)
    assert life.cursor == Cursor(seq=3, due_us=99)
    assert not newest.alive
    assert life.message_entry(message(4), ENVELOPE) is not None
    assert life.message_entry(message(3), ENVELOPE) is None, "what is still in memory is not taken twice"


def _start(entry: Entry) -> None:
    entry.stage = Stage.RUNNING


def _guard(entry: Entry) -> None:
    entry.guarded = True


def _tell(entry: Entry) -> None:
    entry.in_master = True


@pytest.mark.parametrize("change", [_start, _guard, _tell])
def test_nothing_before_a_job_that_has_to_stay_goes(change: Callable[[Entry], None]) -> None:
    life = life_with(1, 2, 3, 4, 5)
    change(list(life.entries.values())[2])

    assert life.unread(5) == 2

    assert seqs(life) == [1, 2, 3]
    assert life.cursor is not None
    assert life.cursor.seq == 3


def test_a_second_copy_keeps_all_where_it_is() -> None:
    life = life_with(1, 2, 3)
    assert life.message_entry(message(9, key=2), ENVELOPE) is None

    assert life.unread(3) == 0
    assert seqs(life) == [1, 2, 3]


def test_a_message_beyond_the_cursor_keeps_all_where_it_is() -> None:
    life = life_with(1, 2, 3)
    life.cursor = Cursor(seq=2)

    assert life.unread(3) == 0
    assert life.cursor == Cursor(seq=2)


def test_what_was_in_an_adopted_bucket_goes_too_and_is_guarded_wherever_it_comes() -> None:
    life = life_with(1, 2, 3)
    life.high_mark = 3
    for entry in life.entries.values():
        entry.guarded = True
    (asked, *_) = life.entries.values()
    asked.stage = Stage.ASKING

    assert life.unread(3) == 2

    assert seqs(life) == [1]
    again = life.message_entry(message(2), ENVELOPE)
    assert again is not None
    assert again.guarded
