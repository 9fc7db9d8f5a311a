"""Whether the files that a store has open are still those that its path names.

The database can be removed or replaced, and so can its write-ahead log: by hand, or by another program's end. SQLite
holds its locks with POSIX, and those of a whole process go once any part of it opens and closes the database file by
itself (a backup that copies it): then the next program that closes the database believes to be the last one, and
removes the log that this process still writes to.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import struct
import sys
import weakref
from typing import TYPE_CHECKING, Final

if sys.platform != "win32":
    import fcntl

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterator

FileId = tuple[int, int]

_SHARED_FIRST, _SHARED_SIZE = 0x4000_0002, 510
"""The bytes of a database file on which SQLite holds its shared and exclusive locks; part of its file format."""
_FLOCK: Final = "hhqqi"

_places: weakref.WeakSet[Place] = weakref.WeakSet()
_left: list[object] = []
"""What must live as long as the process."""


class Place:
    """The files behind one path, as one store has them open.

    Args:
        path: of the database.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._log_path = f"{path}-wal"
        self._file: FileId | None = None
        self._log: FileId | None = None
        self._open = 0
        """Connections."""
        _places.add(self)

    def remember(self) -> None:
        """From now on these are the files that are used; called when the database is open and was read."""
        self._file, self._log = _file_at(self._path), _file_at(self._log_path)

    def is_kept(self) -> bool:
        """Whether the path still names them: what is written to a removed file is lost."""
        return self.is_same_file() and not self._has_lost_its_log()

    def is_same_file(self) -> bool:
        """Whether the path still names the same database, whatever became of its log."""
        return self._file is not None and _file_at(self._path) == self._file

    def may_open(self) -> bool:
        """False: a store of this process has a removed log of the database open, and SQLite would mix the two."""
        file = _file_at(self._path)
        return not any(other.holds_removed_log_of(file) for other in list(_places))

    def opened(self) -> None:
        """One more connection."""
        self._open += 1

    def holds_removed_log_of(self, file: FileId | None) -> bool:
        """Whether a connection of this store has a removed log of that database open."""
        return self._open > 0 and file is not None and self._file == file and self._has_lost_its_log()

    def close(self, connection: sqlite3.Connection) -> None:
        """Close a connection, without writing the frames of a removed log over what others wrote since."""
        if not self.holds_removed_log_of(_file_at(self._path)):
            connection.close()
        else:
            with _shared_lock(self._path) as is_held:
                if not is_held:
                    ctypes.pythonapi.Py_IncRef(ctypes.py_object(connection))  # never closed: it ends with the process
                    _left.append(self)
                    return
                connection.close()
        self._open -= 1

    def _has_lost_its_log(self) -> bool:
        found = _file_at(self._log_path)
        if self._log is None:  # SQLite makes it when the database is first read
            self._log = found
        return found != self._log


@contextlib.contextmanager
def _shared_lock(path: str) -> Iterator[bool]:
    """Hold SQLite's shared lock by another hand than its own; False: this system cannot, or somebody else is alone.

    Whoever closes a database last checkpoints and removes its log, if he gets the exclusive lock: so he does not.
    """
    command = getattr(fcntl, "F_OFD_SETLK", None) if sys.platform != "win32" else None
    if command is None:
        yield False
        return
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        yield False
        return
    try:
        lock = struct.pack(_FLOCK, fcntl.F_RDLCK, os.SEEK_SET, _SHARED_FIRST, _SHARED_SIZE, 0)
        try:
            fcntl.fcntl(descriptor, command, lock)
        except OSError:
            yield False
        else:
            yield True
    finally:
        os.close(descriptor)


def _file_at(path: str) -> FileId | None:
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino
