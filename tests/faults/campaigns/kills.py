"""Kill -9 under load: half of the kills hit a whole worker tree, half one engine; producers are killed, too.

At least 500 acceptances a second (each is one `delay()` that returned to one of a producer's threads), at least 64 jobs
running in each worker at each kill, 20,000 waiting.
"""

from __future__ import annotations

import random
import time
from functools import partial
from typing import NamedTuple

from tests.faults.campaigns.setting import Campaign, arguments, campaign, kill_engine, publish, spread
from tests.faults.real_cluster import Worker

CALL = "(app.work_async if draw.random() < 0.9 else app.work).delay(seconds=draw.uniform({low}, {high}))"
PREFILL = """
import random
draw = random.Random(1)
calls = [app.work_async.job(seconds=draw.uniform({low}, {high})) for _ in range({count})]
for at in range(0, len(calls), 1000):
    for result in app.jm.enqueue_many(calls[at:at + 1000]):
        print(result.id)
"""
LOW, HIGH = 0.1, 0.6
ENOUGH_RUN = 70
"""Jobs in each worker before a kill: some end until it comes, and 64 are promised."""
ARREARS = 60.0
"""Seconds of acceptances at most that producers make up for: what was killed, or had to wait, is behind."""


def main() -> None:
    given = arguments(__doc__ or "", number=50, backlog=21_000, rate=520.0, callers=6)
    with campaign(given.store, keep=given.keep) as trial:
        filled = fill(trial, given.backlog)
        trial.tell(f"{given.backlog:,} jobs wait")
        workers = [trial.cluster.start_worker("-c", "80", name=f"w{number}") for number in range(2)]
        start = partial(
            trial.streams.start,
            rate=given.rate / 2,
            call=CALL.format(low=LOW, high=HIGH),
            callers=given.callers,
            arrears=ARREARS,
        )
        producers = [start() for _ in range(2)]
        draw = random.Random(given.number)
        kills = Kills(trial, workers)
        for number in range(given.number):
            if trial.waiting() < given.backlog:
                filled += fill(trial, given.backlog // 4)
            struck = kills.strike(number)
            if draw.random() < 0.5:
                producers[number % 2].producer.process.kill()
                producers[number % 2] = start(after=producers[number % 2])
                trial.struck["producer"] += 1
            if struck.is_tree:
                workers[number % 2] = trial.cluster.start_worker("-c", "80", name=f"w{number % 2}x{number}")
            kills.wait_for_restarts(struck)
            if number % 10 == 9:
                trial.tell(f"{number + 1} of {given.number} kills, {len(trial.streams.accepted()):,} accepted")
        waited = trial.waiting()
        trial.streams.enough()
        told = trial.judge(timeout=900)
        missing = trial.unfinished(filled)
        assert not missing, f"{len(missing)} of what was enqueued in bulk are not final"
        rates, tree, engine = trial.streams.rates(), spread(kills.after_tree), spread(kills.after_engine)
        publish(
            "kills",
            {
                **told,
                "enqueued_in_bulk_before": len(filled),
                "accepted_per_second": rates,
                "restart_after_tree": tree,
                "restart_after_engine": engine,
                "least_running_at_a_kill": kills.ran_least,
                "least_waiting_at_a_kill": kills.waited_least,
                "waiting_at_the_end": waited,
            },
            targets={
                "500 accepts/s": rates["mean"] >= 500,
                "64 running at each kill": kills.ran_least >= 64,
                "20,000 waiting at each kill": kills.waited_least >= 20_000,
                "after the kill of a tree p99 under 15 s": not tree or tree["p99"] < 15,
                "after the kill of an engine p99 under 1 s": not engine or engine["p99"] < 1,
            },
        )


class Struck(NamedTuple):
    """One kill: of a tree or of its engine, when (time of day, seconds), and the jobs that ran in it."""

    is_tree: bool
    at: float
    interrupted: set[str]


class Kills:
    """Strikes two workers in turn, and waits until what ran there runs again.

    Attributes:
        after_tree: seconds from the kill of a tree to the next start of each job that ran in it.
        after_engine: the same for kills of one engine.
        ran_least: how few jobs ran in the victim at a kill.
        waited_least: how few jobs waited at a kill.
    """

    def __init__(self, trial: Campaign, workers: list[Worker]) -> None:
        self._trial = trial
        self._workers = workers
        self.after_tree: list[float] = []
        self.after_engine: list[float] = []
        self.ran_least = 1_000_000
        self.waited_least = 1_000_000

    def strike(self, number: int) -> Struck:
        """Kill one of the workers: twice a tree, then twice an engine."""
        trial, victim, is_tree = self._trial, self._workers[number % 2], number % 4 < 2
        self.waited_least = min(self.waited_least, trial.waiting())
        trial.until(self._all_run_enough, timeout=60, what="enough running jobs in each worker")
        processes = {process.pid for process in victim.tree()}
        self.ran_least = min(self.ran_least, len(trial.log.running_in(processes)))
        at = time.time()
        if is_tree:
            victim.kill_tree()
        else:
            processes = kill_engine(victim)
        trial.struck["tree" if is_tree else "engine"] += 1
        interrupted = trial.log.running_in(processes)
        trial.log.forget(processes)
        return Struck(is_tree, at, interrupted)

    def wait_for_restarts(self, struck: Struck) -> None:
        """Until each interrupted job has begun again, and ended."""
        times = restarts(self._trial, struck.interrupted, struck.at)
        (self.after_tree if struck.is_tree else self.after_engine).extend(times)
        # Who goes down twice runs in a process of its own from then on: a strike of its own for each.
        self._trial.until(
            lambda: not self._trial.log.still_running(struck.interrupted), timeout=60, what="the ends of what ran again"
        )

    def _all_run_enough(self) -> bool:
        return all(
            len(self._trial.log.running_in({process.pid for process in worker.tree()})) >= ENOUGH_RUN
            for worker in self._workers
        )


def fill(trial: Campaign, count: int) -> list[str]:
    """So many more jobs wait; their ids."""
    return trial.cluster.produce(PREFILL.format(low=LOW, high=HIGH, count=count), timeout=120)


def restarts(trial: Campaign, interrupted: set[str], struck_at: float) -> list[float]:
    """Seconds from the kill until each interrupted job has begun again. One that had been settled is left out."""
    found: dict[str, float] = {}
    seen = len(trial.log.lines)

    def all_begun() -> bool:
        trial.log.read()
        for line in trial.log.lines[max(0, seen - 2000) :]:
            if line.event == "start" and line.job in interrupted and line.at > struck_at:
                found.setdefault(line.job, line.at - struck_at)
        return len(found) == len(interrupted) or (time.time() - struck_at > 30 and not left())

    def left() -> set[str]:
        final = {job for job, (status, _) in trial.cluster.statuses().items() if status == 5}
        return interrupted - found.keys() - final

    trial.until(all_begun, timeout=60, what="interrupted jobs to begin again")
    return list(found.values())


if __name__ == "__main__":
    main()
