"""Zombies: a worker tree is frozen past its lease, another adopts its buckets, and it wakes up.

None of its late outcomes may be accepted: every job has one step into a final status, and the outcome that is kept is
that of a process which held the job's bucket. Tasks answer the id of their process.
"""

from __future__ import annotations

import json
import signal
import time
from functools import partial

from tests.faults.campaigns.setting import Campaign, arguments, campaign, publish, spread
from tests.faults.real_cluster import Worker

CALL = "(app.work_async if draw.random() < 0.8 else app.work).delay(seconds=draw.uniform(0, 1.0))"


def main() -> None:
    given = arguments(__doc__ or "", number=10, rate=100.0)
    with campaign(given.store, keep=given.keep) as trial:
        cluster = trial.cluster
        workers = [cluster.start_worker("-c", "64", name=f"w{number}") for number in range(2)]
        trial.stream(rate=given.rate, call=CALL)
        adopted: list[float] = []
        late = 0
        for strike in range(given.number):
            victim = workers[strike % 2]
            own = {process.pid for process in victim.tree()}
            trial.until(lambda own=own: len(trial.log.running_in(own)) >= 20, timeout=60, what="runs")
            frozen_at = time.time()
            freeze(victim)
            trial.struck["SIGSTOP"] += 1
            interrupted = trial.log.running_in(own)
            adopted.append(begun_elsewhere(trial, interrupted, own, frozen_at))
            seen = len(trial.log.lines)
            thawed_at = time.time()
            thaw(victim)
            trial.until(partial(works_again, trial, victim, thawed_at), timeout=90, what="the zombie to work again")
            late += sum(line.event == "end" and line.job in interrupted for line in trial.log.lines[seen:])
            trial.log.forget(own - pids(victim))
        trial.enough()
        told = trial.judge()
        publish(
            "zombies",
            {
                **told,
                "late_runs_that_ended": late,
                "accepted_late": accepted_late(trial),
                "first_restart": spread(adopted),
            },
        )


def freeze(worker: Worker) -> None:
    for process in worker.tree():
        process.send_signal(signal.SIGSTOP)


def thaw(worker: Worker) -> None:
    for process in reversed(worker.tree()):
        process.send_signal(signal.SIGCONT)


def pids(worker: Worker) -> set[int]:
    return {process.pid for process in worker.tree()}


def works_again(trial: Campaign, worker: Worker, since: float) -> bool:
    """It begins runs again: whatever it had in memory is behind it."""
    trial.log.read()
    own = pids(worker)
    return any(line.event == "start" and line.pid in own and line.at > since for line in trial.log.lines[-500:])


def begun_elsewhere(trial: Campaign, interrupted: set[str], own: set[int], frozen_at: float) -> float:
    """Seconds until all of these jobs run in another process, or are final."""
    found: set[str] = set()
    last = 0.0

    def all_begun() -> bool:
        nonlocal last
        for line in trial.log.read():
            if line.event == "start" and line.job in interrupted and line.pid not in own:
                found.add(line.job)
                last = line.at - frozen_at
        return found >= interrupted or (time.time() - frozen_at > 20 and not trial.unfinished(interrupted - found))

    trial.until(all_begun, timeout=60, what="interrupted jobs to begin elsewhere")
    return last


def accepted_late(trial: Campaign) -> int:
    """Outcomes kept of a run that was overtaken: the answer names its process, and a later start names another."""
    last_start = {line.job: line.pid for line in trial.log.lines if line.event == "start"}
    results = dict(trial.cluster.place.rows("SELECT id, result FROM jm_job WHERE status = 5"))
    late = [
        job
        for job, result in results.items()
        if result is not None and json.loads(_bytes(result)) != last_start.get(job)
    ]
    assert not late, f"{len(late)} outcomes of overtaken runs were kept: {late[:5]}"
    return len(late)


def _bytes(value: object) -> bytes:
    return bytes(value) if isinstance(value, bytes | memoryview) else bytes.fromhex(str(value).replace("-", ""))


if __name__ == "__main__":
    main()
