"""Threads that wait for a store's answer: each is woken once, whatever those before it do."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import pytest

from jobmaster.gateway import Route
from jobmaster.tickets import Relay, Ticket

SOON = 10.0


def ticket(relay: Relay | None) -> Ticket:
    return Ticket([], Route("", 3, hold=False), time.monotonic() + SOON, relay)


def started(work: Callable[[], object]) -> threading.Thread:
    thread = threading.Thread(target=work)
    thread.start()
    return thread


def ended(threads: list[threading.Thread]) -> bool:
    for thread in threads:
        thread.join(SOON)
    return not any(thread.is_alive() for thread in threads)


@pytest.mark.parametrize("relay", [Relay(), None], ids=["in turn", "at once"])
def test_everybody_who_is_answered_is_woken_and_has_their_own_answer(relay: Relay | None) -> None:
    tickets = [ticket(relay) for _ in range(50)]
    found: list[tuple[int, bool]] = []
    threads = [
        started(lambda number=number, each=each: found.append((number, each.wait(each.deadline))))
        for number, each in enumerate(tickets)
    ]
    errors = [ValueError(number) if number % 3 else None for number in range(50)]
    for each, error in zip(tickets, errors, strict=True):
        each.done(error)

    assert ended(threads)
    assert sorted(found) == [(number, True) for number in range(50)]
    assert [each.error for each in tickets] == errors


def test_an_answer_before_anybody_waits_is_not_lost() -> None:
    relay = Relay()
    early, late = ticket(relay), ticket(relay)
    early.done(None)
    late.done(None)

    assert early.wait(early.deadline)
    assert late.wait(late.deadline)


def test_without_an_answer_the_wait_ends_at_its_time() -> None:
    waiting = ticket(Relay())
    begun = time.monotonic()
    assert not waiting.wait(begun + 0.1)
    assert time.monotonic() - begun >= 0.1


def test_one_who_has_gone_does_not_hold_up_those_behind() -> None:
    relay = Relay()
    gone, first, second = ticket(relay), ticket(relay), ticket(relay)
    assert not gone.wait(time.monotonic())
    gone.leave()
    threads = [started(lambda each=each: each.wait(each.deadline)) for each in (first, second)]
    for each in (gone, first, second):
        each.done(None)

    assert ended(threads)


def test_one_who_was_woken_and_never_looks_does_not_hold_up_those_behind() -> None:
    relay = Relay()
    stuck, first, second = ticket(relay), ticket(relay), ticket(relay)
    for each in (stuck, first, second):
        each.done(None)  # it is the turn of `stuck`, which nobody waits for

    assert first.wait(first.deadline)
    assert second.wait(second.deadline)
    following = ticket(relay)
    following.done(None)
    assert following.wait(following.deadline)


def test_one_who_leaves_when_it_was_their_turn_passes_it_on() -> None:
    relay = Relay()
    interrupted, behind = ticket(relay), ticket(relay)
    interrupted.done(None)
    behind.done(None)
    interrupted.leave()

    assert behind._lock.acquire(blocking=False), "its turn has come at once"


def test_calls_from_many_threads_and_interrupted_ones_in_between_all_return() -> None:
    relay = Relay()
    answering: list[Ticket] = []
    bell, stop = threading.Semaphore(0), threading.Event()

    def answer() -> None:
        while not stop.is_set() or answering:
            bell.acquire(timeout=0.01)
            several, answering[:] = answering[:], []
            for each in several:
                each.done(None)

    def call(number: int) -> None:
        for turn in range(200):
            mine = ticket(relay)
            answering.append(mine)
            bell.release()
            if (turn + number) % 20 == 0:
                mine.wait(time.monotonic())
                mine.leave()
            else:
                assert mine.wait(mine.deadline)

    store = started(answer)
    callers = [started(lambda number=number: call(number)) for number in range(8)]
    assert ended(callers)
    stop.set()
    assert ended([store])
