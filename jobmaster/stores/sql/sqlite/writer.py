"""The writer: one thread, one connection, group commit.

What waits when the writer is free becomes one group: BEGIN IMMEDIATE, each verb behind a savepoint of its own,
COMMIT. A verb that raises is undone alone. All of a group's callers wait for the same sync of the disk.
"""

from __future__ import annotations

import os
import sqlite3
from typing import TYPE_CHECKING

from jobmaster.stores.sql.sqlite.connection import with_patience
from jobmaster.stores.sql.sqlite.faults import after_commit, moved_away, translated
from jobmaster.stores.sql.sqlite.threads import Answer, ConnectionThread, Request
from jobmaster.stores.sql.sqlite.transaction import Transaction

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Collection

    from jobmaster.stores.sql.sqlite.transaction import Setting


class Writer(ConnectionThread):
    """Runs verbs that change something.

    Args:
        setting: rules, clock and role of the store.
        path: the database, for the texts of errors.
        patience: seconds to wait for the write lock of another process.
        published: told the signals' topics after each durable group, in the thread.
        watch: called between groups with the connection; returns the seconds to sleep at most.
    """

    def __init__(
        self,
        connect: Callable[[], sqlite3.Connection],
        *,
        loop: asyncio.AbstractEventLoop,
        setting: Setting,
        path: str,
        patience: float,
        published: Callable[[Collection[str]], None],
        watch: Callable[[sqlite3.Connection], float | None],
    ) -> None:
        super().__init__(connect, loop=loop, name="jobmaster-sqlite-writer")
        self._setting = setting
        self._path = path
        self._patience = patience
        self._published = published
        self._watch = watch
        self._file: tuple[int, int] | None = None

    def _idle(self, connection: sqlite3.Connection) -> float | None:
        return self._watch(connection)

    def _run_group(self, connection: sqlite3.Connection, requests: list[Request]) -> list[Answer]:
        if not self._is_in_place():
            return [Answer(request.future, None, moved_away(self._path)) for request in requests]
        try:
            with_patience(lambda: connection.execute("BEGIN IMMEDIATE"), self._patience)
        except sqlite3.Error as error:
            return self._all_failed(requests, error)
        topics: set[str] = set()
        try:
            answers = self._run_verbs(connection, requests, topics)
        except sqlite3.Error as error:  # SQLite gave up the whole transaction
            _roll_back(connection)
            return self._all_failed(requests, error)
        return self._commit(connection, answers, topics)

    def _is_in_place(self) -> bool:
        """Whether the path still names the file that was opened: what is written to a removed one is lost."""
        return self._file is not None and file_at(self._path) == self._file

    def remember_file(self) -> None:
        """From now on this is the file that is written to; called when it is open."""
        self._file = file_at(self._path)

    def _run_verbs(self, connection: sqlite3.Connection, requests: list[Request], topics: set[str]) -> list[Answer]:
        now_us = self._setting.clock_us()  # after the lock is held: leases are judged by it
        answers = []
        for request in requests:
            transaction = Transaction(connection, now_us=now_us, setting=self._setting)
            connection.execute("SAVEPOINT verb")
            try:
                value = request.work(transaction)
            except BaseException as error:
                if not connection.in_transaction and isinstance(error, sqlite3.Error):
                    raise
                connection.execute("ROLLBACK TO verb")
                answers.append(Answer(request.future, None, translated(error, self._path)))
            else:
                topics |= transaction.topics
                answers.append(Answer(request.future, value, None))
            connection.execute("RELEASE verb")
        return answers

    def _commit(self, connection: sqlite3.Connection, answers: list[Answer], topics: set[str]) -> list[Answer]:
        try:
            connection.execute("COMMIT")
        except sqlite3.Error as error:
            rolled_back = connection.in_transaction and _roll_back(connection)
            return [
                answer
                if answer.error
                else answer._replace(value=None, error=after_commit(error, self._path, rolled_back=rolled_back))
                for answer in answers
            ]
        if topics:
            self._published(topics)
        return answers

    def _all_failed(self, requests: list[Request], error: sqlite3.Error) -> list[Answer]:
        return [Answer(request.future, None, translated(error, self._path)) for request in requests]


def file_at(path: str) -> tuple[int, int] | None:
    """Which file the path names now, or None."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _roll_back(connection: sqlite3.Connection) -> bool:
    """True: the transaction is undone."""
    if not connection.in_transaction:
        return False
    try:
        connection.execute("ROLLBACK")
    except sqlite3.Error:
        return False
    return True
