"""The pool of coroutines: what runs see of asyncio, and how they are stopped."""

from __future__ import annotations

import asyncio
import contextvars
import sys

import pytest

from jobmaster.engine.pools.loop import LoopPool
from jobmaster.errors import SoftTimeLimitExceeded
from jobmaster.model.run import End, Halt
from tests.engine.pool_workload import FunctionWorkload, Runs, value

colour = contextvars.ContextVar("colour", default="none")


def in_pool(story, *functions):
    async def tell():
        pool = LoopPool(FunctionWorkload(*functions))
        runs = Runs(pool)
        await asyncio.wait_for(story(runs), 20)
        await pool.close()
        assert all(len(ends) == 1 for ends in runs.ends.values()), "every run is reported exactly once"

    asyncio.run(tell())


def test_a_run_that_never_suspends_returns_its_value_and_costs_no_task_of_its_own():
    tasks = set()

    async def twice(n):
        tasks.add(id(asyncio.current_task()))
        return n * 2

    async def story(runs):
        keys = [runs.submit("twice", n) for n in range(500)]
        assert [value(await runs.end(key)) for key in keys] == [n * 2 for n in range(500)]
        assert len(tasks) == 1

    in_pool(story, twice)


def test_a_run_that_suspends_keeps_the_task_that_it_saw_at_its_first_line():
    async def look(_):
        first = asyncio.current_task()
        await asyncio.sleep(0)
        await asyncio.sleep(0.001)
        return first is asyncio.current_task()

    async def story(runs):
        keys = [runs.submit("look") for _ in range(20)]
        assert all([value(await runs.end(key)) for key in keys])

    in_pool(story, look)


def test_asyncio_timeout_entered_in_the_first_step_cancels_that_run_only():
    gate = asyncio.Event()

    async def limited(_):
        try:
            async with asyncio.timeout(0.01):
                await asyncio.Event().wait()
        except TimeoutError:
            gate.set()
            return "timed out"

    async def other(_):
        await gate.wait()
        return "whole"

    async def story(runs):
        other_key, limited_key = runs.submit("other"), runs.submit("limited")
        assert value(await runs.end(limited_key)) == "timed out"
        assert value(await runs.end(other_key)) == "whole"

    in_pool(story, limited, other)


def test_a_kept_reference_to_the_current_task_cannot_cancel_a_later_run():
    kept = []

    async def keeper(_):
        kept.append(asyncio.current_task())

    async def victim(_):
        await asyncio.sleep(0)
        return "alive"

    async def story(runs):
        await runs.run("keeper")
        key = runs.submit("victim")
        await asyncio.sleep(0)
        assert kept[0].done() or not kept[0].cancel()
        kept[0].cancel()
        assert value(await runs.end(key)) == "alive"

    in_pool(story, keeper, victim)


def test_a_task_group_inside_a_run_works_and_fails_as_everywhere():
    async def child(fail):
        await asyncio.sleep(0)
        if fail:
            raise ValueError("no")
        return 1

    async def family(fail):
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(child(fail and n == 1)) for n in range(3)]
        return sum(task.result() for task in tasks)

    async def story(runs):
        assert value(await runs.run("family", argument=False)) == 3
        failed = await runs.run("family", argument=True)
        assert failed.error.type == "ExceptionGroup"

    in_pool(story, family)


def test_context_variables_of_one_run_are_invisible_to_the_next_and_live_across_awaits():
    async def paint(name):
        before = colour.get()
        colour.set(name)
        if name != "red":
            await asyncio.sleep(0)
        return [before, colour.get()]

    async def story(runs):
        assert value(await runs.run("paint", "red")) == ["none", "red"]
        assert value(await runs.run("paint", "blue")) == ["none", "blue"]
        assert value(await runs.run("paint", "red")) == ["none", "red"]

    in_pool(story, paint)


@pytest.mark.parametrize(
    ("why", "end"),
    [(Halt.CANCEL, End.CANCELLED), (Halt.HARD_LIMIT, End.TIMED_OUT), (Halt.SHUTDOWN, End.INTERRUPTED)],
)
def test_a_halted_run_ends_and_is_reported_by_its_reason(why, end):
    cleaned = []

    async def wait(_):
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            cleaned.append(1)

    async def story(runs):
        key = runs.submit("wait")
        await asyncio.sleep(0)
        assert runs.pool.halt(key, why)
        assert (await runs.end(key)).end is end
        assert cleaned == [1]
        assert not runs.pool.halt(key, why)

    in_pool(story, wait)


def test_a_run_that_waits_for_its_first_step_is_halted_without_starting():
    started = []

    async def mark(_):
        started.append(1)

    async def story(runs):
        key = runs.submit("mark")
        assert runs.pool.halt(key, Halt.CANCEL)
        assert (await runs.end(key)).end is End.CANCELLED
        await asyncio.sleep(0.01)
        assert not started

    in_pool(story, mark)


def test_a_handler_that_swallows_base_exceptions_is_resumed_no_more():
    turns = []

    async def deaf(_):
        while True:
            try:
                await asyncio.sleep(0.05)
            except BaseException:  # noqa: BLE001 - what this test is about
                turns.append("swallowed")
            turns.append("turn")

    async def story(runs):
        key = runs.submit("deaf")
        await asyncio.sleep(0)
        runs.pool.halt(key, Halt.HARD_LIMIT)
        assert (await runs.end(key)).end is End.TIMED_OUT
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        before = len(turns)
        await asyncio.sleep(0.2)
        assert len(turns) == before, "it still runs"
        assert runs.pool.stuck() == []

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "unraisablehook", lambda _: None)  # its frame complains when it is thrown away
        in_pool(story, deaf)


def test_a_run_that_was_cancelled_but_returned_has_returned():
    async def stubborn(_):
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            return "done anyway"

    async def story(runs):
        for why, end in [(Halt.CANCEL, End.RETURNED), (Halt.SHUTDOWN, End.RETURNED), (Halt.HARD_LIMIT, End.TIMED_OUT)]:
            key = runs.submit("stubborn")
            await asyncio.sleep(0)
            runs.pool.halt(key, why)
            assert (await runs.end(key)).end is end

    in_pool(story, stubborn)


def test_the_soft_limit_is_raised_where_the_run_waits_and_can_be_caught():
    async def patient(_):
        try:
            await asyncio.Event().wait()
        except SoftTimeLimitExceeded:
            await asyncio.sleep(0)
            return ["cleaned", asyncio.current_task().cancelling()]

    async def careless(_):
        await asyncio.Event().wait()

    async def story(runs):
        caught, uncaught = runs.submit("patient"), runs.submit("careless")
        await asyncio.sleep(0)
        assert runs.pool.halt(caught, Halt.SOFT_LIMIT)
        assert runs.pool.halt(uncaught, Halt.SOFT_LIMIT)
        assert value(await runs.end(caught)) == ["cleaned", 0]
        ended = await runs.end(uncaught)
        assert (ended.end, ended.error.type) == (End.RAISED, "SoftTimeLimitExceeded")

    in_pool(story, patient, careless)


def test_the_soft_limit_reaches_the_children_of_a_task_group():
    cancelled = []

    async def child():
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.append(1)
            raise

    async def family(_):
        async with asyncio.TaskGroup() as group:
            group.create_task(child())
            group.create_task(child())

    async def story(runs):
        key = runs.submit("family")
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        runs.pool.halt(key, Halt.SOFT_LIMIT)
        ended = await runs.end(key)
        assert (ended.end, ended.error.type) == (End.RAISED, "jobmaster.errors.SoftTimeLimitExceeded")
        assert cancelled == [1, 1]

    in_pool(story, family)


def test_the_hard_limit_after_the_soft_one_ends_the_run():
    async def careful(_):
        try:
            await asyncio.Event().wait()
        except SoftTimeLimitExceeded:
            await asyncio.Event().wait()

    async def story(runs):
        key = runs.submit("careful")
        await asyncio.sleep(0)
        runs.pool.halt(key, Halt.SOFT_LIMIT)
        await asyncio.sleep(0.01)
        runs.pool.halt(key, Halt.HARD_LIMIT)
        assert (await runs.end(key)).end is End.TIMED_OUT

    in_pool(story, careful)


@pytest.mark.parametrize("suspends", [False, True])
def test_a_task_that_exits_the_interpreter_ends_alone(suspends):
    async def leave(_):
        if suspends:
            await asyncio.sleep(0)
        sys.exit(3)

    async def fine(_):
        return 1

    async def story(runs):
        key = runs.submit("leave")
        assert value(await runs.run("fine")) == 1
        ended = await runs.end(key)
        assert (ended.end, ended.error.type) == (End.RAISED, "SystemExit")

    in_pool(story, leave, fine)


def test_a_run_knows_that_it_was_told_to_stop():
    async def ask(_, run):
        before = run.halting
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            return [before, run.halting]

    async def story(runs):
        key = runs.submit("ask")
        await asyncio.sleep(0)
        runs.pool.halt(key, Halt.CANCEL)
        assert value(await runs.end(key)) == [False, True]

    in_pool(story, ask)


def test_closing_interrupts_what_is_left():
    async def wait(_):
        await asyncio.Event().wait()

    async def story(runs):
        keys = [runs.submit("wait") for _ in range(3)]
        await asyncio.sleep(0)
        keys.append(runs.submit("wait"))
        await runs.pool.close()
        assert [(await runs.end(key)).end for key in keys] == [End.INTERRUPTED] * 4

    in_pool(story, wait)
