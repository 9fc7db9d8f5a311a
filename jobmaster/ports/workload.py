"""What the engine knows of the user's code: policies by task name, and how to run one job.

The implementation decodes arguments, builds the context, calls the function, encodes the result and turns every
exception into an `Ended`. It never raises but for `BaseException`s that stop a process (KeyboardInterrupt, SystemExit).
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any, Protocol

from jobmaster.model.ids import JobKey
from jobmaster.model.policy import TaskPolicy
from jobmaster.model.run import End, Ended, Halt, Run

__all__ = ["End", "Ended", "Halt", "Pool", "Run", "Workload"]


class Workload(Protocol):
    """The user's tasks, as one process has them."""

    def policy(self, task: str) -> TaskPolicy | None:
        """The policy of a task, or None: this process does not know it (the job goes back as "unroutable")."""
        ...

    def invoke_async(self, run: Run) -> Coroutine[Any, Any, Ended]:
        """The coroutine of an async task's run. Cancelling it (CancelledError) passes through to the caller."""
        ...

    def invoke_sync(self, run: Run) -> Ended:
        """Run a sync task to its end in the calling thread."""
        ...


class Pool(Protocol):
    """Runs jobs. All methods are called on the engine's event loop, `done` too, exactly once per submitted run."""

    def submit(self, run: Run, done: Callable[[Ended], None]) -> None:
        """Start the run now (or as soon as a place is free). May call `done` before it returns."""
        ...

    def halt(self, key: JobKey, why: Halt) -> bool:
        """Stop a run: soft limit raises inside it, the others end it. False: the run is unknown (it ended).

        A pool that can't end a run in its process (a thread that does not listen) reports `stuck` keys instead.
        """
        ...

    def stuck(self) -> list[JobKey]:
        """Runs that were told to end and could not be ended from inside the process for a second or more."""
        ...

    async def close(self) -> None:
        """Stop all places. Runs that are left are reported INTERRUPTED."""
        ...
