"""What the runs of jobs wrote before and after them, and what it says beside the faults that hit their processes."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import NamedTuple


class Line(NamedTuple):
    """One line of the side log; `at` is the time of day in seconds."""

    event: str
    job: str
    attempt: int
    pid: int
    at: float


class Strike(NamedTuple):
    """A fault, the processes that it hit, and when. Its kind begins with what was done: kill, freeze, stop, lose."""

    kind: str
    pids: frozenset[int]
    at: float

    @property
    def lets_live(self) -> bool:
        """Whether what it hits goes on afterwards, and may say something late."""
        return not self.kind.startswith("kill")


def lines_of(text: str) -> list[Line]:
    """The whole lines; what is read may end in the middle of one that is being written."""
    lines = []
    for line in text.rpartition("\n")[0].splitlines():
        event, job, attempt, pid, at = line.split()
        lines.append(Line(event, job, int(attempt), int(pid), float(at)))
    return lines


def runs_beyond_the_first(lines: Iterable[Line]) -> int:
    """How often jobs were started again, for whatever reason."""
    starts = Counter(line.job for line in lines if line.event == "start")
    return sum(starts.values()) - len(starts)


def runs_without_reason(lines: Iterable[Line], struck: Collection[int]) -> int:
    """How many of them began although no run of their job was before in a process that was struck.

    How much runs again after a kill depends on how quickly outcomes are stored, and so on the machine; whether it may,
    does not.
    """
    before: dict[str, set[int]] = defaultdict(set)
    found = 0
    for line in lines:
        if line.event == "start":
            found += line.job in before and before[line.job].isdisjoint(struck)
            before[line.job].add(line.pid)
    return found


def late_outcomes(lines: Iterable[Line], strikes: Iterable[Strike]) -> int:
    """How many runs came to their end in a process that lived on, and were not the run that decided.

    Where each job was decided once, these are the outcomes that the store refused.
    """
    killed = {pid for strike in strikes if not strike.lets_live for pid in strike.pids}
    ends = Counter(line.job for line in lines if line.event == "end" and line.pid not in killed)
    return sum(ends.values()) - len(ends)


def recoveries(lines: Sequence[Line], strikes: Iterable[Strike]) -> Iterator[float]:
    """Seconds from each strike to the next start of each job that ran in a process that it hit, where there is one."""
    by_job: dict[str, list[Line]] = defaultdict(list)
    for line in lines:
        by_job[line.job].append(line)
    for strike in strikes:
        if strike.kind.startswith("lose"):
            continue  # what ran goes on
        for own in by_job.values():
            before = [line for line in own if line.at <= strike.at]
            if not before or before[-1].event != "start" or before[-1].pid not in strike.pids:
                continue
            if again := [line.at for line in own if line.event == "start" and line.at > strike.at]:
                yield min(again) - strike.at
