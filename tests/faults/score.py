"""What one fault test or campaign has counted: a line of the scoreboard (`make faults`)."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

DEFAULTS = os.environ.get("FAULTS_DEFAULTS") == "1"
"""Whether workers run with the default lease, as users' do; else with one of a second, which tests faster."""

SCORES = "FAULTS_SCORES"
"""The environment's name for the file that scores are written to, a line of JSON each; none is written without it."""


class Score:
    """One test's or campaign's counts; `record` writes them down.

    Args:
        name: the test (its pytest node id) or the campaign.
        rows: the rows of the catalogue that it proves.
        store: sqlite, postgresql, ...; "" for one that needs none.

    Attributes:
        accepted: jobs whose caller was told that they are accepted.
        lost: those of them that did not come to a final status.
        doubled: jobs with two steps into a final status, or one out of it.
        extra_runs: runs beyond the first of each job.
        late_refused: outcomes of runs that were not taken, because another run has decided.
        recoveries: seconds from a strike to the next start of a job that it hit.
    """

    def __init__(self, name: str, *, rows: Iterable[str] = (), store: str = "") -> None:
        self.name = name
        self.rows = tuple(rows)
        self.store = store
        self.strikes: Counter[str] = Counter()
        self.accepted = 0
        self.lost = 0
        self.doubled = 0
        self.extra_runs = 0
        self.late_refused = 0
        self.recoveries: list[float] = []

    def struck(self, kind: str, number: int = 1) -> None:
        """So many faults of this kind have happened."""
        self.strikes[kind] += number

    def recovered(self, seconds: float) -> None:
        """What a fault stopped goes on again, so many seconds later."""
        self.recoveries.append(round(seconds, 3))

    def record(self, *, passed: bool = True) -> None:
        """Append a line to the file that FAULTS_SCORES names, if it names one."""
        if not (path := os.environ.get(SCORES)):
            return
        told = {"struck" if name == "strikes" else name: value for name, value in vars(self).items()}
        with Path(path).open("a", encoding="utf-8") as file:
            # One write of one line: several processes may append.
            file.write(json.dumps({**told, "defaults": DEFAULTS, "passed": passed}) + "\n")


_running: Score | None = None


def begin(score: Score | None) -> None:
    """The test that runs now, or that none does (tests/faults/recording.py)."""
    global _running  # noqa: PLW0603 - one process runs one test at a time
    _running = score


def of_the_test() -> Score:
    """The score of the test that runs; outside of tests one of its own."""
    return _running or Score("no test")
