"""Engine processes, as their supervisor sees them (ports.link.Spawner and ports.link.Child). For Linux and macOS.

A process is started by exec, never by fork: the supervisor holds sockets and threads. It inherits three descriptors:
the shared memory, a socket for messages, and a pipe that ends with the supervisor.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
from typing import TYPE_CHECKING

import msgspec

from jobmaster.engine.links import framing, memory
from jobmaster.engine.links.endings import OUT_OF_MEMORY, exit_word, out_of_memory_kills
from jobmaster.ports.link import CANNOT_START, Report

if TYPE_CHECKING:
    from collections.abc import Callable

    from jobmaster.model.ids import JobKey
    from jobmaster.model.worker import Grant

_LAST_WORDS = 0.5
"""Seconds to wait, after a process has ended, for what it still sent: its descendants may hold the socket open."""

_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Report)


class Launch(msgspec.Struct, frozen=True):
    """What an engine process is told first.

    Attributes:
        entry: "module:function"; it is called with `arguments` and answers what `child.Prepared` says.
        arguments: whatever the entry understands.
        grace: seconds of a graceful stop.
    """

    entry: str
    arguments: bytes
    grace: float


class ProcessSpawner:
    """Starts engine processes.

    Args:
        launch: what engine number n is to run.
        on_news: called on the supervisor's loop when something changed at a child.
        on_hurry: called on the supervisor's loop when a report wants a renewal soon.
    """

    def __init__(self, launch: Callable[[int], Launch]) -> None:
        self._launch = launch
        self.on_news: Callable[[], None] = lambda: None
        self.on_hurry: Callable[[], None] = lambda: None

    async def spawn(self, engine: int) -> ProcessChild:
        """See `Spawner.spawn`. To be called on the main thread, which Linux takes for the parent."""
        shared = memory.create()
        ours, theirs = socket.socketpair()
        lifeline, held = os.pipe()
        try:
            kills = out_of_memory_kills()
            process = subprocess.Popen(  # noqa: ASYNC220 - some milliseconds, and the parent's thread matters
                [
                    sys.executable,
                    "-m",
                    "jobmaster.engine.child",
                    *map(str, (shared, theirs.fileno(), lifeline, os.getpid())),
                ],
                stdin=subprocess.DEVNULL,
                pass_fds=(shared, theirs.fileno(), lifeline),
            )
            child = ProcessChild(self, process, memory.SharedMemory(shared), held, kills)
        except BaseException:
            os.close(held)
            ours.close()
            raise
        finally:
            os.close(shared)
            os.close(lifeline)
            theirs.close()
        try:
            await child.connect(ours, self._launch(engine))
        except BaseException:
            child.kill()
            raise
        return child


class ProcessChild:
    """One engine process."""

    def __init__(
        self,
        spawner: ProcessSpawner,
        process: subprocess.Popen[bytes],
        shared: memory.SharedMemory,
        held: int,
        kills: int,
    ) -> None:
        self._spawner = spawner
        self._process = process
        self._memory = shared
        self._held = held
        self._kills = kills
        self._loop = asyncio.get_running_loop()
        self._frames = framing.Frames(self._arrived, self._lost)
        self._report: Report | None = None
        self._failure: str | None = None
        self._word: str | None = None
        """How the process ended."""
        self._silent = False
        """Nothing more will come from it."""
        self._terminations = 0
        self._killed = False

    async def connect(self, peer: socket.socket, launch: Launch) -> None:
        """Tell the process what it is to run, and listen to it."""
        await self._loop.create_unix_connection(lambda: self._frames, sock=peer)
        self._frames.send(framing.LAUNCH, _encoder.encode(launch))
        threading.Thread(target=self._wait, name=f"jobmaster-wait-{self.pid}", daemon=True).start()

    # ---------------------------------------------------------------- ports.link.Child

    @property
    def pid(self) -> int:
        """See `Child.pid`."""
        return self._process.pid

    def reports(self) -> Report | None:
        """See `Child.reports`."""
        return self._report

    def grant(self, grant: Grant, *, trust_until_ns: int) -> None:
        """See `Child.grant`."""
        self._memory.trust(trust_until_ns)
        self._frames.send(framing.GRANT, _encoder.encode(grant))

    def beats(self) -> int:
        """See `Child.beats`."""
        return self._memory.beats()

    def evidence(self) -> list[tuple[JobKey, bool]]:
        """See `Child.evidence`."""
        return self._memory.evidence()

    def condemned(self) -> str | None:
        """See `Child.condemned`."""
        return self._memory.condemned()

    def exit_reason(self) -> str | None:
        """See `Child.exit_reason`."""
        if self._word is None or not self._silent:
            return None
        return self._word if self._failure is None else CANNOT_START + self._failure

    def dump_stacks(self) -> None:
        """See `Child.dump_stacks`: faulthandler listens to SIGUSR1 in the child."""
        self._signal(signal.SIGUSR1)

    def terminate(self) -> None:
        """See `Child.terminate`. systemd sends SIGTERM to children, too, so that a second wish goes another way."""
        self._terminations += 1
        if self._terminations == 1:
            self._signal(signal.SIGTERM)
        else:
            self._frames.send(framing.HURRY)

    def kill(self) -> None:
        """See `Child.kill`."""
        self._killed = True
        self._signal(signal.SIGKILL)

    # ---------------------------------------------------------------- what happens at the other end

    def _signal(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(number)

    def _arrived(self, kind: bytes, payload: bytes) -> None:
        if kind == framing.REPORT:
            self._report = _decoder.decode(payload)
            if self._report.soon:
                self._spawner.on_hurry()
        elif kind == framing.FAILURE:
            self._failure = payload.decode(errors="replace")
        elif kind == framing.NEWS:
            self._spawner.on_news()

    def _lost(self) -> None:
        self._silent = True
        if self._word is not None:
            self._spawner.on_news()

    def _wait(self) -> None:
        """In a thread of its own: wait for the process."""
        returncode = self._process.wait()
        word = exit_word(returncode)
        if word == "SIGKILL" and not self._killed and out_of_memory_kills() > self._kills:
            word = OUT_OF_MEMORY
        with contextlib.suppress(RuntimeError):  # the supervisor's loop has ended before its child
            self._loop.call_soon_threadsafe(self._ended, word)

    def _ended(self, word: str) -> None:
        self._word = word
        os.close(self._held)
        if self._silent:
            self._spawner.on_news()
        else:
            self._loop.call_later(_LAST_WORDS, self._give_up_listening)

    def _give_up_listening(self) -> None:
        if not self._silent:
            self._frames.close()
            self._lost()
