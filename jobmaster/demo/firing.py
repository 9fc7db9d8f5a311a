"""The demo's schedule: which of its runs belong to this demo, and whether each came once and on time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise

from jobmaster.demo.app import EVERY, HEARTBEAT, jm
from jobmaster.errors import NotRegistered
from jobmaster.model.states import JobStatus
from jobmaster.views import ScheduleRun

LEAST = 2
"""Runs that a demo waits for."""
ON_TIME = 0.5
"""Seconds after its moment at which a run has started at the latest: all other jobs start at the same time."""
MOST = 200


@dataclass(frozen=True, slots=True)
class Fired:
    """The schedule's runs that have ended, oldest first, and what was not as it should be."""

    runs: tuple[ScheduleRun, ...]
    differences: tuple[str, ...]

    @property
    def latest(self) -> float | None:
        """How late the latest of them began, in seconds."""
        late = [run.lateness.total_seconds() for run in self.runs if run.lateness is not None]
        return max(late, default=None)


class Heartbeats:
    """The runs since a moment by the master's clock; None: none is known."""

    def __init__(self, since: datetime | None) -> None:
        self._since = since

    def ended(self) -> Sequence[ScheduleRun]:
        """Those that have ended, oldest first."""
        if self._since is None:
            return ()
        try:
            runs = jm.schedules.runs(HEARTBEAT, MOST)
        except NotRegistered:  # the worker is about to store it
            return ()
        # A database that is used again has older ones. What runs now is the next look's.
        found = [run for run in runs if run.at >= self._since]
        while found and (found[0].status is None or not found[0].status.is_final):
            found.pop(0)
        return found[::-1]

    def check(self) -> Fired:
        """Hold them against what the expression says."""
        runs = tuple(self.ended())
        return Fired(runs, tuple(_faults(runs)))


def _faults(runs: Sequence[ScheduleRun]) -> Iterator[str]:
    if len(runs) < LEAST:
        yield f"the schedule {HEARTBEAT}: planned at least {LEAST} runs, but {len(runs)} have ended"
    for before, after in pairwise(runs):
        if after.at - before.at != EVERY:
            yield f"the schedule {HEARTBEAT} fired at {before.at:%H:%M:%S}, and then at {after.at:%H:%M:%S}"
    for run in runs:
        if run.status is not JobStatus.SUCCEEDED:
            yield f"the schedule's run of {run.at:%H:%M:%S}: planned Succeeded, but it is {run.status} ({run.reason})"
        elif run.lateness is None or not timedelta(0) <= run.lateness <= timedelta(seconds=ON_TIME):
            late = "never" if run.lateness is None else f"{run.lateness.total_seconds() * 1000:+.0f} ms from its time"
            yield f"the schedule's run of {run.at:%H:%M:%S} started {late}; planned 0 to {ON_TIME * 1000:.0f}"
