"""Starts child processes: by exec, never by fork, because their parent holds sockets and threads.

A child inherits three descriptors: shared memory, a socket for messages, and the reading end of a pipe that ends with
the parent (orphans.py). Its command line is `python -m MODULE MEMORY SOCKET PIPE PARENT`. No event loop is needed here
and none is imported, so that a child can be on its way before its parent is ready to listen.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
from typing import NamedTuple

import msgspec

from jobmaster.engine.links import framing, memory

ENGINE_MODULE = "jobmaster.engine.child"
HELD_BACK = [getattr(signal, name) for name in ("SIGINT", "SIGHUP") if hasattr(signal, name)]
"""Signals of a terminal, to all of its processes."""

own_children: set[int] = set()
"""Process ids of the children that were started here and whose ends have not been fetched."""

_encoder = msgspec.msgpack.Encoder()


class Launch(msgspec.Struct, frozen=True):
    """What an engine process is told first.

    Attributes:
        entry: "module:function"; it is called with `arguments` and answers an `entry.Prepared` or an
            `entry.Introduction`.
        arguments: whatever the entry understands.
        grace: seconds of a graceful stop.
    """

    entry: str
    arguments: bytes
    grace: float


class Started(NamedTuple):
    """A child that nobody listens to yet. `lifeline` is the end of the pipe that the parent holds."""

    process: subprocess.Popen[bytes]
    peer: socket.socket
    lifeline: int
    own_group: bool


class StartedEngine(NamedTuple):
    """An engine process that nobody listens to yet, and what it shares with its supervisor."""

    started: Started
    shared: memory.SharedMemory


def start(module: str, *, shared: int, own_group: bool = False) -> Started:
    """Start a child. Linux takes the calling thread for its parent: it must live as long as the child shall.

    Args:
        module: what the child runs, as `python -m`.
        shared: descriptor of the shared memory; stays open here.
        own_group: the child gets a process group of its own, so that a kill takes its descendants along.
    """
    ours, theirs = socket.socketpair()
    lifeline, held = os.pipe()
    inherited = (shared, theirs.fileno(), lifeline)
    # Ctrl-C reaches the child, too: until it has said what it does then, the signal waits (`heed_signals`).
    before = signal.pthread_sigmask(signal.SIG_BLOCK, HELD_BACK)
    try:
        process = subprocess.Popen(
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
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        os.close(lifeline)
        theirs.close()
    own_children.add(process.pid)
    return Started(process, ours, held, own_group)


def heed_signals() -> None:
    """In the child, once its handlers stand: let the signals come that were held back at its start."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, HELD_BACK)


def start_engine(launch: Launch) -> StartedEngine:
    """Start an engine process and tell it what it is to run."""
    descriptor = memory.create()
    try:
        started = start(ENGINE_MODULE, shared=descriptor)
        shared = memory.SharedMemory(descriptor)
    finally:
        os.close(descriptor)
    with contextlib.suppress(OSError):  # it has ended already, which is noticed when somebody listens
        started.peer.sendall(framing.frame(framing.LAUNCH, _encoder.encode(launch)))
    return StartedEngine(started, shared)
