"""Which event loop JobMaster's own threads and processes run on (uvloop's where it is installed), and how long."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import threading
from typing import Final, TypeVar

T = TypeVar("T")

logger = logging.getLogger("jobmaster.engine")

_running: dict[int, asyncio.AbstractEventLoop] = {}
"""The loops of `run_to_the_end`, by their threads."""

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
    `loop.stop()`, is told, and the loop goes on. Where a coroutine forks and goes on in the copy, that ends once the
    loop turns: it would take the parent's messages and connections.
    """
    _running[threading.get_ident()] = loop
    try:
        return _run_on(loop, task)
    finally:
        del _running[threading.get_ident()]


def _run_on(loop: asyncio.AbstractEventLoop, task: asyncio.Task[T]) -> T:
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


def _after_fork() -> None:
    """In a forked child, in which only the thread goes on that has forked."""
    loop = _running.get(threading.get_ident())
    if loop is not None:
        loop.call_soon(_end_copy)


def _end_copy() -> None:
    with contextlib.suppress(OSError):
        os.write(2, b"jobmaster: a job has forked its worker and went on in the copy, which ends here\n")
    os._exit(0)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
