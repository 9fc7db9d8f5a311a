"""A thousand lost replies to COMMIT, at least two hundred each of accept, claim, take-over, finish and renewal.

PostgreSQL: a proxy cuts the connection after the server has committed. SQLite, which has no connection: the answer is
lost in the process, after the commit (crash points). Nothing may be lost, nothing decided twice.
"""

from __future__ import annotations

import random
import time
from collections import Counter

from tests.faults.campaigns.setting import Campaign, arguments, campaign, publish
from tests.faults.postgres_verbs import VERBS, verb_of
from tests.servers.fault_proxy import AFTER, End, FaultProxy

HELD_OR_NOT = "app.held.delay() if draw.random() < 0.4 else app.work_async.delay()"
CALL = f"app.only_once.delay() if draw.random() < 0.3 else {HELD_OR_NOT}"
CHANCE = {"push": 4, "claim": 10, "take_over": 10, "settle": 10, "renew": 30}
"""Of a hundred calls, so many lose their answer."""


def main() -> None:
    given = arguments(__doc__ or "", number=200, rate=60.0)
    # Quick renewals, so that two hundred of them take minutes; the lease keeps its default proportions.
    with campaign(given.store, keep=given.keep, JOBMASTER_LEASE="4", JOBMASTER_RENEW_EVERY="0.3") as trial:
        cluster = trial.cluster
        if given.store == "sqlite":
            cluster.arm(", ".join(f"{verb}.after=lose%{CHANCE[verb]}*{given.number}" for verb in VERBS))
            run(
                trial,
                given.rate,
                lambda: Counter({verb: len(cluster.strikes(f"{verb}.after")) for verb in VERBS}),
                given.number,
            )
            return
        with FaultProxy(cluster.place.url) as proxy:
            cluster.environment["FAULTS_MASTER"] = proxy.dsn(cluster.place.url)
            cuts: Counter[str] = Counter()
            chance = random.Random(20261122)

            def chosen(end: End) -> bool:
                verb = verb_of(end)
                if not verb or cuts[verb] >= given.number or chance.random() * 100 >= CHANCE[verb]:
                    return False
                cuts[verb] += 1
                return True

            proxy.cut_when(AFTER, chosen)
            run(trial, given.rate, lambda: cuts, given.number)


def run(trial: Campaign, rate: float, struck: object, number: int) -> None:
    for worker in range(2):
        trial.cluster.start_worker("-c", "32", name=f"w{worker}")
    for _ in range(3):
        trial.streams.start(rate=rate, call=CALL)
    trial.tell(f"losing {number} replies each of {', '.join(VERBS)}")
    begun = time.monotonic()
    trial.until(
        lambda: all(struck()[verb] >= number for verb in VERBS),  # type: ignore[operator]
        timeout=900,
        every=0.5,
        what=f"lost replies; so far {struck()}",  # type: ignore[operator]
    )
    seconds = time.monotonic() - begun
    trial.struck.update(struck())  # type: ignore[operator]
    trial.streams.enough()
    # An at-most-once job whose start was lost may have failed with "worker lost": nothing may say that it succeeded.
    told = trial.judge(allowed=(5, 7))
    statuses = trial.cluster.statuses()
    failed = Counter(statuses[job][1] for job in trial.streams.accepted() if statuses[job][0] == 7)
    assert set(failed) <= {"worker lost"}, failed
    starts = Counter(line.job for line in trial.log.lines if line.event == "once")
    twice = [job for job, count in starts.items() if count > 1]
    assert not twice, f"{len(twice)} at-most-once jobs began twice: {twice[:5]}"
    publish("replies", {**told, "seconds": round(seconds), "failed": dict(failed)}, targets={})


if __name__ == "__main__":
    main()
