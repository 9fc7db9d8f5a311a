"""What is promised (guarantees.toml), the tests that show it, and docs/guarantees.md.

    python -m tests.faults.guarantees                        prints docs/guarantees.md
    python -m tests.faults.guarantees --write                writes it
    python -m tests.faults.guarantees --publish FILE...      takes the figures of campaigns from files of scores, too

A file of scores is what `make faults CAMPAIGNS=all` leaves in tests/faults/results, or what FAULTS_SCORES named while a
campaign ran; the latest line of each campaign and store counts.
"""

from __future__ import annotations

import argparse
import json
import sys
import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from tests.faults.catalogue import STORES
from tests.faults.collected import ROOT, Case, cases
from tests.faults.scoreboard import machine
from tests.faults.wording import COUNTS, besides, faults

PROMISES: Final = Path(__file__).with_name("guarantees.toml")
PAGE: Final = ROOT / "docs" / "guarantees.md"
PUBLISHED: Final = Path(__file__).with_name("results") / "published.json"

NAMES: Final = {"sqlite": "SQLite", "postgresql": "PostgreSQL"}

HEAD: Final = """\
# Guarantees

What JobMaster promises, by which test each promise is shown on which store, and what was measured. What can go wrong,
fault by fault: [the fault catalogue](faults.md). The rules behind it: [the protocol](protocol.md).

MySQL, SQL Server and NATS: not yet; nothing below is proven there.
"""

NOT_PROMISED: Final = """\
## What is not promised

- **One execution.** A job is *decided* once; its code may run more than once, and two runs of it may overlap: a process
  that stood still for longer than its lease goes on with what it was doing, while another has begun the job again. Only
  what a run *reports* is refused then. Make handlers idempotent, or give what they do outside a key that the other side
  knows again: the job's id.
- **That a pause is noticed at once.** Between the look at the lease and the first instruction of a handler a process
  may stand still; the run begins, and its outcome is refused.
- **Order.** Jobs of a lane start by priority and time, roughly; retries, recoveries and several workers change it.
- **At most once and certainly begun.** A task with `acks_late=False` whose worker vanished has failed, even if no line
  of it has run.
- **A certain cancel of a job whose acceptance was unknown**: another copy of it may be on its way.
- **Two living workers of one name.** The later one ends the other's leases; for up to a lease their starts may overlap.
- **Ids that retention has deleted.** A call that is repeated after that is a new job.
- **More than a store keeps.** A failover to a PostgreSQL standby that lags loses what was acknowledged and not yet
  copied (`synchronous_commit` and synchronous standbys decide); a disk that lies about syncing loses what it lost.
- **A database that is restored from a backup**: not proven (row C15 of the catalogue).
- **The moment in which a database's clock is set.** Nobody loses a lease by it. But what is due then comes by so much
  too soon or too late, and where it was set back, who dies in the same moment is missed by the old time (a supervisor,
  or a lock file beside an SQLite file, tells it at once).
- **SQLite beside a frozen process.** One that is stopped in the middle of a write keeps the file's lock, which nobody
  can take from it: all others wait until it goes on or is killed. And SQLite is for one host: no network disks.
- **A guess at who killed a process.** A job that has gone down with two processes runs in one of its own. If somebody
  kills just that one with SIGKILL, or the kernel does and its reason cannot be read, the job is taken for what killed
  it and quarantined; `jobmaster jobs retry` runs it again. A kill of the whole host, container or worker convicts
  nobody: what is killed within 0.3 s of the process cannot say anything about it.
- **Figures on other machines.** What is measured below was measured on one machine, which stands beside it.
"""


LONG_RUNS: Final = """\
Long runs with real processes: `make faults ROWS=none CAMPAIGNS=all` runs all of them on each store (two to three
hours; soak takes 33 minutes of each store, kills 3 and 8, the others 1 to 10), `CAMPAIGNS=kills,outage STORES=sqlite`
some. Each tells how far it is and what it found; anything lost or doubled ends it as failed. The settings are the
defaults, but for replies (a lease of 4 s, renewed every 0.3 s) and soak (a retention of 10 minutes).

- *Accepted*: ids that producers, processes of their own, noted once `delay()` had returned. Each was then looked up:
  one step into one final status, and a run that came to its end. A call that a kill interrupted is not counted,
  whatever became of it; *refused* are errors that calls raised.
- *Jobs* are all that became final, with those that were enqueued in bulk before and those of interrupted calls.
- *Extra runs*: runs that came to their end beyond the first of each job, of which one was kept.
- *Missed*: targets of this page that the figures do not meet.

In kills each acceptance is one `delay()` of one job, which returned after its commit: 12 threads of two processes
call at the same time, as those of web servers do, and those of one process may share a commit. What is enqueued in
bulk is not counted. *Accepted per second* is over the whole run, with the seconds in which producers are dead or
start again.
"""


def load() -> dict[str, Any]:
    """guarantees.toml."""
    with PROMISES.open("rb") as file:
        return tomllib.load(file)


def promises(told: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """All promises, of all sections."""
    for section in told["section"]:
        yield from section["promise"]


def proofs(told: Mapping[str, Any]) -> list[Case]:
    """All cases of the files that promises name."""
    return cases(sorted({test.partition("::")[0] for promise in promises(told) for test in promise.get("tests", ())}))


def complaints(told: Mapping[str, Any], found: Sequence[Case]) -> list[str]:
    """What is wrong between promises and tests, a sentence each."""
    known = {case.test for case in found}
    wrong = []
    for promise in promises(told):
        name, tests = promise["id"], promise.get("tests", ())
        wrong += [f"{name}: there is no test {test}" for test in tests if test not in known]
        if bool(tests) == ("owed" in promise):
            wrong.append(f"{name} has either tests or says by what it is owed")
        for store in STORES if tests else ():
            proven = any(_runs_on(test, store, found) for test in tests)
            if proven == (store in promise):
                wrong.append(f"{name} is {'proven and excused' if proven else 'neither proven nor excused'} on {store}")
        wrong += [f"{name}: no campaign {one}" for one in promise.get("measured", ()) if one not in told["target"]]
    return wrong


def page(told: Mapping[str, Any], found: Sequence[Case], published: Mapping[str, Any]) -> str:
    """docs/guarantees.md."""
    lines = [HEAD]
    for section in told["section"]:
        lines += [f"## {section['title']}", "", "| | promise | store | proven by | measured |", "|---|---|---|---|---|"]
        for promise in section["promise"]:
            lines += _rows(promise, found)
        lines.append("")
    lines += [NOT_PROMISED, *_measured(told["target"], published)]
    return "\n".join(lines)


def published() -> dict[str, Any]:
    """The figures that the page shows: by campaign, then by store; with the machine that they are from."""
    if not PUBLISHED.exists():
        return {}
    return dict(json.loads(PUBLISHED.read_text(encoding="utf-8")))


def publish(files: Iterable[Path], measured_on: str) -> None:
    """Keep the latest figures of each campaign and store from files of scores."""
    kept = published()
    for file in files:
        for text in file.read_text(encoding="utf-8").splitlines():
            line = json.loads(text)
            if "campaign" in line:
                kept.setdefault("campaigns", {}).setdefault(line["campaign"], {})[line["store"]] = line
    kept["machine"] = measured_on
    PUBLISHED.parent.mkdir(exist_ok=True)
    PUBLISHED.write_text(json.dumps(kept, indent=1, sort_keys=True) + "\n", encoding="utf-8")


def _runs_on(test: str, store: str, found: Iterable[Case]) -> bool:
    """Whether a case of it does; what runs on no store is true of all."""
    own = [case for case in found if case.test == test]
    return any(store in case.stores for case in own) or (bool(own) and not any(case.stores for case in own))


def _rows(promise: Mapping[str, Any], found: Sequence[Case]) -> Iterator[str]:
    name, text = promise["id"], promise["text"]
    if "owed" in promise:
        yield f"| {name} | {text} | | not proven: {promise['owed']} | |"
        return
    measured = ", ".join(f"[{campaign}](#{campaign})" for campaign in promise.get("measured", ()))
    proven = {
        store: promise.get(store)
        or "<br>".join(f"`{test}`" for test in promise["tests"] if _runs_on(test, store, found))
        for store in STORES
    }
    if len(set(proven.values())) == 1:
        yield f"| {name} | {text} | {', '.join(NAMES.values())} | {proven[STORES[0]]} | {measured} |"
        return
    for store, tests in proven.items():
        yield f"| {name} | {text} | {NAMES[store]} | {tests} | {measured} |"
        text = "the same"


def _measured(targets: Mapping[str, str], told: Mapping[str, Any]) -> Iterator[str]:
    yield "## What was measured"
    yield ""
    yield LONG_RUNS
    if "machine" in told:
        yield f"Measured on {told['machine']}."
    for campaign, target in targets.items():
        yield ""
        yield f"### {campaign}"
        yield ""
        yield f"{target[0].upper()}{target[1:]}."
        yield ""
        stores = told.get("campaigns", {}).get(campaign, {})
        if not stores:
            yield "Not measured yet."
            continue
        yield "| store | faults | accepted | lost | doubled | extra runs | besides |"
        yield "|---|---|---|---|---|---|---|"
        for store in sorted(stores, key=STORES.index):
            yield _figures(store, stores[store])
    yield ""


def _figures(store: str, line: Mapping[str, Any]) -> str:
    counts = [f"{line[count]:,}" if count in line else "" for count in COUNTS]
    measured = "; ".join(f"{name} {text}" for name, text in besides(line))
    return f"| {NAMES[store]} | {faults(line)} | {' | '.join(counts)} | {measured} |"


def main(arguments: Sequence[str] | None = None) -> int:
    """Print or write the page; 1 where promises and tests do not agree."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults.guarantees", description=__doc__)
    parser.add_argument("--write", action="store_true", help="write docs/guarantees.md")
    parser.add_argument("--publish", nargs="+", type=Path, default=[], help="files of scores with campaigns")
    parser.add_argument("--machine", default="", help="with --publish: what they were measured on, in words")
    given = parser.parse_args(arguments)
    if given.publish:
        publish(given.publish, given.machine or machine())
    told = load()
    found = proofs(told)
    text = page(told, found, published())
    if given.write or given.publish:
        PAGE.write_text(text, encoding="utf-8")
    else:
        print(text)
    wrong = complaints(told, found)
    print("\n".join(wrong), file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
