"""The graceful stop (R22'): nothing new, let go of what waits, finish what runs, hand back the rest.

Order: no start, read or claim any more; the keeper is told (no adoption); buckets of which only waiting entries are
left are given up, one after the other, as their last run ends. Five seconds before the grace ends, what still runs is
stopped and handed back without spending an attempt. At last the lease ends.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from jobmaster.model.run import Halt
from jobmaster.ports.answers import Refused

if TYPE_CHECKING:
    from collections.abc import Callable

    from jobmaster.engine.lease import Lease
    from jobmaster.engine.life import Life
    from jobmaster.engine.persistence import Backoff
    from jobmaster.engine.runner import Runner
    from jobmaster.engine.starter import Starter
    from jobmaster.engine.tuning import Tuning
    from jobmaster.model.ids import JobKey
    from jobmaster.ports.clock import Clock
    from jobmaster.ports.store import Store

logger = logging.getLogger("jobmaster.engine")

_LOOK_EVERY = 0.02
_LONGEST_ROUND = 0.5
"""Seconds after which the clock is looked at again, however slowly the store answers."""
_TAKING_IN = 2.0
"""So many seconds a stop leaves to buckets that were granted a moment before it: one that was never taken in can only
be returned as lost."""
_LAST_WORDS = 2.0
"""Seconds that a stop may take beyond its grace to write outcomes and give buckets up."""


class GracefulStop:
    """Lets one engine go."""

    def __init__(
        self,
        *,
        tuning: Tuning,
        store: Store,
        clock: Clock,
        lease: Lease,
        runner: Runner,
        starter: Starter,
        stuck: Callable[[], list[JobKey]],
        taking_in: Callable[[], bool],
        pause: Backoff,
    ) -> None:
        self._tuning = tuning
        self._store = store
        self._clock = clock
        self._lease = lease
        self._runner = runner
        self._starter = starter
        self._stuck = stuck
        self._taking_in = taking_in
        self._pause = pause
        self.hurry = False
        """Set by a second signal: what runs is stopped at once."""
        self.homeless = False
        """Set while the database is another one than that which was opened: there is nothing to give up there."""

    async def run(self, stop_by: Callable[[], float]) -> None:
        """Stop by about that moment (monotonic seconds), which may still come nearer."""
        begun = self._clock.monotonic()
        logger.info("stop_begins running=%d grace=%.1f", len(self._runner.running), max(0.0, stop_by() - begun))
        halted = False
        while self._lease.lives or not self._runner.idle():
            now, end_at = self._clock.monotonic(), stop_by() + _LAST_WORDS
            if now >= end_at:
                logger.warning("stop_leaves buckets=%d running=%d", len(self._lease.lives), len(self._runner.running))
                break
            if not halted and (self.hurry or now >= stop_by() - self._handing_back(stop_by() - begun)):
                halted = True
                self._halt_all()
            self._write_off_stuck(now >= end_at - _LAST_WORDS / 2)
            if self.homeless and not self._runner.running:
                logger.warning("stop_leaves buckets=%d: their database was replaced", len(self._lease.lives))
                break
            awaits = self._taking_in() and not self.hurry and now < min(begun + _TAKING_IN, stop_by())
            await self._give_up_the_quiet(seconds=min(_LONGEST_ROUND, max(end_at - now, 0.0)), opened_only=awaits)
            await asyncio.sleep(_LOOK_EVERY)
        if not self.homeless:
            await self._end_lease()
        logger.info("stop_ended seconds=%.2f", self._clock.monotonic() - begun)

    def _handing_back(self, grace: float) -> float:
        return min(self._tuning.hand_back_before_grace_ends, grace / 5)

    def _halt_all(self) -> None:
        for entry in list(self._runner.running.values()):
            self._runner.halt(entry, Halt.SHUTDOWN)
        self._runner.guarded.release()

    def _write_off_stuck(self, late: bool) -> None:  # noqa: FBT001 - private
        """When nothing else runs, or there is no more time: this process ends, and with it what does not end in it."""
        stuck = [key for key in self._stuck() if key in self._runner.running]
        if stuck and (late or len(stuck) >= len(self._runner.running)):
            logger.warning("runs_written_off count=%d", len(stuck))
            self._runner.write_off(stuck)

    async def _give_up_the_quiet(self, *, seconds: float, opened_only: bool) -> None:
        """All together; what is not answered in this time is asked again (a repeat is safe)."""
        if not self._lease.trusted() or self._starter.pending():
            return
        quiet = [life for life in self._lease.lives.values() if not life.busy() and (life.open or not opened_only)]
        try:
            async with asyncio.timeout(seconds):
                errors = await asyncio.gather(*(self._give_up(life) for life in quiet))
                for error in filter(None, errors):
                    await self._pause.wait_after(error)
                    return
        except TimeoutError:
            return

    async def _give_up(self, life: Life) -> Exception | None:
        try:
            if life.open:
                await self._store.give_up(life.fence)
            else:
                await self._store.return_bucket(life.fence)
        except Refused:
            pass
        except Exception as error:  # noqa: BLE001 - no error of a store ends a worker (I8)
            return error
        self._lease.drop(life)
        return None

    async def _end_lease(self) -> None:
        if not self._lease.worker:
            return
        self._lease.gone = True  # from the moment of sending: what was granted and found no slot in time starts no more
        try:
            async with asyncio.timeout(_LAST_WORDS):
                # Nobody died: what a stop leaves behind is recovered like all that is lost, and counted for nobody.
                await self._store.end_worker(self._lease.worker, blame=[])
        except Exception as error:  # noqa: BLE001 - no error of a store ends a worker (I8)
            logger.warning("lease_not_ended error=%r: it ends by itself", error)
