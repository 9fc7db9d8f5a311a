"""Zombies: a worker tree is frozen past its lease, another adopts its buckets, and it wakes up.

None of its late outcomes may be accepted: every job has one step into a final status, and the outcome that is kept is
that of a process which held the job's bucket. Tasks answer the id of their process.
"""

from __future__ import annotations

import json
import signal
import sqlite3
import time
from contextlib import closing
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

import psutil

from tests.faults.campaigns.setting import Campaign, arguments, campaign, publish, spread
from tests.faults.real_cluster import Worker

if TYPE_CHECKING:
    from tests.faults.side_log import Line

CALL = "(app.work_async if draw.random() < 0.8 else app.work).delay(seconds=draw.uniform(0, 1.0))"


class Freeze(NamedTuple):
    """Which processes stood still, and from when to when (time of day, seconds)."""

    pids: set[int]
    since: float
    until: float


def main() -> None:
    given = arguments(__doc__ or "", number=10, rate=100.0)
    with campaign(given.store, keep=given.keep) as trial:
        cluster = trial.cluster
        workers = [cluster.start_worker("-c", "64", name=f"w{number}") for number in range(2)]
        trial.streams.start(rate=given.rate, call=CALL, callers=4)
        adopted: list[float] = []
        freezes: list[Freeze] = []
        late = 0
        for strike in range(given.number):
            victim = workers[strike % 2]
            own = {process.pid for process in victim.tree()}
            trial.until(lambda own=own: len(trial.log.running_in(own)) >= 20, timeout=180, what="20 runs in the victim")
            frozen_at = frozen_without_lock(trial, victim)
            trial.struck["SIGSTOP"] += 1
            interrupted = trial.log.running_in(own)
            adopted.append(begun_elsewhere(trial, interrupted, own, frozen_at))
            seen = len(trial.log.lines)
            thawed_at = time.time()
            thaw(victim)
            freezes.append(Freeze(own, frozen_at, thawed_at))
            trial.until(partial(works_again, trial, victim, thawed_at), timeout=90, what="the zombie to work again")
            late += sum(line.event == "end" and line.job in interrupted for line in trial.log.lines[seen:])
            trial.log.forget(own - pids(victim))
            trial.tell(
                f"{strike + 1} of {given.number} frozen and back; its jobs ran elsewhere after {adopted[-1]:.1f} s"
            )
        trial.streams.enough()
        told = trial.judge()
        publish(
            "zombies",
            {
                **told,
                "late_runs_that_ended": late,
                "accepted_late": accepted_late(trial, freezes),
                "all_run_elsewhere_after": spread(adopted),
            },
            targets={},
        )


def freeze(worker: Worker) -> None:
    """Stop them, and wait until they stand: what a system call is about to get, a file's lock as well, it gets."""
    tree = worker.tree()
    for process in tree:
        process.send_signal(signal.SIGSTOP)
    while not all(map(stands, tree)):
        time.sleep(0.01)


def stands(process: psutil.Process) -> bool:
    """Whether each of its threads does, or it is gone."""
    try:
        states = [psutil.Process(thread.id).status() for thread in process.threads()]
    except psutil.NoSuchProcess:  # a thread that just ended, or all of it
        return not process.is_running()
    return all(state in {psutil.STATUS_STOPPED, psutil.STATUS_ZOMBIE} for state in states)


def frozen_without_lock(trial: Campaign, worker: Worker) -> float:
    """Freeze the tree while jobs run in it, and say when. On an SQLite file not while it holds the file's lock: nobody
    could write then.
    """
    while True:
        frozen_at = time.time()
        freeze(worker)
        if not trial.log.running_in(pids(worker)):  # all ended before it stood
            thaw(worker)
        elif trial.store == "sqlite" and not can_write(trial):
            trial.struck["SIGSTOP with the file's lock"] += 1
            thaw(worker)
        else:
            return frozen_at


def can_write(trial: Campaign) -> bool:
    try:
        with closing(sqlite3.connect(trial.cluster.folder / "faults.db", timeout=2.0)) as connection:
            connection.execute("BEGIN IMMEDIATE")
            connection.execute("ROLLBACK")
    except sqlite3.OperationalError:
        return False
    return True


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


def accepted_late(trial: Campaign, freezes: list[Freeze]) -> int:
    """Outcomes kept of a run that was overtaken while its process stood still: the answer names its process."""
    runs: dict[str, list[Line]] = {}
    for line in trial.log.lines:
        runs.setdefault(line.job, []).append(line)
    results = dict(trial.cluster.place.rows("SELECT id, result FROM jm_job WHERE status = 5"))
    late = [
        (job, runs[job])
        for job, result in results.items()
        if result is not None and overtaken(runs[job], json.loads(_bytes(result)), freezes)
    ]
    assert not late, f"{len(late)} outcomes of overtaken runs were kept: {late[:5]}"
    return len(late)


def overtaken(lines: list[Line], pid: int, freezes: list[Freeze]) -> bool:
    """Whether another process had begun the job anew when `pid` ended the run whose answer was kept.

    A run that its process had been allowed before it stood still, and whose first line came after it woke up, tells
    nothing: a pause between the two is noticed by nobody (docs/protocol.md, what is not promised). Its outcome is.
    """
    kept = [line for line in lines if line.event == "start" and line.pid == pid]
    ends = [line for line in lines if line.event == "end" and line.pid == pid]
    if not kept or not ends:
        return True
    run, end = kept[-1], ends[-1]
    others = [line for line in lines if line.event == "start" and line.pid != pid and line.at < end.at]
    if any(other.attempt > run.attempt for other in others):
        return True
    return any(
        run.at < stood.since < other.at < stood.until <= end.at
        for stood in freezes
        if pid in stood.pids
        for other in others
    )


def _bytes(value: object) -> bytes:
    return bytes(value) if isinstance(value, bytes | memoryview) else bytes.fromhex(str(value).replace("-", ""))


if __name__ == "__main__":
    main()
