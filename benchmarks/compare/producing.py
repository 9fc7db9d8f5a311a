"""What it costs to enqueue, beside what the database takes for one row and one commit."""

from __future__ import annotations

from statistics import median
from typing import Any

from compare.contestants import OURS, OURS_SQLITE, RAW, RAW_SQLITE
from compare.servers import Servers
from compare.stage import Stage

ROUNDS = 5
Figures = dict[str, Any]


def on_postgres(servers: Servers) -> Figures:
    """`delay()` from one and from 16 threads, `adelay`, `enqueue_many`; raw commits before each round."""
    taken: dict[str, list[float]] = {}
    with Stage(servers, RAW) as raw, Stage(servers, OURS) as ours:
        for _ in range(ROUNDS):
            _note(taken, "raw_commits_per_s", raw.command("one", 3000))
            _note(taken, "one_thread_per_s", ours.command("one", 2000))
            _note(taken, "sixteen_threads_per_s", ours.command("threads", 16, 16_000))
            _note(taken, "awaited_per_s", ours.command("awaited", 2000))
            _note(taken, "many_per_s", ours.command("many", 50_000))
    return _summary(taken)


def on_sqlite(servers: Servers) -> Figures:
    """The same on a file, with 8 threads."""
    taken: dict[str, list[float]] = {}
    with Stage(servers, RAW_SQLITE) as raw, Stage(servers, OURS_SQLITE) as ours:
        for _ in range(ROUNDS):
            _note(taken, "raw_commits_per_s", raw.command("one", 3000))
            _note(taken, "one_thread_per_s", ours.command("one", 2000))
            _note(taken, "eight_threads_per_s", ours.command("threads", 8, 8_000))
            _note(taken, "many_per_s", ours.command("many", 50_000))
    return _summary(taken)


def _note(taken: dict[str, list[float]], name: str, answer: dict[str, float]) -> None:
    taken.setdefault(name, []).append(answer["per_s"])


def _summary(taken: dict[str, list[float]]) -> Figures:
    """Medians, and of each rate the median of its ratio to the raw commits of its own round."""
    raw = taken["raw_commits_per_s"]
    ratios = {
        f"{name}_of_raw": median(one / base for one, base in zip(values, raw, strict=True))
        for name, values in taken.items()
        if name != "raw_commits_per_s"
    }
    return {name: median(values) for name, values in taken.items()} | ratios | {"rounds": taken}
