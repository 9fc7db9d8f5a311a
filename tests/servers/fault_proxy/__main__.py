"""The fault proxy from a shell: `python -m tests.servers.fault_proxy --target postgresql://user@host/db --latency 0.2`.

It prints the address to use in place of the target, and then obeys lines on its input: `stall`, `stall to_server`,
`stall to_client`, `resume`, `cut` (all connections), `refuse`, `accept`, `latency 0.5`, `resets 0.05`, `quit`.
"""

from __future__ import annotations

import argparse
import random
import sys
from collections.abc import Sequence

from tests.servers.fault_proxy.conversation import End
from tests.servers.fault_proxy.link import TO_CLIENT, TO_SERVER
from tests.servers.fault_proxy.proxy import AFTER, BEFORE, Choice, FaultProxy


def main(arguments: Sequence[str] | None = None) -> int:
    """Run until the input ends or says quit."""
    given = _parser().parse_args(arguments)
    with FaultProxy(given.target, port=given.port, seed=given.seed) as proxy:
        proxy.latency, proxy.jitter, proxy.bandwidth = given.latency, given.jitter, given.bandwidth
        proxy.reset_chance = given.resets
        if given.cut:
            proxy.cut_when(given.cut, _by_chance(given.chance, given.matching, given.seed))
        print(proxy.dsn(given.target), flush=True)
        for line in sys.stdin:
            if line.strip() == "quit":
                break
            print(obey(proxy, line), flush=True)
        print(f"{len(proxy.cuts)} transactions cut, {proxy.resets} connections reset by chance", flush=True)
    return 0


def obey(proxy: FaultProxy, line: str) -> str:
    """Do what a line says; what to print."""
    match line.split():
        case ["stall"]:
            proxy.stall()
        case ["stall", ("to_server" | "to_client") as way]:
            proxy.stall(to_server=way == TO_SERVER, to_client=way == TO_CLIENT)
        case ["resume"]:
            proxy.resume()
        case ["cut"]:
            return f"{proxy.cut_all()} connections cut"
        case ["refuse"]:
            proxy.refuse()
        case ["accept"]:
            proxy.accept()
        case ["latency", seconds]:
            proxy.latency = float(seconds)
        case ["resets", chance]:
            proxy.reset_chance = float(chance)
        case _:
            return "stall [to_server|to_client], resume, cut, refuse, accept, latency SECONDS, resets CHANCE or quit"
    return f"{proxy.connections} connections"


def _by_chance(chance: float, matching: str, seed: int) -> Choice:
    draw = random.Random(seed)

    def chosen(end: End) -> bool:
        return (end.has(matching) if matching else end.changes) and draw.random() < chance

    return chosen


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.servers.fault_proxy", description=__doc__)
    parser.add_argument("--target", required=True, help="the server's address: scheme://user@host:port/database")
    parser.add_argument("--port", type=int, default=0, help="where to listen; any without it")
    parser.add_argument("--latency", type=float, default=0.0, help="seconds that each packet takes, each way")
    parser.add_argument("--jitter", type=float, default=0.0, help="so many seconds more, at random")
    parser.add_argument("--bandwidth", type=float, default=0.0, help="bytes a second, each way and connection")
    parser.add_argument("--resets", type=float, default=0.0, help="how likely each packet resets its connection")
    parser.add_argument("--cut", choices=[BEFORE, AFTER], help="cut before the server hears a commit, or after it has")
    parser.add_argument("--chance", type=float, default=1.0, help="how likely each commit is cut (with --cut)")
    parser.add_argument("--matching", default="", help="only transactions with a statement that matches (with --cut)")
    parser.add_argument("--seed", type=int, default=1, help="of what happens by chance")
    return parser


if __name__ == "__main__":
    sys.exit(main())
