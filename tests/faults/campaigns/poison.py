"""Poison: jobs that end their process by SIGSEGV. Quarantined after three crashes, and no innocent is harmed."""

from __future__ import annotations

import time
from collections import Counter

from tests.faults.campaigns.setting import arguments, campaign, publish, spread

INNOCENT = "(app.work_async if draw.random() < 0.7 else app.work).delay(seconds=draw.uniform(0, 0.3))"


def main() -> None:
    given = arguments(__doc__ or "", number=10, rate=100.0)
    with campaign(given.store, keep=given.keep) as trial:
        cluster = trial.cluster
        cluster.start_worker("-c", "64", name="w0")
        trial.streams.start(rate=given.rate, call=INNOCENT)
        poisons: list[str] = []
        seconds: list[float] = []
        for _ in range(given.number):
            trial.until(lambda: len(trial.log.running_in(all_pids(trial))) >= 5, timeout=60, what="runs")
            begun = time.time()
            (poison,) = cluster.produce("print(app.crash.delay().id)")
            poisons.append(poison)
            trial.struck["poison"] += 1
            trial.until(lambda poison=poison: not trial.unfinished([poison]), timeout=90, every=0.3, what="quarantine")
            seconds.append(time.time() - begun)
            trial.tell(f"{len(poisons)} of {given.number} quarantined, {seconds[-1]:.1f} s after it was enqueued")
        trial.streams.enough()
        told = trial.judge()
        statuses = cluster.statuses()
        assert {statuses[job] for job in poisons} == {(7, "quarantined")}, [statuses[job] for job in poisons]
        starts = Counter(line.job for line in trial.log.lines if line.event == "start")
        crashes = [starts[job] for job in poisons]
        assert set(crashes) == {3}, crashes
        delayed = spread(delays(trial, set(poisons)))
        publish(
            "poison",
            {
                **told,
                "innocents_failed": 0,
                "crashes_of_each": spread(crashes),
                "seconds_to_quarantine": spread(seconds),
                "delay_of_innocents": delayed,
            },
            targets={"no innocent delayed by more than 2 s": not delayed or delayed["max"] <= 2},
        )


def all_pids(trial: object) -> set[int]:
    return {process.pid for worker in trial.cluster.workers for process in worker.tree()}  # type: ignore[attr-defined]


def delays(trial: object, poisons: set[str]) -> list[float]:
    """Seconds from the first start of each interrupted innocent to its last."""
    starts: dict[str, list[float]] = {}
    for line in trial.log.lines:  # type: ignore[attr-defined]
        if line.event == "start" and line.job not in poisons:
            starts.setdefault(line.job, []).append(line.at)
    return [times[-1] - times[0] for times in starts.values() if len(times) > 1]


if __name__ == "__main__":
    main()
