"""Taking in a granted bucket, before its first read, start or claim (R15'a). Each step is safe to repeat.

1. the agent's fence: what the old owner still sends under a smaller epoch does nothing from here on;
2. the rows that the old owner had in memory go back to the master, in bounded batches;
3. the bucket opens; what an earlier life can have seen is started only by asking the master.
No message moves: the cost depends on what the old owner had in memory, not on the backlog.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from jobmaster.ports.answers import Refused

if TYPE_CHECKING:
    from collections.abc import Callable

    from jobmaster.engine.lease import Lease
    from jobmaster.engine.life import Life
    from jobmaster.engine.persistence import Backoff
    from jobmaster.engine.tuning import Tuning
    from jobmaster.ports.clock import Clock
    from jobmaster.ports.store import Store

logger = logging.getLogger("jobmaster.engine")

_RECOVER_BATCH = 500


class Intake:
    """Takes new lives in, one after the other; those that can't reach the agent are given up after a while."""

    def __init__(
        self,
        *,
        tuning: Tuning,
        store: Store,
        clock: Clock,
        lease: Lease,
        pause: Backoff,
        opened: Callable[[Life], None],
    ) -> None:
        self._tuning = tuning
        self._store = store
        self._clock = clock
        self._lease = lease
        self._pause = pause
        self._opened = opened
        self._queue: asyncio.Queue[Life] = asyncio.Queue()
        self.reachable = True
        """False while the agent does not answer: the engine asks for no adoption."""

    def add(self, life: Life) -> None:
        """A bucket was granted that is not in memory."""
        self._queue.put_nowait(life)

    async def run(self) -> None:
        """Take in until cancelled."""
        while True:
            life = await self._queue.get()
            await self._take_in(life)

    async def _take_in(self, life: Life) -> None:
        since = self._clock.monotonic()
        while not life.dropped:
            if not self._lease.trusted():
                await self._pause.wait(0)
                continue
            try:
                await self._steps(life)
            except Refused as answer:
                self._lease.drop(life, str(answer))
            except Exception as error:  # noqa: BLE001 - no error of a store ends a worker (I8)
                self.reachable = False
                await self._pause.wait_after(error)
                if self._clock.monotonic() - since > self._tuning.unreachable_after:
                    await self._give_up(life)
                    return
            else:
                self.reachable = True
                self._pause.succeeded()
                return

    async def _steps(self, life: Life) -> None:
        takeover = await self._store.fence(life.fence)
        taken_back = 0
        while True:
            recovered = await self._store.recover_before(
                life.fence, adopted_us=life.bucket.adopted_us, limit=_RECOVER_BATCH
            )
            taken_back += recovered
            if recovered < _RECOVER_BATCH or life.dropped:
                break
        if life.dropped:
            return
        life.high_mark = 0 if life.bucket.clean else takeover.high_mark
        life.open = True
        if life.bucket.epoch > 1:
            logger.info(
                "bucket_adopted bucket=%d epoch=%d worker=%d recovered=%d clean=%d",
                life.bucket.id,
                life.bucket.epoch,
                life.fence.owner,
                taken_back,
                life.bucket.clean,
            )
        logger.debug("bucket_open bucket=%d epoch=%d high_mark=%d", life.bucket.id, life.bucket.epoch, life.high_mark)
        self._opened(life)

    async def _give_up(self, life: Life) -> None:
        """The agent can't be reached from here: somebody else may.

        Asked once, it is asked until it is answered: a call whose outcome is unknown may still apply, and would take
        the bucket away from a life that had been opened after all.
        """
        while not life.dropped:
            try:
                await self._store.return_bucket(life.fence)
            except Refused as error:
                logger.debug("bucket_not_returned bucket=%d error=%s", life.bucket.id, error)
            except Exception as error:  # noqa: BLE001 - no error of a store ends a worker (I8)
                await self._pause.wait_after(error)
                continue
            self._lease.drop(life)
