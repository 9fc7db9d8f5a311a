"""Where threads wait for the answers of stores, and how those who are answered together are woken.

All at once they would only queue up for the interpreter: each would be woken twice, and would push aside the thread
that wakes them. So each wakes the next one before it goes on (measured with 8 threads: half as many switches, a fifth
less processor time). Where that takes too long, because somebody computes or has gone, the rest is woken at once.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from jobmaster.errors import OutcomeUnknown, StoreUnavailable
from jobmaster.gateway import Parcel
from jobmaster.model.ids import key_text

if TYPE_CHECKING:
    from jobmaster.gateway import Gateway, Route
    from jobmaster.model.job import NewJob

ANSWER_SLACK: Final = 2.0
"""Seconds that a sync caller gives the loop beyond the deadline before it stops believing in an answer."""
LATE: Final = 0.002
"""Seconds between an answer and its thread's turn, above which nobody waits for a turn any more."""
LONGEST_TURN: Final = 0.02
"""Seconds after which a thread that waits looks whether it was passed over."""


class Relay:
    """Threads that have an answer and are not awake yet. One of those that are holds the baton: it wakes the next."""

    __slots__ = ("_baton", "_waiting")

    def __init__(self) -> None:
        self._waiting: deque[Ticket] = deque()
        self._baton = threading.Lock()

    def add(self, ticket: Ticket) -> None:
        """Wake the ticket's thread when it is its turn: now, where nobody holds the baton. From any thread."""
        self._waiting.append(ticket)
        if self._baton.acquire(blocking=False):
            self.pass_on()

    def pass_on(self) -> None:
        """Wake the next thread, which holds the baton from now on; where there is none, lay the baton down."""
        while True:
            try:
                ticket = self._waiting.popleft()
            except IndexError:
                with suppress(RuntimeError):  # a thread that was passed over has laid it down
                    self._baton.release()
                if not self._waiting or not self._baton.acquire(blocking=False):
                    return
            else:
                if ticket.wake():
                    return

    def wake_all(self) -> None:
        """End all waiting."""
        while self._waiting:
            with suppress(IndexError):
                self._waiting.popleft().wake()
        self.pass_on()

    def take_out(self, ticket: Ticket) -> bool:
        """Do without a turn; False: it has come, or never will."""
        try:
            self._waiting.remove(ticket)
        except ValueError:
            return False
        return True


class Ticket(Parcel):
    """A parcel whose caller is a thread that waits: on a bare lock, the cheapest thing there is.

    Args:
        relay: whom it is woken with; None for a thread that waits for several tickets, and would hold up the others.
    """

    __slots__ = ("_answered_at", "_left", "_lock", "_relay", "error")

    def __init__(self, jobs: Sequence[NewJob], route: Route, deadline: float, relay: Relay | None) -> None:
        super().__init__(jobs, route, deadline)
        self._lock = threading.Lock()
        self._lock.acquire()
        self._relay = relay
        self._answered_at: float | None = None
        self._left = False
        self.error: Exception | None = None

    def done(self, error: Exception | None) -> None:
        """Answer it. Once more changes nothing."""
        if self._answered_at is not None:
            return
        self.error = error
        self._answered_at = time.monotonic()
        if self._relay is None:
            self._lock.release()
        else:
            self._relay.add(self)

    def wake(self) -> bool:
        """End its thread's waiting; False: nobody waits here any more."""
        if self._left:
            return False
        with suppress(RuntimeError):  # it has been woken before
            self._lock.release()
        return True

    def wait(self, until: float) -> bool:
        """Wait for the answer until this moment of `time.monotonic()`; False: there is none."""
        if self._relay is None:
            return self._lock.acquire(timeout=max(0.0, until - time.monotonic()))
        try:
            return self._wait_for_turn(self._relay, until)
        except BaseException:  # Ctrl-C
            self.leave()
            raise

    def leave(self) -> None:
        """Nobody will wait here any more."""
        self._left = True
        if self._relay is not None and self._answered_at is not None and not self._relay.take_out(self):
            self._relay.pass_on()

    def _wait_for_turn(self, relay: Relay, until: float) -> bool:
        while not self._lock.acquire(timeout=max(0.0, min(until - time.monotonic(), LONGEST_TURN))):
            if self._answered_at is not None:  # passed over, or whoever should have woken this thread was interrupted
                if relay.take_out(self):
                    relay.wake_all()
                else:
                    relay.pass_on()
                return True
            if time.monotonic() >= until:
                return False
        if self._answered_at is not None and time.monotonic() - self._answered_at > LATE:
            relay.wake_all()
        else:
            relay.pass_on()
        return True


class Promise(Parcel):
    """A parcel whose caller waits on the gateway's own loop."""

    __slots__ = ("answer",)

    def __init__(self, jobs: Sequence[NewJob], route: Route, deadline: float) -> None:
        super().__init__(jobs, route, deadline)
        self.answer: asyncio.Future[Exception | None] = asyncio.get_running_loop().create_future()

    def done(self, error: Exception | None) -> None:
        """Answer it."""
        if not self.answer.done():
            self.answer.set_result(error)


def wait_for_first(gateway: Gateway, sent: deque[Ticket]) -> None:
    """Wait for the first of those that were sent, and take it out. Raises its error, once all are answered."""
    ticket = sent[0]
    if not ticket.wait(ticket.deadline):
        _overdue(gateway, ticket)
    sent.popleft()
    if ticket.error is not None:
        for other in sent:  # they are under way: what becomes of them is known before the caller is told
            if not other.wait(other.deadline):
                _overdue(gateway, other)
        raise ticket.error


async def answer_of(sent: deque[Promise]) -> None:
    """`wait_for_first` on the gateway's own loop."""
    error = await sent.popleft().answer
    if error is not None:
        for other in sent:
            await other.answer
        raise error


def _overdue(gateway: Gateway, ticket: Ticket) -> None:
    if gateway.withdraw(ticket):
        ticket.error = StoreUnavailable("The store was busy until accept_timeout ended. Nothing was stored.")
    elif not ticket.wait(time.monotonic() + ANSWER_SLACK):
        ticket.leave()
        job_id = ticket.jobs[0].envelope.custom_id or key_text(ticket.jobs[0].key)
        ticket.error = OutcomeUnknown(
            "The event loop of this process's producer does not turn, so that no answer can come. The job may be "
            f"stored: repeat with options(job_id={job_id!r}).",
            job_id=job_id if len(ticket.jobs) == 1 else None,
        )
