"""Keeps N engine processes: starts, watches, replaces and stops them, and tells the master at once when one died.

It imports no user code and runs no job, so its loop always turns; the leases of all engines are renewed on it.
Everything here happens on ports and `asyncio` sleeps only; real processes are in `links/processes.py`.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Protocol

import msgspec

from jobmaster.ports.link import CANNOT_START, EXIT_UNREACHABLE
from jobmaster.rules.recovery import blamed
from jobmaster.rules.restart import HOPELESS_STARTS, LONG_LIFE, restart_delay

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from jobmaster.engine.lease_keeper import LeaseKeeper
    from jobmaster.model.job import Blame
    from jobmaster.ports.clock import Clock
    from jobmaster.ports.link import Child, Spawner

logger = logging.getLogger("jobmaster.supervisor")

TICK = 1.0
"""Seconds between two looks at a child when nothing calls `wake`: its counter moves once a second."""
_CLEAN = "exit 0"
_GRACEFUL, _AT_ONCE, _KILL = 1, 2, 3


class EndingStore(Protocol):
    """What a supervisor needs of a master."""

    async def end_worker(self, worker: int, *, blame: Sequence[Blame] = ()) -> None:
        """See `ports.master.MasterStore.end_worker`."""
        ...


class Patience(msgspec.Struct, frozen=True):
    """How long a supervisor waits before it kills, in seconds.

    `max_block`: a loop that stands still. `start`: a process that never moved its counter. `condemned`: the other runs
    of a process in which one does not end. `grace`: a graceful stop; `after_grace`: the last writes after it. `burial`:
    telling the master about the dead before the supervisor itself ends.
    """

    max_block: float = 60.0
    start: float = 300.0
    condemned: float = 10.0
    grace: float = 25.0
    after_grace: float = 5.0
    burial: float = 5.0


class _Life:
    """One engine process, as its supervisor sees it."""

    def __init__(self, engine: int, child: Child, now: float) -> None:
        self.engine = engine
        self.child = child
        self.began = self.looked = now
        self.beats = 0
        self.still = 0.0
        self.dumped = False
        self.condemned = False
        self.asked_to_stop = 0
        self.kill_at: float | None = None
        self.killing_for = ""
        """Why it will be killed when `kill_at` has come."""
        self.killed_for = ""

    def kill_by(self, moment: float, reason: str) -> None:
        if self.kill_at is None or moment < self.kill_at:
            self.kill_at, self.killing_for = moment, reason

    def reason(self) -> str:
        return self.killed_for or self.child.exit_reason() or ""


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
        self._news = [asyncio.Event() for _ in range(engines)]
        self._stops = 0
        self._burials: set[asyncio.Task[None]] = set()
        self._somebody_was_ready = False
        self._unclean = False
        self.failure: str | None = None

    # ---------------------------------------------------------------- what others call

    async def run(self) -> int:
        """Supervise; the answer is the process's exit code: 0 after a clean end, 1 otherwise."""
        async with asyncio.TaskGroup() as group:
            keeping = group.create_task(self._keeper.run())
            tending = [group.create_task(self._tend(engine)) for engine in range(self._engines)]
            await asyncio.wait(tending)
            keeping.cancel()
        await self._finish_burials()
        return 1 if self._unclean or self.failure is not None else 0

    def stop(self) -> None:
        """A signal to stop. The first: gracefully. The second: what runs is cancelled now. The third: kill."""
        self._stops += 1
        logger.info("stop_asked times=%d", self._stops)
        self.wake()

    def wake(self) -> None:
        """A hint: something changed at a child (it ended, or was condemned)."""
        for event in self._news:
            event.set()

    def _stopping(self) -> bool:
        return self._stops > 0

    # ---------------------------------------------------------------- one engine, life after life

    async def _tend(self, engine: int) -> None:
        short_lives = 0
        hopeless = 0
        while not self._stopping():
            await self._back_off(engine, short_lives)
            if self._stopping():
                return
            life = await self._start(engine)
            if life is None:
                short_lives += 1
                continue
            await self._watch(life)
            burial = self._bury(life)
            if self._stopping() or self._has_done_its_work(life):
                return
            hopeless = hopeless + 1 if self._never_was_ready(life) else 0
            if self._give_up(life, hopeless):
                return
            short_lives = 1 if self._clock.monotonic() - life.began >= LONG_LIFE else short_lives + 1
            if burial is not None:  # so that blame is known before the successor recovers anything
                await asyncio.wait({burial}, timeout=TICK)

    async def _start(self, engine: int) -> _Life | None:
        try:
            child = await self._spawner.spawn(engine)
        except Exception:
            logger.exception("engine_not_started engine=%d", engine)
            return None
        logger.info("engine_started engine=%d pid=%d", engine, child.pid)
        return _Life(engine, child, self._clock.monotonic())

    async def _watch(self, life: _Life) -> None:
        """Until the child has ended, by itself or by us."""
        self._keeper.add(life.child)
        try:
            while life.child.exit_reason() is None:
                self._look(life)
                await self._pause(life.engine, TICK)
        finally:
            self._keeper.remove(life.child)
            if life.child.exit_reason() is None:
                life.child.kill()
        if life.child.reports() is not None:
            self._somebody_was_ready = True
        level = logging.INFO if life.reason() == _CLEAN else logging.WARNING
        logger.log(level, "engine_ended engine=%d pid=%d reason=%s", life.engine, life.child.pid, life.reason())

    async def _back_off(self, engine: int, short_lives: int) -> None:
        start_at = self._clock.monotonic() + restart_delay(short_lives=short_lives, random=self._random())
        while not self._stopping() and (left := start_at - self._clock.monotonic()) > 0:
            await self._pause(engine, left)

    async def _pause(self, engine: int, seconds: float) -> None:
        """Sleep, but not past news."""
        event = self._news[engine]
        event.clear()
        try:
            async with asyncio.timeout(seconds):
                await event.wait()
        except TimeoutError:
            return

    # ---------------------------------------------------------------- looking at a living child

    def _look(self, life: _Life) -> None:
        now = self._clock.monotonic()
        self._look_at_stops(life, now)
        self._look_at_condemnation(life, now)
        self._look_at_beats(life, now)
        life.looked = now
        if life.kill_at is not None and now >= life.kill_at:
            if not life.killed_for:
                logger.warning(
                    "engine_killed engine=%d pid=%d reason=%s", life.engine, life.child.pid, life.killing_for
                )
                life.killed_for = life.killing_for
            life.child.kill()

    def _look_at_stops(self, life: _Life, now: float) -> None:
        wanted = min(self._stops, _AT_ONCE)
        while life.asked_to_stop < wanted:
            life.asked_to_stop += 1
            life.child.terminate()
            grace = self._patience.grace if life.asked_to_stop == _GRACEFUL else 0.0
            life.kill_by(now + grace + self._patience.after_grace, "did not end within its grace period")
        if self._stops >= _KILL:
            life.kill_by(now, "third signal")

    def _look_at_condemnation(self, life: _Life, now: float) -> None:
        reason = life.child.condemned()
        if reason is None or life.condemned:
            return
        life.condemned = True
        logger.warning("engine_condemned engine=%d pid=%d reason=%s", life.engine, life.child.pid, reason)
        life.kill_by(now + self._patience.condemned, f"condemned: {reason}")

    def _look_at_beats(self, life: _Life, now: float) -> None:
        """Count how long its loop has stood still, in time during which this process itself was awake."""
        beats = life.child.beats()
        if beats != life.beats:
            life.beats, life.still, life.dumped = beats, 0.0, False
            return
        life.still += min(now - life.looked, 2 * TICK)
        limit = self._patience.max_block if beats else self._patience.start
        if life.still < limit or life.dumped:
            return
        life.dumped = True
        what = "event loop blocked" if beats else "not ready"
        logger.error("engine_stands_still engine=%d pid=%d seconds=%g", life.engine, life.child.pid, limit)
        life.child.dump_stacks()
        life.kill_by(now + TICK, f"{what} for {limit:g} s")

    # ---------------------------------------------------------------- after its end

    def _has_done_its_work(self, life: _Life) -> bool:
        return life.reason() == _CLEAN and life.child.condemned() is None

    def _never_was_ready(self, life: _Life) -> bool:
        return life.child.reports() is None and life.reason() != f"exit {EXIT_UNREACHABLE}"

    def _give_up(self, life: _Life, hopeless: int) -> bool:
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

    def _bury(self, life: _Life) -> asyncio.Task[None] | None:
        """Tell the master at once, so that others adopt its buckets without waiting for its lease to end."""
        reason = life.reason()
        report = life.child.reports()
        stopping = life.asked_to_stop > 0
        if stopping and not (reason in {_CLEAN, "SIGTERM"} or report is None):
            self._unclean = True
        if reason == _CLEAN or report is None:
            return None
        # Who is killed because the grace period is over is to blame for nothing.
        blame = [] if stopping and life.killed_for else blamed(life.child.evidence(), reason)
        burial = asyncio.create_task(self._end_worker(report.worker, blame))
        self._burials.add(burial)
        burial.add_done_callback(self._burials.discard)
        return burial

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
