"""A loop that stands still is noticed from a thread, and the task whose code holds it is named."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Awaitable, Callable
from typing import Any
from unittest import mock

import pytest

from jobmaster import JobMaster
from jobmaster.engine import loop_watch
from jobmaster.engine.loop_watch import Block, LoopWatch
from jobmaster.engine.pools.loop import LoopPool
from jobmaster.event_loop import new_event_loop
from jobmaster.model.job import Envelope, encode_envelope
from jobmaster.model.run import Run
from jobmaster.runtime import workload_of
from tests.engine.pool_workload import run_of

FAR = 60.0
"""Seconds: no `max_block` where that is not what a test is about."""


class Told(list[Any]):
    """What the watch told, in order. It tells it in its own thread, so the others can wait for it."""

    def __init__(self) -> None:
        super().__init__()
        self._more = threading.Condition()

    def tell(self, word: Any) -> None:
        with self._more:
            self.append(word)
            self._more.notify_all()

    def blocks_until(self, count: int) -> None:
        """Hold the thread of the caller up until so much was told."""
        with self._more:
            assert self._more.wait_for(lambda: len(self) >= count, 20)

    async def until(self, count: int) -> None:
        """Let the loop turn until so much was told."""
        async with asyncio.timeout(20):
            while len(self) < count:
                await asyncio.sleep(0.01)


def watched(story: Callable[[Told], Awaitable[None]], *, max_block: float = FAR, warn_after: float = 0.5) -> Told:
    """Run the story on a loop that is watched and beats; what the watch told."""
    told = Told()

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
            on_block=told.tell,
            on_limit=lambda block: told.tell(("limit", block)),
            on_turn=lambda: told.tell("turns"),
        )
        while beats < 2:
            await asyncio.sleep(0.01)
        try:
            await story(told)
        finally:
            watch.stop()
            beating.cancel()

    shorter = mock.patch.object(loop_watch, "WARN_AFTER", warn_after)
    with shorter, asyncio.Runner(loop_factory=new_event_loop) as runner:
        runner.run(main())
    return told


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
    watch: list[Told] = []

    @app.task(name="shop.blocker")
    async def blocker() -> None:
        if not first_step:
            await asyncio.sleep(0.01)
        watch[0].blocks_until(1)

    run = run_of_task(app, "shop.blocker")

    async def story(told: Told) -> None:
        watch.append(told)
        pool = LoopPool(workload_of(app))
        ended: asyncio.Future[object] = asyncio.get_running_loop().create_future()
        pool.finished = ended.set_result
        pool.submit([run])
        await ended
        await told.until(2)
        await pool.close()

    with caplog.at_level(logging.WARNING):
        block, turns = watched(story)

    assert isinstance(block, Block)
    assert block.key == run.key
    assert "task shop.blocker" in block.what
    assert f"{__file__}:" in block.what
    assert "in blocker" in block.what
    assert "watch[0].blocks_until(1)" in block.stack
    assert turns == "turns"
    (line,) = [record.getMessage() for record in caplog.records if record.getMessage().startswith("loop_blocked")]
    assert block.what in line
    assert "watch[0].blocks_until(1)" in line


def test_code_that_belongs_to_no_run_is_shown_by_its_line() -> None:
    async def story(told: Told) -> None:
        while not told:
            time.sleep(0.01)  # noqa: ASYNC251 - what this test is about

    block, *_ = watched(story)

    assert (block.key, "belongs to no run" in block.what, "in story" in block.what) == (None, True, True)


def test_the_limit_is_told_once_and_after_the_warning() -> None:
    async def story(told: Told) -> None:
        told.blocks_until(2)
        time.sleep(0.6)  # noqa: ASYNC251 - more than both numbers once more
        await told.until(3)

    block, (word, limit), turns = watched(story, max_block=1.0, warn_after=0.2)

    assert (word, turns) == ("limit", "turns")
    assert limit.seconds > 1.0
    assert 0.2 < block.seconds < limit.seconds


def test_a_loop_that_turns_is_left_alone() -> None:
    async def story(_: object) -> None:
        for _ in range(15):
            time.sleep(0.1)  # noqa: ASYNC251 - short ones are nobody's business
            await asyncio.sleep(0)
            await asyncio.sleep(0.06)

    assert watched(story, warn_after=1.5) == [], "each time counts for itself"
