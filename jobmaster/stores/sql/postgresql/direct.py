"""Pushing from threads, without a loop in between (ports.direct): one round trip of the calling thread itself.

Whoever comes while nobody pushes takes the lead: it sends its jobs as one statement on a connection of libpq. If others
have handed over jobs meanwhile, a thread of the store goes on with them, so that no caller waits for longer than its
own batch. So a lone caller pays for no switch of threads, and many share their commits.
"""

from __future__ import annotations

import importlib.util
import logging
import os
import select
import struct
import threading
import time
from collections import deque
from typing import TYPE_CHECKING, Any, Final

from jobmaster.errors import OutcomeUnknown, StoreUnavailable
from jobmaster.ports.answers import Refused
from jobmaster.stores.late_imports import importing
from jobmaster.stores.sql.postgresql import accept
from jobmaster.stores.sql.postgresql.connection import hot
from jobmaster.stores.sql.postgresql.faults import READ_ONLY

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from psycopg import Connection
    from psycopg.pq.abc import PGconn, PGresult

    from jobmaster.model.job import NewJob
    from jobmaster.ports.direct import Handed
    from jobmaster.stores.sql.postgresql.connection import Place
    from jobmaster.stores.sql.postgresql.transaction import Setting

logger = logging.getLogger("jobmaster.store")

MOST_JOBS: Final = 1_000
"""In one statement."""
REST: Final = 2.0
"""Seconds without another try after a connection could not be opened: meanwhile callers go the ordinary way."""

UNIQUE_VIOLATION: Final = "23505"
# 57P01 to 57P03 and class 08: the session ended, and with it what is known of its last statement.
LOST: Final = ("57P01", "57P02", "57P03")

SINGLE, FAST, ONCE = b"jm_single", b"jm_fast", b"jm_once"
STATEMENTS: Final = {SINGLE: accept.SINGLE, FAST: accept.FAST, ONCE: accept.ONCE}
# Numbers and texts are sent as text, keys and bytes as they are.
SINGLE_FORMATS: Final = (0, 0, 1, 0, 0, 0, 0, 1, 0, 0)
ARRAY_TYPES: Final = (
    ("uuid", 2950), ("int8", 20), ("bytea", 17), ("int8", 20), ("int8", 20), ("bool", 16), ("bool", 16), ("text", 25),
    ("text", 25),
)  # fmt: skip
"""The arrays of accept.FAST in their order, with the server's number for the type of their elements."""
MANY_FORMATS: Final = (0, 0, 0, *(1 for _ in ARRAY_TYPES))


def is_possible() -> bool:
    """Whether libpq is installed here (it comes with psycopg)."""
    return importlib.util.find_spec("psycopg") is not None


class Direct:
    """Takes jobs from any thread.

    Args:
        place: where to.
        setting: of the store.
    """

    def __init__(self, place: Place, setting: Setting) -> None:
        self._place = place
        self._setting = setting
        self._lock = threading.Lock()
        self._queue: deque[Handed] = deque()
        self._led = False
        """Somebody is pushing, and will see to what is in the queue."""
        self._passed = False
        """The store's thread has been given the lead, and has not taken it up yet."""
        self._go = threading.Semaphore(0)
        self._thread: threading.Thread | None = None
        self._connection: Connection[Any] | None = None
        self._pid = os.getpid()
        self._not_before = 0.0
        self._closed = False

    def hand(self, handed: Handed) -> None:
        """See `ports.direct.DirectAgent`. May push, and answer, before it returns."""
        with self._lock:
            if self._closed or time.monotonic() < self._not_before:
                raise StoreUnavailable(f"{self._place.dsn} takes no jobs from threads now. Nothing was stored.")
            self._queue.append(handed)
            if self._led:
                return
            self._led = True
            batch = self._next()
        try:
            self._serve(batch)
        finally:
            self._pass_on()

    def take_back(self, handed: Handed) -> bool:
        """See `ports.direct.DirectAgent`."""
        with self._lock:
            if handed in self._queue:
                self._queue.remove(handed)
                return True
        return False

    def close(self) -> None:
        """Answer what waits, and end the connection as soon as nobody uses it; `ended` says when."""
        with self._lock:
            self._closed = True
            waiting, self._queue = list(self._queue), deque()
            idle = not self._led
        for handed in waiting:
            handed.answered(StoreUnavailable(f"{self._place.dsn} was closed here. Nothing was stored."))
        self._go.release()
        if idle:
            self._drop()

    @property
    def ended(self) -> bool:
        """Nothing is under way, and no thread is left."""
        return not self._led and (self._thread is None or not self._thread.is_alive())

    def _pass_on(self) -> None:
        """The lead goes to the store's thread if there is more to do, else to whoever comes next."""
        with self._lock:
            if not self._queue:
                self._led = False
                if self._closed:
                    self._drop()
                return
            if self._thread is None:
                self._thread = threading.Thread(target=self._push_on, name="jobmaster-push", daemon=True)
                self._thread.start()
            self._passed = True
        self._go.release()

    def _push_on(self) -> None:
        while True:
            self._go.acquire()
            with self._lock:
                leads, self._passed = self._passed, False
                if not leads and self._closed:
                    return
            if leads:
                self._lead()

    def _lead(self) -> None:
        while True:
            with self._lock:
                if not self._queue:
                    self._led = False
                    if self._closed:
                        self._drop()
                    return
                batch = self._next()
            self._serve(batch)

    def _next(self) -> list[Handed]:
        """The first in the queue, with those behind it that go into the same bucket."""
        first = self._queue.popleft()
        batch, count = [first], len(first.jobs)
        others: deque[Handed] = deque()
        while self._queue:
            handed = self._queue.popleft()
            if handed.bucket == first.bucket and count + len(handed.jobs) <= MOST_JOBS:
                batch.append(handed)
                count += len(handed.jobs)
            else:
                others.append(handed)
        self._queue = others
        return batch

    def _serve(self, batch: list[Handed]) -> None:
        error: Exception | None = self._unknown("interrupted")
        try:
            error = self._push(batch[0].bucket, [job for handed in batch for job in handed.jobs])
        except Exception as failure:  # noqa: BLE001 - it is the callers' answer
            error = failure
        except BaseException:
            self._drop()  # an answer that is still to come must not be taken for that of the next statement
            raise
        finally:
            for handed in batch:
                handed.answered(error)

    # -- statements

    def _push(self, bucket: int, jobs: Sequence[NewJob]) -> Exception | None:
        connection = self._connected()
        clock = self._setting.clock_us
        clock_us = None if clock is None else clock()
        if len(jobs) == 1 and not jobs[0].verify:
            result = self._run(connection, SINGLE, _single(bucket, jobs[0], clock_us), SINGLE_FORMATS)
        else:
            # A job that comes twice in the batch meets itself: the dearer statement takes it once.
            doubtful = any(job.verify for job in jobs) or len({job.key for job in jobs}) < len(jobs)
            result = self._run(connection, ONCE if doubtful else FAST, _many(bucket, jobs, clock_us), MANY_FORMATS)
        if result is not None and _state_of(result) == UNIQUE_VIOLATION:
            result = self._run(connection, ONCE, _many(bucket, jobs, clock_us), MANY_FORMATS)
        return self._answer(connection, result, bucket)

    def _run(self, connection: PGconn, name: bytes, values: list[Any], formats: tuple[int, ...]) -> PGresult | None:
        """Run a prepared statement. None: the time of a call was over before its answer, or the connection broke."""
        from psycopg import OperationalError

        deadline = time.monotonic() + self._place.timeout
        result = None
        try:
            connection.send_query_prepared(name, values, formats)
            while True:
                # libpq is asked only for what has come: while it waits, it lets no other thread of Python run.
                while connection.is_busy():
                    left = deadline - time.monotonic()
                    if left <= 0 or not self._answers.poll(left * 1_000):
                        return None
                    connection.consume_input()
                part = connection.get_result()
                if part is None:
                    return result
                result = part
        except OperationalError:
            return None

    def _answer(self, connection: PGconn, result: PGresult | None, bucket: int) -> Exception | None:
        from psycopg.pq import ConnStatus, ExecStatus

        if result is not None and result.status == ExecStatus.TUPLES_OK:
            return None if result.ntuples else Refused(f"bucket {bucket} is unknown, closing or closed")
        state = "" if result is None else _state_of(result)
        if not state or state in LOST or state.startswith("08") or connection.status != ConnStatus.OK:
            self._drop()
            return self._unknown(state or "no answer")
        if state == READ_ONLY:
            self._drop()  # a standby: the next connection may find the new primary
        return StoreUnavailable(f"{self._place.dsn} refused a push ({state}). Nothing was stored.")

    def _unknown(self, why: str) -> OutcomeUnknown:
        return OutcomeUnknown(
            f"{self._place.dsn} did not answer while it made a change durable ({why}). The change may be stored or "
            "not; repeating it is safe."
        )

    def _connected(self) -> PGconn:
        if self._connection is not None and self._pid == os.getpid():
            return self._connection.pgconn
        try:
            connection = self._open()
        except BaseException:
            self._not_before = time.monotonic() + REST
            raise
        self._connection = connection
        self._answers = select.poll()
        self._answers.register(connection.pgconn.socket, select.POLLIN)
        return connection.pgconn

    def _open(self) -> Connection[Any]:
        try:
            return self._opened()
        except OSError as error:  # no descriptor is left, not even to import the driver
            raise StoreUnavailable(
                f"{self._place.dsn} cannot be used from threads now ({error}). Nothing was stored."
            ) from error

    def _opened(self) -> Connection[Any]:
        with importing():
            import psycopg

        timeout = self._place.timeout
        options: dict[str, Any] = {
            "application_name": "jobmaster",
            "connect_timeout": max(2, round(timeout)),
            "tcp_user_timeout": round(timeout * 1_000),
        }
        try:
            # Not libpq's own way to connect, which lets no other thread of Python run meanwhile.
            connection = psycopg.connect(self._place.url, autocommit=True, **options)
        except psycopg.Error as error:
            raise StoreUnavailable(
                f"{self._place.dsn} cannot be used from threads now ({type(error).__name__}). Nothing was stored."
            ) from error
        try:
            connection.pgconn.nonblocking = 0
            settings = hot(0.9 * min(timeout, self._setting.rules.lease_us / 1_000_000))
            _require(connection.pgconn.exec_("; ".join(f"SET {setting}" for setting in settings).encode()))
            for name, statement in STATEMENTS.items():
                _require(connection.pgconn.prepare(name, statement.encode()))
        except BaseException:
            connection.close()
            raise
        return connection

    def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None and self._pid == os.getpid():
            connection.close()


def _require(result: PGresult) -> None:
    from psycopg.pq import ExecStatus

    if result.status != ExecStatus.COMMAND_OK:
        raise StoreUnavailable(
            f"A session for pushes could not be made ready ({_state_of(result)}). Nothing was stored."
        )


def _state_of(result: PGresult) -> str:
    """The SQLSTATE of a result, or nothing."""
    from psycopg.pq import DiagnosticField

    return (result.error_field(DiagnosticField.SQLSTATE) or b"").decode()


# -- values


def _text(value: object) -> bytes | None:
    return None if value is None else str(value).encode()


def _single(bucket: int, job: NewJob, clock_us: int | None) -> list[Any]:
    values = accept.single_values(bucket, job, clock_us)
    return [value if form else _text(value) for value, form in zip(values, SINGLE_FORMATS, strict=True)]


def _many(bucket: int, jobs: Sequence[NewJob], clock_us: int | None) -> list[Any]:
    first, now, task, *arrays = accept.values_of(bucket, jobs, clock_us)
    kinds = zip(arrays, ARRAY_TYPES, strict=True)
    return [_text(first), _text(now), _text(task), *(_array(values, kind, oid) for values, (kind, oid) in kinds)]


def _array(values: Sequence[Any], kind: str, oid: int) -> bytes:
    """A one-dimensional array in the server's binary format (array_recv in its sources)."""
    if not values:
        return struct.pack("!iii", 0, 0, oid)
    parts = [struct.pack("!iiiii", 1, 1, oid, len(values), 1)]
    encode = _ENCODERS[kind]
    for value in values:
        if value is None:
            parts.append(_NULL)
        else:
            data = encode(value)
            parts.append(struct.pack("!i", len(data)))
            parts.append(data)
    return b"".join(parts)


_NULL: Final = struct.pack("!i", -1)
_ENCODERS: Final[dict[str, Callable[[Any], bytes]]] = {
    "uuid": bytes,
    "bytea": bytes,
    "int8": struct.Struct("!q").pack,
    "bool": struct.Struct("!?").pack,
    "text": str.encode,
}
