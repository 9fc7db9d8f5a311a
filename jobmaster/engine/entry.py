"""What the program of an engine process (child.py) calls: an entry, and what an entry answers.

An entry is a function "module:function" that is called with the arguments of a `Launch`, without an event loop, to
import users' code.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Protocol

import msgspec

from jobmaster.engine.links.child_end import ProcessEngineLink


class Stoppable(Protocol):
    """What this program does with an engine besides running it."""

    def stop(self, grace: float) -> None:
        """Begin the graceful stop, of at most `grace` seconds."""
        ...

    def abort(self) -> None:
        """Cancel what runs at once, then stop."""
        ...


Prepared = Callable[[ProcessEngineLink, Callable[[Stoppable], None]], Awaitable[None]]
"""What an entry answers: an async function of the link and of `ready`.

It opens the stores, builds the engine, calls `ready(engine)` and runs the engine to its end.
"""


class Introduction(msgspec.Struct, frozen=True):
    """What an entry answers that is asked before its supervisor knows anything.

    Attributes:
        answer: sent to the supervisor.
        prepared: what runs once the supervisor says so; None: this process was of use only for its answer.
        grace: seconds of a graceful stop, instead of what the launch says.
    """

    answer: bytes
    prepared: Prepared | None
    grace: float = 0.0
