"""Many seeds in several processes, and what came out of them.

Python's hashes of texts and bytes are fixed before the processes start, because the order of sets hangs on them.
"""

from __future__ import annotations

import collections
import contextlib
import gc
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import IO

from tests.simulation.nemesis import ACTS

CALL_FAULTS = (
    "call failed before its effect",
    "reply lost",
    "applied after the caller gave up",
    "applied twice",
    "delayed",
    "reply delayed",
    "reordered",
    "call into a cut",
    "cut before the reply",
    "signal lost",
    "signal doubled",
)
OTHER_FAULTS = ("late boot", "job killed its process", "job killed its own process")
FAULTS = tuple("fault: " + kind for kind in (*CALL_FAULTS, *ACTS, *OTHER_FAULTS))
"""Every kind of fault that a campaign must have shown."""
DUTIES = tuple(
    "done: " + verb
    for verb in ("claim", "claim_drain", "close", "give_up", "hand_over", "mark_lost", "recover_before", "reread",
                 "retire", "return_bucket")
)  # fmt: skip
"""What the protocol must have had to do, so that a clean campaign says something about it."""


@dataclass
class Tally:
    """Sum of many seeds. `violations`: kind -> (how many seeds, the first of them and what it saw)."""

    seeds: int = 0
    stats: collections.Counter[str] = field(default_factory=collections.Counter)
    violations: dict[str, list[str]] = field(default_factory=dict)
    settled: list[float] = field(default_factory=list)
    recoveries: list[float] = field(default_factory=list)
    seconds: float = 0.0
    cpu: float = 0.0

    def add(self, result: dict[str, object]) -> None:
        """Count one seed's result."""
        self.seeds += 1
        self.cpu += result["cpu"]  # type: ignore[operator]
        self.stats.update(result["stats"])  # type: ignore[call-overload]
        self.settled.append(result["settled"])  # type: ignore[arg-type]
        self.recoveries += result["recoveries"]  # type: ignore[operator]
        for kind, what in result["violations"].items():  # type: ignore[attr-defined]
            self.violations.setdefault(kind, []).append(f"seed {result['seed']} ({result['config']}): {what}")

    def missing(self) -> list[str]:
        """Kinds of faults that never struck, and duties that were never needed."""
        return [kind for kind in (*FAULTS, *DUTIES) if not self.stats[kind]]

    def lines(self) -> Iterable[str]:
        """The report."""
        done = f"{self.seeds} seeds, {self.stats['calls']} calls, {self.stats['starts']} starts"
        yield f"{done} in {self.seconds:.0f} s ({self.cpu:.0f} s of processors)"
        for kind in FAULTS:
            yield f"  {kind:45} {self.stats[kind]:8}"
        for kind in sorted(set(self.stats) - set(FAULTS)):
            yield f"  {kind:45} {self.stats[kind]:8}"
        if self.settled:
            ranked = sorted(self.settled)
            yield f"  settled after the faults: p50 {ranked[len(ranked) // 2]:.0f} s, longest {ranked[-1]:.0f} s"
        if self.recoveries:
            ranked = sorted(self.recoveries)
            half, most = ranked[len(ranked) // 2], ranked[len(ranked) * 99 // 100]
            yield f"  restart after a death: p50 {half:.1f} s, p99 {most:.1f} s, longest {ranked[-1]:.1f} s"
        for kind, seen in sorted(self.violations.items(), key=lambda item: -len(item[1])):
            yield f"  VIOLATION {kind}: {len(seen)} seeds, first {seen[0]}"
        if not self.violations:
            yield "  no violation"


def run_seed(
    seed: int, config: str, *, broken: Sequence[str] = (), watched: str | None = None, until: Sequence[str] = ()
) -> tuple[dict[str, object], list[str]]:
    """One seed in this process, to its end or a violation of a kind in `until`: its result, and lines of the trace."""
    from tests.simulation.variants import removed
    from tests.simulation.world import CONFIGS, World, run_world

    began = time.process_time()
    gc.disable()
    with removed(broken) as guards_off:
        world = World(seed, CONFIGS[config], watched=watched, guards_off=guards_off)
        world.checker.until = frozenset(until)
        run_world(world)
    result: dict[str, object] = {
        "seed": seed,
        "config": config,
        "violations": world.checker.violations,
        "stats": dict(world.stats),
        "settled": world.settled,
        "recoveries": [round(seconds, 3) for seconds in world.checker.recovery_times],
    }
    lines = world.lines
    del world
    _bury()
    result["cpu"] = time.process_time() - began
    return result, lines


def _bury() -> None:
    """Let go of a simulation. What its dead processes still had to do is closed now, and nobody cares how that ends."""
    hook, sys.unraisablehook = sys.unraisablehook, lambda _: None
    try:
        gc.collect()
    finally:
        sys.unraisablehook = hook
        gc.enable()


def config_of(seed: int) -> str:
    """The configurations take turns."""
    from tests.simulation.world import CAMPAIGN

    return CAMPAIGN[seed % len(CAMPAIGN)]


def campaign(
    seeds: Sequence[int], *, config: str | None = None, broken: Sequence[str] = (), processes: int = 2
) -> Tally:
    """Run the seeds in child processes of their own."""
    tally, began = Tally(), time.perf_counter()
    shares = [seeds[index::processes] for index in range(processes)]
    with contextlib.ExitStack() as files:
        # Files, not pipes: a child whose pipe is full would wait for the one that is read before it.
        outputs = [files.enter_context(tempfile.TemporaryFile()) for share in shares if share]
        errors = [files.enter_context(tempfile.TemporaryFile()) for _ in outputs]
        places = zip(outputs, errors, strict=True)
        children = [_child(share, config, broken, *place) for share, place in zip(shares, places, strict=False)]
        for child, output, error in zip(children, outputs, errors, strict=True):
            child.wait()
            output.seek(0)
            error.seek(0)
            if child.returncode:
                raise RuntimeError(f"a shard of the simulation failed:\n{error.read().decode()[-4000:]}")
            for line in output:
                tally.add(json.loads(line))
    tally.seconds = time.perf_counter() - began
    return tally


def first_violation(
    kinds: Sequence[str], *, config: str, broken: Sequence[str], within: int, first: int = 0
) -> str | None:
    """The first violation of one of these kinds in so many seeds from `first` on; None: there is none.

    Each simulation ends with it, and no other follows.
    """
    with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as errors:
        child = _child(range(first, first + within), config, broken, output, errors, until=kinds)
        child.wait()
        output.seek(0)
        errors.seek(0)
        if child.returncode:
            raise RuntimeError(f"a simulation failed:\n{errors.read().decode()[-4000:]}")
        results = [json.loads(line) for line in output]
    seen = results[-1]["violations"]
    found = [f"{kind}: seed {results[-1]['seed']}: {seen[kind]}" for kind in kinds if kind in seen]
    return found[0] if found else None


def _child(
    seeds: Sequence[int],
    config: str | None,
    broken: Sequence[str],
    output: IO[bytes],
    errors: IO[bytes],
    *,
    until: Sequence[str] = (),
) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "tests.simulation", "--shard", ",".join(map(str, seeds))]
    command += ["--config", config] if config else []
    for name in broken:
        command += ["--break", name]
    for kind in until:
        command += ["--until", kind]
    environment = {**os.environ, "PYTHONHASHSEED": "0"}
    return subprocess.Popen(command, stdout=output, stderr=errors, env=environment)
