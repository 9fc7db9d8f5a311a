"""A child process of ours, from exec to its last word. Common to engine processes and to the processes of a pool.

A child is started by exec, never by fork: its parent holds sockets and threads. It inherits three descriptors: shared
memory, a socket for messages, and the reading end of a pipe that ends with the parent (orphans.py). Its command line is
`python -m MODULE MEMORY SOCKET PIPE PARENT`.
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

from jobmaster.engine.links.endings import OUT_OF_MEMORY, exit_word, out_of_memory_kills
from jobmaster.engine.links.framing import Frames

if TYPE_CHECKING:
    from collections.abc import Callable

_LAST_WORDS = 0.5
"""Seconds to wait, after a process has ended, for what it still sent: its descendants may hold the socket open."""


class SpawnedProcess:
    """One child process. Made by `spawn`.

    Attributes:
        pid: its process id.
        frames: the parent's end of the messages.
        word: how it ended ("exit 0", "SIGKILL", ...), once nothing more can come from it; None before.
    """

    def __init__(
        self,
        process: subprocess.Popen[bytes],
        lifeline: int,
        *,
        on_frame: Callable[[bytes, bytes], None],
        on_end: Callable[[str], None],
        own_group: bool,
    ) -> None:
        self.pid = process.pid
        self.frames = Frames(on_frame, self._lost)
        self.word: str | None = None
        self._process = process
        self._lifeline = lifeline
        self._on_end = on_end
        self._own_group = own_group
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

    async def listen(self, peer: socket.socket) -> None:
        """Begin to exchange messages, and to wait for the end."""
        await self._loop.create_unix_connection(lambda: self.frames, sock=peer)
        threading.Thread(target=self._wait, name=f"jobmaster-wait-{self.pid}", daemon=True).start()

    def _wait(self) -> None:
        """In a thread of its own: wait for the process."""
        word = exit_word(self._process.wait())
        if word == "SIGKILL" and not self._killed and out_of_memory_kills() > self._kills_before:
            word = OUT_OF_MEMORY
        with contextlib.suppress(RuntimeError):  # the parent's loop has ended before its child
            self._loop.call_soon_threadsafe(self._has_returned, word)

    def _has_returned(self, word: str) -> None:
        self._returned = word
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
    """Start a child. Linux takes the calling thread for its parent: it must live as long as the child shall.

    Args:
        module: what the child runs, as `python -m`.
        shared: descriptor of the shared memory; stays open here.
        on_frame: called on this loop with kind and payload of each message.
        on_end: called on this loop, once, with the word for its end.
        own_group: the child gets a process group of its own, so that a kill takes its descendants along.
    """
    ours, theirs = socket.socketpair()
    lifeline, held = os.pipe()
    inherited = (shared, theirs.fileno(), lifeline)
    try:
        process = subprocess.Popen(  # noqa: ASYNC220 - takes some milliseconds, and the calling thread matters
            [sys.executable, "-m", module, *map(str, inherited), str(os.getpid())],
            stdin=subprocess.DEVNULL,
            pass_fds=inherited,
            process_group=0 if own_group else None,
        )
    except BaseException:
        os.close(held)
        ours.close()
        raise
    finally:
        os.close(lifeline)
        theirs.close()
    child = SpawnedProcess(process, held, on_frame=on_frame, on_end=on_end, own_group=own_group)
    try:
        await child.listen(ours)
    except BaseException:
        child.kill()
        raise
    return child
