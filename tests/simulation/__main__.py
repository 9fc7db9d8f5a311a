"""Runs the simulation.

python -m tests.simulation --seeds 200 --seed 0             many seeds, their faults and violations
python -m tests.simulation --seeds 1 --seed 17 --trace j12  one seed, with all that happened to one job (or "all")
python -m tests.simulation --seeds 30 --break no_epoch      without one rule: somebody should notice
"""

from __future__ import annotations

import argparse
import json
import os
import sys

from tests.simulation.campaign import campaign, config_of, run_seed


def main() -> int:
    """Exit code 1 when a promise was broken."""
    if os.environ.get("PYTHONHASHSEED") != "0":
        os.environ["PYTHONHASHSEED"] = "0"
        again = [sys.executable, "-m", "tests.simulation", *sys.argv[1:]]
        os.execv(sys.executable, again)  # noqa: S606 - this very program again, with the order of sets fixed
    from tests.simulation.variants import VARIANTS
    from tests.simulation.world import CONFIGS

    parser = argparse.ArgumentParser(prog="tests.simulation", description="The engine under simulated faults.")
    parser.add_argument("--seeds", type=int, default=200, help="how many seeds")
    parser.add_argument("--seed", type=int, default=0, help="the first of them")
    parser.add_argument(
        "--config", choices=sorted(CONFIGS), help="one configuration for all seeds; else they take turns"
    )
    parser.add_argument("--break", dest="broken", action="append", default=[], choices=sorted(VARIANTS))
    parser.add_argument("--trace", help="print what happened to these jobs and buckets (j12,b3), or to all")
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--shard", help=argparse.SUPPRESS)
    parser.add_argument("--until", action="append", default=[], help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.shard:
        for seed in map(int, options.shard.split(",")):
            config = options.config or config_of(seed)
            result, _ = run_seed(seed, config, broken=options.broken, until=options.until)
            print(json.dumps(result), flush=True)
            if not result["violations"].keys().isdisjoint(options.until):  # type: ignore[attr-defined]
                break
        return 0
    if options.trace:
        for seed in range(options.seed, options.seed + options.seeds):
            config = options.config or config_of(seed)
            result, lines = run_seed(seed, config, broken=options.broken, watched=options.trace)
            del result["cpu"]
            print(*lines, json.dumps(result, indent=1, sort_keys=True), sep="\n")
        return 0
    seeds = range(options.seed, options.seed + options.seeds)
    tally = campaign(seeds, config=options.config, broken=options.broken, processes=options.processes)
    print(*tally.lines(), sep="\n")
    return 1 if tally.violations else 0


if __name__ == "__main__":
    sys.exit(main())
