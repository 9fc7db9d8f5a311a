"""Shares a backlog between engines: one that runs out of work asks for some, one that has too much gives (R20).

An engine that stops gives all that waits behind its last runs.

Demands and grants travel with renewals. Who runs dry, and who has more than enough, renews sooner than the period: an
engine without work waits for a moment, not for two periods.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Final

from jobmaster.engine.lease import matching
from jobmaster.model.worker import Demand
from jobmaster.ports.answers import Refused

if TYPE_CHECKING:
    from collections.abc import Callable

    from jobmaster.engine.lease import Lease
    from jobmaster.engine.life import Life
    from jobmaster.engine.persistence import Backoff
    from jobmaster.engine.tuning import Tuning
    from jobmaster.model.worker import Grant
    from jobmaster.ports.store import Store

logger = logging.getLogger("jobmaster.engine")

HAND_OVER_MOST: Final = 5_000
"""Messages that one call moves: their buckets are held meanwhile."""
LOOK_EVERY: Final = 0.2
"""Seconds between two looks for hunger while there is work."""
SOONER: Final = 0.25
"""Seconds between two renewals of an engine that has more than enough, in a small cluster."""
SOONER_PER_WORKER: Final = 0.02
"""So many seconds at least for each other worker: together they renew no more than 50 times a second for this."""
WORTH: Final = 0.5
"""Seconds: what this engine runs in so little time is done before it has moved, and moving it takes time of its own."""
ALONE: Final = 1.0
"""As SOONER, for the only worker, which does not know yet that another has begun."""


class Sharing:
    """One engine's part in it.

    Who has fewer jobs of a lane and priority waiting than slots asks for more, before it is idle. What an engine holds
    in memory it gives only beyond twice that: who has given does not ask, and who was given to does not give back.

    Args:
        slots: how many this engine has now; 0: it would run nothing that it was given.
        ended: how many runs have ended here so far.
        forgotten: called when jobs in memory were given back to their bucket.
    """

    def __init__(
        self,
        *,
        tuning: Tuning,
        store: Store,
        lease: Lease,
        pause: Backoff,
        slots: Callable[[], int],
        ended: Callable[[], int],
        forgotten: Callable[[], None],
    ) -> None:
        self._tuning = tuning
        self._store = store
        self._lease = lease
        self._pause = pause
        self._slots = slots
        self._ended = ended
        self._counted = (0.0, 0)
        self._pace: float | None = None
        """Runs that ended a second, between the last two looks; None before the second look."""
        self._forgotten = forgotten
        self._asked: dict[int, Demand] = {}
        self._asking: set[int] = set()
        """The buckets for which the last report asks."""
        self._told: set[int] = set()
        """Those for which the report asked that the master has."""
        self._wake = asyncio.Event()
        self.stopping = False
        """Ask for nothing more, and keep nothing that waits."""
        self.depths: dict[int, int] = {}

    def granted(self, grant: Grant) -> None:
        """A renewal was answered: look at who is hungry."""
        self._asked = {demand.bucket: demand for demand in grant.demands if demand.bucket not in self._lease.lives}
        self._told = self._asking
        self._wake.set()

    def demands(self) -> list[Demand]:
        """What this engine would take from others, for its next report."""
        hungry = self._hungry()
        self._asking = {life.bucket.id for life in hungry}
        return [Demand(life.bucket.id, life.bucket.lane, life.bucket.priority) for life in hungry]

    async def run(self) -> None:
        """Share until cancelled."""
        while True:
            granted = await self._next_grant()
            try:
                self._watch_pace()
                if granted:
                    await self._measure()
                    await self._feed()
                else:
                    self._hurry()
            except Refused as answer:
                logger.debug("sharing_refused answer=%s", answer)
            except Exception as error:  # noqa: BLE001 - no error of a store ends a worker (I8)
                await self._pause.wait_after(error)
            else:
                self._pause.succeeded()

    # ---------------------------------------------------------------- when

    async def _next_grant(self) -> bool:
        """Wait for a grant; False where it is time to look before that. An idle engine is not woken."""
        try:
            async with asyncio.timeout(self._until_next_look()):
                await self._wake.wait()
        except TimeoutError:
            return False
        self._wake.clear()
        return True

    def _until_next_look(self) -> float | None:
        lives = self._lease.lives.values()
        if self._has_plenty() or (self.stopping and lives):
            others = self._lease.workers - 1
            return max(SOONER, SOONER_PER_WORKER * others) if others else ALONE
        return LOOK_EVERY if any(life.bucket.id not in self._told for life in lives) else None

    def _hurry(self) -> None:
        """Renew now, where that may bring work here, or tell who wants some of ours."""
        starving = any(life.bucket.id not in self._told for life in self._hungry())
        if starving or self._has_plenty():
            self._lease.report(soon=True)

    def _has_plenty(self) -> bool:
        if self.stopping:
            return self._lease.workers > 1 and bool(self._lease.open_lives())
        return any(life.more or life.waiting >= 2 * self._tuning.slots for life in self._lease.open_lives())

    def _hungry(self) -> list[Life]:
        if self.stopping or self._lease.workers < 2:  # noqa: PLR2004 - nobody else is there
            return []
        slots = self._slots()
        lives = self._lease.open_lives()
        return [life for life in lives if life.waiting < slots and not (life.more or life.completing)]

    # ---------------------------------------------------------------- giving

    def _watch_pace(self) -> None:
        now, ended = asyncio.get_running_loop().time(), self._ended()
        since, before = self._counted
        if now - since >= LOOK_EVERY:
            self._pace = (ended - before) / (now - since) if since else None
            self._counted = (now, ended)

    async def _measure(self) -> None:
        lives = self._lease.open_lives()
        if not lives:
            return
        self.depths = await self._store.depths([life.bucket.id for life in lives])
        for life in lives:
            life.depth = self.depths.get(life.bucket.id, 0)

    async def _feed(self) -> None:
        """Each of the hungry gets as much of what waits in one bucket as stays there."""
        asked, self._asked = list(self._asked.values()), {}
        for number, demand in enumerate(asked):
            for life in matching(demand, self._lease.lives):
                unread = max(0, life.depth - len(life.entries)) if life.more or self.stopping else 0
                waiting = unread + life.waiting
                if self.stopping:
                    share = -(-waiting // (len(asked) - number))
                elif self._pace is None or waiting < self._pace * WORTH:
                    continue
                else:
                    share = waiting // (len(asked) - number + 1)
                moved = await self._hand_over(life, demand.bucket, min(HAND_OVER_MOST, share), unread)
                life.depth -= moved
                if moved:
                    break

    async def _hand_over(self, life: Life, to: int, share: int, unread: int) -> int:
        async with life.reading:  # no read under way may bring what is moved here
            if life.dropped or life.cursor is None or not self._lease.trusted():
                return 0
            limit = min(share, unread + self._put_back(life, share - unread))
            if limit <= 0:
                return 0
            moved = await self._store.hand_over(
                life.fence,
                to,
                cursor=life.cursor,
                high_mark=life.high_mark,
                limit=limit,
                window_us=self._tuning.window_us,
            )
        if moved:
            logger.info("handed_over from_bucket=%d to_bucket=%d messages=%d", life.bucket.id, to, moved)
        return moved

    def _put_back(self, life: Life, wanted: int) -> int:
        """Make jobs in memory unread again; how many. With a separate agent the master may know them by now (R11)."""
        kept = 0 if self.stopping else self._tuning.slots
        if not self._store.standalone or life.waiting < 2 * kept:
            return 0
        put_back = life.unread(min(wanted, life.waiting - kept))
        if put_back:
            self._forgotten()
            life.read_wanted = True  # by the next owner, where this one stops
        return put_back
