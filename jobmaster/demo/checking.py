"""How the jobs ended, held against the plan; and what they found, held against what other code found."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from jobmaster.demo.app import WordCount, jm
from jobmaster.demo.files import Found
from jobmaster.demo.firing import Fired, Heartbeats
from jobmaster.demo.plan import DELAYED, FAILING, LATEST, Kind, Planned
from jobmaster.demo.recount import most_frequent, recount
from jobmaster.model.states import JobStatus
from jobmaster.views import JobInfo

if TYPE_CHECKING:
    from jobmaster.demo.story import Sent

SHOWN_WORDS = 10
CLOCKS_AGREE = 0.05
"""Seconds by which the master and the job itself may differ, about how late it started."""


@dataclass(frozen=True, slots=True)
class Ended:
    """A job and its end: the master's row, and what the job returned."""

    planned: Planned
    info: JobInfo | None
    value: Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    """Numbers that were checked, and what was not as it should be.

    `as_planned` counts jobs by kind; `files`, `words`, `distinct` and `most` are the merged result; `late` is how long
    after its time the due job started, in seconds; `processes` are those in which file jobs ran; `left_out` counts
    files that changed meanwhile; `fired` are the runs of the schedule.
    """

    differences: tuple[str, ...]
    as_planned: Mapping[Kind, int]
    jobs: int
    files: int
    words: int
    distinct: int
    most: tuple[tuple[str, int], ...]
    late: float | None
    processes: tuple[int, ...]
    left_out: int
    failed: JobInfo | None
    fired: Fired

    @property
    def is_as_planned(self) -> bool:
        """Whether every job ended as planned, and every number is right."""
        return not self.differences


def check(sent: Sequence[Sent], found: Found, worker: int, heartbeats: Heartbeats) -> Checked:
    """Look at each job, at the merged result, and at the schedule's runs.

    Args:
        sent: all jobs.
        found: the files that they read.
        worker: the id of the process that was started as worker.
        heartbeats: the runs of the demo's schedule.
    """
    fired = heartbeats.check()
    ended = [_look_at(one) for one in sent]
    other, changed = recount(found.files)
    judged = [one for one in ended if one.planned.file is None or one.planned.file.path not in changed]
    wrong = [(one, text) for one in judged for text in _unplanned(one)]
    counts = [one.value for one in judged if isinstance(one.value, WordCount)]
    merged: Counter[str] = Counter()
    for count in counts:
        merged.update(count.counts)
    due = next(one for one in ended if one.planned.kind is DELAYED)
    sent_due = next(one for one in sent if one.planned.kind is DELAYED)
    differences = [
        *(text for _, text in wrong),
        *_wrong_counts(merged, other),
        *_wrong_processes(counts, worker),
        *_wrong_moments(due, sent_due),
        *fired.differences,
    ]
    bad = {id(one) for one, _ in wrong}
    return Checked(
        differences=tuple(differences),
        as_planned=Counter(one.planned.kind for one in judged if id(one) not in bad),
        jobs=len(judged),
        files=len(counts),
        words=merged.total(),
        distinct=len(merged),
        most=tuple(most_frequent(merged, SHOWN_WORDS)),
        late=_lateness(due),
        processes=tuple(sorted({count.ran_in for count in counts})),
        left_out=len(changed),
        failed=next(one.info for one in ended if one.planned.kind is FAILING),
        fired=fired,
    )


def _look_at(one: Sent) -> Ended:
    info = jm.jobs.get(one.result.id)
    value = None
    if info is not None and info.status is JobStatus.SUCCEEDED:
        value = one.result.get(timeout=5)
    return Ended(one.planned, info, value)


def _unplanned(one: Ended) -> Iterator[str]:
    """What is not as planned about a job's end."""
    kind, info = one.planned.kind, one.info
    if info is None:
        yield f"{one.planned.title}: planned {kind.plan}, but nobody knows the job"
        return
    told = f" ({info.error.type}: {info.error.message})" if info.error else f" ({info.reason})" if info.reason else ""
    if info.status is not kind.ends:
        yield f"{one.planned.title}: planned {kind.plan}, but it is {info.status}{told}"
    elif info.attempts != kind.attempts:
        yield f"{one.planned.title}: planned {kind.attempts} attempts, but it had {info.attempts}"
    elif kind.error and (info.error is None or info.error.type.rpartition(".")[2] != kind.error):
        yield f"{one.planned.title}: planned to fail with {kind.error}, but{told or ' it has no error'}"
    if (info.lane, info.priority) != (kind.lane, kind.priority):
        lane, priority = info.lane, info.priority.name
        yield f"{one.planned.title}: planned for {kind.lane}, {kind.priority.name}, but is {lane}, {priority}"


def _wrong_counts(merged: Mapping[str, int], other: Mapping[str, int]) -> Iterator[str]:
    if other != merged:
        words = [word for word in {*merged, *other} if merged.get(word) != other.get(word)]
        first = min(words)
        yield (
            f"{len(words)} words have another count than in a second one; the first is {first!r}: "
            f"{merged.get(first, 0)} by the jobs, {other.get(first, 0)} by the other code"
        )


def _wrong_processes(counts: Sequence[WordCount], worker: int) -> Iterator[str]:
    strangers = {count.ran_in for count in counts if count.child_of != worker}
    if strangers:
        yield f"jobs ran in the processes {sorted(strangers)}, which the worker {worker} did not start"


def _wrong_moments(due: Ended, sent: Sent) -> Iterator[str]:
    """The due job, by the master's row and by its own clock."""
    late = _lateness(due)
    if late is None or due.info is None or due.info.started_at is None:
        return  # told already: it did not succeed
    if not 0 <= late <= LATEST:
        yield f"the job that was due started {late * 1000:+.0f} ms from its time; planned 0 to {LATEST * 1000:.0f}"
    # The same by this machine's clock alone: between the call and the start.
    least, most = (due.value - moment - DELAYED.due_after for moment in (sent.after, sent.before))
    if not least - CLOCKS_AGREE <= late <= most + CLOCKS_AGREE:
        by_master, by_itself = f"{late * 1000:+.0f} ms", f"{most * 1000:+.0f} ms"
        yield f"the job that was due started {by_master} from its time by the master, and {by_itself} by itself"


def _lateness(due: Ended) -> float | None:
    if due.info is None or due.info.started_at is None or due.value is None:
        return None
    return (due.info.started_at - due.info.due_at).total_seconds()
