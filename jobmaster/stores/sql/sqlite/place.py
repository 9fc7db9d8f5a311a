"""Whether the files that a store has open are still those that its path names.

The database can be removed or replaced, and so can its write-ahead log: by hand, or by another program's end. SQLite
holds its locks with POSIX, and those of a whole process go once any part of it opens and closes the database file by
itself (a backup that copies it): then the next program that closes the database believes to be the last one, and
removes the log that this process still writes to.
"""

from __future__ import annotations

import ctypes
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import sqlite3

FileId = tuple[int, int]

_left: set[FileId | None] = set()
"""Databases with connections that can never be closed."""


class Place:
    """The files behind one path.

    Args:
        path: of the database.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._log_path = f"{path}-wal"
        self._file: FileId | None = None
        self._log: FileId | None = None

    def remember(self) -> None:
        """From now on these are the files that are used; called when the database is open and was read."""
        self._file, self._log = _file_at(self._path), _file_at(self._log_path)

    def is_kept(self) -> bool:
        """Whether the path still names them: what is written to a removed file is lost."""
        if self._file is None or _file_at(self._path) != self._file:
            return False
        return not self._has_lost_its_log()

    def close(self, connection: sqlite3.Connection) -> None:
        """Close a connection, unless that would write the frames of a removed log over what others wrote since."""
        if _file_at(self._path) == self._file and self._has_lost_its_log():
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(connection))  # never closed: it ends with the process
            _left.add(self._file)
        else:
            connection.close()

    def was_left(self) -> bool:
        """Whether this process holds a removed log of the database: SQLite would mix it with the new one."""
        return _file_at(self._path) in _left

    def _has_lost_its_log(self) -> bool:
        found = _file_at(self._log_path)
        if self._log is None:  # SQLite makes it when the database is first read
            self._log = found
        return found != self._log


def _file_at(path: str) -> FileId | None:
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino
