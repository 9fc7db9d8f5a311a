"""Rules that random faults hardly ever put to the test, each in the one situation in which it matters.

Every test tells its story twice: as designed, and without the rule, to see that the story would show it.
"""

from __future__ import annotations

import asyncio
import dataclasses
import gc
import sys
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from jobmaster.model.job import Fence, NewJob
from jobmaster.model.states import BucketStatus, JobStatus
from tests.simulation.network import Call, Told
from tests.simulation.variants import removed
from tests.simulation.workload import Plan
from tests.simulation.world import CONFIGS, World, run_world

Story = Callable[[World], Coroutine[Any, Any, None]]


def told(story: Story, *, without: tuple[str, ...] = (), **changes: Any) -> World:
    config = dataclasses.replace(CONFIGS["calm"], **changes)
    with removed(without) as guards_off:
        world = World(7, config, guards_off=guards_off)
        run_world(world, story(world))
    world.checker.violations.pop("stuck", None)
    return world


@pytest.fixture(autouse=True)
def _bury_what_a_story_leaves():
    hook, sys.unraisablehook = sys.unraisablehook, lambda _: None
    yield
    gc.collect()
    sys.unraisablehook = hook


def status_of(world: World, name: str) -> JobStatus | None:
    key = next(plan.key for plan in world.plans.values() if plan.name == name)
    return world.checker.rows[key].status if key in world.checker.rows else None


def starts_of(world: World, name: str) -> list[float]:
    key = next(plan.key for plan in world.plans.values() if plan.name == name)
    return [at for at, *_ in world.checker.jobs[key].starts]


def master_of(world: World) -> Any:
    return next(iter(world.servers.values())).store


# ---------------------------------------------------------------------------------------------------------- R18


async def a_bucket_that_the_master_does_not_know(world: World) -> None:
    """A fence that applied late has made a bucket again in the agent, and a stale producer pushed into it."""
    world.add_host("w0")
    await asyncio.sleep(2.0)
    plan = Plan(key=b"o" * 16, name="orphan", task="short", lane="", priority=3, lasts=0.1)
    world.plans[plan.key] = plan
    world.checker.offered(plan, world.store_us())
    agent = world.servers["fast"].store
    await agent.fence(Fence(999, 1, 0))
    now_us = world.store_us()
    await agent.push(999, [NewJob(plan.key, plan.envelope(now_us), plan.payload(now_us), due_us=now_us)])
    world.checker.accepted(plan.key)
    await asyncio.sleep(15.0)


def test_messages_of_an_unknown_bucket_come_to_the_master_and_run():
    assert status_of(told(a_bucket_that_the_master_does_not_know), "orphan") is JobStatus.SUCCEEDED
    world = told(a_bucket_that_the_master_does_not_know, without=("no_janitor",))
    assert status_of(world, "orphan") is None, "without R18 nobody ever looks there"


# ---------------------------------------------------------------------------------------------------------- R9


async def an_insert_that_commits_after_a_later_one(world: World) -> None:
    world.add_host("w0")
    await asyncio.sleep(2.0)
    waits = [1.0]

    async def commit() -> None:
        await asyncio.sleep(waits.pop() if waits else 0.0)

    world.servers["fast"].store._agent_pause = commit
    world.enqueue("slow")
    await asyncio.sleep(0.2)
    world.enqueue("fast")
    await asyncio.sleep(5.0)


def test_a_message_that_became_visible_below_the_cursor_is_read():
    world = told(an_insert_that_commits_after_a_later_one)
    assert starts_of(world, "slow")[0] > starts_of(world, "fast")[0]
    world = told(an_insert_that_commits_after_a_later_one, without=("no_gap",))
    assert not starts_of(world, "slow")


# ---------------------------------------------------------------------------------------------------------- R15, R16


async def a_drain_whose_grant_is_lost(world: World) -> None:
    both = world.add_host("both")
    world.add_host("one", lanes=("",))
    await asyncio.sleep(2.0)
    both.kill_tree()

    def script(call: Call) -> Told | None:
        draining = any(row.status is BucketStatus.DRAINING for row in master_of(world).buckets.values())
        return Told(lost=True) if call.verb == "claim_drain" and not draining else None

    world.network.script = script
    world.enqueue("mail", lane="mail")
    await asyncio.sleep(40.0)


def test_a_drain_whose_grant_was_lost_is_taken_up_again():
    def left(world: World) -> list[Any]:
        return [row for row in master_of(world).buckets.values() if row.status is BucketStatus.DRAINING]

    world = told(a_drain_whose_grant_is_lost)
    assert status_of(world, "mail") is JobStatus.HELD_ON_MASTER
    assert not left(world)
    assert left(told(a_drain_whose_grant_is_lost, without=("drain_once",)))


# ---------------------------------------------------------------------------------------------------------- R14'a


async def a_claim_whose_reply_is_slow(world: World) -> None:
    """Two renewals are answered in between: the second one has the claimed row recovered."""
    world.add_host("w0")
    await asyncio.sleep(2.0)
    slow = [Told(reply_after=7.0)]

    def script(call: Call) -> Told | None:
        held = any(row.status is JobStatus.HELD_ON_MASTER for row in master_of(world).jobs)
        return slow.pop() if call.verb == "claim" and held and slow else None

    world.network.script = script
    world.enqueue("held", hold=True)
    await asyncio.sleep(20.0)


def test_a_claim_that_is_answered_too_late_is_thrown_away():
    world = told(a_claim_whose_reply_is_slow)
    assert len(starts_of(world, "held")) == 1
    assert not world.checker.violations
    world = told(a_claim_whose_reply_is_slow, without=("claim_late",))
    assert len(starts_of(world, "held")) > 1


async def a_claim_that_renewals_overtake(world: World) -> None:
    """As where a process has died: its jobs are claimed, its buckets adopted, and three renewals come in between."""
    host = world.add_host("w0")
    await asyncio.sleep(2.0)
    slow = [Told(reply_after=1.0)]

    def script(call: Call) -> Told | None:
        held = any(row.status is JobStatus.HELD_ON_MASTER for row in master_of(world).jobs)
        return slow.pop() if call.verb == "claim" and held and slow else None

    world.network.script = script
    world.enqueue("held", hold=True)
    while not any(row.status is JobStatus.QUEUED for row in master_of(world).jobs):
        await asyncio.sleep(0.01)
    (engine,) = host.engines.values()
    for _ in range(3):
        await asyncio.sleep(0.3)
        engine.lease.report(soon=True)
    await asyncio.sleep(10.0)


def test_renewals_during_a_claim_do_not_take_back_what_it_brings():
    def assigned(world: World) -> int:
        assert not world.checker.violations
        key = next(plan.key for plan in world.plans.values() if plan.name == "held")
        ((_, _, assignment, _),) = world.checker.jobs[key].starts
        return assignment.gen

    assert assigned(told(a_claim_that_renewals_overtake)) == 1
    assert assigned(told(a_claim_that_renewals_overtake, without=("claim_cut",))) > 1


async def a_claim_that_applies_after_a_renewal(world: World) -> None:
    """The renewal's cut is before the claim: none that follows can have the claimed row recovered."""
    world.add_host("w0")
    await asyncio.sleep(2.0)
    slow = [Told(apply_after=3.0)]

    def script(call: Call) -> Told | None:
        held = any(row.status is JobStatus.HELD_ON_MASTER for row in master_of(world).jobs)
        return slow.pop() if call.verb == "claim" and held and slow else None

    world.network.script = script
    world.enqueue("held", hold=True)
    while not any(row.status is JobStatus.QUEUED for row in master_of(world).jobs):
        await asyncio.sleep(0.01)
    world.left = [asyncio.get_running_loop().time()]
    await asyncio.sleep(10.0)


def test_a_claim_that_was_taken_after_the_cut_of_all_renewals_is_kept():
    world = told(a_claim_that_applies_after_a_renewal)
    (started,) = starts_of(world, "held")
    assert abs(started - world.left[0]) < 0.5
    assert not world.checker.violations


# ---------------------------------------------------------------------------------------------------------- R7


async def an_opening_that_no_renewal_has_named(world: World) -> None:
    """For three seconds after the buckets were made no renewal is answered, while an older one is still trusted."""

    def script(call: Call) -> Told | None:
        made = master_of(world).buckets
        return Told(lost=True) if call.verb == "renew" and made and world.loop.virtual < 4.0 else None

    world.network.script = script
    world.add_host("w0")
    while not master_of(world).buckets:
        await asyncio.sleep(0.01)
    world.enqueue("early")
    await asyncio.sleep(12.0)


def test_a_bucket_that_was_opened_is_used_only_after_a_renewal_named_it():
    assert starts_of(told(an_opening_that_no_renewal_has_named), "early")[0] > 4.0
    world = told(an_opening_that_no_renewal_has_named, without=("grant_open",))
    assert starts_of(world, "early")[0] < 4.0


async def a_process_that_wakes_up_between_the_trust_and_the_answer(world: World) -> None:
    """The lease has ended and was regained; the answer that says what is left is still on its way to the engine."""
    host = world.add_host("w0")
    await asyncio.sleep(2.0)
    engine = host.engines[host.children()[0]]
    world.trust = [engine.lease.trusted()]
    host.supervisor_process.cut.update(world.servers)
    await asyncio.sleep(10.0)
    world.trust.append(engine.lease.trusted())
    engine.lease._link._memory.trust_until_ns = host.clock.trust_ns() + 5_000_000_000
    world.trust.append(engine.lease.trusted())
    host.supervisor_process.cut.clear()
    await asyncio.sleep(4.0)
    world.trust.append(engine.lease.trusted())


def test_trust_comes_back_with_the_answer_and_not_before():
    world = told(a_process_that_wakes_up_between_the_trust_and_the_answer)
    assert world.trust == [True, False, False, True]


# ---------------------------------------------------------------------------------------------------------- R10


async def an_early_row_that_is_answered_late(world: World) -> None:
    """The entry asks to start while its early row is on the way: only the second answer is a permission."""
    world.add_host("w0")
    await asyncio.sleep(2.0)
    for number in range(3):
        world.enqueue(f"busy{number}", lasts=3.0)  # half of it at least: longer than an early row waits
    await asyncio.sleep(0.3)
    slow = [Told(reply_after=4.0)]

    def script(call: Call) -> Told | None:
        first = call.verb == "start" and call.args[1][0].status is JobStatus.QUEUED and slow
        return slow.pop() if first else None

    world.network.script = script
    world.enqueue("once", task="once", lasts=1.0)
    await asyncio.sleep(15.0)
    world.left = list(slow)


def test_the_answer_to_an_early_row_is_no_permission_to_start():
    world = told(an_early_row_that_is_answered_late, priorities=(3,))
    assert not world.left, "the early row was never sent"
    assert status_of(world, "once") is JobStatus.SUCCEEDED
    started = starts_of(world, "once")
    recorded = world.checker.jobs[next(p.key for p in world.plans.values() if p.name == "once")].recorded
    assert len(started) == len(recorded) == 1


# ---------------------------------------------------------------------------------------------------------- R24


async def a_closing_that_applies_late(world: World) -> None:
    world.add_host("w0")
    await asyncio.sleep(2.0)
    for row in list(master_of(world).buckets.values()):
        row.status = BucketStatus.COMPLETING
        await world.servers["fast"].store.close(Fence(row.id, row.epoch, row.owner))
    world.enqueue("held", hold=True)
    await asyncio.sleep(6.0)
    world.enqueue("pushed")
    await asyncio.sleep(10.0)  # a claim may be thrown away, and comes back at the second renewal after


def test_a_bucket_that_was_shut_under_its_owner_is_opened_again():
    world = told(a_closing_that_applies_late)
    assert status_of(world, "held") is status_of(world, "pushed") is JobStatus.SUCCEEDED
    assert {row.status for row in master_of(world).buckets.values()} == {BucketStatus.ACTIVE}
    assert not world.checker.violations


# ---------------------------------------------------------------------------------------------------------- R3


async def two_copies_of_a_job_in_one_worker(world: World) -> None:
    """A late copy lies in another bucket of the same owner, unmarked, while the first one runs."""
    host = world.add_host("w0")
    await asyncio.sleep(2.0)
    plan = world.enqueue("copied", lasts=3.0)
    await asyncio.sleep(0.5)
    world.checker.doubtful(plan.key)
    other = next(row for row in master_of(world).buckets.values() if (row.lane, row.priority) == ("", 5))
    now_us = world.store_us()
    copy = NewJob(plan.key, plan.envelope(now_us), plan.payload(now_us), due_us=now_us)
    await world.servers["fast"].store.push(other.id, [copy])
    await asyncio.sleep(10.0)
    world.left = [len(life.entries) for life in host.engines[host.children()[0]].lease.lives.values()]


def test_a_job_never_runs_twice_at_once_in_a_process():
    world = told(two_copies_of_a_job_in_one_worker)
    assert not world.checker.violations
    assert status_of(world, "copied") is JobStatus.SUCCEEDED
    assert not any(world.left), "a copy stayed in memory"


# ------------------------------------------------------------------------------- what protocol.md 6 left to be shown


async def an_adopter_that_cannot_reach_the_agent(world: World) -> None:
    first, second = world.add_host("w0"), world.add_host("w1")
    await asyncio.sleep(2.0)
    world.enqueue("waiting", delay=12.0)
    await asyncio.sleep(0.5)
    for process in second.processes():
        process.cut.add("fast")
    first.kill_tree()
    await asyncio.sleep(20.0)
    world.seen = world.stats["done: return_bucket"]
    for process in second.processes():
        process.cut.clear()
    await asyncio.sleep(10.0)


async def a_bucket_that_is_given_back_late(world: World) -> None:
    """The agent can be reached again while the give-back, whose reply was lost, has not yet taken effect."""
    host = world.add_host("w0")
    late = [Told(lost=True, apply_after=5.0)]

    def script(call: Call) -> Told | None:
        return late.pop() if call.verb == "return_bucket" and late else None

    world.network.script = script
    for process in host.processes():
        process.cut.add("fast")
    while not host.children():
        await asyncio.sleep(0.01)
    host.children()[0].cut.add("fast")
    while late:
        await asyncio.sleep(0.01)
    host.children()[0].cut.clear()
    for number in range(12):
        await asyncio.sleep(0.5)
        world.enqueue(f"j{number}", priority=world.rng.choice((3, 5)))
    await asyncio.sleep(8.0)


def test_a_bucket_that_was_given_back_is_not_opened_before_the_answer():
    world = told(a_bucket_that_is_given_back_late)
    assert not world.checker.violations
    assert all(status_of(world, plan.name) is JobStatus.SUCCEEDED for plan in world.plans.values())


def test_an_adopter_that_cannot_reach_the_agent_gives_the_bucket_back_and_does_not_ask_again():
    world = told(an_adopter_that_cannot_reach_the_agent)
    buckets = len(master_of(world).buckets)
    assert 0 < world.seen <= 2 * buckets, "given back, and not taken again and again"
    assert status_of(world, "waiting") is JobStatus.SUCCEEDED
    assert not world.checker.violations
