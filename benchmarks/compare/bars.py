"""The bars that a release has to clear, each judged by what was measured."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

Results = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Bar:
    """`value` is read from the results; it must be at least (or at most) `limit`."""

    name: str
    limit: float
    at_least: bool
    value: Callable[[Results], float]
    unit: str = ""

    def judged(self, results: Results) -> dict[str, Any] | None:
        """Measured and met; None where its section was not run."""
        try:
            value = float(self.value(results))
        except (KeyError, TypeError):
            return None
        met = value >= self.limit if self.at_least else value <= self.limit
        sign = "at least" if self.at_least else "at most"
        return {
            "bar": self.name,
            "asked": f"{sign} {self.limit:g}{self.unit}",
            "measured": value,
            "unit": self.unit,
            "met": met,
        }


def _ratio(peer: str, engines: int) -> Callable[[Results], float]:
    return lambda results: results["races"]["ratios"][peer][f"drain_{engines}"]


def _median(name: str, figure: str) -> Callable[[Results], float]:
    return lambda results: results["races"]["medians"][name][figure]


def _own(section: str, figure: str) -> Callable[[Results], float]:
    return lambda results: results["own"][section][figure]


def _all_complete(results: Results) -> float:
    """The share of expected rows that were found complete."""
    checks = [value for name, value in results["own"]["left_bucket"].items() if name.endswith("_verified")]
    checks += results["own"]["pools"]["verified"].values()
    return sum(check["complete"] for check in checks) / sum(check["expected"] for check in checks)


BARS = (
    Bar("drain, 1 engine, of PgQueuer batch 100", 3, True, _ratio("pgqueuer", 1), " x"),
    Bar("drain, 1 engine, of PgQueuer batch 1,000 + uvloop", 2, True, _ratio("pgqueuer-1000", 1), " x"),
    Bar("drain, 1 engine, fresh bucket", 30_000, True, _own("left_bucket", "fresh_1_final_per_s"), "/s"),
    Bar("drain, 1 engine, bucket left by a worker", 30_000, True, _own("left_bucket", "left_1_final_per_s"), "/s"),
    Bar("drain, 2 engines, of 1 engine", 1, True, lambda r: r["own"]["left_bucket"]["fresh_2_final_per_s"]
        / r["own"]["left_bucket"]["fresh_1_final_per_s"], " x"),
    Bar("drain of 200,000, 2 engines, of 1 engine", 1, True, _own("engines", "two_of_one"), " x"),
    Bar("drain, 2 engines, of PgQueuer's two (batch 100)", 1, True, _ratio("pgqueuer", 2), " x"),
    Bar("drain, 2 engines, of PgQueuer's two (batch 1,000)", 1, True, _ratio("pgqueuer-1000", 2), " x"),
    Bar("rows complete and found by jm.jobs", 1, True, _all_complete),
    Bar("delay() from one thread, of raw commits", 0.7, True, _own("commits", "one_thread_per_s_of_raw"), " x"),
    Bar("delay() from 16 threads, of raw commits", 4, True, _own("commits", "sixteen_threads_per_s_of_raw"), " x"),
    Bar("enqueue_many, of PgQueuer's bulk call", 1.5, True, lambda r: r["races"]["ratios"]["pgqueuer"]["bulk"], " x"),
    Bar("sync tasks in threads, of async", 0.5, True, _own("pools", "threads_of_async"), " x"),
    Bar("sync tasks in processes, of async", 0.25, True, _own("pools", "processes_of_async"), " x"),
    Bar("SQLite: drain", 12_000, True, _own("sqlite", "async_per_s"), "/s"),
    Bar("SQLite: delay() from 8 threads, of raw commits", 4, True,
        _own("commits_sqlite", "eight_threads_per_s_of_raw"), " x"),
    Bar("SQLite: start latency p50 at 50/s", 8, False, _own("sqlite", "p50_ms"), " ms"),
    Bar("statements of 1,000 waiters", 20, False, _own("answers", "statements_per_s"), "/s"),
    Bar("delay().get() p50", 5, False, _own("answers", "answer_p50_ms"), " ms"),
    Bar("steady 5,000/s beside an open transaction: p99 of its start", 2, False, _own("steady", "last_of_first"), " x"),
    Bar("start latency p50 at 50/s", 2.5, False, _own("lateness", "p50_ms"), " ms"),
    Bar("start latency p99 at 50/s", 8, False, _own("lateness", "p99_ms"), " ms"),
    Bar("delay=2: latest start", 100, False, _own("lateness", "late_max_ms"), " ms"),
    Bar("idle worker", 0.5, False, _own("idle", "worker_percent"), " %"),
    Bar("start of the command to first job", 0.6, False, _own("start", "median_s"), " s"),
    Bar("supervisor RSS", 35, False, _own("memory", "supervisor_mb_after_1000000"), " MB"),
    Bar("engine RSS after 100,000 jobs", 60, False, _own("memory", "engine_mb_after_100000"), " MB"),
    Bar("engine RSS, 1,000,000 jobs above 100,000", 5, False, _own("memory", "growth_mb"), " MB"),
    Bar("drain with 1,000,000 waiting, of 10,000", 0.8, True, _own("backlog", "large_of_small"), " x"),
    Bar("hand-over: two workers, of one alone", 0.6, False, _own("hand_over", "together_of_alone"), " x"),
)  # fmt: skip


def judged(results: Results) -> list[dict[str, Any]]:
    return [verdict for bar in BARS if (verdict := bar.judged(results)) is not None]
