"""The link of an in-process worker: its keeper lives in a thread and on a loop of its own."""

from __future__ import annotations

import asyncio
import random
import threading
import time

import pytest

from jobmaster.engine.links.threads import KeeperThread, ThreadLink
from jobmaster.model.ids import new_job_key
from jobmaster.model.worker import Grant
from jobmaster.ports.link import Report
from jobmaster.rules.lease import LeaseTiming
from tests.engine.pool_workload import until


class SystemClock:
    def now_us(self):
        return time.time_ns() // 1000

    def trust_ns(self):
        return time.monotonic_ns()

    def monotonic(self):
        return time.monotonic()


class Store:
    """Notes in which thread it is used."""

    def __init__(self):
        self.threads, self.renewed, self.closed = set(), [], False

    async def renew(self, renewals):
        self.threads.add(threading.current_thread().name)
        self.renewed.append(renewals)
        return [Grant(renewal.number, 1) for renewal in renewals]


def make_keeper(link, store, *, open_error=None):
    async def open_store():
        if open_error:
            raise open_error
        return store

    async def close_store(opened):
        opened.closed = True

    return KeeperThread(
        link,
        open_store=open_store,
        close_store=close_store,
        clock=SystemClock(),
        timing=LeaseTiming(lease=10, renew_every=3),
        random=random.random,
    )


def make_link(*, stops=None, condemned=None):
    return ThreadLink(
        stop=(stops if stops is not None else []).append,
        on_condemned=(condemned if condemned is not None else []).append,
    )


def test_grants_arrive_on_the_engines_loop_in_order_while_the_keeper_works_in_its_thread():
    async def story():
        link, store, grants = make_link(), Store(), []
        link.on_grant(lambda grant: grants.append((grant.number, threading.current_thread().name)))
        keeper = make_keeper(link, store)
        keeper.start()
        try:
            assert link.trust_until_ns() == 0
            link.report(Report(1, soon=True))
            await until(lambda: grants)
            assert link.trust_until_ns() > time.monotonic_ns() + 8_000_000_000
            link.report(Report(1, soon=True))
            await until(lambda: len(grants) == 2)
            assert grants == [(1, "MainThread"), (2, "MainThread")]
            assert store.threads == {"jobmaster-lease"}
        finally:
            keeper.stop()
        assert store.closed
        keeper.stop()

    asyncio.run(story())


def test_the_lease_is_renewed_while_user_code_blocks_the_engines_loop():
    async def story():
        link, store = make_link(), Store()
        link.on_grant(lambda _: None)
        keeper = make_keeper(link, store)
        keeper.start()
        try:
            link.report(Report(1))
            limit = time.monotonic() + 20
            while not link.trust_until_ns() and time.monotonic() < limit:
                pass
            assert link.trust_until_ns()
        finally:
            keeper.stop()

    asyncio.run(story())


def test_a_store_that_cannot_be_opened_fails_the_start():
    keeper = make_keeper(make_link(), Store(), open_error=ConnectionError("no database"))
    with pytest.raises(ConnectionError, match="no database"):
        keeper.start()
    keeper.stop()


def test_termination_reaches_the_engine_and_the_second_one_says_now():
    async def story():
        stops = []
        link = make_link(stops=stops)
        link.on_grant(lambda _: None)
        await asyncio.to_thread(link.terminate)
        await asyncio.to_thread(link.terminate)
        await until(lambda: len(stops) == 2)
        assert stops == [False, True]
        link.kill()
        await until(lambda: len(stops) == 3)
        assert stops[2] is True

    asyncio.run(story())


def test_evidence_beats_and_condemnation_are_seen_at_the_other_end():
    condemned = []
    link = make_link(condemned=condemned)
    one, two = new_job_key(), new_job_key()
    place = link.running(one)
    link.running(two)
    assert link.evidence() == [one, two]
    link.ended(place)
    assert link.evidence() == [two]
    link.beat()
    link.beat()
    assert link.beats() == 2
    link.condemn("a run does not end")
    link.condemn("another")
    assert (link.condemned(), condemned) == ("a run does not end", ["a run does not end"])
    assert link.exit_reason() is None
    link.exited("exit 0")
    assert link.exit_reason() == "exit 0"


def test_a_grant_for_an_engine_whose_loop_is_closed_is_dropped():
    link = make_link()

    async def story():
        link.on_grant(lambda _: None)

    asyncio.run(story())
    link.grant(Grant(1, 1), trust_until_ns=5)
    assert link.trust_until_ns() == 5


def test_a_grant_that_meets_the_end_of_the_lease_is_none():
    """The keeper's thread has looked already when another thread forsakes the engine."""

    class Met(ThreadLink):
        def __setattr__(self, name, value):
            if name == "_trust_until_ns" and value:
                self.forsake("blocked")
            super().__setattr__(name, value)

    link = Met(stop=lambda now: None, on_condemned=lambda reason: None)
    link.grant(Grant(1, 1), trust_until_ns=10**18)
    assert link.trust_until_ns() == 0
