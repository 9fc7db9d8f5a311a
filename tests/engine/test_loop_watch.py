"""A loop that stands still is noticed from a thread, and the task whose code holds it is named."""

from __future__ import annotations

import asyncio
import logging
import queue
import time
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from jobmaster import JobMaster
from jobmaster.engine.loop_watch import Block, LoopWatch
from jobmaster.engine.pools.loop import LoopPool
from jobmaster.event_loop import new_event_loop
from jobmaster.model.job import Envelope, encode_envelope
from jobmaster.model.run import Run
from jobmaster.runtime import workload_of
from tests.engine.pool_workload import run_of

BLOCKS = 0.9
"""Seconds: longer than half of `max_block`, and shorter than all of it."""


def watched(story: Callable[[Callable[[], None]], Awaitable[None]], *, max_block: float = 1.0) -> list[Any]:
    """Run the story on a loop that is watched and beats; what the watch told, in order."""
    told: queue.SimpleQueue[Any] = queue.SimpleQueue()

    async def main() -> None:
        beats = 0

        async def beat() -> None:
            nonlocal beats
            while True:
                beats += 1
                await asyncio.sleep(0.05)

        beating = asyncio.create_task(beat())
        watch = LoopWatch(
            beats=lambda: beats,
            beat_every=0.05,
            max_block=max_block,
            on_block=told.put,
            on_limit=lambda block: told.put(("limit", block)),
            on_turn=lambda: told.put("turns"),
        )
        await asyncio.sleep(0.1)
        try:
            await story(lambda: None)
        finally:
            watch.stop()
            beating.cancel()

    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        runner.run(main())
    seen = []
    while not told.empty():
        seen.append(told.get())
    return seen


def run_of_task(app: JobMaster, name: str) -> Run:
    run = run_of(name)
    envelope = Envelope(task=name, call=app.codec.encode_call((), {}), created_us=1, scheduled_us=1)
    run.envelope, run.payload = envelope, encode_envelope(envelope)
    return run


@pytest.mark.parametrize("first_step", [True, False])
def test_the_task_and_its_line_are_named_while_it_blocks(
    first_step: bool, tmp_path: Any, caplog: pytest.LogCaptureFixture
) -> None:
    app = JobMaster("watched", master=f"sqlite:///{tmp_path}/x.db")

    @app.task(name="shop.blocker")
    async def blocker() -> None:
        if not first_step:
            await asyncio.sleep(0.01)
        time.sleep(BLOCKS)  # noqa: ASYNC251 - what this test is about

    run = run_of_task(app, "shop.blocker")

    async def story(_: object) -> None:
        pool = LoopPool(workload_of(app))
        ended: asyncio.Future[object] = asyncio.get_running_loop().create_future()
        pool.finished = ended.set_result
        pool.submit([run])
        await ended
        await asyncio.sleep(0.4)
        await pool.close()

    with caplog.at_level(logging.WARNING):
        block, turns = watched(story, max_block=1.0)

    assert isinstance(block, Block)
    assert block.key == run.key
    assert "task shop.blocker" in block.what
    assert f"{__file__}:" in block.what
    assert "in blocker" in block.what
    assert "time.sleep(BLOCKS)" in block.stack
    assert turns == "turns"
    (line,) = [record.getMessage() for record in caplog.records if record.getMessage().startswith("loop_blocked")]
    assert block.what in line
    assert "time.sleep(BLOCKS)" in line


def test_code_that_belongs_to_no_run_is_shown_by_its_line() -> None:
    async def story(_: object) -> None:
        time.sleep(BLOCKS)  # noqa: ASYNC251 - what this test is about
        await asyncio.sleep(0.4)

    block, *_ = watched(story)

    assert (block.key, "belongs to no run" in block.what, "in story" in block.what) == (None, True, True)


def test_the_limit_is_told_once_and_after_the_warning() -> None:
    async def story(_: object) -> None:
        time.sleep(1.6)  # noqa: ASYNC251 - as above

    block, (word, limit) = watched(story)[:2]

    assert word == "limit"
    assert limit.seconds > 1.0 > block.seconds > 0.5


def test_a_loop_that_turns_is_left_alone() -> None:
    async def story(_: object) -> None:
        for _ in range(15):
            time.sleep(0.1)  # noqa: ASYNC251 - short ones are nobody's business
            await asyncio.sleep(0)
            await asyncio.sleep(0.06)

    assert watched(story) == []
