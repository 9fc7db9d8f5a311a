"""One engine process, as its supervisor sees it: does its loop turn, does it obey, and when is it killed."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from jobmaster.model.ids import JobKey
    from jobmaster.ports.link import Child

logger = logging.getLogger("jobmaster.supervisor")

TICK = 1.0
"""Seconds between two looks at a child when nothing calls `Supervisor.wake`: its counter moves once a second."""
_CLEAN = "exit 0"
GRACEFUL, AT_ONCE, KILL = 1, 2, 3
"""What the first, the second and the third signal mean."""


class Patience(msgspec.Struct, frozen=True):
    """How long a supervisor waits before it kills, in seconds.

    `max_block`: a loop that stands still; `warn`: the stacks of such a process are logged. `start`: a process that
    never moved its counter. `condemned`: the other runs of a process in which one does not end. `grace`: a graceful
    stop; `after_grace`: the last writes after it. `burial`: telling the master about the dead before the supervisor
    itself ends.
    """

    max_block: float = 60.0
    warn: float = 10.0
    start: float = 300.0
    condemned: float = 10.0
    grace: float = 25.0
    after_grace: float = 5.0
    burial: float = 5.0


class EngineLife:
    """One engine process, from its start to its burial.

    Args:
        engine: its number.
        child: the process.
        now: when it was started (`Clock.monotonic`).
        patience: how long it may do what it should not.

    Attributes:
        began: when it was started.
        condemned: it asked to be replaced, and starts nothing more.
        retired: its successor has taken its place; it was asked to stop.
        asked_to_stop: how often.
        killed_for: why it was killed by us; empty: it was not.
        not_before: when (monotonic) the next successor may be tried.
        failed_heirs: how many successors in a row did not become ready.
    """

    def __init__(self, engine: int, child: Child, now: float, patience: Patience) -> None:
        self.engine = engine
        self.child = child
        self.began = now
        self.condemned = False
        self.retired = False
        self.asked_to_stop = 0
        self.killed_for = ""
        self.not_before = 0.0
        self.failed_heirs = 0
        self._patience = patience
        self._looked = now
        self._beats = 0
        self._still = 0.0
        self._warned = False
        self._dumped = False
        self._kill_at: float | None = None
        self._killing_for = ""
        self._accused: JobKey | None = None
        """Who held its loop up when it was given up; its loop may turn once more before it is killed."""

    @property
    def lives(self) -> bool:
        """Whether it has not ended yet."""
        return self.child.exit_reason() is None

    @property
    def was_ready(self) -> bool:
        """Whether it has ever registered as a worker."""
        return self.child.reports() is not None

    @property
    def works(self) -> bool:
        """Whether it has a lease: it may own buckets and start jobs."""
        report = self.child.reports()
        return report is not None and report.cut_us > 0

    @property
    def worn(self) -> str:
        """Why it wants a successor before anything is wrong with it; empty: it does not."""
        report = self.child.reports()
        return "" if report is None else report.worn

    def reason(self) -> str:
        """How it ended: our own reason where we killed it; empty while it lives."""
        return self.killed_for or self.child.exit_reason() or ""

    @property
    def ended_well(self) -> bool:
        """Whether it has come to its own end. A task may end its process, too, and with a 0; an engine stops first."""
        report = self.child.reports()
        has_stopped = self.asked_to_stop > 0 or (report is not None and report.stopping)
        return has_stopped and self.reason() == _CLEAN

    def look(self, now: float, *, stops: int) -> None:
        """Look at it once, and do what is due.

        Args:
            now: `Clock.monotonic`.
            stops: how many signals have asked all engines to stop.
        """
        self._look_at_stops(now, stops)
        self._look_at_condemnation(now)
        self._look_at_beats(now)
        self._looked = now
        if self._kill_at is not None and now >= self._kill_at:
            if not self.killed_for:
                logger.warning(
                    "engine_killed engine=%d pid=%d reason=%s", self.engine, self.child.pid, self._killing_for
                )
                self.killed_for = self._killing_for
            self.child.kill()

    def ran(self) -> list[JobKey]:
        """Which jobs ran in it at its end, in the order in which they began.

        Only the one that held its loop up, where it is known to have done so.
        """
        return self.child.evidence() if self._accused is None else [self._accused]

    def retire(self, now: float) -> None:
        """Another one stands in its place: let it stop gracefully. A condemned one does that by itself."""
        self.retired = True
        if not self.condemned:
            self._ask_to_stop(now)

    def _ask_to_stop(self, now: float) -> None:
        self.asked_to_stop += 1
        self.child.terminate()
        grace = self._patience.grace if self.asked_to_stop == GRACEFUL else 0.0
        self._kill_by(now + grace + self._patience.after_grace, "did not end within its grace period")

    def _kill_by(self, moment: float, reason: str) -> None:
        if self._kill_at is None or moment < self._kill_at:
            self._kill_at, self._killing_for = moment, reason

    def _look_at_stops(self, now: float, stops: int) -> None:
        while self.asked_to_stop < min(stops, AT_ONCE):
            self._ask_to_stop(now)
        if stops >= KILL:
            self._kill_by(now, "third signal")

    def _look_at_condemnation(self, now: float) -> None:
        reason = self.child.condemned()
        if reason is None or self.condemned:
            return
        self.condemned = True
        logger.warning("engine_condemned engine=%d pid=%d reason=%s", self.engine, self.child.pid, reason)
        self._kill_by(now + self._patience.condemned, f"condemned: {reason}")

    def _look_at_beats(self, now: float) -> None:
        """Count how long its loop has stood still, in time during which the supervisor itself was awake."""
        beats = self.child.beats()
        if beats != self._beats:
            self._beats, self._still, self._warned, self._dumped = beats, 0.0, False, False
            return
        self._still += min(now - self._looked, 2 * TICK)
        if beats and not self._warned and self._patience.warn <= self._still < self._patience.max_block:
            self._warned = True
            logger.warning("engine_loop_blocked engine=%d pid=%d seconds=%d: its stacks follow in its own log",
                           self.engine, self.child.pid, self._still)  # fmt: skip
            self.child.dump_stacks()
        limit = self._patience.max_block + TICK if beats else self._patience.start  # a counter may be a second old
        if self._still < limit or self._dumped:
            return
        self._dumped = True
        what = "event loop blocked" if beats else "not ready"
        shown = self._patience.max_block if beats else limit
        accused = self.child.accused() if beats else None
        logger.error(
            "engine_stands_still engine=%d pid=%d seconds=%g: %s; it is replaced, and its stacks follow in its own log",
            self.engine, self.child.pid, shown, what if accused is None else f"{what} by {accused[1]}",
        )  # fmt: skip
        self.child.dump_stacks()
        self._accused = None if accused is None else accused[0]
        self._kill_by(now + TICK, f"{what} for {shown:g} s")
