"""Signals between the processes on one database file: hints that something is there to read.

Each process that listens binds a datagram socket in a folder beside the database (`<file>.wake`, mode 0700) and leaves
one empty file per topic there, named `<topic>~<socket>`: that is the whole registry. A sender looks into the folder
when its time of change has moved and sends one datagram to each socket that wants one of its topics. Where sockets
can't work, and as a safety net where they do, the writer thread asks SQLite whether another process has committed.

`subscribe` and what it returns are used on the loop, `send` and `watch` in the writer thread.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import secrets
import socket
import tempfile
import threading
import time
from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import asyncio
    import sqlite3
    from collections.abc import Callable, Collection, Iterable

LONGEST_PATH = 100
"""A unix socket's path has at most 104 bytes on macOS, 108 on Linux."""

SETTLED_NS = 20_000_000
"""A folder's time of change ticks in steps of some milliseconds: a younger one may hide a later change."""

SAFETY_PERIOD, SAFETY_LEAST = 0.25, 0.5
"""Where sockets work: how often it is asked, and how long nobody is woken by it again. Most of what others commit
brings no work, and whoever is woken reads: beside many workers, each would do so four times a second."""
BUSY_PERIOD, IDLE_PERIOD, BUSY_SECONDS = 0.002, 0.05, 1.0
"""Polling without sockets: how often after activity, how often when idle, and how long activity counts."""

_PLAIN = re.compile(r"[a-z]+:[A-Za-z0-9_-]{1,60}")

_by_file: dict[str, list[Wake]] = {}
_lock = threading.Lock()


class Hint:
    """A subscription (ports.agent.Subscription)."""

    def __init__(self, wake: Wake, topic: str, callback: Callable[[], None]) -> None:
        self._wake = wake
        self.topic = topic
        self.callback = callback

    def close(self) -> None:
        """End it. May be called twice."""
        self._wake.forget(self)


class Wake:
    """Sends and receives the signals of one store.

    Args:
        path: the database file.
        loop: where callbacks run.
        listening: called (on the loop) when the first subscription is made, so that the writer thread begins to watch.
    """

    def __init__(self, path: str, loop: asyncio.AbstractEventLoop, *, listening: Callable[[], None]) -> None:
        self._file = os.path.realpath(path)
        self._folder = folder_of(self._file)
        self._loop = loop
        self._listening = listening
        self._hints: dict[str, list[Hint]] = {}
        self._name = f"{os.getpid()}-{secrets.token_hex(4)}"
        self._socket: socket.socket | None = None
        self._sender = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) if hasattr(socket, "AF_UNIX") else None
        if self._sender is not None:
            self._sender.setblocking(False)
        self._listens = False
        self._closed = False
        self._known: dict[str, list[str]] = {}
        self._known_at = -1
        self._version = -1
        self._active_until = 0.0
        self._period = IDLE_PERIOD
        self._next_look = 0.0
        self._told_at = float("-inf")
        with _lock:
            _by_file.setdefault(self._file, []).append(self)

    # -- on the loop

    def subscribe(self, topic: str, callback: Callable[[], None]) -> Hint:
        """Call `callback` after signals for `topic`."""
        hint = Hint(self, topic, callback)
        first = topic not in self._hints
        self._hints.setdefault(topic, []).append(hint)
        if not self._listens:
            self._listens = True
            self._bind()
            self._listening()
        if first and self._socket is not None:
            self._publish(topic)
        return hint

    def forget(self, hint: Hint) -> None:
        """End a subscription."""
        hints = self._hints.get(hint.topic, [])
        if hint not in hints:
            return
        hints.remove(hint)
        if not hints:
            del self._hints[hint.topic]
            if self._socket is not None:
                _unlink(self._folder, topic_file(hint.topic, self._name))

    def close(self) -> None:
        """End all subscriptions and remove what stands in the folder."""
        if self._closed:
            return
        self._closed = True
        with _lock:
            _by_file.get(self._file, [self]).remove(self)
        if self._socket is not None:
            self._loop.remove_reader(self._socket.fileno())
            self._socket.close()
            for topic in self._hints:
                _unlink(self._folder, topic_file(topic, self._name))
            _unlink(self._folder, f"{self._name}.s")
            self._socket = None
        self._hints.clear()

    def end(self) -> None:
        """Close what the writer thread sent with, after that thread has ended."""
        if self._sender is not None:
            self._sender.close()
            self._sender = None

    def abandon(self) -> None:
        """In a forked child: close the copies of the sockets; the parent's go on. Its files stay."""
        self._closed = True
        for end in (self._socket, self._sender):
            if end is not None:
                end.close()
        self._socket = self._sender = None
        self._hints.clear()
        _by_file.clear()

    def _bind(self) -> None:
        if not hasattr(socket, "AF_UNIX") or not _own_folder(self._folder):
            return
        end = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        end.setblocking(False)
        try:
            end.bind(os.path.join(self._folder, f"{self._name}.s"))
            self._loop.add_reader(end.fileno(), self._receive)
        except (OSError, NotImplementedError):
            end.close()
            return
        self._socket = end
        _remove_dead(self._folder, self._name)

    def _publish(self, topic: str) -> None:
        path = os.path.join(self._folder, topic_file(topic, self._name))
        with contextlib.suppress(OSError):
            os.close(os.open(path, os.O_CREAT | os.O_WRONLY, 0o600))

    def _receive(self) -> None:
        labels: set[str] = set()
        end = self._socket
        while end is not None:
            try:
                labels.update(end.recv(65_536).decode("ascii", "replace").split("\n"))
            except OSError:
                break
        self.deliver([topic for topic in self._hints if label_of(topic) in labels])

    def deliver(self, topics: Iterable[str] | None) -> None:
        """Run the callbacks of these topics, each once; None: of all but the workers' own.

        A worker's topic asks for a renewal, which is a commit: where each commit of another process asked for one, an
        engine and its supervisor would keep each other awake for ever. A worker looks at every renewal anyway.
        """
        if topics is None:
            topics = [topic for topic in self._hints if not topic.startswith("worker")]
        for topic in topics:
            for hint in list(self._hints.get(topic, ())):
                hint.callback()

    # -- in the writer thread (and, for signals by hand, on the loop)

    def send(self, topics: Collection[str]) -> None:
        """Signal these topics to all stores on the file, in this process and in others."""
        with _lock:
            here = list(_by_file.get(self._file, ()))
        for wake in here:
            wake.hear(topics)
        known = self._look()
        if known:
            self._send_out(topics, known, {wake.name for wake in here})

    @property
    def name(self) -> str:
        """The socket's name in the folder."""
        return self._name

    def hear(self, topics: Collection[str]) -> None:
        """Deliver to this store's subscribers, from any thread."""
        wanted = [topic for topic in topics if topic in self._hints]
        if wanted:
            with contextlib.suppress(RuntimeError):  # the loop was closed
                self._loop.call_soon_threadsafe(self.deliver, wanted)

    def _send_out(self, topics: Collection[str], known: dict[str, list[str]], own: set[str]) -> None:
        letters: dict[str, list[str]] = {}
        for topic in topics:
            label = label_of(topic)
            for name in known.get(label, ()):
                if name not in own:
                    letters.setdefault(name, []).append(label)
        for name, wanted in letters.items():
            self._post(name, wanted)

    def _look(self) -> dict[str, list[str]]:
        try:
            changed = os.stat(self._folder).st_mtime_ns
            if changed == self._known_at:
                return self._known
            known: dict[str, list[str]] = {}
            if not _own_folder_exists(self._folder):
                return known
            for file in os.listdir(self._folder):
                label, mark, name = file.partition("~")
                if mark:
                    known.setdefault(label, []).append(name)
        except OSError:
            return {}
        self._known = known
        self._known_at = changed if time.time_ns() - changed > SETTLED_NS else -1
        return known

    def _post(self, name: str, labels: list[str]) -> None:
        if self._sender is None:
            return
        letter = "\n".join(labels).encode("ascii")
        try:
            self._sender.sendto(letter[:60_000], os.path.join(self._folder, f"{name}.s"))
        except (ConnectionRefusedError, FileNotFoundError):
            _remove_owner(self._folder, name)
        except OSError:
            return  # its queue is full: it will look anyway

    def watch(self, connection: sqlite3.Connection) -> float | None:
        """Ask, where it is time, whether another process has committed. Returns how long the thread may sleep."""
        if not self._listens or self._closed:
            return None
        now = time.monotonic()
        if now < self._next_look:
            return self._next_look - now
        version: int = connection.execute("PRAGMA data_version").fetchone()[0]
        if version != self._version and (self._socket is None or now >= self._told_at + SAFETY_LEAST):
            first, self._version = self._version < 0, version
            self._active_until = now + BUSY_SECONDS
            self._period = BUSY_PERIOD
            if not first:
                self._told_at = now
                with contextlib.suppress(RuntimeError):  # the loop was closed
                    self._loop.call_soon_threadsafe(self.deliver, None)
        elif now > self._active_until:
            self._period = min(self._period * 2, IDLE_PERIOD)
        pause = SAFETY_PERIOD if self._socket is not None else self._period
        self._next_look = now + pause
        return pause


def folder_of(file: str) -> str:
    """The folder of the sockets: beside the database, or in the temporary folder where that path would be too long."""
    beside = f"{file}.wake"
    if len(os.fsencode(beside)) + 24 <= LONGEST_PATH:
        return beside
    mark = hashlib.sha256(os.fsencode(file)).hexdigest()[:16]
    owner = os.getuid() if hasattr(os, "getuid") else 0
    return os.path.join(tempfile.gettempdir(), f"jobmaster-{owner}-{mark}.wake")


@lru_cache(maxsize=4096)
def label_of(topic: str) -> str:
    """The topic as part of a file name, and as it travels."""
    if _PLAIN.fullmatch(topic):
        return topic.replace(":", "=")
    if topic.isalpha() and topic.isascii():
        return topic
    return "x=" + hashlib.sha256(topic.encode("utf-8", "surrogatepass")).hexdigest()[:32]


def topic_file(topic: str, name: str) -> str:
    """The name of the file that says: this socket wants this topic."""
    return f"{label_of(topic)}~{name}"


def _own_folder(folder: str) -> bool:
    with contextlib.suppress(OSError):
        os.mkdir(folder, 0o700)
    return _own_folder_exists(folder)


def _own_folder_exists(folder: str) -> bool:
    try:
        found = os.lstat(folder)
    except OSError:
        return False
    # In a shared temporary folder anybody could have made it: only ours, closed to others, is trusted.
    private = not hasattr(os, "getuid") or (found.st_uid == os.getuid() and not found.st_mode & 0o077)
    return private and (found.st_mode & 0o170000) == 0o040000


def _remove_dead(folder: str, own: str) -> None:
    """Remove the files of processes that are gone."""
    names = {file.removesuffix(".s") if file.endswith(".s") else file.partition("~")[2] for file in _files(folder)}
    probe = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    try:
        for name in names - {own, ""}:
            try:
                probe.connect(os.path.join(folder, f"{name}.s"))
            except (ConnectionRefusedError, FileNotFoundError):
                _remove_owner(folder, name)
            except OSError:
                continue
    finally:
        probe.close()


def _remove_owner(folder: str, name: str) -> None:
    for file in _files(folder):
        if file == f"{name}.s" or file.endswith(f"~{name}"):
            _unlink(folder, file)


def _files(folder: str) -> list[str]:
    try:
        return os.listdir(folder)
    except OSError:
        return []


def _unlink(folder: str, file: str) -> None:
    with contextlib.suppress(OSError):
        os.unlink(os.path.join(folder, file))
