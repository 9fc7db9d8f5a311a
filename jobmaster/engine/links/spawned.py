"""A child process of ours, from its start to its last word. For engine processes and the processes of a pool."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import threading
from typing import TYPE_CHECKING

from jobmaster.engine.links.endings import OUT_OF_MEMORY, exit_word, out_of_memory_kills
from jobmaster.engine.links.frames import Frames
from jobmaster.engine.links.starting import Started, own_children, start

if TYPE_CHECKING:
    from collections.abc import Callable

_LAST_WORDS = 0.5
"""Seconds to wait, after a process has ended, for what it still sent: its descendants may hold the socket open."""
DEAF = "SIGKILL (it had closed its connection to its parent)"
"""The word for a process that hears nobody any more, as after a task that closed descriptors which were not its own."""
_DEAF_AFTER = 1.0
"""Seconds in which a process ends whose connection its own end has closed."""
_KILLED_WITHIN = 1.0
"""Seconds in which a process ends after SIGKILL, unless a device holds it."""


class SpawnedProcess:
    """One child process. To be made on the loop that will hear it.

    Args:
        started: the child; nobody has read of its socket.
        on_frame: called on this loop with kind and payload of each message.
        on_end: called on this loop, once, with the word for its end.
        must_hear: end the process once its end of the connection is closed, for nothing reaches it any more.

    Attributes:
        pid: its process id.
        frames: the parent's end of the messages.
        word: how it ended ("exit 0", "SIGKILL", ...), once nothing more can come from it; None before.
    """

    def __init__(
        self,
        started: Started,
        *,
        on_frame: Callable[[bytes, bytes], None],
        on_end: Callable[[str], None],
        must_hear: bool = False,
    ) -> None:
        self.pid = started.process.pid
        self.frames = Frames(on_frame, self._lost)
        self.word: str | None = None
        self._process = started.process
        self._peer = started.peer
        self._lifeline = started.lifeline
        self._own_group = started.own_group
        self._on_end = on_end
        self._must_hear = must_hear
        self._is_deaf = False
        self._loop = asyncio.get_running_loop()
        self._kills_before = out_of_memory_kills()
        self._killed = False
        self._returned: str | None = None
        self._silent = False

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the process; to one that has ended nothing happens."""
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(number)

    def kill(self) -> None:
        """End it now, with all that it started where it has a process group of its own."""
        self._killed = True
        if self._own_group and self._returned is None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.pid, signal.SIGKILL)
        self.signal(signal.SIGKILL)

    async def listen(self) -> None:
        """Begin to exchange messages, and to wait for the end.

        Raises:
            OSError, RuntimeError: the system gives no connection or no thread; the process has ended.
        """
        try:
            await self._loop.create_unix_connection(lambda: self.frames, sock=self._peer)
            threading.Thread(target=self._wait, name=f"jobmaster-wait-{self.pid}", daemon=True).start()
        except BaseException:
            self.frames.close()
            self._forget()
            raise

    def _forget(self) -> None:
        """End the process, which nobody would hear of."""
        self.kill()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(_KILLED_WITHIN)
        own_children.discard(self.pid)
        os.close(self._lifeline)

    def _wait(self) -> None:
        """In a thread of its own: wait for the process."""
        # A signal of the parent must find its handler, or the main thread's block at the end, and not the default here.
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        word = exit_word(self._process.wait())
        own_children.discard(self.pid)
        if word == "SIGKILL" and not self._killed and out_of_memory_kills() > self._kills_before:
            word = OUT_OF_MEMORY
        with contextlib.suppress(RuntimeError):  # the parent's loop has ended before its child
            self._loop.call_soon_threadsafe(self._has_returned, word)

    def _has_returned(self, word: str) -> None:
        self._returned = DEAF if self._is_deaf and word == "SIGKILL" else word
        os.close(self._lifeline)
        if self._silent:
            self._end()
        else:
            self._loop.call_later(_LAST_WORDS, self._give_up_listening)

    def _lost(self) -> None:
        if not self._silent:
            self._silent = True
            if self._returned is not None:
                self._end()
            elif self._must_hear:
                self._loop.call_later(_DEAF_AFTER, self._end_deaf)

    def _end_deaf(self) -> None:
        if self._returned is None and not self._killed:
            self._is_deaf = True
            self.kill()

    def _give_up_listening(self) -> None:
        if not self._silent:
            self.frames.close()
            self._lost()

    def _end(self) -> None:
        self.word = self._returned
        self._on_end(self.word or "")


async def spawn(
    module: str,
    *,
    shared: int,
    on_frame: Callable[[bytes, bytes], None],
    on_end: Callable[[str], None],
    own_group: bool = False,
) -> SpawnedProcess:
    """Start a child and listen to it; see `starting.start` and `SpawnedProcess`."""
    child = SpawnedProcess(start(module, shared=shared, own_group=own_group), on_frame=on_frame, on_end=on_end)
    await child.listen()
    return child
