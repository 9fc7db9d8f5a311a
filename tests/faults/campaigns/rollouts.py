"""SIGTERM rollouts under load, one after the other: nothing is lost, nothing runs twice, no attempt is spent."""

from __future__ import annotations

import time
from collections import Counter

from tests.faults.campaigns.setting import arguments, campaign, publish, spread

CALL = "(app.work_async if draw.random() < 0.8 else app.work).delay(seconds=draw.uniform(0, 0.6))"


def main() -> None:
    given = arguments(__doc__ or "", number=20, rate=200.0)
    with campaign(given.store, keep=given.keep) as trial:
        cluster = trial.cluster
        workers = [cluster.start_worker("-c", "64", name=f"w{number}") for number in range(2)]
        trial.streams.start(rate=given.rate, call=CALL, callers=4)
        stops: list[float] = []
        for rollout in range(given.number):
            at = rollout % 2
            trial.until(lambda at=at: len(trial.log.running_in(processes(workers[at]))) >= 10, timeout=60, what="runs")
            begun = time.monotonic()
            assert workers[at].terminate() == 0, workers[at].text()
            stops.append(time.monotonic() - begun)
            trial.struck["SIGTERM"] += 1
            trial.tell(f"{rollout + 1} of {given.number} stopped, in {stops[-1]:.2f} s")
            workers[at] = cluster.start_worker("-c", "64", name=f"w{at}")
        trial.streams.enough()
        told = trial.judge()
        starts = Counter(line.job for line in trial.log.lines if line.event == "start")
        twice = [job for job, count in starts.items() if count > 1]
        assert not twice, f"{len(twice)} ran twice: {twice[:5]}"
        assert {line.attempt for line in trial.log.lines} == {1}, "an attempt was spent"
        publish("rollouts", {**told, "seconds_to_stop": spread(stops)}, targets={})


def processes(worker: object) -> set[int]:
    return {process.pid for process in worker.tree()}  # type: ignore[attr-defined]


if __name__ == "__main__":
    main()
