"""Keeps N engine processes: starts, watches, replaces and stops them, and tells the master at once when one died.

It imports no user code and runs no job, so its loop always turns; the leases of all engines are renewed on it.
Everything here happens on ports and `asyncio` sleeps only; real processes are in `links/processes.py`.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Protocol

from jobmaster.engine.engine_life import TICK, EngineLife, Patience
from jobmaster.ports.link import CANNOT_START, EXIT_UNREACHABLE
from jobmaster.rules.recovery import blamed, first_suspects
from jobmaster.rules.restart import HOPELESS_STARTS, Restarts, restart_delay

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from jobmaster.engine.lease_keeper import LeaseKeeper
    from jobmaster.model.ids import JobKey
    from jobmaster.model.job import Blame
    from jobmaster.ports.clock import Clock
    from jobmaster.ports.link import Spawner

logger = logging.getLogger("jobmaster.supervisor")

MOST_SUSPECTS = 64
"""So many are remembered, the latest: whoever has ended since is of no concern, and costs a few bytes a renewal."""

__all__ = ["EndingStore", "Patience", "Supervisor"]


class EndingStore(Protocol):
    """What a supervisor needs of a master."""

    async def end_worker(self, worker: int, *, blame: Sequence[Blame] = ()) -> None:
        """See `ports.master.MasterStore.end_worker`."""
        ...


class Supervisor:
    """Keeps engines 0 to `engines - 1` alive until it is stopped or they have ended by themselves.

    Attributes:
        failure: why `run` answered 1 without having been asked to stop, for people; else None.
    """

    def __init__(
        self,
        *,
        spawner: Spawner,
        keeper: LeaseKeeper,
        store: EndingStore,
        clock: Clock,
        engines: int,
        patience: Patience,
        random: Callable[[], float],
    ) -> None:
        self._spawner = spawner
        self._keeper = keeper
        self._store = store
        self._clock = clock
        self._engines = engines
        self._patience = patience
        self._random = random
        self._sleepers: set[asyncio.Event] = set()
        self._stops = 0
        self._burials: set[asyncio.Task[None]] = set()
        self._lives: set[EngineLife] = set()
        """All that have not ended."""
        self._farewells: dict[asyncio.Task[None], EngineLife] = {}
        """Those whose place another one has taken."""
        self._being_replaced: EngineLife | None = None
        """Worn engines are replaced one after the other."""
        self._somebody_was_ready = False
        self._unclean = False
        self.failure: str | None = None

    # ---------------------------------------------------------------- what others call

    async def run(self) -> int:
        """Supervise; the answer is the process's exit code: 0 after a clean end, 1 otherwise."""
        try:
            async with asyncio.TaskGroup() as group:
                self._group = group
                keeping = group.create_task(self._keeper.run())
                tending = [group.create_task(self._tend(engine)) for engine in range(self._engines)]
                await asyncio.wait(tending)
                if self._farewells:
                    await asyncio.wait(self._farewells)
                keeping.cancel()
        finally:
            for life in self._lives:
                life.child.kill()
        await self._finish_burials()
        return 1 if self._unclean or self.failure is not None else 0

    def stop(self) -> None:
        """A signal to stop. The first: gracefully. The second: what runs is cancelled now. The third: kill."""
        self._stops += 1
        logger.info("stop_asked times=%d", self._stops)
        self.wake()

    def wake(self) -> None:
        """A hint: something changed at a child (it ended, or was condemned)."""
        for event in self._sleepers:
            event.set()

    def _stopping(self) -> bool:
        return self._stops > 0

    # ---------------------------------------------------------------- one engine, life after life

    async def _tend(self, engine: int) -> None:
        restarts = Restarts()
        hopeless = 0
        while not self._stopping():
            await self._back_off(restarts)
            if self._stopping():
                return
            life = await self._start(engine)
            if life is None:
                restarts.ended(self._clock.monotonic(), lived=0.0, with_jobs=False)
                continue
            life = await self._follow(life)
            burial = None
            if self._has_ended(life):
                burial = self._bury(life)
            else:
                self._see_off(life)
            if self._stopping() or self._has_done_its_work(life):
                return
            hopeless = hopeless + 1 if self._never_was_ready(life) else 0
            if self._give_up(life, hopeless):
                return
            now = self._clock.monotonic()
            restarts.ended(now, lived=now - life.began, with_jobs=bool(life.ran()) and not life.condemned)
            if burial is not None:  # so that blame is known before the successor recovers anything
                await asyncio.wait({burial}, timeout=TICK)

    async def _start(self, engine: int) -> EngineLife | None:
        try:
            child = await self._spawner.spawn(engine)
        except Exception:
            logger.exception("engine_not_started engine=%d", engine)
            return None
        logger.info("engine_started engine=%d pid=%d", engine, child.pid)
        life = EngineLife(engine, child, self._clock.monotonic(), self._patience)
        self._lives.add(life)
        self._keeper.add(child)
        return life

    async def _follow(self, life: EngineLife) -> EngineLife:
        """Until who stands in this place has ended, or is condemned; the answer is who that is.

        A condemned engine starts nothing more: another one must, while what runs in the old one ends.
        """
        while life.lives:
            self._look(life)
            if not self._stopping():
                if life.condemned:
                    break
                if life.worn and self._may_be_replaced(life):
                    life = await self._replaced(life)
                    continue
            await self._pause(TICK)
        return life

    async def _back_off(self, restarts: Restarts) -> None:
        start_at = self._clock.monotonic() + restarts.delay(random=self._random())
        while not self._stopping() and (left := start_at - self._clock.monotonic()) > 0:
            await self._pause(left)

    async def _pause(self, seconds: float) -> None:
        """Sleep, but not past news."""
        event = asyncio.Event()
        self._sleepers.add(event)
        try:
            async with asyncio.timeout(seconds):
                await event.wait()
        except TimeoutError:
            return
        finally:
            self._sleepers.discard(event)

    def _look(self, life: EngineLife) -> None:
        life.look(self._clock.monotonic(), stops=self._stops)

    # ---------------------------------------------------------------- one takes the place of another that lives

    def _may_be_replaced(self, life: EngineLife) -> bool:
        """One worn engine at a time, and none before the one that it has replaced itself is gone."""
        if self._being_replaced is not None or self._clock.monotonic() < life.not_before:
            return False
        return all(leaving.engine != life.engine for leaving in self._farewells.values())

    async def _replaced(self, life: EngineLife) -> EngineLife:
        """Start a worn engine's successor, and let the old one go once that works; who stands in the place now.

        Until then the old one works on: a successor that cannot begin, as after a broken deployment, harms nobody.
        """
        logger.info("engine_worn engine=%d pid=%d reason=%s", life.engine, life.child.pid, life.worn)
        self._being_replaced = life
        try:
            heir = await self._start(life.engine)
            while heir is not None and heir.lives and not heir.works and not self._stopping():
                if not life.lives or life.condemned:
                    break
                self._look(life)
                self._look(heir)
                await self._pause(TICK)
        finally:
            self._being_replaced = None
        if heir is None or self._has_ended(heir):
            if heir is not None:
                self._bury(heir)
            life.failed_heirs += 1
            wait = restart_delay(short_lives=1 + life.failed_heirs, random=self._random())
            life.not_before = self._clock.monotonic() + wait
            logger.error("engine_not_replaced engine=%d pid=%d retry_after=%.1f reason=%s: the old one goes on",
                         life.engine, life.child.pid, wait, heir.reason() if heir else "not started")  # fmt: skip
            return life
        if self._stopping():
            self._see_off(heir)
            return life
        if life.lives:
            life.retire(self._clock.monotonic())
        self._see_off(life)
        return heir

    def _see_off(self, life: EngineLife) -> None:
        """Watch it to its end, beside the one that has taken its place."""
        farewell = self._group.create_task(self._watch_to_the_end(life))
        self._farewells[farewell] = life
        farewell.add_done_callback(self._farewells.pop)

    async def _watch_to_the_end(self, life: EngineLife) -> None:
        while not self._has_ended(life):
            self._look(life)
            await self._pause(TICK)
        self._bury(life)

    # ---------------------------------------------------------------- after its end

    def _has_ended(self, life: EngineLife) -> bool:
        """Whether it has ended; the first time that it is seen, its lease is no longer renewed."""
        if life.lives:
            return False
        if life in self._lives:
            self._lives.discard(life)
            self._keeper.remove(life.child)
            self._somebody_was_ready = self._somebody_was_ready or life.was_ready
            reason = "recycled" if life.retired and life.ended_well else life.reason()
            level = logging.INFO if life.ended_well else logging.WARNING
            logger.log(level, "engine_ended engine=%d pid=%d reason=%s", life.engine, life.child.pid, reason)
        return True

    def _has_done_its_work(self, life: EngineLife) -> bool:
        return life.ended_well and life.child.condemned() is None

    def _never_was_ready(self, life: EngineLife) -> bool:
        return life.child.reports() is None and life.reason() != f"exit {EXIT_UNREACHABLE}"

    def _give_up(self, life: EngineLife, hopeless: int) -> bool:
        """True: starting this engine again would not help; all others are stopped, too."""
        reason = life.reason()
        if reason.startswith(CANNOT_START) and (not self._somebody_was_ready or hopeless >= HOPELESS_STARTS):
            self.failure = self.failure or reason.removeprefix(CANNOT_START)
        elif hopeless >= HOPELESS_STARTS:
            self.failure = self.failure or (
                f"the engine process ended {hopeless} times in a row before it was ready, at last with: {reason}. "
                "Its log, just above, says why; start it again when that is repaired."
            )
        else:
            return False
        logger.error("engine_given_up engine=%d", life.engine)
        if not self._stopping():
            self.stop()
        return True

    def _bury(self, life: EngineLife) -> asyncio.Task[None] | None:
        """Tell the master at once, so that others adopt its buckets without waiting for its lease to end."""
        reason = life.reason()
        report = life.child.reports()
        stopping = life.asked_to_stop > 0
        if stopping and self._stopping() and not (life.ended_well or reason == "SIGTERM" or report is None):
            self._unclean = True
        if life.ended_well or report is None:
            return None
        # Who is killed because the grace period is over is to blame for nothing.
        blame = [] if stopping and life.killed_for else blamed(life.ran(), reason)
        self._suspect([one.key for one in blame], reason)
        burial = asyncio.create_task(self._end_worker(report.worker, blame))
        self._burials.add(burial)
        burial.add_done_callback(self._burials.discard)
        return burial

    def _suspect(self, ran: list[JobKey], reason: str) -> None:
        """Tell our engines who is to run apart, before any of them can have these jobs.

        Another worker that adopts them does not hear it: there they run among others once more.
        """
        suspects = first_suspects(ran, reason)
        if suspects:
            known = [key for key in self._keeper.suspects if key not in suspects]
            self._keeper.suspects = [*known, *suspects][-MOST_SUSPECTS:]

    async def _end_worker(self, worker: int, blame: list[Blame]) -> None:
        failures = 0
        while True:
            try:
                await self._store.end_worker(worker, blame=blame)
            except Exception as error:  # noqa: BLE001 - nothing that a store does may end the supervisor (I8)
                failures += 1
                level = logging.WARNING if failures == 1 else logging.DEBUG
                logger.log(level, "death_not_reported worker=%d failures=%d error=%r", worker, failures, error)
                await asyncio.sleep(min(0.1 * 2.0 ** min(failures, 10), 2.0) * (0.5 + self._random() / 2))
            else:
                logger.info("death_reported worker=%d blamed=%d", worker, len(blame))
                return

    async def _finish_burials(self) -> None:
        if not self._burials:
            return
        _, unanswered = await asyncio.wait(self._burials, timeout=self._patience.burial)
        for burial in unanswered:
            burial.cancel()
