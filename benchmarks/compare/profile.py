"""Where the worker's microseconds go: py-spy samples of the thread that has the GIL, in an engine during a drain."""

from __future__ import annotations

import re
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

from compare import machine
from compare.contestants import OURS
from compare.servers import Servers
from compare.stage import Stage

JOBS = 200_000
RATE = 500
FRAME = re.compile(r"^(?P<function>.*) \((?P<file>.*):(?P<line>\d+)\)$")
SHOWN = 60
Figures = dict[str, Any]


def profile(servers: Servers) -> Figures:
    """Samples of one engine, as µs a job."""
    with Stage(servers, OURS) as stage:
        stage.command("many", JOBS)
        with stage.worker() as worker:
            stage.await_runs(worker, JOBS // 20)
            engine = max(machine.trees([worker.pid])[1:], key=lambda process: sum(process.cpu_times()[:2]))
            before = sum(engine.cpu_times()[:2])
            output = stage.folder / "samples.txt"
            spy = subprocess.Popen(
                [Path(sys.executable).with_name("py-spy"), "record", "--pid", str(engine.pid), "--rate", str(RATE),
                 "--gil", "--format", "raw", "--full-filenames", "--output", output],
                stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
            )  # fmt: skip
            first, last = stage.await_runs(worker, JOBS)
            used = sum(engine.cpu_times()[:2]) - before
            spy.send_signal(2)
            _, errors = spy.communicate(timeout=60)
        if not output.exists():
            raise RuntimeError(f"py-spy wrote nothing: {errors.decode()[-500:]}")
        lines = output.read_text().splitlines()
    figures = summary(lines, us_a_job=used / (JOBS * 0.95) * 1e6)
    return figures | {"per_s_while_sampled": JOBS / (last - first)}


def summary(lines: list[str], *, us_a_job: float) -> Figures:
    """Shares of the samples, turned into µs a job.

    `functions`: by the innermost frame, so a function's own time. `lines`: by the innermost line of JobMaster, so that
    what it calls in libraries is its own. `with_what_they_call`: by every function that was under way.
    """
    functions: Counter[str] = Counter()
    rows: Counter[str] = Counter()
    within: Counter[str] = Counter()
    for line in lines:
        stack, _, count = line.rpartition(" ")
        frames = [_named(frame) for frame in stack.split(";")]
        functions[frames[-1][0]] += int(count)
        ours = next((frame for frame in reversed(frames) if frame[0].startswith("jobmaster/")), frames[-1])
        rows[f"{ours[0]} {ours[1]}"] += int(count)
        for name in {frame[0] for frame in frames}:
            within[name] += int(count)
    total = functions.total()

    def table(counted: Counter[str]) -> list[dict[str, Any]]:
        return [{"where": name, "us": count / total * us_a_job} for name, count in counted.most_common(SHOWN)]

    return {
        "us_a_job": us_a_job, "samples": total,
        "functions": table(functions), "lines": table(rows), "with_what_they_call": table(within),
    }  # fmt: skip


def _named(frame: str) -> tuple[str, str]:
    """A frame as (file function, line), the file without the folders above its package."""
    matched = FRAME.match(frame)
    if matched is None:
        return frame, ""
    path = matched["file"]
    for root in ("/site-packages/", "/lib/python3", "/main/", "/benchmarks/"):
        path = path.rsplit(root, 1)[-1]
    at = path.rfind("jobmaster/")
    return f"{path[at:] if at > 0 else path} {matched['function']}", matched["line"]
