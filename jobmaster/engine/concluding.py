"""What becomes of a job whose run ended otherwise than well, or that will not run here: the finisher writes it."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from jobmaster.engine.life import Stage
from jobmaster.engine.outcomes import after_run, outcome_with
from jobmaster.model import reasons
from jobmaster.model.ids import key_text
from jobmaster.model.run import End, Ended
from jobmaster.model.states import JobStatus
from jobmaster.rules.recovery import quarantine_error

if TYPE_CHECKING:
    from collections.abc import Callable

    from jobmaster.engine.finisher import Finisher
    from jobmaster.engine.life import Entry
    from jobmaster.engine.store_clock import StoreClock
    from jobmaster.engine.tuning import Tuning
    from jobmaster.model.ids import JobKey

logger = logging.getLogger("jobmaster.engine")

_COUNTED = {
    JobStatus.SUCCEEDED: "succeeded",
    JobStatus.FAILED: "failed",
    JobStatus.HELD_ON_MASTER: "retried",
    JobStatus.CANCELLED: "cancelled",
}


class Conclusions:
    """Decides, and counts.

    Attributes:
        cancelled: tombstones that this worker was told of.
        counts: of what began and how it ended, for people.
    """

    def __init__(
        self, *, tuning: Tuning, store_clock: StoreClock, finisher: Finisher, random: Callable[[], float]
    ) -> None:
        self._tuning = tuning
        self._store_clock = store_clock
        self._finisher = finisher
        self._random = random
        self.cancelled: dict[JobKey, None] = {}
        self.counts = {"started": 0, "succeeded": 0, "failed": 0, "retried": 0, "cancelled": 0}

    def after(self, entry: Entry, ended: Ended, finished_us: int) -> None:
        """A run has ended, and has not returned."""
        if ended.end is End.INTERRUPTED and entry.envelope.at_most_once:
            ended = Ended(End.RAISED, reason="interrupted by a shutdown", retryable=False)
        if ended.end is End.INTERRUPTED:
            held = outcome_with(entry, JobStatus.HELD_ON_MASTER, finished_us=finished_us)
            self._finisher.hand_back(entry, held)
            return
        if ended.end is End.CRASHED:
            if entry.envelope.at_most_once:
                ended = Ended(End.RAISED, error=ended.error, reason=reasons.WORKER_LOST, retryable=False)
            elif entry.recoveries + 1 >= self._tuning.max_recoveries:
                self._quarantine(entry, ended, finished_us)
                return
        assert entry.policy is not None  # noqa: S101 - it has run
        cancelled = entry.key in self.cancelled
        outcome = after_run(
            entry, entry.policy, ended, finished_us=finished_us, cancelled=cancelled, random=self._random
        )
        self._count(outcome.status)
        self._finisher.add(entry, outcome)

    def unstarted(self, entry: Entry, status: JobStatus, reason: str) -> None:
        """It will not run here: cancelled, expired, unreadable, of no task that is known."""
        entry.stage = Stage.ENDED
        self._count(status)
        self._finisher.add(entry, outcome_with(entry, status, finished_us=self._store_clock.now_us(), reason=reason))
        self._finisher.flush()

    def hand_on(self, entry: Entry) -> None:
        """A granted job that may not start here stands as Processing: it would be blamed for another's crash."""
        entry.stage = Stage.ENDED
        outcome = outcome_with(entry, JobStatus.HELD_ON_MASTER, finished_us=self._store_clock.now_us())
        self._finisher.hand_back(entry, outcome)

    def _quarantine(self, entry: Entry, ended: Ended, finished_us: int) -> None:
        """The process died in which it ran alone, after so many others: it is not started again by itself."""
        error = quarantine_error(entry.recoveries + 1, ended.reason)
        logger.warning(
            "job_quarantined job=%s task=%s attempt=%d recoveries=%d reason=%s",
            key_text(entry.key),
            entry.envelope.task,
            entry.attempts,
            entry.recoveries + 1,
            ended.reason,
        )
        verdict = Ended(End.CRASHED, error=error, checkpoint=ended.checkpoint)
        self._count(JobStatus.FAILED)
        self._finisher.add(
            entry,
            outcome_with(entry, JobStatus.FAILED, finished_us=finished_us, reason=reasons.QUARANTINED, ended=verdict),
        )

    def _count(self, status: JobStatus) -> None:
        name = _COUNTED.get(status)
        if name:
            self.counts[name] += 1
