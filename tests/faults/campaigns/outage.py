"""The master is down for a minute under load. Accepted jobs: none lost; running ones: not repeated; full speed again.

PostgreSQL: the server is stopped at once (immediate), and started a minute later. SQLite: another process holds the
file's write lock for that minute, which is all that can keep a file from answering.
"""

from __future__ import annotations

import sqlite3
import time
from collections import Counter

from tests.faults.campaigns.setting import Campaign, arguments, campaign, publish

CALL = "(app.work_async if draw.random() < 0.8 else app.work).delay(seconds=draw.choice([0.01] * 5 + [20.0]))"


def main() -> None:
    given = arguments(__doc__ or "", number=1, rate=200.0, seconds=60.0)
    with campaign(given.store, keep=given.keep) as trial:
        cluster = trial.cluster
        for number in range(2):
            cluster.start_worker("-c", "512", name=f"w{number}")
        trial.streams.start(rate=given.rate, call=CALL, callers=4)
        backs: list[float] = []
        for _ in range(given.number):
            trial.until(lambda: many_run(trial), timeout=180, what="long runs")
            before = speed(trial, seconds=5)
            trial.tell(f"the master goes away for {given.seconds:.0f} s")
            down(trial, given.seconds)
            trial.struck["outage"] += 1
            backs.append(back_at(trial, before))
            trial.tell(f"{backs[-1]:.1f} s after its return it was as fast as before")
        trial.streams.enough()
        told = trial.judge()
        starts = Counter(line.job for line in trial.log.lines if line.event == "start")
        repeated = [job for job, count in starts.items() if count > 1]
        assert not repeated, f"{len(repeated)} ran twice: {repeated[:5]}"
        publish(
            "outage",
            {**told, "seconds_down": given.seconds, "full_speed_after": [round(one, 2) for one in backs]},
            targets={"full speed within 5 s": max(backs) <= 5},
        )


def many_run(trial: Campaign) -> bool:
    trial.log.read()
    return len(trial.log.running) >= 100


def down(trial: Campaign, seconds: float) -> None:
    """Nobody gets an answer for so long."""
    if trial.server is not None:
        trial.cluster.place.close()
        trial.server.kill()
        time.sleep(seconds)
        trial.server.boot()
        return
    connection = sqlite3.connect(trial.cluster.folder / "faults.db", timeout=30, isolation_level=None)
    connection.execute("BEGIN IMMEDIATE")
    time.sleep(seconds)
    connection.execute("ROLLBACK")
    connection.close()


def speed(trial: Campaign, *, seconds: float) -> float:
    """Runs that began a second, over the last so many seconds."""
    trial.log.read()
    now = time.time()
    return sum(line.event == "start" and now - seconds < line.at for line in trial.log.lines[-20_000:]) / seconds


def back_at(trial: Campaign, before: float) -> float:
    """Seconds until at least nine tenths as many runs begin as before."""
    back = time.time()
    trial.until(
        lambda: time.time() - back > 1 and speed(trial, seconds=1) >= before * 0.9, timeout=60, what="full speed"
    )
    return time.time() - back - 1


if __name__ == "__main__":
    main()
