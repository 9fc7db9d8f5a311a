"""The scoreboard of the fault tests: run them N times with the default lease, and count (`make faults`).

    python -m tests.faults.scoreboard --rows A9,C4 --times 5 --stores sqlite,postgresql
    python -m tests.faults.scoreboard --rows none --campaigns all
    python -m tests.faults.scoreboard --rows none --campaigns kills,outage --stores sqlite
    python -m tests.faults.scoreboard --show tests/faults/results/20261122-060000.jsonl

`lost` and `doubled` must be 0. A campaign that found something lost or doubled, or runs that nothing explains, has
failed; one whose figures miss their target has not, but says so: other machines have other figures.

What each test and campaign has counted is kept as lines of JSON in tests/faults/results (`--into` names another
folder), with a summary beside it.
"""

from __future__ import annotations

import argparse
import json
import os
import pkgutil
import platform
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from tests.faults import campaigns
from tests.faults.catalogue import STORES, rows
from tests.faults.collected import ROOT, marked
from tests.faults.score import SCORES

RESULTS: Final = Path(__file__).with_name("results")

COUNTS: Final = ("accepted", "lost", "doubled", "extra_runs", "late_refused")

HEADINGS: Final = (
    "", "store", "tests", "failed", "faults", "accepted", "lost", "doubled", "extra runs", "late refused", "recovered",
    "p50 s", "p99 s",
)  # fmt: skip

Line = Mapping[str, Any]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run, print, and keep; 1 where anything failed or was lost."""
    given = _parser().parse_args(arguments)
    if given.show:
        print(table(read(Path(given.show))))
        return 0
    folder = Path(given.into)
    folder.mkdir(parents=True, exist_ok=True)
    scores = folder / f"{datetime.now(UTC):%Y%m%d-%H%M%S}.jsonl"
    scores.touch()
    chosen, stores = _chosen(given.rows), _chosen(given.stores)
    failed = 0
    if chosen != {"none"}:
        failed += sum(not run_tests(scores, chosen, stores) for _ in range(given.times))
    wanted = _wanted(given.campaigns)
    failed += sum(not run_campaign(scores, name, store) for name in wanted for store in sorted(stores))
    lines = read(scores)
    print(table(lines))
    print("\n".join(misses(lines)))
    summary = {"machine": machine(), "at": f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC", **summarized(lines)}
    scores.with_suffix(".json").write_text(json.dumps(summary, indent=1) + "\n", encoding="utf-8")
    print(f"\n{scores.with_suffix('.json')}")
    return 1 if failed or any(line["lost"] or line["doubled"] for line in lines) else 0


def run_tests(scores: Path, chosen: set[str], stores: set[str]) -> bool:
    """All marked tests of these rows (none: of all) once; False where one failed."""
    files = sorted({f"tests/{case.file}" for case in marked() if not chosen or chosen.intersection(case.rows)})
    if not files:
        sys.exit(f"No test is marked with {', '.join(sorted(chosen)) or 'a row'}.")
    return not subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-m", "fault", "-p", "no:cacheprovider", "--tb=native", *files],
        cwd=ROOT,
        env={
            **os.environ,
            "FAULTS_DEFAULTS": "1",
            "FAULTS_ROWS": ",".join(sorted(chosen)),
            "FAULTS_STORES": ",".join(sorted(stores)),
            SCORES: str(scores),
        },
        check=False,
    ).returncode


def campaign_names() -> list[str]:
    """The modules of tests/faults/campaigns that are programs."""
    found = [module.name for module in pkgutil.iter_modules(campaigns.__path__)]
    return [name for name in found if "def main(" in (Path(campaigns.__path__[0]) / f"{name}.py").read_text()]


def run_campaign(scores: Path, name: str, store: str) -> bool:
    """One campaign on one store; False where it failed, which is a line of its own."""
    print(f"campaign {name} on {store}, from {datetime.now(UTC):%H:%M} UTC", flush=True)
    module = f"tests.faults.campaigns.{name}"
    done = subprocess.run(
        [sys.executable, "-m", module, "--store", store],
        cwd=ROOT,
        env={**os.environ, SCORES: str(scores)},
        check=False,
    )
    if done.returncode:
        print(f"failed; {sys.executable} -m {module} --store {store} --keep leaves its logs", flush=True)
        with scores.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"campaign": name, "store": store, "passed": False}) + "\n")
    return not done.returncode


def misses(lines: Iterable[Line]) -> Iterator[str]:
    """A sentence for each campaign that failed, or whose figures are others than they were to be."""
    for line in lines:
        if "campaign" in line and not line["passed"]:
            yield f"{line['campaign']} on {line['store']} failed."
        elif line.get("missed"):
            yield f"{line['campaign']} on {line['store']} missed: {', '.join(line['missed'])}."


def read(scores: Path) -> list[dict[str, Any]]:
    """What was recorded, with every count that a line leaves out as 0."""
    empty = {"rows": [], "store": "", "passed": True, "struck": {}, "recoveries": [], **dict.fromkeys(COUNTS, 0)}
    return [{**empty, **json.loads(line)} for line in scores.read_text(encoding="utf-8").splitlines()]


def table(lines: Sequence[Line]) -> str:
    """The scoreboard: a line for each row and store, for each campaign, and for each store in all."""
    cells = [HEADINGS, *((name, store, *_cells(own)) for name, store, own in _groups(lines))]
    widths = [max(len(str(line[column])) for line in cells) for column in range(len(HEADINGS))]
    return "\n".join(
        "  ".join(
            str(cell).ljust(width) if column < 2 else str(cell).rjust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in cells
    )


def summarized(lines: Sequence[Line]) -> dict[str, Any]:
    """The same as data: by row, campaign or "all", then by store."""
    told: dict[str, Any] = {}
    for name, store, own in _groups(lines):
        told.setdefault(name, {})[store] = {
            "tests": len(own),
            "failed": sum(not line["passed"] for line in own),
            "struck": dict(sum((Counter(line["struck"]) for line in own), Counter())),
            **{count: sum(line[count] for line in own) for count in COUNTS},
            **_spread([seconds for line in own for seconds in line["recoveries"]]),
            **_measured(own),
        }
    return told


def machine() -> str:
    """What the figures were measured on."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return f"{platform.system()} {platform.machine()}, {cores} cores, Python {platform.python_version()}"


def _groups(lines: Sequence[Line]) -> Iterator[tuple[str, str, list[Line]]]:
    stores = [store for store in (*STORES, "sqlite+postgresql", "") if any(line["store"] == store for line in lines)]
    names = [row.id for row in rows()] + sorted({line["campaign"] for line in lines if "campaign" in line})
    for name in names:
        for store in stores:
            own = [line for line in lines if line["store"] == store and name in (*line["rows"], line.get("campaign"))]
            if own:
                yield name, store, own
    for store in stores:
        yield "all", store, [line for line in lines if line["store"] == store]


def _cells(own: Sequence[Line]) -> Iterator[object]:
    yield len(own)
    yield sum(not line["passed"] for line in own)
    yield sum(sum(line["struck"].values()) for line in own)
    for count in COUNTS:
        yield sum(line[count] for line in own)
    spread = _spread([seconds for line in own for seconds in line["recoveries"]])
    yield spread["recovered"]
    yield spread.get("p50", "")
    yield spread.get("p99", "")


def _spread(seconds: Iterable[float]) -> dict[str, float]:
    ordered = sorted(seconds)
    if not ordered:
        return {"recovered": 0}
    at = {"p50": (len(ordered) - 1) // 2, "p99": min(len(ordered) - 1, len(ordered) * 99 // 100)}
    return {"recovered": len(ordered), **{name: round(ordered[place], 2) for name, place in at.items()}}


def _measured(own: Sequence[Line]) -> dict[str, Any]:
    """What campaigns say besides; of the last run."""
    known = {"campaign", "store", "rows", "name", "defaults", "passed", "struck", "recoveries", *COUNTS}
    told = [line for line in own if "campaign" in line]
    return {name: value for line in told for name, value in line.items() if name not in known}


def _chosen(text: str) -> set[str]:
    return set(filter(None, text.replace(",", " ").split()))


def _wanted(text: str) -> list[str]:
    """The campaigns of these names; all, as `all` and `1` say."""
    known, chosen = campaign_names(), _chosen(text)
    if unknown := chosen - {*known, "all", "1"}:
        sys.exit(f"There is no campaign {', '.join(sorted(unknown))}. There are {', '.join(known)}.")
    return [name for name in known if chosen & {name, "all", "1"}]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.faults.scoreboard", description=__doc__)
    parser.add_argument("--rows", default="", help="rows of docs/faults.md, as A9,C4; all without it, or none")
    parser.add_argument("--times", type=int, default=1, help="how often")
    parser.add_argument("--stores", default=",".join(STORES), help="on which stores")
    parser.add_argument("--campaigns", default="", help="long campaigns to run, too: names (kills,outage), or all")
    parser.add_argument("--into", default=str(RESULTS), help="the folder for results")
    parser.add_argument("--show", default="", help="print the scoreboard of a file of scores, and run nothing")
    return parser


if __name__ == "__main__":
    sys.exit(main())
