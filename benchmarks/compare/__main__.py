"""`make bench`: JobMaster and its peers in one run, on the same servers. See benchmarks/README.md."""

from __future__ import annotations

import argparse
import json
import signal
import sys
import time
from pathlib import Path
from typing import Any

from compare import machine, report
from compare.contestants import PEERS
from compare.run import OWN, RACES, Run
from compare.servers import Servers

ROOT = Path(__file__).resolve().parent.parent.parent


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    known = [*RACES, *OWN]
    parser.add_argument("--only", default="", help=f"some of: {', '.join(known)}")
    parser.add_argument("--peers", default="", help=f"some of: {', '.join(one.name for one in PEERS)}; none")
    parser.add_argument("--rounds", type=int, default=3, help="of drains and enqueueing")
    parser.add_argument(
        "--out", type=Path, default=ROOT / "benchmarks" / "results", help="folder for latest.json and latest.md"
    )
    chosen = parser.parse_args()
    given = {"ONLY": chosen.only, "PEERS": chosen.peers, "ROUNDS": chosen.rounds}
    chosen.command = " ".join(["make bench", *(f"{name}={value}" for name, value in given.items() if value)])
    chosen.only = [word for word in chosen.only.split(",") if word] or known
    names = [word for word in chosen.peers.split(",") if word]
    chosen.peers = [one for one in PEERS if not names or one.name in names]
    allowed = {*known, "none", *(one.name for one in PEERS)}
    for word in (*chosen.only, *names):
        if word not in allowed:
            parser.error(f"'{word}' is none of {', '.join(sorted(allowed))}")
    return chosen


def main() -> int:
    chosen = arguments()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that servers, workers and files go in any case
    signal.signal(signal.SIGINT, signal.default_int_handler)
    needs = {need for peer in chosen.peers for need in peer.needs} if set(chosen.only) & set(RACES) else set()
    with Servers(redis="redis" in needs, nats="nats" in needs) as servers:
        about: dict[str, object] = {
            "date": time.strftime("%Y-%m-%d %H:%M %Z"),
            "commit": machine.commit(ROOT),
            "command": chosen.command,
            **machine.hardware(),
            "postgresql": servers.postgres.version,
            "disk": servers.disk.words,
            "versions": machine.versions(),
        }
        run = Run(servers, chosen.peers)
        try:
            run.all(set(chosen.only), rounds=chosen.rounds)
        finally:  # what was measured before an interruption is worth keeping
            text = write(run.results(about), chosen.out)
    print("\n" + text)
    return 1 if run.failures else 0


def write(results: dict[str, Any], folder: Path) -> str:
    """Leave the results as JSON and as the report; the report."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "latest.json").write_text(json.dumps(results, indent=1) + "\n")
    text = report.whole(results)
    (folder / "latest.md").write_text(text)
    return text


if __name__ == "__main__":
    sys.exit(main())
