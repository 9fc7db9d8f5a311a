"""Held jobs go to the engine that starts them first: one whose slots are taken for long leaves them to the others."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from jobmaster.engine.life import Stage
from jobmaster.engine.restraint import LEAVE_S, Restraint
from jobmaster.model.job import Blame, NewJob
from jobmaster.model.states import JobStatus
from tests.engine.one_engine import final, new_job, running_engine, until
from tests.engine.pool_workload import FunctionWorkload


class Engine:
    """What a restraint asks of an engine."""

    def __init__(self, *, free: int = 0) -> None:
        self.now, self.free, self.ended, self.alone = 100.0, free, 0, False
        clock: Any = SimpleNamespace(monotonic=lambda: self.now)
        self.restraint = Restraint(
            clock=clock, free=lambda: self.free, ended=lambda: self.ended, alone=lambda: self.alone
        )
        self.restraint.look()

    def passes(self, seconds: int, *, ended: int = 0) -> None:
        for _ in range(seconds):
            self.now += 1.0
            self.ended += ended
            self.restraint.look()

    def claimed(self, count: int, *, is_left: bool, due_us: int = 0) -> list[Any]:
        jobs: list[Any] = [SimpleNamespace(stage=Stage.WAITING, alive=True, due_us=due_us) for _ in range(count)]
        self.restraint.answered(jobs, 1_000, is_left=is_left, is_restrained=True)
        return jobs


def test_as_many_are_claimed_as_slots_are_free_or_soon_will_be() -> None:
    engine = Engine(free=3)
    assert engine.restraint.most() == 3
    engine.passes(12, ended=20)
    assert engine.restraint.most() == 23


def test_a_wave_of_long_runs_that_ended_says_little_about_the_next_second() -> None:
    engine = Engine()
    engine.passes(10)
    engine.passes(2, ended=15)
    assert engine.restraint.most() == 3, "thirty in ten seconds"
    engine.passes(3)
    assert engine.restraint.most() == 0


def test_what_was_claimed_and_waits_counts_until_it_starts() -> None:
    engine = Engine(free=5)
    jobs = engine.claimed(2, is_left=False)
    assert engine.restraint.most() == 3
    jobs[0].stage = Stage.RUNNING
    jobs[1].alive = False
    assert engine.restraint.most() == 5
    engine.claimed(2, is_left=False, due_us=2_000)
    assert engine.restraint.most() == 5, "what is not due takes no slot yet"


def test_what_nobody_else_takes_is_claimed_after_a_while() -> None:
    engine = Engine()
    assert engine.restraint.left_for() is None
    engine.claimed(0, is_left=True)
    assert (engine.restraint.most(), engine.restraint.left_for()) == (0, LEAVE_S)
    engine.now += LEAVE_S - 0.5
    engine.claimed(0, is_left=True)
    assert (engine.restraint.most(), engine.restraint.left_for()) == (0, 0.5), "counted from when it was first seen"
    engine.now += 0.5
    assert engine.restraint.most() is None
    engine.restraint.answered([], 1_000, is_left=True, is_restrained=False)
    assert engine.restraint.most() is None, "until nothing is left"
    engine.restraint.answered([], 1_000, is_left=False, is_restrained=False)
    assert (engine.restraint.most(), engine.restraint.left_for()) == (0, None)


def test_an_engine_that_is_alone_leaves_nothing_to_others_unless_one_has_just_died() -> None:
    engine = Engine()
    engine.alone = True
    assert engine.restraint.most() == 0, "it may have a successor in a moment"
    engine.now += LEAVE_S + 0.1
    assert engine.restraint.most() is None


def test_free_slots_make_it_go_on_with_what_was_left() -> None:
    engine = Engine()
    assert not engine.restraint.may_go_on(), "nothing is left"
    engine.claimed(0, is_left=True)
    assert not engine.restraint.may_go_on()
    engine.free = 1
    assert engine.restraint.may_go_on()
    engine.passes(2, ended=40)
    engine.claimed(30, is_left=True)
    assert not engine.restraint.may_go_on(), "one at a time would be a statement for each job"
    engine.now += LEAVE_S
    assert not engine.restraint.may_go_on(), "what is over goes on by itself"


async def push_to(store: Any, engine: Any, *jobs: NewJob) -> None:
    """Into a bucket of this engine, as soon as it has one."""
    await until(engine.lease.open_lives)
    (bucket,) = [life.bucket.id for life in engine.lease.open_lives() if life.bucket.priority == 3]
    await store.push(bucket, list(jobs))


async def test_what_a_dead_engine_ran_starts_in_its_successor_while_its_sibling_is_busy_for_long(
    store: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jobmaster.engine.restraint.LEAVE_S", 60.0)  # however long the successor needs to begin
    gate, runs = asyncio.Event(), []

    async def gated(argument: object) -> None:
        runs.append(argument)
        await gate.wait()

    jobs = [new_job("gated", number) for number in range(4)]
    tuning = {"slots": 2, "lease": 3.0, "early_row_after": 0.02, "claim_every": 60.0}
    async with running_engine(store, FunctionWorkload(gated), name="sibling", **tuning) as sibling:
        await push_to(store, sibling.engine, *jobs[:2])
        await until(lambda: len(runs) == 2)
        async with running_engine(store, FunctionWorkload(gated), name="dying", **tuning) as dying:
            await until(lambda: sibling.engine.lease.workers == 2)
            await push_to(store, dying.engine, *jobs[2:])
            await until(lambda: len(runs) == 4)
            ran = [job.key for job in jobs[2:]]
            assert set(dying.engine.runner.running) == set(ran)
            async with asyncio.timeout(10):
                while any(
                    state is None or state.status is not JobStatus.PROCESSING for state in await store.look_up(ran)
                ):
                    await asyncio.sleep(0.01)
            await dying.vanish()
            await store.end_worker(dying.engine.lease.worker, blame=[Blame(key, "SIGKILL") for key in ran])
            await asyncio.sleep(0.2)  # what a process needs to start
            async with running_engine(store, FunctionWorkload(gated), name="heir", **tuning) as heir:
                await until(lambda: len(runs) == 4 + len(ran))
                assert set(heir.engine.runner.running) == set(ran)
                gate.set()
                await final(store, *(job.key for job in jobs))


@pytest.mark.parametrize("count", [1, 7])
async def test_a_busy_engine_claims_what_nobody_else_takes(store: Any, count: int) -> None:
    gate, ran = asyncio.Event(), []

    async def gated(_argument: object) -> None:
        await gate.wait()

    async def note(argument: object) -> None:
        ran.append(argument)

    workload = FunctionWorkload(gated, note)
    async with (
        running_engine(store, workload, name="one", lease=3.0, slots=1) as one,
        running_engine(store, workload, name="two", lease=3.0, slots=1) as two,
    ):
        for running in (one, two):
            await push_to(store, running.engine, new_job("gated"))
        await until(lambda: one.engine.runner.running and two.engine.runner.running)
        await until(lambda: one.engine.lease.workers == two.engine.lease.workers == 2)
        held = [new_job("note", number) for number in range(count)]
        await store.hold(held)
        await store.signal(["held"])
        await until(lambda: one.engine.restraint.left_for() is not None)
        gate.set()
        await final(store, *(job.key for job in held))
    assert sorted(ran) == list(range(count))
