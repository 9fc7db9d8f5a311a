"""A call that stores a job is interrupted at every single point: nobody else's job may be lost or held up by it."""

from __future__ import annotations

import random
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from jobmaster import JobMaster
from jobmaster.stores.sql.combining import CombiningQueue
from jobmaster.tickets import Ticket
from tests.unit.interrupting import interrupted_at, interrupting

pytestmark = pytest.mark.skipif(sys.version_info >= (3, 12), reason="instructions are traced as a whole by 3.11 only")

PROMPT = 2.0
"""Seconds within which others have their answer; a call that is held up waits for its accept_timeout."""


class Shop:
    """An app whose calls are interrupted, and the queue of its store."""

    def __init__(self, master: str) -> None:
        self.app = JobMaster("interrupted", master=master, accept_timeout=30)

        @self.app.task
        def hello(name: str) -> str:
            return name

        self.hello: Any = hello
        self.calls: dict[str, Any] = {"straight": hello, "held": hello.options(delay=3600)}
        hello.delay("opens")
        hello.delay("is handed straight to the store")
        background = self.app.client._background
        assert background is not None
        self.gateway = background.gateway
        store: Any = self.gateway.store
        self.queue: CombiningQueue[Any] = getattr(store, "_writer", None) or store._direct

    def await_sleep(self) -> None:
        until = time.monotonic() + 10
        while not self.queue._asleep or self.queue._queue:
            assert time.monotonic() < until, "the store's thread does not come to rest"
            time.sleep(0.0002)

    def tickets(self, *names: str) -> list[Ticket]:
        """Calls of other threads, not handed over yet."""
        made = []
        for name in names:
            order = self.app.enqueuer._order(self.app.client, self.hello.job(name), 0)
            ticket = Ticket([order.job], order.route, time.monotonic() + 30, None)
            bucket = self.gateway._acceptor.at_hand(order.route.lane, order.route.priority)
            ticket.gateway, ticket.offered = self.gateway, bucket
            made.append(ticket)
        return made

    def count(self) -> int:
        return sum(self.app.jobs.count().values())


@pytest.fixture(params=[pytest.param("sqlite", marks=pytest.mark.backend("sqlite")),
                        pytest.param("postgresql", marks=pytest.mark.backend("postgresql"))])  # fmt: skip
def shop(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Shop]:
    on_a_server = request.param == "postgresql"
    shop = Shop(request.getfixturevalue("postgres_database") if on_a_server else f"sqlite:///{tmp_path}/x.db")
    yield shop
    shop.app.close()


class Beside:
    """Hands over tickets of others at the moment when an interrupted call looks for more to take along."""

    def __init__(self, queue: CombiningQueue[Any], tickets: list[Ticket]) -> None:
        self.left = tickets
        self.was_taken = False
        self._queue = queue
        self._thread = threading.get_ident()
        self._move = queue._move_next
        queue._move_next = self.move  # type: ignore[method-assign]

    def move(self, taken: list[Any]) -> bool:
        if threading.get_ident() != self._thread:
            return self._move(taken)
        brought, self.left = self.left, []
        self._queue._queue.extend(brought)
        try:
            return self._move(taken)
        finally:
            self.was_taken = self.was_taken or any(ticket not in self._queue._queue for ticket in brought)

    def end(self) -> None:
        """Those who brought something that nobody took look after it, as `bring` does."""
        del self._queue._move_next
        if not self.was_taken and self._queue._asleep and self._queue._queue:
            self._queue.ring()


def beside_others(shop: Shop, point: int, call: str) -> tuple[bool, int]:
    """Interrupt a call that takes along what others hand over; whether it was, and how many jobs are certainly stored.

    All others have their answers promptly, and so has who comes afterwards.
    """
    shop.await_sleep()
    others = shop.tickets("one", "two")
    beside = Beside(shop.queue, list(others))
    hit = interrupted_at(point, lambda: shop.calls[call].delay("main"))
    beside.end()
    handed_over = [ticket for ticket in others if ticket not in beside.left]
    for ticket in handed_over:
        assert ticket.wait(time.monotonic() + PROMPT), f"point {point}: another's call was held up"
        assert ticket.error is None
    began = time.monotonic()
    shop.calls[call].delay("after")
    assert time.monotonic() - began < PROMPT, f"point {point}: the next call was held up"
    return hit, len(handed_over) + 1


@pytest.mark.parametrize("call", ["straight", "held"])
def test_a_call_that_is_interrupted_anywhere_harms_no_other(shop: Shop, call: str) -> None:
    certain, interrupted, hit = shop.count(), 0, True
    while hit:
        hit, stored = beside_others(shop, interrupted, call)
        certain += stored
        interrupted += hit
    assert interrupted > 40
    assert certain + 1 <= shop.count() <= certain + interrupted + 1


def test_a_call_that_is_interrupted_while_it_deals_with_an_interruption_harms_no_other(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    draw = random.Random(5)
    certain, twice = shop.count(), 0
    give_up = shop.queue._give_up
    caller = threading.get_ident()

    def interrupted_again(*arguments: Any) -> None:
        nonlocal twice
        if threading.get_ident() != caller:
            return give_up(*arguments)
        with interrupting(draw.randrange(12)) as tracer:
            try:
                give_up(*arguments)
            finally:
                twice += tracer.left < 0

    monkeypatch.setattr(shop.queue, "_give_up", interrupted_again)
    tries = 0
    while twice < 40:
        tries += 1
        assert tries < 400
        certain += beside_others(shop, draw.randrange(50, 100), "straight")[1]
    assert certain <= shop.count() <= certain + tries


@pytest.mark.backend("sqlite")
def test_a_first_call_that_is_interrupted_anywhere_leaves_no_thread_behind(tmp_path: Path) -> None:
    def own_threads() -> set[threading.Thread]:
        return {each for each in threading.enumerate() if each.name.startswith("jobmaster") and each.is_alive()}

    def first_call(point: int) -> bool:
        app = JobMaster(f"opening-{point}", master=f"sqlite:///{tmp_path}/x.db", accept_timeout=30)
        hello: Any = app.task(name="hello")(lambda name: name)
        hit = interrupted_at(point, lambda: hello.delay("first"))
        hello.delay("second")
        app.close()
        return hit

    before, hit, point = own_threads(), True, 0
    while hit:
        hit = first_call(point)
        until = time.monotonic() + 10
        while own_threads() - before:
            assert time.monotonic() < until, f"point {point}: {own_threads() - before}"
            time.sleep(0.001)
        point += 1
    assert point > 40
