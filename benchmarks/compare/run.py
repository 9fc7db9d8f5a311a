"""The order of a run, and what came out of it: ours and each peer in turn, then our own measurements."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from statistics import median
from typing import Any

from compare import bars, enduring, producing, profile, races, report, running
from compare.contestants import OURS, Contestant
from compare.servers import Servers
from compare.stage import FailedError, Stage

RACES = ("enqueue", "drain", "latency")
OWN: dict[str, Callable[[Servers], dict[str, Any]]] = {
    "commits": producing.on_postgres,
    "commits_sqlite": producing.on_sqlite,
    "left_bucket": running.left_bucket,
    "engines": running.engines,
    "pools": running.pools,
    "sqlite": running.sqlite,
    "lateness": running.lateness,
    "answers": enduring.answers,
    "start": running.start,
    "idle": running.idle,
    "hand_over": running.hand_over,
    "steady": enduring.steady,
    "backlog": enduring.backlog,
    "memory": running.memory,
    "profile": profile.profile,
}
Rounds = dict[str, dict[str, list[float]]]


class Run:
    """One run: what was measured so far, and what failed."""

    def __init__(self, servers: Servers, peers: list[Contestant]) -> None:
        self.servers = servers
        self.peers = peers
        self.rounds: Rounds = {}
        self.pairs: Rounds = {}
        self.raw: list[dict[str, Any]] = []
        self.own: dict[str, Any] = {}
        self.failures: dict[str, str] = {}

    def note(self, contestant: Contestant, figures: dict[str, float | None]) -> None:
        for name, value in figures.items():
            if value is not None:
                self.rounds.setdefault(contestant.name, {}).setdefault(name, []).append(value)

    def say(self, text: str) -> None:
        print(f"{time.strftime('%H:%M:%S')} {text}", flush=True)

    def all(self, only: set[str], *, rounds: int) -> None:
        """Whatever of `RACES` and `OWN` is in `only`; the rounds first, so that each figure is taken several times."""
        for turn in range(rounds):
            if "drain" in only or "enqueue" in only:
                self.say(f"round {turn + 1} of {rounds}")
            if "drain" in only:
                self.drains()
            if "enqueue" in only:
                self.enqueues()
        if "latency" in only:
            self.latencies()
        for name in OWN:
            if name in only:
                self.measure(name)

    def drains(self) -> None:
        """Ours and a peer in turn, with one and with two worker processes.

        Peers on PostgreSQL each have a drain of ours right before their own, the others share the last one.
        """
        mine: dict[int, dict[str, float]] = {}
        for peer in self.peers:
            for processes in (1, 2):
                try:
                    if "postgres" in peer.needs or processes not in mine:
                        mine[processes] = self.drain(OURS, processes)
                    theirs = self.drain(peer, processes)
                except FailedError as error:
                    self.fail(peer.name, error)
                    continue
                kind = f"drain_{processes}"
                pair = self.pairs.setdefault(peer.name, {})
                pair.setdefault(kind, []).append(mine[processes][kind] / theirs[kind])
                if theirs["bulk"]:
                    pair.setdefault("bulk", []).append(mine[processes]["bulk"] / theirs["bulk"])

    def drain(self, contestant: Contestant, processes: int) -> dict[str, float]:
        """Ours is read by the strict rule, peers by their own best."""
        found = races.least_disturbed(self.servers, contestant, processes)
        self.raw.append({"contestant": contestant.name, "processes": processes} | found)
        rate = found["final_per_s"] if contestant is OURS else found["per_s"]
        figures = {f"drain_{processes}": rate, "bulk": found["bulk_per_s"]}
        alone = {"rss_mb": found["rss_mb"], "start_s": found["start_s"]} if processes == 1 else {}
        costs = {f"{name}_{processes}": found[name] for name in ("server_cpu_us", "worker_cpu_us", "elsewhere_cores")}
        self.note(contestant, figures | alone | costs)
        self.say(f"drain {contestant.name} {processes}: {rate:,.0f}/s, elsewhere {found['elsewhere_cores']:.2f} cores")
        return figures

    def enqueues(self) -> None:
        """In the same order."""
        mine: float | None = None
        for peer in self.peers:
            try:
                if "postgres" in peer.needs or mine is None:
                    mine = self.enqueue(OURS)
                theirs = self.enqueue(peer)
            except FailedError as error:
                self.fail(peer.name, error)
                continue
            self.pairs.setdefault(peer.name, {}).setdefault("one", []).append(mine / theirs)

    def enqueue(self, contestant: Contestant) -> float:
        with Stage(self.servers, contestant) as stage:
            rate: float = races.enqueue(stage)["one_per_s"]
        self.note(contestant, {"one": rate})
        self.say(f"enqueue {contestant.name}: {rate:,.0f}/s")
        return rate

    def latencies(self) -> None:
        for contestant in (OURS, *self.peers):
            try:
                with Stage(self.servers, contestant) as stage:
                    found = races.latency(stage)
            except FailedError as error:
                self.fail(contestant.name, error)
                continue
            self.note(contestant, {name: found[name] for name in ("p50_ms", "p95_ms", "p99_ms")})
            self.say(f"latency {contestant.name}: p50 {found['p50_ms']:.2f} ms, p99 {found['p99_ms']:.2f} ms")

    def measure(self, name: str) -> None:
        begun = time.monotonic()
        try:
            self.own[name] = OWN[name](self.servers)
        except (FailedError, RuntimeError, ValueError, KeyError) as error:
            self.fail(name, error)
            return
        shown = {key: report.number(value) for key, value in self.own[name].items() if isinstance(value, int | float)}
        self.say(f"{name} ({time.monotonic() - begun:.0f} s): {shown}")

    def fail(self, name: str, error: Exception) -> None:
        self.failures[name] = str(error)
        self.say(f"FAILED {name}: {error}")

    def results(self, about: dict[str, object]) -> dict[str, Any]:
        results: dict[str, Any] = {"about": about, "own": self.own, "failures": self.failures}
        if self.rounds:
            results["races"] = {
                "medians": _each(self.rounds, median),
                "ranges": _each(self.rounds, lambda values: (min(values), max(values))),
                "ratios": _each(self.pairs, median),
                "settings": {one.name: one.settings for one in (OURS, *self.peers)},
                "raw": self.raw, "rounds": self.rounds, "pairs": self.pairs,
            }  # fmt: skip
        results["bars"] = bars.judged(results)
        return results


def _each(rounds: Rounds, summary: Callable[[list[float]], object]) -> Mapping[str, Mapping[str, object]]:
    return {name: {figure: summary(values) for figure, values in taken.items()} for name, taken in rounds.items()}
