"""The program of an engine process: `python -m jobmaster.engine.child`, started by a supervisor only.

It prepares (imports the user's code), then runs the engine on an event loop. What goes wrong before the engine is ready
is said to the supervisor in words; starting again would not help then, unless it was a store that did not answer.
"""

from __future__ import annotations

import asyncio
import contextlib
import faulthandler
import logging
import os
import pkgutil
import signal
import socket
import sys
from typing import TYPE_CHECKING, NoReturn

import msgspec

from jobmaster.engine.entry import Introduction
from jobmaster.engine.garbage import collect_rarely
from jobmaster.engine.links import framing
from jobmaster.engine.links.child_end import ProcessEngineLink
from jobmaster.engine.links.copies import let_copies_end
from jobmaster.engine.links.leaving import leave, words_for
from jobmaster.engine.links.memory import SharedMemory
from jobmaster.engine.links.orphans import die_with_parent
from jobmaster.engine.links.starting import Launch, heed_signals
from jobmaster.errors import ConfigurationError, StoreUnavailable
from jobmaster.event_loop import new_event_loop, run_to_the_end
from jobmaster.ports.link import EXIT_TOLD, EXIT_UNREACHABLE

if TYPE_CHECKING:
    from collections.abc import Callable

    from jobmaster.engine.entry import Prepared, Stoppable

logger = logging.getLogger("jobmaster.engine")

_FAILED = 1


class EngineProcess:
    """One run of this program."""

    def __init__(self, shared: SharedMemory, peer: socket.socket) -> None:
        self._memory = shared
        self._peer = peer
        self._grace = 0.0
        self._engine: Stoppable | None = None
        self._asked = False
        self._hurried = False

    def main(self) -> int:
        """Prepare and run; the answer is the exit code."""
        try:
            kind, payload = framing.receive(self._peer)
            assert kind == framing.LAUNCH, kind  # noqa: S101 - the supervisor is the same version of the same program
            launch = msgspec.msgpack.decode(payload, type=Launch)
            self._grace = launch.grace
            entry: Callable[[bytes], Prepared | Introduction] = pkgutil.resolve_name(launch.entry)
            made = entry(launch.arguments)
            prepared = self._introduce(made) if isinstance(made, Introduction) else made
            if prepared is None:
                return _FAILED
            self._loop_until_the_end(prepared)
        except StoreUnavailable as error:
            logger.warning("engine_cannot_reach_its_store error=%s", error)
            return EXIT_UNREACHABLE
        except _Unready as unready:
            self._say_why(unready.cause)
            return _FAILED
        except EOFError:  # the supervisor is gone
            return _FAILED
        except asyncio.CancelledError:
            logger.error(  # noqa: TRY400 - there is nothing to see in its traceback
                "engine_cancelled: the code of a job has cancelled the engine itself (asyncio.all_tasks() names its "
                "tasks, too), so that a new one begins. A job may cancel what it has started, and nothing else"
            )
            return _FAILED
        except BaseException as error:  # `sys.exit()` in a user's module, too, is a reason not to start
            if self._engine is None:
                self._say_why(error)
            else:
                logger.exception("engine_failed")
            return _FAILED
        return EXIT_TOLD if self._asked else 0

    def _introduce(self, introduction: Introduction) -> Prepared | None:
        """Send the answer, and wait until the supervisor wants the engine to run."""
        self._peer.sendall(framing.frame(framing.ANSWER, introduction.answer))
        if introduction.prepared is not None:
            self._grace = introduction.grace
            kind, _ = framing.receive(self._peer)
            assert kind == framing.GO, kind  # noqa: S101 - as above
        return introduction.prepared

    def _loop_until_the_end(self, prepared: Prepared) -> None:
        """`asyncio.run` would go on to wait for threads of users' code; what is left here ends with the process."""
        collect_rarely()
        loop = new_event_loop()
        asyncio.set_event_loop(loop)
        run_to_the_end(loop, loop.create_task(self._run(prepared)))

    async def _run(self, prepared: Prepared) -> None:
        loop = asyncio.get_running_loop()
        link = ProcessEngineLink(self._memory, on_hurry=self._hurry)
        loop.add_signal_handler(signal.SIGTERM, self._stop)
        await loop.create_unix_connection(lambda: link.frames, sock=self._peer.dup())
        try:
            await prepared(link, self._ready)
        except Exception as error:
            if isinstance(error, ConfigurationError) or (
                self._engine is None and not isinstance(error, StoreUnavailable)
            ):
                raise _Unready(error) from error
            raise
        finally:
            link.frames.close()

    # ---------------------------------------------------------------- stopping

    def _ready(self, engine: Stoppable) -> None:
        self._engine = engine
        if self._hurried:
            engine.abort()
        elif self._asked:
            engine.stop(self._grace)

    def _stop(self) -> None:
        """SIGTERM: the first counts, whoever sends it how often."""
        if not self._asked:
            self._asked = True
            if self._engine is not None:
                self._engine.stop(self._grace)

    def _hurry(self) -> None:
        self._asked = self._hurried = True
        if self._engine is not None:
            self._engine.abort()

    # ---------------------------------------------------------------- failing

    def _say_why(self, error: BaseException) -> None:
        with contextlib.suppress(OSError):
            self._peer.setblocking(True)
            self._peer.sendall(framing.frame(framing.FAILURE, words_for(error).encode(errors="replace")))


class _Unready(Exception):  # noqa: N818 - carries an error through `asyncio.run`
    """The engine could not be built."""

    def __init__(self, cause: BaseException) -> None:
        super().__init__(cause)
        self.cause = cause


def _listen_to_signals() -> None:
    # Ctrl-C in a terminal, and its end, reach the whole group: the supervisor decides what follows. A handler, not
    # SIG_IGN, which programs that a task starts would inherit.
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda _number, _frame: None)
    heed_signals()
    # Until the loop runs nothing has been started, so that there is nothing to stop gracefully.
    signal.signal(signal.SIGTERM, lambda _number, _frame: leave(0))
    if sys.__stderr__ is not None:
        faulthandler.enable(sys.__stderr__)
        faulthandler.register(signal.SIGUSR1, sys.__stderr__, all_threads=True)


def main(arguments: list[str]) -> NoReturn:
    """Run the program with the descriptors and the parent's process id that the supervisor gave on the command line."""
    shared, peer, lifeline, parent = map(int, arguments)
    die_with_parent(parent=parent, lifeline=lifeline)
    _listen_to_signals()
    let_copies_end()
    for descriptor in (peer, lifeline):  # programs that tasks start must not hold them open
        os.set_inheritable(descriptor, False)
    view = SharedMemory(shared)
    os.close(shared)
    leave(EngineProcess(view, socket.socket(fileno=peer)).main())


if __name__ == "__main__":
    main(sys.argv[1:])
