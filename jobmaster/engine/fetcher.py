"""From the agent into memory (R9): read what is new when a signal says so, and now and then when none does."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import TYPE_CHECKING, Final

import msgspec

from jobmaster.engine.life import Entry, Life
from jobmaster.engine.room import has_room, most_of, room_for
from jobmaster.model.job import decode_envelope, unreadable_envelope
from jobmaster.ports.answers import Refused

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from jobmaster.engine.lease import Lease
    from jobmaster.engine.persistence import Backoff
    from jobmaster.engine.store_clock import StoreClock
    from jobmaster.engine.tuning import Tuning
    from jobmaster.engine.waiting import Waiting
    from jobmaster.model.job import Message
    from jobmaster.ports.agent import Read, Subscription
    from jobmaster.ports.clock import Clock
    from jobmaster.ports.store import Store

logger = logging.getLogger("jobmaster.engine")

UNWRITTEN: Final = 50
"""So many jobs of an owner that died may have ended without a word, and more where it had more slots."""


class Fetcher:
    """Reads the buckets of all open lives."""

    def __init__(
        self,
        *,
        tuning: Tuning,
        store: Store,
        clock: Clock,
        store_clock: StoreClock,
        lease: Lease,
        waiting: Waiting,
        pause: Backoff,
    ) -> None:
        self._tuning = tuning
        self._store = store
        self._clock = clock
        self._store_clock = store_clock
        self._lease = lease
        self._waiting = waiting
        self._pause = pause
        self._wake = asyncio.Event()
        self._poll_at = 0.0
        self._subscriptions: dict[int, Subscription] = {}
        self.closed = False
        self.arrived: Callable[[list[Entry]], None] = lambda _entries: None
        self.unreadable: Callable[[Entry], None] = lambda _entry: None

    def opened(self, life: Life) -> None:
        """A life was taken in: read it, unless it is held back, and listen for its signals."""
        self._subscriptions[life.bucket.id] = self._store.subscribe(f"bucket:{life.bucket.id}", lambda: self.want(life))
        self.want(life)

    def release(self, life: Life) -> None:
        """It is not held back any more. (It would be read in the next look at all lives, too.)"""
        life.held_back = False
        self.want(life)

    def dropped(self, life: Life) -> None:
        """A life is over: no more signals for it."""
        subscription = self._subscriptions.pop(life.bucket.id, None)
        if subscription is not None:
            subscription.close()

    def want(self, life: Life) -> None:
        """Something may have come for this life."""
        life.read_wanted = True
        self._wake.set()

    def room(self) -> None:
        """Jobs left memory, or trust came back: lives that could not be read when it was wanted may be read now."""
        for life in self._lease.lives.values():
            if (life.more or life.read_wanted) and self._has_room(life) and not life.held_back:
                self._wake.set()
                return

    async def run(self) -> None:
        """Read until cancelled."""
        try:
            while True:
                self._wake.clear()
                await self._read_all()
                await self._sleep()
        finally:
            for subscription in self._subscriptions.values():
                subscription.close()

    def take(self, life: Life, messages: list[Message], *, guarded: bool = False, first: int = 0) -> list[Entry]:
        """Put messages into memory; returns the new entries, which wait from now on, so many of them before others."""
        entries = []
        for message in messages:
            try:
                envelope = decode_envelope(message.payload)
            except msgspec.DecodeError as error:
                self._take_unreadable(life, message, error)
                continue
            entry = life.message_entry(message, envelope, guarded=guarded)
            if entry is not None:
                entries.append(entry)
        life.waiting += len(entries)
        now_us = self._store_clock.now_us()
        if first:
            self._waiting.add_heads(entries[:first], now_us)
        self._waiting.add(entries[first:] if first else entries, now_us)
        if not self._store.standalone:
            life.await_rows(entries, self._clock.monotonic())
        return entries

    def _take_unreadable(self, life: Life, message: Message, error: msgspec.DecodeError) -> None:
        logger.warning("message_unreadable bucket=%d seq=%d error=%s", message.bucket, message.seq, error)
        entry = life.message_entry(message, unreadable_envelope(message.due_us))
        if entry is not None:
            self.unreadable(entry)

    async def _read_all(self) -> None:
        now = self._clock.monotonic()
        store_now = self._store_clock.now_us()
        poll = now >= self._poll_at
        if poll:
            self._poll_at = now + self._tuning.read_every
        steps = []
        for life in [] if self.closed else self._lease.open_lives():
            due = life.next_due_us is not None and life.next_due_us <= store_now + self._tuning.window_us
            life.read_wanted = life.read_wanted or poll
            life.held_back = life.held_back and not poll
            if life.held_back:
                continue
            if (life.read_wanted or due or life.more) and self._has_room(life):
                steps.append(self._guarded(life, self._read))
            if life.cursor is not None and self._reread_is_due(life, now):
                steps.append(self._guarded(life, self._reread))
        if len(steps) == 1:
            await steps[0]
        elif steps:  # all together: one turn of the store's thread, or of the network, for all of them
            await asyncio.gather(*steps)

    async def _guarded(self, life: Life, step: Callable[[Life], Awaitable[None]]) -> None:
        try:
            await step(life)
        except Refused as answer:
            self._lease.drop(life, str(answer))
        except Exception as error:  # noqa: BLE001 - no error of a store ends a worker (I8)
            life.read_wanted = True
            await self._pause.wait_after(error)
        else:
            self._pause.succeeded()

    async def _read(self, life: Life) -> None:
        async with life.reading:
            if life.dropped:
                return
            life.read_wanted = False
            limit = min(self._tuning.read_limit, self._most(life) - life.waiting)
            answer: Read = await self._store.read(
                life.fence, life.cursor, limit=limit, window_us=self._tuning.window_us
            )
            if not self._lease.may_act(life):
                life.read_wanted = True
                return
            self._store_clock.learn(answer.now_us)
            # What comes first in an adopted bucket has run when its owner died: its turn has come already. Before that
            # are those whose outcomes its owner had not written yet.
            first = 2 * self._tuning.slots + UNWRITTEN if life.cursor is None and life.high_mark else 0
            life.cursor, life.more, life.next_due_us = answer.cursor, answer.more, answer.next_due_us
            if answer.unsettled and not life.unsettled:
                life.unsettled, life.reread_at = True, self._clock.monotonic() + self._tuning.reread_every
            life.room_for = room_for(answer.messages, _size, before=life.room_for, tuning=self._tuning)
            entries = self.take(life, answer.messages, first=first)
        if entries:
            self.arrived(entries)

    async def _reread(self, life: Life) -> None:
        async with life.reading:
            if life.dropped or life.cursor is None:
                return
            now, limit = self._clock.monotonic(), self._tuning.read_limit
            full = not self._store.gapless and now >= life.full_reread_at
            answer = await self._store.reread(
                life.fence, life.cursor, known=life.numbers, limit=limit, window_us=self._tuning.window_us, full=full
            )
            if not self._lease.may_act(life):
                return
            cut = len(answer.messages) >= limit
            life.unsettled, life.reread_at = answer.unsettled or cut, now + self._tuning.reread_every
            if full and not cut:
                life.full_reread_at = now + self._tuning.full_reread_every
            entries = self.take(life, answer.messages)
        if entries:
            self.arrived(entries)

    def _reread_is_due(self, life: Life, now: float) -> bool:
        """While a message may still appear; and after a life's first read and once a minute, as a cheap insurance."""
        if life.unsettled and now >= life.reread_at:
            return True
        return not self._store.gapless and now >= life.full_reread_at

    def _has_room(self, life: Life) -> bool:
        return has_room(self._tuning, self._most(life), life.waiting)

    def _most(self, life: Life) -> int:
        """How many may wait in it."""
        return most_of(self._tuning, life.room_for)

    async def _sleep(self) -> None:
        now = self._clock.monotonic()
        wait = self._poll_at - now
        store_now = self._store_clock.now_us()
        for life in [] if self.closed else self._lease.open_lives():
            if life.unsettled:
                wait = min(wait, life.reread_at - now)
            if not self._has_room(life):
                life.read_wanted = life.read_wanted or life.next_due_us is not None  # as soon as there is room
                continue
            if life.more:
                await asyncio.sleep(0)
                return
            if life.next_due_us is not None:
                wait = min(wait, max(0.0, (life.next_due_us - self._tuning.window_us - store_now) / 1e6))
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(max(wait, 0.005)):
                await self._wake.wait()


def _size(message: Message) -> int:
    return len(message.payload)
