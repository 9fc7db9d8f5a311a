"""The keeper of leases, on virtual time: what a renewal grants, and how it goes on through trouble."""

from __future__ import annotations

import asyncio
import itertools

import pytest

from jobmaster.engine.lease_keeper import LeaseKeeper
from jobmaster.model.ids import new_job_key
from jobmaster.ports.link import Report
from jobmaster.rules.lease import LeaseTiming, retry_after, trust_until_ns
from tests.engine.keeper_doubles import FakeChild, FakeStore, VirtualClock, on_virtual_time

TIMING = LeaseTiming(lease=10, renew_every=3)


def keep(story, *, timing=TIMING):
    """Run `story(loop, store, keeper)` beside a running keeper."""

    async def tell(loop):
        store = FakeStore(loop)
        keeper = LeaseKeeper(store=store, clock=VirtualClock(loop), timing=timing, random=lambda: 0.5)
        keeping = asyncio.create_task(keeper.run())
        await story(loop, store, keeper)
        assert not keeping.done(), "the keeper has ended"

    on_virtual_time(tell)


def test_one_call_renews_all_children_every_period_with_what_they_reported():
    async def story(loop, store, keeper):
        key = new_job_key()
        one, two, silent = FakeChild(loop, worker=1), FakeChild(loop, worker=2), FakeChild(loop)
        one.report = Report(1, held=[(key, 3)], cut_us=7, adopt=2, depths={5: 6}, cancels_after=9)
        for child in (one, two, silent):
            keeper.add(child)
        await asyncio.sleep(9.5)
        assert [[renewal.worker for renewal in renewals] for _, renewals in store.sent] == [[1, 2]] * 4
        assert [round(b - a, 2) for (a, _), (b, _) in itertools.pairwise(store.sent)] == [3.0] * 3
        renewal = store.sent[1][1][0]
        assert (renewal.number, renewal.held, renewal.cut_us, renewal.adopt) == (2, [(key, 3)], 7, 2)
        assert (renewal.depths, renewal.cancels_after) == ({5: 6}, 9)
        assert [number for _, (first, _) in store.sent for number in [first.number]] == [1, 2, 3, 4]
        assert not silent.granted

    keep(story)


def test_trust_is_counted_from_before_the_renewal_was_sent_and_ends_a_margin_early():
    async def story(loop, store, keeper):
        store.latency = 2.0
        child = FakeChild(loop, worker=1)
        keeper.add(child)
        await asyncio.sleep(2.5)
        sent_at = store.sent[0][0]
        granted_at, _, until_ns = child.granted[0]
        assert granted_at >= sent_at + 2
        assert until_ns == pytest.approx((sent_at + 9) * 1e9, abs=2000)

    keep(story)


def test_the_margin_is_a_setting():
    assert trust_until_ns(LeaseTiming(lease=10, margin=2.5), sent_ns=1_000) == 7_500_001_000
    assert trust_until_ns(LeaseTiming(lease=4), sent_ns=0) == 3_600_000_000


def test_a_report_that_says_soon_is_renewed_at_once_and_only_once():
    async def story(loop, store, keeper):
        child = FakeChild(loop, worker=1)
        keeper.add(child)
        await asyncio.sleep(1)
        before = len(store.sent)
        child.report = Report(1, adopt=5, soon=True)
        keeper.hurry()
        await asyncio.sleep(0.001)
        assert len(store.sent) == before + 1
        assert store.sent[-1][1][0].adopt == 5
        await asyncio.sleep(2.5)
        assert len(store.sent) == before + 1

    keep(story)


def test_a_soon_that_nobody_announced_is_found_within_a_quarter_of_a_second():
    async def story(loop, store, keeper):
        child = FakeChild(loop, worker=1)
        keeper.add(child)
        await asyncio.sleep(1)
        before = len(store.sent)
        child.report = Report(1, soon=True)
        await asyncio.sleep(0.26)
        assert len(store.sent) == before + 1

    keep(story)


def test_engines_that_always_hurry_are_renewed_twenty_times_a_second_at_most():
    async def story(loop, store, keeper):
        store.latency = 0
        child = FakeChild(loop, worker=1)
        keeper.add(child)
        until = loop.virtual + 2
        while loop.virtual < until:
            child.report = Report(1, soon=True)
            keeper.hurry()
            await asyncio.sleep(0.001)
        assert 20 < len(store.sent) <= 42

    keep(story)


def test_trouble_is_retried_with_growing_waits_that_never_cost_the_lease():
    async def story(loop, store, keeper):
        keeper.add(FakeChild(loop, worker=1))
        store.trouble = ConnectionError("no database")
        await asyncio.sleep(20)
        times = [at for at, _ in store.sent]
        gaps = [b - a for a, b in itertools.pairwise(times)]
        assert gaps[0] < gaps[2] < gaps[4]
        assert max(gaps) <= 1.1
        numbers = [renewals[0].number for _, renewals in store.sent]
        assert numbers == sorted(set(numbers)), "every try has a higher number"
        store.trouble = None
        await asyncio.sleep(1.2)
        child = keeper._children[0]
        assert child.granted

    keep(story)


def test_a_call_that_hangs_is_abandoned_and_the_next_still_saves_the_lease():
    async def story(loop, store, keeper):
        child = FakeChild(loop, worker=1)
        keeper.add(child)
        await asyncio.sleep(3.5)
        until_ns = child.granted[-1][2]
        store.trouble = "hang"
        hung = len(store.sent)
        while len(store.sent) == hung:
            await asyncio.sleep(0.1)
        store.trouble = None
        while child.granted[-1][2] == until_ns or loop.virtual < store.sent[hung][0] + 0.1:
            await asyncio.sleep(0.1)
            assert loop.virtual * 1e9 < until_ns, "the lease was lost"
        assert store.most_under_way == 1

    keep(story)


def test_a_store_that_does_not_listen_to_its_cancellation_holds_up_nobody():
    async def story(loop, store, keeper):
        over = False

        async def deaf(renewals):
            store.sent.append((loop.virtual, renewals))
            while not over:
                try:
                    await asyncio.sleep(2.5)
                except asyncio.CancelledError:
                    continue

        store.renew = deaf
        keeper.add(FakeChild(loop, worker=1))
        await asyncio.sleep(9)
        assert len(store.sent) >= 2
        over = True

    keep(story)


def test_gone_is_delivered():
    async def story(loop, store, keeper):
        child = FakeChild(loop, worker=1)
        store.gone.add(1)
        keeper.add(child)
        await asyncio.sleep(1)
        assert child.granted[0][1].gone

    keep(story)


def test_an_answer_to_another_number_grants_nothing():
    async def story(loop, store, keeper):
        child = FakeChild(loop, worker=1)
        store.number = 77
        keeper.add(child)
        await asyncio.sleep(4)
        assert len(store.sent) >= 2
        assert child.granted == []

    keep(story)


def test_the_dead_and_the_removed_are_renewed_no_more():
    async def story(loop, store, keeper):
        one, two, three = (FakeChild(loop, worker=n) for n in (1, 2, 3))
        for child in (one, two, three):
            keeper.add(child)
        await asyncio.sleep(1)
        one.die("SIGKILL")
        keeper.remove(two)
        await asyncio.sleep(3)
        assert [renewal.worker for renewal in store.sent[-1][1]] == [3]

    keep(story)


def test_a_new_worker_is_renewed_without_waiting_for_the_period():
    async def story(loop, store, keeper):
        keeper.add(FakeChild(loop, worker=1))
        await asyncio.sleep(1)
        newcomer = FakeChild(loop)
        keeper.add(newcomer)
        newcomer.report = Report(2)
        await asyncio.sleep(0.5)
        assert newcomer.granted

    keep(story)


@pytest.mark.parametrize("failures", [1, 2, 5, 50, 5000])
def test_waits_between_tries_stay_within_a_tenth_of_the_lease(failures):
    shortest, longest = (retry_after(TIMING, failures=failures, random=number) for number in (0.0, 0.999))
    assert 0 < shortest < longest <= TIMING.lease / 10
