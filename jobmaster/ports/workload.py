"""What the engine knows of the user's code: policies by task name, and how to run one job.

The implementation decodes arguments, builds the context, calls the function, encodes the result and turns every
exception into an `Ended`. It never raises but for `BaseException`s that stop a process (KeyboardInterrupt, SystemExit).
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Protocol

from jobmaster.model.ids import JobKey
from jobmaster.model.policy import TaskPolicy
from jobmaster.model.run import End, Ended, Finished, Halt, Run

__all__ = ["End", "Ended", "Finished", "Halt", "Pool", "Run", "Workload"]


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
    """Runs jobs. All methods are called on the engine's event loop, and `finished` too."""

    finished: Callable[[list[Finished]], None]
    """Set by the owner before the first run: told of each submitted run exactly once, of several at a time. It may
    submit more. Never called from inside `submit`."""

    def submit(self, runs: Sequence[Run]) -> None:
        """Start the runs now (or as soon as a place is free), in this order."""
        ...

    def halt(self, key: JobKey, why: Halt) -> bool:
        """Stop a run: soft limit raises inside it, the others end it and set `Run.halting`.

        False: the run is unknown (it ended).

        A pool that can't end a run in its process (a thread that does not listen) reports `stuck` keys instead.
        """
        ...

    def stuck(self) -> list[JobKey]:
        """Runs that were told to end and could not be ended from inside the process for a second or more."""
        ...

    async def close(self) -> None:
        """Stop all places. Runs that are left are reported INTERRUPTED."""
        ...
