"""When an owner of a bucket may be left alone: sleep flags, so that only pushes to a sleeping owner send a NOTIFY.

The flag is an advisory lock, held exclusively by the owner's listening session. A push tries to take it shared until
its commit: where it gets it, nobody sleeps; where not, it notifies. Once the flag is up, the owner is told to read once
more: a push that found it down has committed by then (it held the lock shared, and the flag could not go up), and every
later one notifies. So no wake-up is lost, a sleeping owner costs nothing, and under load nobody notifies.

The flag goes up when reads come back empty. It goes down when they come back full, or messages come in quick
succession; while it is down, the owner is told to read again shortly after each read.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Final

from jobmaster.stores.sql.postgresql.accept import SLEEPERS

if TYPE_CHECKING:
    from collections.abc import Callable

# Never waited for: behind a wait nobody would hear the signals of this session.
RAISE = f"SELECT b, pg_try_advisory_lock({SLEEPERS}, b) FROM unnest($1::int[]) AS b"
LOWER = f"SELECT b, pg_advisory_unlock({SLEEPERS}, b) FROM unnest($1::int[]) AS b"

SHORTEST_PAUSE: Final = 0.002
"""Seconds from a read that found something to the next, while the flag is down. Doubled by each read that did not."""
LONGEST_PAUSE: Final = 0.008
"""After a pause of this length without a message the flag goes up."""
DISTURBED_PAUSE: Final = 0.25
"""The longest while the flag cannot be raised: a push is held open, another session has it, or there is no session."""
BURST: Final = 16
BURST_GAP: Final = 0.01
"""So many messages, no read that found some later than so many seconds after the one before, are quick succession."""


class _Sleeper:
    """One bucket whose owner listens here."""

    __slots__ = ("burst", "found_at", "pause", "raised", "timer", "wanted")

    def __init__(self) -> None:
        self.wanted = False
        """The flag is to be up."""
        self.raised = False
        """The flag is up."""
        self.pause = LONGEST_PAUSE
        self.timer: asyncio.TimerHandle | None = None
        self.burst = 0
        self.found_at = 0.0

    def quick(self, found: int) -> bool:
        """Whether messages come in quick succession, now that a read has found some."""
        now = time.monotonic()
        if now - self.found_at > BURST_GAP:
            self.burst = 0
        self.found_at = now
        self.burst += found
        return self.burst >= BURST


class Sleepers:
    """The flags of one store.

    Args:
        ring: tells the owner of a bucket to read.
        changed: tells the session that flags are to be raised or lowered.
    """

    def __init__(self, *, ring: Callable[[int], None], changed: Callable[[], None]) -> None:
        self._ring = ring
        self._changed = changed
        self._sleepers: dict[int, _Sleeper] = {}
        self._leaving: set[int] = set()
        self._connected = False

    def watch(self, bucket: int) -> None:
        """Its owner listens here from now on."""
        self._sleepers.setdefault(bucket, _Sleeper())

    def forget(self, bucket: int) -> None:
        """Nobody listens to it here any more."""
        sleeper = self._sleepers.pop(bucket, None)
        if sleeper is not None:
            self._stop(sleeper)
            if sleeper.raised:
                self._leaving.add(bucket)
                self._changed()

    def read(self, bucket: int, found: int, *, more: bool) -> None:
        """Note a read. `more`: its owner reads on by itself."""
        sleeper = self._sleepers.get(bucket)
        if sleeper is None:
            return
        if sleeper.wanted:
            if found and (more or sleeper.quick(found)):
                sleeper.wanted = False
                sleeper.pause = SHORTEST_PAUSE
                if not sleeper.raised:
                    self._later(bucket, sleeper)  # nothing will be lowered, which would say so
                self._changed()
            return
        if more:
            self._stop(sleeper)
            sleeper.pause = SHORTEST_PAUSE
        elif found:
            sleeper.pause = SHORTEST_PAUSE
            self._later(bucket, sleeper)
        elif not self._connected:
            sleeper.pause = DISTURBED_PAUSE
            self._later(bucket, sleeper)
        elif sleeper.pause < LONGEST_PAUSE:
            sleeper.pause *= 2
            self._later(bucket, sleeper)
        else:
            self._stop(sleeper)
            sleeper.wanted = True
            self._changed()

    # -- the session

    def to_raise(self) -> list[int]:
        """The flags that are to go up."""
        return [bucket for bucket, sleeper in self._sleepers.items() if sleeper.wanted and not sleeper.raised]

    def to_lower(self) -> list[int]:
        """The flags that are to go down."""
        awake = [bucket for bucket, sleeper in self._sleepers.items() if sleeper.raised and not sleeper.wanted]
        return [*awake, *self._leaving]

    def raised(self, bucket: int, *, done: bool) -> None:
        """A flag is up: one more read sees whoever pushed before. Or it could not be raised just now."""
        sleeper = self._sleepers.get(bucket)
        if sleeper is None:
            if done:
                self._leaving.add(bucket)
            return
        if done:
            sleeper.raised = True
            sleeper.pause = LONGEST_PAUSE
            self._ring(bucket)
        else:
            sleeper.wanted = False
            sleeper.pause = min(2 * sleeper.pause, DISTURBED_PAUSE)
            self._later(bucket, sleeper)

    def lowered(self, bucket: int) -> None:
        """A flag is down: from now on nobody notifies."""
        self._leaving.discard(bucket)
        sleeper = self._sleepers.get(bucket)
        if sleeper is not None:
            sleeper.raised = False
            self._later(bucket, sleeper)

    def connected(self) -> None:
        """There is a session that can hold flags; none is up yet."""
        self._connected = True

    def lost(self) -> None:
        """The session ended, and with it all flags."""
        self._connected = False
        self._leaving.clear()
        for bucket, sleeper in self._sleepers.items():
            sleeper.wanted = sleeper.raised = False
            sleeper.pause = DISTURBED_PAUSE
            self._later(bucket, sleeper)

    def close(self) -> None:
        """Ring nobody any more."""
        for sleeper in self._sleepers.values():
            self._stop(sleeper)
        self._sleepers.clear()

    def _later(self, bucket: int, sleeper: _Sleeper) -> None:
        self._stop(sleeper)
        sleeper.timer = asyncio.get_running_loop().call_later(sleeper.pause, self._ring, bucket)

    @staticmethod
    def _stop(sleeper: _Sleeper) -> None:
        if sleeper.timer is not None:
            sleeper.timer.cancel()
            sleeper.timer = None
