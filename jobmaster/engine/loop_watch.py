"""Sees from a thread that an event loop stands still, and says which task's code holds it, while it lasts.

The supervisor sees it, too, and replaces the process in the end; but only from inside can the task be named. Code that
holds the interpreter itself (C code that does not release the GIL) stops this thread as well: then only the supervisor
speaks.
"""

from __future__ import annotations

import logging
import sys
import threading
import time
import traceback
from typing import TYPE_CHECKING

import msgspec

from jobmaster.model.ids import JobKey, key_text
from jobmaster.model.run import Run

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

logger = logging.getLogger("jobmaster.engine")

WARN_AFTER = 5.0
"""Seconds without a turn of the loop before anybody is told."""
_MOST_FRAMES = 60


class Block(msgspec.Struct, frozen=True):
    """What holds the loop up.

    Attributes:
        seconds: for how long at least.
        key: the job whose code it is; None: nobody knows (code that a job left behind, or our own).
        what: for people, in a few words: the task and its line.
        stack: of the loop's thread.
    """

    seconds: float
    key: JobKey | None
    what: str
    stack: str


class LoopWatch:
    """Watches the loop of the thread that makes it, until `stop`.

    Args:
        beats: a counter that the loop moves.
        beat_every: how often, in seconds: so old the counter may be while the loop turns.
        max_block: after so many seconds the loop is given up (by whom is not decided here).
        on_block: called in the watch's thread, once for each time that it stands still, with what holds it up.
        on_limit: called in the same way when `max_block` has passed.
        on_turn: called in the same way when it turns again after `on_block`.
    """

    def __init__(
        self,
        *,
        beats: Callable[[], int],
        beat_every: float = 1.0,
        max_block: float,
        on_block: Callable[[Block], None] = lambda _block: None,
        on_limit: Callable[[Block], None] = lambda _block: None,
        on_turn: Callable[[], None] = lambda: None,
    ) -> None:
        self._beats = beats
        self._limit = max_block + beat_every
        self._warn_at = min(WARN_AFTER, max_block / 2) + beat_every
        self._on_block, self._on_limit, self._on_turn = on_block, on_limit, on_turn
        self._watched = threading.get_ident()
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="jobmaster-loop-watch", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Watch no more. Does not wait."""
        self._stopped.set()

    def _run(self) -> None:
        seen, still, warned, limited = self._beats(), 0.0, False, False
        every = min(1.0, self._warn_at / 4)
        looked = time.monotonic()
        while not self._stopped.wait(every):
            beats, now = self._beats(), time.monotonic()
            # A process that was stopped altogether (SIGSTOP) is not to blame: no look counts for more than two.
            still += min(now - looked, 2 * every)
            looked = now
            if beats != seen or not beats:
                if warned:
                    logger.warning("loop_turns_again after=%.1f", still)
                    self._on_turn()
                seen, still, warned, limited = beats, 0.0, False, False
            elif not warned and still > self._warn_at:
                warned = True
                block = self._found(still)
                _tell(block)
                self._on_block(block)
            elif warned and not limited and still > self._limit:
                limited = True
                self._on_limit(self._found(still))

    def _found(self, seconds: float) -> Block:
        frame = sys._current_frames().get(self._watched)  # noqa: SLF001 - there is no other way to look
        if frame is None:
            return Block(seconds, None, "its thread has ended", "")
        stack = "".join(traceback.format_stack(frame, _MOST_FRAMES))
        run, at = _run_in(frame)
        if run is None:
            return Block(seconds, None, f"code at {_place(frame)}, which belongs to no run", stack)
        return Block(seconds, run.key, f"task {run.envelope.task} (job {key_text(run.key)}) at {_place(at)}", stack)


def _tell(block: Block) -> None:
    logger.warning(
        "loop_blocked seconds=%.0f: %s holds up the event loop of this worker. No other async task goes on meanwhile. "
        "Await what blocks (asyncio.to_thread), or make the task a plain function, which runs in a thread\n%s",
        block.seconds,
        block.what,
        block.stack.rstrip(),
    )


def _run_in(innermost: FrameType) -> tuple[Run | None, FrameType]:
    """The run whose code stands there, and the innermost frame of the task's own code."""
    own: FrameType = innermost
    frame: FrameType | None = innermost
    inner: FrameType | None = None
    while frame is not None:
        if frame.f_code.co_name == "invoke_async":  # of a workload: see ports/workload.py
            run = frame.f_locals.get("run")
            if isinstance(run, Run):
                return run, inner or own
        inner, frame = frame, frame.f_back
    return None, own


def _place(frame: FrameType) -> str:
    return f"{frame.f_code.co_filename}:{frame.f_lineno} in {frame.f_code.co_name}"
