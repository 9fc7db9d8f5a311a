"""A worker with 1,000,000 waiting messages is killed: how soon its jobs run again, and what the adoption costs."""

from __future__ import annotations

import asyncio
import time

from tests.faults.campaigns.setting import Campaign, arguments, campaign, publish, spread

FILL = """
quiet = [app.quiet.job() for _ in range(2000)]
for _ in range({count} // 2000):
    app.jm.enqueue_many(quiet)
"""


def main() -> None:
    given = arguments(__doc__ or "", number=1_000_000)
    with campaign(given.store, keep=given.keep) as trial:
        cluster = trial.cluster
        # The slow ones come first and fill the first worker, so that the backlog waits behind them in its bucket.
        cluster.environment["FAULTS_SLOW"] = "600"
        cluster.produce("for _ in range(64): print(app.slow.options(priority=app.Priority.CRITICAL).delay().id)")
        trial.tell(f"filling in {given.number:,} jobs takes a minute or two")
        cluster.produce(FILL.format(count=given.number), timeout=900)
        first = cluster.start_worker("-c", "64", name="first")
        trial.until(lambda: len(trial.log.running_in({p.pid for p in first.tree()})) >= 64, timeout=60, what="64 runs")
        cluster.environment["FAULTS_SLOW"] = "0"
        second = cluster.start_worker("-c", "64", name="second")
        waiting = trial.waiting()
        trial.tell(f"{waiting:,} messages wait; the first worker is killed")
        own = {process.pid for process in first.tree()}
        interrupted = trial.log.running_in(own)
        killed_at = time.time()
        first.kill_tree()
        trial.struck["tree"] += 1
        begun: dict[str, float] = {}

        def all_begun() -> bool:
            for line in trial.log.read():
                if line.event == "start" and line.job in interrupted and line.pid not in own:
                    begun.setdefault(line.job, line.at - killed_at)
            return len(begun) == len(interrupted)

        trial.until(all_begun, timeout=60, what="the interrupted jobs to begin again")
        trial.tell("what ran on it runs again; how fast does the backlog drain?")
        rates = drain_rates(trial)
        second.kill_tree()
        trial.struck["tree"] += 1
        left = trial.waiting()
        costs = asyncio.run(adoption_costs(cluster.place.url))
        accepted = 64 + given.number // 2000 * 2000
        lost, doubled = lost_and_doubled(trial, accepted)
        assert (lost, doubled) == (0, 0), f"{lost} lost, {doubled} decided twice"
        restart = spread(list(begun.values()))
        adopted = sum(costs[step] for step in ("mark_lost", "renew", "fence_and_recover"))
        publish(
            "adoption",
            {
                "store": trial.store,
                "struck": dict(trial.struck),
                "accepted": accepted,
                "lost": lost,
                "doubled": doubled,
                "waiting_at_the_kill": waiting,
                "restart": restart,
                "drained_per_second": rates,
                "waiting_at_the_second_kill": left,
                "adoption_ms": costs,
            },
            targets={
                "running again within 15 s": restart["max"] <= 15,
                "adoption under 100 ms": adopted < 100,
            },
        )


def lost_and_doubled(trial: Campaign, accepted: int) -> tuple[int, int]:
    """How many of the jobs are neither waiting nor stored, and how many were decided more than once."""
    there = trial.count("SELECT count(*) FROM (SELECT job_id FROM jm_message UNION SELECT id FROM jm_job) AS known")
    decided = "SELECT job_id FROM test_audit GROUP BY job_id HAVING count(*) > 1"
    return accepted - there, trial.count(f"SELECT count(*) FROM ({decided}) AS doubled")


def drain_rates(trial: Campaign, *, seconds: float = 5.0, rounds: int = 3) -> list[int]:
    """Jobs settled per second, in rounds."""
    rates = []
    before, at = trial.waiting(), time.monotonic()
    for _ in range(rounds):
        time.sleep(seconds)
        after, now = trial.waiting(), time.monotonic()
        rates.append(round((before - after) / (now - at)))
        before, at = after, now
    return rates


async def adoption_costs(url: str) -> dict[str, float]:
    """Adopt what the killed worker had, by the verbs that an engine uses, and time each: milliseconds."""
    from jobmaster import JobMaster
    from jobmaster.model.states import WorkerMode
    from jobmaster.model.worker import Registration, Renewal
    from jobmaster.runtime import open_master

    jm = JobMaster("faults", master=url)
    store = await open_master(jm.settings)
    try:
        registered = await store.register(
            Registration(
                name="third", boot=time.time_ns() // 1000, agent="standalone", lanes=("",), mode=WorkerMode.FULL,
                host="", pid=0, slots=64, version="",
            )
        )  # fmt: skip
        costs: dict[str, float] = {}
        number = 0
        owned: list[object] = []
        while not owned:
            number += 1
            begun = time.perf_counter()
            await store.mark_lost()
            costs["mark_lost"] = round((time.perf_counter() - begun) * 1000, 2)
            begun = time.perf_counter()
            (grant,) = await store.renew([renewal(Renewal, registered.worker, number)])
            costs["renew"] = round((time.perf_counter() - begun) * 1000, 2)
            owned = grant.buckets
            await asyncio.sleep(0.2)
        taken_in = []
        recovered = 0
        for bucket in grant.buckets:
            begun = time.perf_counter()
            await store.fence(bucket.fence)
            recovered += await store.recover_before(bucket.fence, adopted_us=bucket.adopted_us, limit=500)
            taken_in.append(round((time.perf_counter() - begun) * 1000, 2))
        costs["fence_and_recover"] = round(sum(taken_in), 2)
        costs["fence_and_recover_worst_bucket"] = max(taken_in)
        costs["recovered_rows"] = recovered
        costs["buckets"] = len(grant.buckets)
        return costs
    finally:
        await store.close_store()


def renewal(make: object, worker: int, number: int) -> object:
    return make(  # type: ignore[operator]
        worker=worker, number=number, held=[], cut_us=0, adopt=16, stopping=False, depths={}, demands=[],
        cancels_after=0, stats=b"{}",
    )  # fmt: skip


if __name__ == "__main__":
    main()
