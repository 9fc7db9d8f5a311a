"""Which event loop JobMaster's own threads and processes run on (uvloop's where it is installed), and how long."""

from __future__ import annotations

import asyncio
import logging
import os
from typing import Final, TypeVar

T = TypeVar("T")

logger = logging.getLogger("jobmaster.engine")

VARIABLE: Final = "JOBMASTER_EVENT_LOOP"
"""`asyncio` chooses Python's own loop although uvloop is installed."""


def new_event_loop() -> asyncio.AbstractEventLoop:
    """A new loop of uvloop's, or of asyncio's where uvloop is missing, cannot be loaded, or is not wanted."""
    if os.environ.get(VARIABLE, "").strip().lower() != "asyncio":
        try:
            import uvloop
        except ImportError:
            pass
        else:
            made: asyncio.AbstractEventLoop = uvloop.new_event_loop()
            return made
    return asyncio.new_event_loop()


def run_to_the_end(loop: asyncio.AbstractEventLoop, task: asyncio.Task[T]) -> T:
    """Run the loop until the task is done, and return its result or raise its error.

    What jobs leave on the loop may not end it for all others: `sys.exit()` in a task that a coroutine has started, or
    `loop.stop()`, is told, and the loop goes on.
    """
    while not task.done():
        try:
            loop.run_until_complete(task)
        except (SystemExit, KeyboardInterrupt, RuntimeError) as error:
            if loop.is_closed():
                raise
            if not task.done():
                logger.error(  # noqa: TRY400 - the place is in the error itself
                    "loop_interrupted error=%r: the code of a job tried to end the event loop that all jobs share; it "
                    "goes on. Return from the job instead, or raise an error in it",
                    error,
                )
    return task.result()
