"""Producers at a rate, and what they were told: which jobs were accepted, and how many a second."""

from __future__ import annotations

import statistics
import time
from collections import Counter
from pathlib import Path
from typing import NamedTuple

from tests.faults.real_cluster import Producer, RealCluster

# A process of the campaign's own, with threads that call for themselves, as those of a web server do. It notes an id,
# and when, once `delay()` has returned: what is noted was accepted. What was refused, or not accepted in its time, is
# made up for, at twice the rate at most.
PROGRAM = """
import os, random, threading
from jobmaster import JobMasterError
rate, name, arrears = {rate}, {name!r}, {arrears}
draw = random.Random({seed})
out = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
turns = threading.Lock()
next_at = {since}

def turn():
    global next_at
    with turns:
        now = time.time()
        next_at = max(next_at, now - arrears)
        late = now - next_at
        next_at += 1 / rate
        time.sleep(-late if late < 0 else 0.5 / rate if late > 0.05 else 0.0)

def call_on():
    global next_at
    while not os.path.exists("enough"):
        turn()
        try:
            result = {call}
        except JobMasterError as error:
            os.write(out, f"! {{type(error).__name__}}\\n".encode())
            with turns:
                next_at -= 1 / rate
        else:
            os.write(out, f"{{result.id}} {{time.time():.3f}}\\n".encode())

callers = [threading.Thread(target=call_on) for _ in range({callers})]
for caller in callers:
    caller.start()
for caller in callers:
    caller.join()
"""


class Stream(NamedTuple):
    """One producer: where it notes what it was told, its rate, and since when (time of day, seconds) it owes that."""

    producer: Producer
    noted: Path
    rate: float
    since: float

    def lines(self) -> list[str]:
        """What it noted; half a line of a killed one counts for nothing."""
        return self.noted.read_text().rpartition("\n")[0].splitlines() if self.noted.exists() else []

    def accepted(self) -> list[tuple[str, float]]:
        """The jobs that it was told are accepted, and when."""
        found = (line.split() for line in self.lines() if not line.startswith("!"))
        return [(job, float(at)) for job, at in found]


class Streams:
    """The producers of a campaign."""

    def __init__(self, cluster: RealCluster) -> None:
        self._cluster = cluster
        self._all: list[Stream] = []
        self._ended_at = 0.0

    def start(
        self, *, rate: float, call: str, callers: int = 1, arrears: float = 1.0, after: Stream | None = None
    ) -> Stream:
        """A producer that enqueues until `enough`.

        Args:
            rate: acceptances a second.
            call: what enqueues one job; `draw` is a random.Random.
            callers: threads that call at the same time.
            arrears: so many seconds of calls at most are made up for.
            after: one that was killed. What it owed is owed by this one.
        """
        number = len(self._all)
        noted = self._cluster.folder / f"ids-{number}.txt"
        since = after.since + len(after.accepted()) / after.rate if after else time.time()
        program = PROGRAM.format(
            rate=rate, name=str(noted), seed=number, call=call, callers=callers, arrears=arrears, since=since
        )
        self._all.append(Stream(self._cluster.producer(program), noted, rate, since))
        return self._all[-1]

    def enough(self) -> None:
        """End all of them."""
        self._ended_at = time.time()
        (self._cluster.folder / "enough").touch()
        for stream in self._all:
            if stream.producer.process.poll() is None:
                stream.producer.process.wait(60)

    def accepted(self) -> list[str]:
        """What producers were told is stored."""
        return [job for stream in self._all for job, _ in stream.accepted()]

    def refused(self) -> Counter[str]:
        """What producers were told instead."""
        return Counter(line[2:] for stream in self._all for line in stream.lines() if line.startswith("! "))

    def state(self) -> str:
        """What somebody wants to know who waits in vain."""
        moments = [at for stream in self._all for _, at in stream.accepted()]
        last = f", the last {time.time() - max(moments):.1f} s ago" if moments else ""
        return f"accepted {len(moments)}{last}, refused {dict(self.refused())}"

    def rates(self) -> dict[str, float]:
        """Acceptances a second from the first producer's start to `enough`: of the whole time, and of its seconds."""
        begun, seconds = self._all[0].since, int(self._ended_at - self._all[0].since)
        each = Counter(int(at - begun) for stream in self._all for _, at in stream.accepted() if at <= self._ended_at)
        numbers = sorted(each[second] for second in range(seconds))
        return {
            "mean": round(sum(each.values()) / (self._ended_at - begun), 1),
            "median": statistics.median(numbers),
            "least": numbers[0],
            "seconds": seconds,
        }
