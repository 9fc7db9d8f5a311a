"""From the master straight into memory: held jobs that fall due (R14'), without a message, without polling for them."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

import msgspec

from jobmaster.engine.life import Stage
from jobmaster.engine.room import has_room, most_of, room_for
from jobmaster.model.ids import key_text
from jobmaster.model.job import decode_envelope, unreadable_envelope
from jobmaster.ports.answers import Refused
from jobmaster.ports.master import ClaimRequest

if TYPE_CHECKING:
    from collections.abc import Callable

    from jobmaster.engine.lease import Lease
    from jobmaster.engine.life import Entry, Life
    from jobmaster.engine.persistence import Backoff
    from jobmaster.engine.restraint import Restraint
    from jobmaster.engine.store_clock import StoreClock
    from jobmaster.engine.tuning import Tuning
    from jobmaster.engine.waiting import Waiting
    from jobmaster.model.job import ClaimedJob
    from jobmaster.ports.master import Claimed
    from jobmaster.ports.store import Store

logger = logging.getLogger("jobmaster.engine")


class Claimer:
    """Claims what is due within the window, then sleeps until the next due time."""

    def __init__(
        self,
        *,
        tuning: Tuning,
        store: Store,
        store_clock: StoreClock,
        lease: Lease,
        waiting: Waiting,
        restraint: Restraint,
        pause: Backoff,
    ) -> None:
        self._tuning = tuning
        self._store = store
        self._store_clock = store_clock
        self._lease = lease
        self._waiting = waiting
        self._pause = pause
        self._wake = asyncio.Event()
        self._next_due_us: int | None = None
        self._full: list[Life] = []
        self._room_for: int | None = None
        """How many may wait in one bucket, where held jobs are so large that it is fewer than usual."""
        self._in_reserve: set[Entry] = set()
        """Those that were claimed into a full buffer, and wait."""
        self._then: list[Callable[[], None]] = []
        self.closed = False
        self.arrived: Callable[[list[Entry]], None] = lambda _entries: None
        self.unreadable: Callable[[Entry], None] = lambda _entry: None
        self.runs_apart: Callable[[Entry], bool] = lambda _entry: False
        self._restraint = restraint
        self._only_later = False
        """What is due was seen, and left or taken; what the next claim may bring is not due yet."""

    def wake(self) -> None:
        """Held jobs may have come, or room for them."""
        self._wake.set()

    def after_claim(self, callback: Callable[[], None]) -> None:
        """Call this after the next claim, whatever it brings."""
        self._then.append(callback)
        self._wake.set()

    def room(self) -> None:
        """Jobs left memory: buckets that were full may claim again."""
        if self._full and any(map(self._room, self._full)):
            self._full = []
            self._wake.set()
        elif self._restraint.may_go_on():
            self._wake.set()

    async def run(self) -> None:
        """Claim until cancelled."""
        subscription = self._store.subscribe("held", self.wake)
        try:
            while True:
                self._wake.clear()
                then, self._then = self._then, []
                try:
                    more = not self.closed and await self._claim()
                finally:
                    for callback in then:
                        callback()
                if more:
                    continue
                await self._sleep()
        finally:
            subscription.close()

    async def _claim(self) -> bool:
        """One claim for all lanes and priorities. True: there may be more at once."""
        emptiest = self._emptiest()
        rooms = [(life, self._room(life)) for life in emptiest]
        lives = [life for life, room in rooms if room]
        self._full = [life for life, room in rooms if not room]
        most = None if self._only_later else self._restraint.most()
        self._only_later = False
        is_restrained = most is not None and most < self._tuning.claim_limit
        limit = most if most is not None and is_restrained else self._tuning.claim_limit
        requests = [
            ClaimRequest(life.fence, life.bucket.lane, life.bucket.priority, min(limit, room))
            for life, room in rooms
            if room
        ]
        if not requests:
            self._next_due_us = None
            return False
        counted = self._lease.counted
        with self._lease.claiming():
            try:
                answer = await self._store.claim(requests, window_us=self._tuning.window_us)
            except Refused:
                return False
            except Exception as error:  # noqa: BLE001 - no error of a store ends a worker (I8)
                failure = error
            else:
                is_late = self._lease.counted != counted and answer.taken_us < self._lease.highest_cut_us
                if not is_late:
                    return self._answered(requests, lives, answer, is_restrained=is_restrained)
                self._too_late(answer)
                return False
        await self._pause.wait_after(failure)
        return False

    def _too_late(self, answer: Claimed) -> None:
        """R14'a: a report was made without these rows, so that the master may take them back: they are nobody's.

        The next renewal re-readies them. What was taken since that report's cut it does not touch (R8).
        """
        self._pause.succeeded()
        self._store_clock.learn(answer.now_us)
        self._next_due_us = answer.next_due_us
        if answer.jobs:
            self._lease.report(soon=True)

    def _answered(
        self, requests: list[ClaimRequest], lives: list[Life], answer: Claimed, *, is_restrained: bool
    ) -> bool:
        """Take the answer in. True: there may be more at once."""
        self._pause.succeeded()
        self._store_clock.learn(answer.now_us)
        self._next_due_us = due_us = answer.next_due_us
        entries = self._take({life.bucket.id: life for life in lives}, answer)
        self._restraint.answered(
            entries, answer.now_us, is_left=due_us is not None and due_us <= answer.now_us, is_restrained=is_restrained
        )
        if is_restrained:
            window_us = self._tuning.window_us
            self._only_later = due_us is not None and answer.now_us < due_us <= answer.now_us + window_us
            return self._only_later
        limits = {request.fence.bucket: request.limit for request in requests}
        taken: dict[int, int] = {}
        for job in answer.jobs:
            taken[job.bucket] = taken.get(job.bucket, 0) + 1
        return any(count >= limits.get(bucket, count + 1) for bucket, count in taken.items())

    def _take(self, lives: dict[int, Life], answer: Claimed) -> list[Entry]:
        for bucket in answer.fenced:
            if bucket in lives:
                self._lease.drop(lives[bucket])
        now_us = self._store_clock.now_us()
        entries = []
        for job in answer.jobs:
            life = lives.get(job.bucket)
            if life is None or not life.open:
                continue
            try:
                envelope = decode_envelope(job.payload)
            except msgspec.DecodeError as error:
                logger.warning("row_unreadable job=%s error=%s", key_text(job.key), error)
                broken = life.claimed_entry(job, unreadable_envelope(job.due_us))
                if broken is not None:
                    self.unreadable(broken)
                continue
            entry = life.claimed_entry(job, envelope)
            if entry is not None:
                entries.append(entry)
        self._room_for = room_for(answer.jobs, _size, before=self._room_for, tuning=self._tuning)
        self._let_wait(entries, now_us)
        if entries:
            self.arrived(entries)
        return entries

    def _let_wait(self, entries: list[Entry], now_us: int) -> None:
        apart = []
        for entry in entries:
            entry.life.waiting += 1
            if self._is_full(entry.life):
                self._in_reserve.add(entry)
            if self.runs_apart(entry):
                apart.append(entry)
        self._waiting.add_apart(apart, now_us)
        self._waiting.add_claimed([entry for entry in entries if entry not in apart] if apart else entries, now_us)

    def _room(self, life: Life) -> int:
        """How many jobs may be claimed for it, 0 where a claim would bring few.

        A backlog of messages fills every buffer as soon as there is room; it must not keep out what the master holds,
        so a claim's worth may always wait here beside it.
        """
        most = most_of(self._tuning, self._room_for)
        if not self._is_full(life):
            return most - life.waiting
        self._in_reserve = {entry for entry in self._in_reserve if entry.stage is Stage.WAITING and entry.alive}
        worth = min(self._tuning.claim_limit, most)
        left = worth - len(self._in_reserve)
        return left if 2 * left >= worth else 0

    def _is_full(self, life: Life) -> bool:
        return not has_room(self._tuning, most_of(self._tuning, self._room_for), life.waiting)

    def _emptiest(self) -> list[Life]:
        """Per lane and priority the open life with the most room. One that is run empty gets nothing more."""
        best: dict[tuple[str, int], Life] = {}
        for life in self._lease.open_lives():
            if life.completing:
                continue
            place = (life.bucket.lane, life.bucket.priority)
            if place not in best or life.waiting < best[place].waiting:
                best[place] = life
        return list(best.values())

    async def _sleep(self) -> None:
        # Signals and known due times come first; what is asked without any is shared by all workers of the cluster.
        wait = max(self._tuning.claim_every, self._lease.workers / self._tuning.claims_per_second)
        left_for = self._restraint.left_for()
        if left_for is not None:
            wait = min(wait, max(left_for, 0.02))
        elif self._next_due_us is not None:
            until = (self._next_due_us - self._tuning.window_us - self._store_clock.now_us()) / 1e6
            wait = min(wait, max(until, 0.02))
        try:
            async with asyncio.timeout(wait):
                await self._wake.wait()
        except TimeoutError:
            pass


def _size(job: ClaimedJob) -> int:
    return len(job.payload) + len(job.checkpoint or b"")
