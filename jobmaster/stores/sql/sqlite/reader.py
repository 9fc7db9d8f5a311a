"""The reader: a connection of its own, so that no read waits for a write. Requests that wait share a snapshot."""

from __future__ import annotations

import sqlite3
from typing import TYPE_CHECKING

from jobmaster.stores.sql.sqlite.connection import with_patience
from jobmaster.stores.sql.sqlite.faults import translated
from jobmaster.stores.sql.sqlite.threads import Answer, ConnectionThread, Request
from jobmaster.stores.sql.sqlite.transaction import Transaction

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from jobmaster.stores.sql.sqlite.place import Place
    from jobmaster.stores.sql.sqlite.transaction import Setting


class Reader(ConnectionThread):
    """Runs verbs that only read. `path` is for the texts of errors, `patience` in seconds."""

    def __init__(
        self,
        connect: Callable[[], sqlite3.Connection],
        *,
        loop: asyncio.AbstractEventLoop,
        setting: Setting,
        path: str,
        patience: float,
        place: Place,
    ) -> None:
        super().__init__(connect, loop=loop, name="jobmaster-sqlite-reader", place=place)
        self._setting = setting
        self._path = path
        self._patience = patience

    def _run_on(self, connection: sqlite3.Connection) -> None:
        requests, _ = self._take_into([])
        connection.execute("BEGIN")
        now_us = self._setting.clock_us()
        try:
            answers = [self._run_one(connection, request, now_us) for request in requests]
        finally:
            if connection.in_transaction:
                connection.execute("COMMIT")
        self._post(answers)

    def _run_one(self, connection: sqlite3.Connection, request: Request, now_us: int) -> Answer:
        transaction = Transaction(connection, now_us=now_us, setting=self._setting)
        try:
            return Answer(request.future, with_patience(lambda: request.work(transaction), self._patience), None)
        except BaseException as error:  # noqa: BLE001 - given to the caller, whatever it is
            return Answer(request.future, None, translated(error, self._path))
