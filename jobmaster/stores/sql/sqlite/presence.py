"""A lock file per worker beside the database: on one host it says at once that a process is gone.

The lock (flock) belongs to the open file, which no other program inherits (O_CLOEXEC) and which a forked child gives
up; the kernel frees it when the process ends, however it ends. The file names its host, because a lock means nothing
elsewhere.
"""

from __future__ import annotations

import contextlib
import os
import socket
import sys
import time

if sys.platform != "win32":
    import fcntl


OLD_SECONDS = 86_400.0


class Presence:
    """A held lock. `release` frees it and removes the file."""

    def __init__(self, path: str, fd: int) -> None:
        self._path = path
        self._fd: int | None = fd

    def release(self) -> None:
        """Free the lock. May be called twice."""
        fd, self._fd = self._fd, None
        if fd is None:
            return
        with contextlib.suppress(OSError):
            os.unlink(self._path)
        os.close(fd)

    def abandon(self) -> None:
        """In a forked child: drop the copy; the parent still holds the lock."""
        fd, self._fd = self._fd, None
        if fd is not None:
            os.close(fd)


def hold_presence(database: str, worker: int) -> Presence | None:
    """Take the worker's lock; None where locks don't work (Windows, some network file systems) or another has it."""
    if sys.platform == "win32":
        return None  # leases alone say who is gone
    folder = f"{os.path.realpath(database)}.locks"
    path = lock_file(database, worker)
    try:
        with contextlib.suppress(FileExistsError):
            os.mkdir(folder, 0o700)
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError:
        return None
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.ftruncate(fd, 0)
        os.write(fd, this_host().encode())
    except OSError:
        os.close(fd)
        return None
    _remove_old(folder, path)
    return Presence(path, fd)


def _remove_old(folder: str, own: str) -> None:
    """Remove what workers left behind whose end was noticed otherwise, by their lease or a newer boot."""
    before = time.time() - OLD_SECONDS
    with contextlib.suppress(OSError):
        for entry in os.scandir(folder):
            if entry.path != own and entry.stat().st_mtime < before and _is_free(entry.path):
                os.unlink(entry.path)


def _is_free(path: str, content: bytes | None = None) -> bool:
    """Whether nobody holds the file's lock, and the file says `content` (None: whatever it says)."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        # The content is written after the lock is taken: an empty file is a worker that is about to take it.
        if content is not None and os.read(fd, 512) != content:
            return False
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return False
    else:
        return True
    finally:
        os.close(fd)


def is_gone(database: str, worker: int) -> bool:
    """True where the worker's process once held its lock on this host and does not hold it now."""
    return sys.platform != "win32" and _is_free(lock_file(database, worker), this_host().encode())


def forget_presence(database: str, worker: int) -> None:
    """Remove the lock file of a worker that was ended."""
    with contextlib.suppress(OSError):
        os.unlink(lock_file(database, worker))


def lock_file(database: str, worker: int) -> str:
    """Where the worker's lock file is."""
    return os.path.join(f"{os.path.realpath(database)}.locks", f"worker-{worker}.lock")


def this_host() -> str:
    """A name for this machine: two machines that share a network file system must not answer for each other."""
    try:
        with open("/etc/machine-id", encoding="ascii") as file:
            return f"{socket.gethostname()} {file.read().strip()}"
    except OSError:
        return socket.gethostname()
