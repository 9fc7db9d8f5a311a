"""Kill -9 under load: half of the kills hit a whole worker tree, half one engine; producers are killed, too.

500 acceptances a second, at least 64 jobs running, 20,000 waiting.
"""

from __future__ import annotations

import random
import time

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


def main() -> None:
    given = arguments(__doc__ or "", number=50, backlog=20_000, rate=500.0)
    draw = random.Random(given.number)
    with campaign(given.store, keep=given.keep) as trial:
        cluster = trial.cluster
        filled = fill(trial, given.backlog)
        workers = [cluster.start_worker("-c", "80", name=f"w{number}") for number in range(2)]
        call = CALL.format(low=LOW, high=HIGH)
        producers = [trial.stream(rate=given.rate / 2, call=call) for _ in range(2)]
        after_tree: list[float] = []
        after_engine: list[float] = []
        ran_least = 10_000
        for strike in range(given.number):
            if trial.waiting() < given.backlog * 0.8:
                filled += fill(trial, given.backlog // 4)
            trial.until(lambda: enough_runs(trial, workers), timeout=60, what="64 running jobs in each worker")
            victim = workers[strike % 2]
            whole = strike % 4 < 2
            processes = {process.pid for process in victim.tree()}
            ran_least = min(ran_least, len(trial.log.running_in(processes)))
            struck_at = time.time()
            if whole:
                victim.kill_tree()
            else:
                processes = kill_engine(victim)
            trial.struck["tree" if whole else "engine"] += 1
            interrupted = trial.log.running_in(processes)
            trial.log.forget(processes)
            if draw.random() < 0.5:
                producers[strike % 2].process.kill()
                producers[strike % 2] = trial.stream(rate=given.rate / 2, call=call)
                trial.struck["producer"] += 1
            if whole:
                workers[strike % 2] = cluster.start_worker("-c", "80", name=f"w{strike % 2}x{strike}")
            times = restarts(trial, interrupted, struck_at)
            (after_tree if whole else after_engine).extend(times)
            # Who goes down twice runs in a process of its own from then on: a strike of its own for each.
            trial.until(lambda jobs=interrupted: not trial.log.still_running(jobs), timeout=60, what="their ends")
        waited = trial.waiting()
        trial.enough()
        told = trial.judge(timeout=600)
        missing = trial.unfinished(filled)
        assert not missing, f"{len(missing)} of what was enqueued in bulk are not final"
        publish(
            "kills",
            {
                **told,
                "restart_after_tree": spread(after_tree),
                "restart_after_engine": spread(after_engine),
                "least_running_at_a_kill": ran_least,
                "waiting_at_the_end": waited,
            },
        )


def fill(trial: Campaign, count: int) -> list[str]:
    """So many more jobs wait; their ids."""
    return trial.cluster.produce(PREFILL.format(low=LOW, high=HIGH, count=count), timeout=120)


def enough_runs(trial: Campaign, workers: list[Worker]) -> bool:
    return all(len(trial.log.running_in({p.pid for p in worker.tree()})) >= 64 for worker in workers)


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
