"""What the next occurrence costs: all public cases of NaturalCron and common forms, and the same forms as cron.

    python benchmarks/schedules.py [--json FILE]

Processor time of the process, the least of some rounds; see README.md beside this file.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from zoneinfo import ZoneInfo

from jobmaster.schedules import Cron
from jobmaster.schedules.natural.occurrences import Evaluator
from jobmaster.schedules.natural.reading import parse_rules

CASES = Path(__file__).resolve().parent.parent / "tests/schedules/natural/cases/published.json"
COMMON = [
    "every 5 seconds",
    "every minute",
    "every 30 minutes",
    "every 30 minutes between 9:00 and 18:00",
    "every hour at minute 15",
    "every day at 9:00",
    "every day between mon and fri at 18:00",
    "every monday at 9:00",
    "every 2 weeks on [monday, friday] at 9:00",
    "every month on 1st at 6:00",
    "every month on LastFri at 17:00",
    "every year on jul-04 at 12:00",
]
CRON = [
    "*/5 * * * * *",
    "* * * * *",
    "*/15 * * * *",
    "0 9-17 * * *",
    "30 2 * * *",
    "0 9 * * 1-5",
    "0 9 * * MON",
    "0 0 1 * *",
    "0 0 L * *",
    "0 9 * * L5",
    "0 0 25 12 *",
]
NEVER = ["every 1 second on Feb 30th", "every 10 minutes on 5thMon in february on friday", "on Feb 30th at 10:00"]
ROUNDS, STEPS = 7, 40
START = datetime(2026, 3, 4, 5, 6, 7)  # noqa: DTZ001 - gets each zone in turn


def least(work: Callable[[], object], rounds: int = ROUNDS) -> float:
    """Microseconds of processor time."""
    costs = []
    for _ in range(rounds):
        begin = time.process_time_ns()
        work()
        costs.append(time.process_time_ns() - begin)
    return min(costs) / 1000


def step_cost(expression: str, zone: ZoneInfo) -> float:
    rules = parse_rules(expression)
    evaluator = Evaluator(rules)
    start = START.replace(tzinfo=ZoneInfo(rules.zone) if rules.zone else zone)

    def follow() -> None:
        at = start
        for _ in range(STEPS):
            at = evaluator.next_after(at) or start

    return least(follow) / STEPS


def cron_cost(expression: str, zone: ZoneInfo) -> float:
    rule = Cron(expression, zone)
    start = START.replace(tzinfo=zone)

    def follow() -> None:
        at = start
        for _ in range(STEPS):
            at = rule.next_after(at) or start

    return least(follow) / STEPS


def first_cost(expression: str, zone: ZoneInfo) -> float:
    """A new evaluator and its first answer."""
    rules = parse_rules(expression)
    return least(lambda: Evaluator(rules).next_after(START.replace(tzinfo=zone)))


def parse_cost(expression: str) -> float:
    return least(lambda: parse_rules.__wrapped__(expression), rounds=3)


def row(name: str, costs: list[float]) -> dict[str, object]:
    ordered = sorted(costs)
    at = [ordered[min(len(ordered) - 1, int(len(ordered) * share))] for share in (0.0, 0.5, 0.9, 0.99)]
    shares = dict(
        zip(("least", "median", "p90", "p99", "most"), [round(cost, 1) for cost in (*at, ordered[-1])], strict=True)
    )
    print(f"{name:54}" + "".join(f"{cost:10.1f}" for cost in shares.values()))
    return {"name": name, "microseconds": shares, "expressions": len(costs)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    options = parser.parse_args()
    public = list(dict.fromkeys(c["expression"] for c in json.loads(CASES.read_text("utf-8")) if "expected" in c))
    print(
        f"{'microseconds of processor time':54}"
        + "".join(f"{word:>10}" for word in ("least", "median", "p90", "p99", "most"))
    )
    rows = []
    for name in ("UTC", "Europe/Berlin", "America/New_York"):
        zone = ZoneInfo(name)
        rows.append(row(f"next, {len(public)} public expressions, {name}", [step_cost(text, zone) for text in public]))
        rows.append(row(f"next, {len(COMMON)} common forms, {name}", [step_cost(text, zone) for text in COMMON]))
        rows.append(row(f"next, {len(CRON)} common forms of cron, {name}", [cron_cost(text, zone) for text in CRON]))
    utc = ZoneInfo("UTC")
    rows.append(row("first answer of a new evaluator, public", [first_cost(text, utc) for text in public]))
    rows.append(row("first answer of what never happens", [first_cost(text, utc) for text in NEVER]))
    rows.append(row("reading a text, public", [parse_cost(text) for text in public]))
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1), "utf-8")


if __name__ == "__main__":
    main()
