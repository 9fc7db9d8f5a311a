"""How the demo's jobs are, by kind, as the master counts them; and the table of that."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

from jobmaster.demo.app import jm
from jobmaster.demo.firing import Heartbeats
from jobmaster.demo.plan import KINDS, Kind
from jobmaster.model.states import JobStatus
from jobmaster.views import JobQuery

if TYPE_CHECKING:
    from jobmaster.demo.story import Sent

COLOURS = {JobStatus.SUCCEEDED: "green", JobStatus.FAILED: "red", JobStatus.CANCELLED: "magenta"}


class Look:
    """How the jobs are, by kind, as the master counts them."""

    def __init__(self, sent: Sequence[Sent]) -> None:
        self.totals = Counter(one.planned.kind for one in sent)
        self.total = len(sent)
        self.counts: Mapping[Kind, Mapping[JobStatus, int]] = {}
        self._start = time.monotonic()
        self.seconds = 0.0
        first = jm.jobs.get(sent[0].result.id)
        # A database that is used again has older jobs; its own clock tells them from ours.
        self._since = None if first is None else first.created_at - timedelta(seconds=1)
        self.heartbeats = Heartbeats(None if first is None else first.created_at)
        self.fired: Mapping[JobStatus, int] = {}

    def again(self) -> None:
        """Ask anew."""
        self.counts = {kind: jm.jobs.count(self._query(kind)) for kind in self.totals}
        self.fired = Counter(run.status for run in self.heartbeats.ended() if run.status is not None)
        self.seconds = time.monotonic() - self._start

    def of(self, kind: Kind) -> tuple[int, int, int]:
        """How many wait, run, and have ended."""
        counts = self.counts.get(kind, {})
        ended = sum(number for status, number in counts.items() if status.is_final)
        running = counts.get(JobStatus.PROCESSING, 0)
        return self.totals[kind] - running - ended, running, ended

    @property
    def waiting(self) -> int:
        """How many have not started."""
        return sum(self.of(kind)[0] for kind in self.totals)

    @property
    def running(self) -> int:
        """How many run."""
        return sum(self.of(kind)[1] for kind in self.totals)

    @property
    def ended(self) -> int:
        """How many have ended, however that was."""
        return sum(self.of(kind)[2] for kind in self.totals)

    def _query(self, kind: Kind) -> JobQuery:
        return replace(kind.query, created_from=self._since)


def table_of(look: Look) -> Table:
    """The jobs by kind, in at most 80 columns."""
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False)
    for head in ("  jobs", "lane", "priority"):
        table.add_column(head, no_wrap=True)
    for head in ("wait", "run", "ended"):
        table.add_column(head, justify="right", no_wrap=True)
    table.add_column("ended as", no_wrap=True)
    for kind in KINDS:
        if not look.totals[kind]:
            continue
        waiting, running, ended = look.of(kind)
        table.add_row(
            f"  {kind.title}", kind.lane, kind.priority.name.lower(), _number(waiting), _number(running),
            f"{ended:,}/{look.totals[kind]:,}", _ends(look.counts.get(kind, {})),
        )  # fmt: skip
    fired = sum(look.fired.values())
    table.add_row("  fires every 2 s", "errands", "critical", "", "", f"{fired:,}", _ends(look.fired))
    return table


def _ends(counts: Mapping[JobStatus, int]) -> Text:
    text = Text()
    for status, number in sorted(counts.items(), key=lambda entry: entry[0].value):
        if status.is_final and number:
            text.append((", " if text else "") + str(status), style=COLOURS[status])
    return text


def _number(number: int) -> str:
    return f"{number:,}" if number else ""
