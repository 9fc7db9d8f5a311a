"""The writer: one connection, group commit, and a thread; a caller who comes while that sleeps does without it.

What waits when the writer is free, and what comes until it commits, becomes one group: BEGIN IMMEDIATE, each verb
behind a savepoint of its own, COMMIT. A verb that raises is undone alone. All of a group's callers wait for the same
sync of the disk.
"""

from __future__ import annotations

import sqlite3
from typing import TYPE_CHECKING, Any

from jobmaster.errors import OutcomeUnknown, SoftTimeLimitExceeded
from jobmaster.ports.answers import Refused
from jobmaster.stores.sql.sqlite.accept import push
from jobmaster.stores.sql.sqlite.connection import with_patience
from jobmaster.stores.sql.sqlite.faults import after_commit, moved_away, translated
from jobmaster.stores.sql.sqlite.threads import LARGEST_GROUP, MOST_JOBS, Answer, ConnectionThread, Request
from jobmaster.stores.sql.sqlite.transaction import Transaction

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Collection

    from jobmaster.ports.direct import Handed
    from jobmaster.stores.sql.sqlite.place import Place
    from jobmaster.stores.sql.sqlite.transaction import Setting


class Writer(ConnectionThread):
    """Runs verbs that change something.

    Args:
        setting: rules, clock and role of the store.
        path: the database, for the texts of errors.
        patience: seconds to wait for the write lock of another process.
        place: its files.
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
        place: Place,
        published: Callable[[Collection[str]], None],
        watch: Callable[[sqlite3.Connection], float | None],
    ) -> None:
        super().__init__(connect, loop=loop, name="jobmaster-sqlite-writer", place=place)
        self._setting = setting
        self._path = path
        self._patience = patience
        self._published = published
        self._watch = watch
        self._unfinished: Group | None = None

    def _idle(self) -> float | None:
        return None if self._connection is None else self._watch(self._connection)

    def _has_unfinished(self) -> bool:
        return self._unfinished is not None

    def _run_on(self, connection: sqlite3.Connection) -> None:
        if self._unfinished is not None:
            self._give_up(connection, self._unfinished)
        if not self._queue:
            return
        group = self._unfinished = Group()
        try:
            self._run_and_commit(connection, group)
        except BaseException:  # Ctrl-C, or a time limit, in a caller's thread that runs the group
            self._give_up(connection, group)
            raise
        self._unfinished = None

    def _run_and_commit(self, connection: sqlite3.Connection, group: Group) -> None:
        if not self._place.is_kept():
            is_there = self._place.is_same_file()
            return self._fail(*self._take_into(group.taken), lambda: moved_away(self._path, is_there=is_there), group)
        try:
            self._begin(connection)
        except sqlite3.Error as error:
            locked = error
            return self._fail(*self._take_into(group.taken), lambda: translated(locked, self._path), group)
        # Taken no sooner: until the lock is held a caller can change their mind, and is certain that nothing is stored.
        requests, pushes = self._take_into(group.taken)
        try:
            while requests or pushes:
                self._run_pushes(connection, pushes, group)
                self._run_verbs(connection, requests, group)
                # What came meanwhile shares the sync of the disk, which costs more than all of the rest.
                requests, pushes = ([], []) if group.is_full() else self._take_into(group.taken)
        except sqlite3.Error as error:  # SQLite gave up the whole transaction
            _roll_back(connection)
            lost = error
            group.fail(lambda: translated(lost, self._path))
            return self._fail(requests, pushes, lambda: translated(lost, self._path), group)
        self._commit(connection, group)
        return None

    def _give_up(self, connection: sqlite3.Connection, group: Group) -> None:
        """Its thread is wanted elsewhere: leave the group to the next. May be interrupted and done again."""
        if group.is_decided:
            self._tell(group)
        elif _roll_back(connection) or not group.is_committing:
            self._move_back(group.taken)
            self.ring()
        else:
            group.fail(lambda: OutcomeUnknown(f"A change of {self._path} was interrupted. It may be stored or not."))
            self._tell(group)
        self._unfinished = None

    def _begin(self, connection: sqlite3.Connection) -> None:
        _roll_back(connection)  # what an interrupted thread has left
        with_patience(lambda: connection.execute("BEGIN IMMEDIATE"), self._patience)

    def _run_verbs(self, connection: sqlite3.Connection, requests: list[Request], group: Group) -> None:
        for request in requests:
            value, error = self._run_one(connection, request.work, group)
            group.answers.append(Answer(request.future, value, error))

    def _run_pushes(self, connection: sqlite3.Connection, pushes: list[Handed], group: Group) -> None:
        """Pushes into the same bucket are one verb; where it fails for one push's data, each is tried alone."""
        together: dict[int, list[Handed]] = {}
        for handed in pushes:
            together.setdefault(handed.bucket, []).append(handed)
        for bucket, several in together.items():
            error = self._push(connection, bucket, several, group)
            if error is None or len(several) == 1 or isinstance(error, Refused):
                group.pushes += [(handed, error) for handed in several]
            else:
                group.pushes += [(handed, self._push(connection, bucket, [handed], group)) for handed in several]

    def _push(
        self, connection: sqlite3.Connection, bucket: int, pushes: list[Handed], group: Group
    ) -> BaseException | None:
        jobs = pushes[0].jobs if len(pushes) == 1 else [job for handed in pushes for job in handed.jobs]
        group.jobs += len(jobs)
        return self._run_one(connection, lambda transaction: push(transaction, bucket, jobs), group)[1]

    def _run_one(
        self, connection: sqlite3.Connection, work: Callable[[Transaction], Any], group: Group
    ) -> tuple[Any, BaseException | None]:
        """Run a verb in the group's transaction; one that raises is undone alone."""
        if group.now_us is None:
            group.now_us = self._setting.clock_us()  # after the lock is held: leases are judged by it
        first = group.is_empty  # nothing else could be undone with it: it needs no savepoint
        transaction = Transaction(connection, now_us=group.now_us, setting=self._setting)
        if not first:
            connection.execute("SAVEPOINT verb")
        try:
            value = work(transaction)
        except SoftTimeLimitExceeded:  # of the job whose thread runs this
            raise
        except Exception as error:
            if not connection.in_transaction and isinstance(error, sqlite3.Error):
                raise
            if first:
                connection.execute("ROLLBACK")
                group.now_us = None
                self._begin(connection)
            else:
                connection.execute("ROLLBACK TO verb")
                connection.execute("RELEASE verb")
            return None, translated(error, self._path)
        if not first:
            connection.execute("RELEASE verb")
        group.is_empty = False
        group.topics |= transaction.topics
        return value, None

    def _commit(self, connection: sqlite3.Connection, group: Group) -> None:
        group.is_committing = True
        try:
            connection.execute("COMMIT")
        except sqlite3.Error as error:
            failed, rolled_back = error, connection.in_transaction and _roll_back(connection)
            group.fail(lambda: after_commit(failed, self._path, rolled_back=rolled_back))
            group.topics.clear()
        self._tell(group)

    def _tell(self, group: Group) -> None:
        """Publish and answer. May be interrupted and done again: whoever is told twice hears the same."""
        group.is_decided = True
        # Callers come last: once they are told, they and this thread compete for the interpreter.
        if group.topics:
            self._published(group.topics)
            group.topics = set()
        while group.pushes:
            handed, error = group.pushes[-1]
            handed.answered(error)  # type: ignore[arg-type] # what a push raises is no KeyboardInterrupt
            group.pushes.pop()
        if group.answers:
            self._post(group.answers)
            group.answers = []

    def _fail(
        self,
        requests: list[Request],
        pushes: list[Handed],
        error: Callable[[], BaseException],
        group: Group,
    ) -> None:
        """Give each of these an error, and tell them and the rest of the group."""
        told = {id(handed) for handed, _ in group.pushes}
        group.pushes += [(handed, error()) for handed in pushes if id(handed) not in told]
        answered = {id(answer.future) for answer in group.answers}
        group.answers += [
            Answer(request.future, None, error()) for request in requests if id(request.future) not in answered
        ]
        self._tell(group)


class Group:
    """What is made durable together, and how it ended for each."""

    __slots__ = ("answers", "is_committing", "is_decided", "is_empty", "jobs", "now_us", "pushes", "taken", "topics")

    def __init__(self) -> None:
        self.taken: list[Request | Handed] = []
        self.answers: list[Answer] = []
        self.pushes: list[tuple[Handed, BaseException | None]] = []
        self.topics: set[str] = set()
        self.jobs = 0
        self.now_us: int | None = None
        self.is_empty = True
        self.is_committing = False
        self.is_decided = False
        """It is known for each whether it is stored, or that this cannot be known."""

    def is_full(self) -> bool:
        """Whether it is large enough that others should wait for the next one."""
        return self.jobs >= MOST_JOBS or len(self.answers) >= LARGEST_GROUP

    def fail(self, error: Callable[[], BaseException]) -> None:
        """Nothing of it is certain to be stored: whoever has no error of their own gets one of these."""
        self.answers = [each if each.error else each._replace(value=None, error=error()) for each in self.answers]
        self.pushes = [(handed, own or error()) for handed, own in self.pushes]


def _roll_back(connection: sqlite3.Connection) -> bool:
    """True: the transaction is undone."""
    if not connection.in_transaction:
        return False
    try:
        connection.execute("ROLLBACK")
    except sqlite3.Error:
        return False
    return True
