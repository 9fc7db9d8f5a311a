"""Pushing from threads, without a loop in between (ports.direct): one round trip of the calling thread itself.

Whoever comes while nobody pushes sends its jobs as one statement on a connection of libpq; what others hand over
meanwhile goes on in a thread of the store (stores.sql.combining).
"""

from __future__ import annotations

import importlib.util
import logging
import os
import select
import struct
import threading
import time
from typing import TYPE_CHECKING, Any, Final

from jobmaster.errors import OutcomeUnknown, SoftTimeLimitExceeded, StoreUnavailable
from jobmaster.ports.answers import Refused
from jobmaster.ports.direct import Handed
from jobmaster.stores.late_imports import importing
from jobmaster.stores.sql.combining import CombiningQueue
from jobmaster.stores.sql.postgresql import accept
from jobmaster.stores.sql.postgresql.connection import hot
from jobmaster.stores.sql.postgresql.faults import READ_ONLY

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from psycopg import Connection
    from psycopg.pq.abc import PGconn, PGresult

    from jobmaster.model.job import NewJob
    from jobmaster.stores.sql.postgresql.connection import Place
    from jobmaster.stores.sql.postgresql.transaction import Setting

logger = logging.getLogger("jobmaster.store")

MOST_JOBS: Final = 1_000
"""In one group."""
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


class Direct(CombiningQueue[Handed]):
    """Takes jobs from any thread.

    Args:
        place: where to.
        setting: of the store.
    """

    def __init__(self, place: Place, setting: Setting) -> None:
        super().__init__("jobmaster-push")
        self._place = place
        self._setting = setting
        self._starting = threading.Lock()
        self._unfinished: Batch | None = None
        self._gone = False
        self._connection: Connection[Any] | None = None
        self._pid = os.getpid()
        self._not_before = 0.0

    def hand(self, handed: Handed) -> None:
        """See `ports.direct.DirectAgent`. May push, and answer, before it returns."""
        if self._closed or time.monotonic() < self._not_before:
            raise self._refused()
        if self._thread.ident is None:
            self._start()
        self.bring(handed)
        if self._gone and self.take_back(handed):  # the thread ended between the first line and the second
            raise self._refused()

    def close(self) -> None:
        """Answer what waits, and end the connection as soon as nobody uses it; `ended` says when."""
        self._closed = True
        self._refuse_all()
        self.ring()

    @property
    def ended(self) -> bool:
        """Nothing is under way, and no thread is left."""
        return self._thread.ident is None or not self._thread.is_alive()

    def _start(self) -> None:
        """Start the thread: whoever leads may be interrupted, and then it goes on for all others."""
        with self._starting:
            if self._thread.ident is not None:
                return
            try:
                self._thread.start()
            except RuntimeError as error:  # the system gives no more threads
                raise self._refused() from error

    def _refused(self) -> StoreUnavailable:
        return StoreUnavailable(f"{self._place.dsn} takes no jobs from threads now. Nothing was stored.")

    def _run(self) -> None:
        try:
            self._serve()
        finally:
            self._closed = True  # whatever ended it: nothing may wait for a thread that is no more
            with self.gate:
                self._gone = True
                self._drop()
            self._refuse_all()

    def _refuse_all(self) -> None:
        waiting: list[Handed] = []
        while self._move_next(waiting):
            waiting.pop().answered(self._refused())

    # -- groups

    def _has_unfinished(self) -> bool:
        return self._unfinished is not None

    def _is_ready(self) -> bool:
        return not self._gone  # who comes later would open a connection that nobody closes

    def _run_group(self) -> None:
        if self._unfinished is not None:
            self._give_up(self._unfinished)
        batch = self._unfinished = Batch()
        try:
            while batch.count < MOST_JOBS and self._move_next(batch.taken):
                batch.count += len(batch.taken[-1].jobs)
            for several in batch.by_bucket():
                self._push_several(batch, several)
        except BaseException:  # Ctrl-C, or a time limit, in a caller's thread
            self._give_up(batch)
            raise
        self._unfinished = None

    def _push_several(self, batch: Batch, several: list[Handed]) -> None:
        """Push what goes into one bucket, and answer."""
        batch.ends = []
        batch.sent = several
        try:
            batch.ends.append(self._push(several[0].bucket, [job for handed in several for job in handed.jobs]))
        except SoftTimeLimitExceeded:  # of the job whose thread runs this
            raise
        except Exception as failure:  # noqa: BLE001 - it is the callers' answer
            batch.ends.append(failure)
        batch.tell()

    def _give_up(self, batch: Batch) -> None:
        """The thread that led is wanted elsewhere: leave the rest to the next. May be interrupted and done again."""
        if batch.sent:
            if not batch.ends:
                self._drop()  # an answer that is still to come must not be taken for that of the next statement
                batch.ends.append(self._unknown("interrupted"))
            batch.tell()
        batch.taken[:] = batch.left()
        self._move_back(batch.taken)
        self._unfinished = None
        self.ring()

    # -- statements

    def _push(self, bucket: int, jobs: Sequence[NewJob]) -> Exception | None:
        connection = self._connected()
        clock = self._setting.clock_us
        clock_us = None if clock is None else clock()
        if len(jobs) == 1 and not jobs[0].verify:
            result = self._execute(connection, SINGLE, _single(bucket, jobs[0], clock_us), SINGLE_FORMATS)
        else:
            # A job that comes twice in the batch meets itself: the dearer statement takes it once.
            doubtful = any(job.verify for job in jobs) or len({job.key for job in jobs}) < len(jobs)
            result = self._execute(connection, ONCE if doubtful else FAST, _many(bucket, jobs, clock_us), MANY_FORMATS)
        if result is not None and _state_of(result) == UNIQUE_VIOLATION:
            result = self._execute(connection, ONCE, _many(bucket, jobs, clock_us), MANY_FORMATS)
        return self._answer(connection, result, bucket)

    def _execute(self, connection: PGconn, name: bytes, values: list[Any], formats: tuple[int, ...]) -> PGresult | None:
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
        except Exception:
            self._not_before = time.monotonic() + REST
            raise
        self._answers = select.poll()
        self._answers.register(connection.pgconn.socket, select.POLLIN)
        self._connection = connection
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
        """Close the connection. May be interrupted and done again."""
        if self._connection is not None and self._pid == os.getpid():
            self._connection.close()
        self._connection = None


class Batch:
    """What one thread does while it leads."""

    __slots__ = ("answered", "count", "ends", "sent", "taken")

    def __init__(self) -> None:
        self.taken: list[Handed] = []
        self.count = 0
        """Jobs in all."""
        self.sent: list[Handed] = []
        """Of these, those whose statement has begun."""
        self.ends: list[Exception | None] = []
        """How that statement ended, once this is known."""
        self.answered: set[int] = set()

    def by_bucket(self) -> list[list[Handed]]:
        """What is taken, in the order in which the buckets came."""
        together: dict[int, list[Handed]] = {}
        for handed in self.taken:
            together.setdefault(handed.bucket, []).append(handed)
        return list(together.values())

    def tell(self) -> None:
        """Answer those whose statement has ended. May be interrupted and done again: it says the same."""
        for handed in self.sent:
            handed.answered(self.ends[0])
            self.answered.add(id(handed))
        self.sent = []

    def left(self) -> list[Handed]:
        """Who is still to be answered."""
        return [handed for handed in self.taken if id(handed) not in self.answered]


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
