"""Between an engine and the keeper of its lease: shared memory and two message queues.

The keeper is the supervisor process, a thread of an in-process worker, or a coroutine of the simulation. It renews the
lease with what the engine last reported; a report stays true for as long as it is not replaced (its `cut_us` says
when).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import msgspec

from jobmaster.model.ids import JobKey
from jobmaster.model.worker import Demand, Grant

CANNOT_START = "cannot start: "
"""Beginning of the exit reason of a child that could not build its engine (`Child.exit_reason`)."""
EXIT_UNREACHABLE = 3
"""Exit code of a child whose stores did not answer while it started: worth another try, however often."""
EXIT_TOLD = 4
"""Exit code of a child that has stopped gracefully because of a SIGTERM, whoever sent it."""


class Report(msgspec.Struct, frozen=True):
    """What an engine tells its keeper; the fields are those of `Renewal`."""

    worker: int
    held: list[tuple[JobKey, int]] = []
    cut_us: int = 0
    adopt: int = 0
    stopping: bool = False
    depths: dict[int, int] = {}
    demands: list[Demand] = []
    cancels_after: int = 0
    stats: bytes = b"{}"
    soon: bool = False
    """Renew now, don't wait for the period (buckets were made, adoption is wanted)."""
    worn: str = ""
    """Why this process should be replaced by a new one, though nothing is wrong with it (so many runs, so much memory);
    empty: it need not be."""


class EngineLink(Protocol):
    """The engine's end."""

    def report(self, report: Report) -> None:
        """Replace the last report. Never blocks."""
        ...

    def trust_until_ns(self) -> int:
        """Until when (Clock.trust_ns) this engine may start and finish jobs; 0 before the first grant (R7)."""
        ...

    def on_grant(self, callback: Callable[[Grant], None]) -> None:
        """Call `callback` on the engine's loop with each answered renewal, in order."""
        ...

    def beat(self) -> None:
        """Move the liveness counter: the loop turns."""
        ...

    def running(self, key: JobKey) -> int:
        """Note in shared memory that the job runs, and return the place to clear.

        Survives the process: it is evidence.
        """
        ...

    def ended(self, place: int) -> None:
        """Clear the place."""
        ...

    def condemn(self, reason: str) -> None:
        """Ask to be replaced: a run can't be ended from inside this process.

        The engine stops starting and gets 10 s.
        """
        ...


class Child(Protocol):
    """The keeper's end: one engine process (or its stand-in)."""

    @property
    def pid(self) -> int:
        """Process id, for people."""
        ...

    def reports(self) -> Report | None:
        """The last report, or None before the first."""
        ...

    def grant(self, grant: Grant, *, trust_until_ns: int) -> None:
        """Move the end of the lease in shared memory, then hand over the grant."""
        ...

    def beats(self) -> int:
        """The liveness counter."""
        ...

    def evidence(self) -> list[JobKey]:
        """Jobs noted as running, in the order in which they began; valid after the process's death too."""
        ...

    def condemned(self) -> str | None:
        """Why the engine asked to be replaced, or None."""
        ...

    def accused(self) -> tuple[JobKey | None, str] | None:
        """What holds the engine's loop up, as it says itself: the job, where it is known, and words; None: nothing.

        Valid after the process's death too.
        """
        ...

    def exit_reason(self) -> str | None:
        """None while it lives; then "exit 0", "exit 3", "SIGKILL", "SIGSEGV", "SIGKILL (out of memory)", ...

        A child that said why it can't start, so that starting it again would not help: `CANNOT_START` + its words.
        """
        ...

    def dump_stacks(self) -> None:
        """Have the process write the stacks of all its threads to its log."""
        ...

    def terminate(self) -> None:
        """Ask for the graceful stop (SIGTERM). Asked again: what runs is cancelled at once."""
        ...

    def kill(self) -> None:
        """End it now (SIGKILL)."""
        ...


class Spawner(Protocol):
    """Makes engine processes."""

    async def spawn(self, engine: int) -> Child:
        """Start engine number `engine` by exec, never by fork."""
        ...
