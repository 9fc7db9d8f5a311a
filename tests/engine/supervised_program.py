"""A supervising process of the tests: `python -m tests.engine.supervised_program ENGINES ENTRY ORDERS GRACE`.

Its store notes on standard output what reaches the master: one line for each worker renewed for the first time, and one
for each worker ended.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import logging
import random
import signal
import sys
import time
from collections.abc import Sequence

import msgspec

from jobmaster.engine.engine_life import Patience
from jobmaster.engine.lease_keeper import LeaseKeeper
from jobmaster.engine.links.processes import Launch, ProcessSpawner
from jobmaster.engine.supervisor import Supervisor
from jobmaster.model.job import Blame
from jobmaster.model.worker import Grant, Renewal
from jobmaster.rules.lease import LeaseTiming
from tests.engine.child_entries import Orders


class Clock:
    def now_us(self) -> int:
        return time.time_ns() // 1000

    def trust_ns(self) -> int:
        return time.monotonic_ns()

    def monotonic(self) -> float:
        return time.monotonic()


class NotingStore:
    def __init__(self) -> None:
        self._seen: set[int] = set()

    async def renew(self, renewals: Sequence[Renewal]) -> list[Grant]:
        for renewal in renewals:
            if renewal.worker not in self._seen:
                self._seen.add(renewal.worker)
                note(renewed=renewal.worker)
        return [Grant(renewal.number, 1) for renewal in renewals]

    async def end_worker(self, worker: int, *, blame: Sequence[Blame] = ()) -> None:
        note(ended=worker, blame=[[one.key.decode(), one.reason] for one in blame])


class NoteStops(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        if record.msg.startswith("stop_asked"):
            note(stops=record.args[0])


def note(**event: object) -> None:
    print(json.dumps(event), flush=True)


async def main(engines: int, entry: str, orders: dict[str, object], grace: float) -> int:
    workers = itertools.count(1)

    def launch(_engine: int) -> Launch:
        arguments = msgspec.json.encode(Orders(**orders | {"worker": next(workers)}))
        return Launch(f"tests.engine.child_entries:{entry}", arguments, grace)

    store, clock, spawner = NotingStore(), Clock(), ProcessSpawner(launch)
    keeper = LeaseKeeper(store=store, clock=clock, timing=LeaseTiming(), random=random.random)
    supervisor = Supervisor(
        spawner=spawner,
        keeper=keeper,
        store=store,
        clock=clock,
        engines=engines,
        patience=Patience(grace=grace, after_grace=2, max_block=2, condemned=1),
        random=random.random,
    )
    spawner.on_news, spawner.on_hurry = supervisor.wake, keeper.hurry
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, supervisor.stop)
    code = await supervisor.run()
    note(code=code, failure=supervisor.failure)
    return code


if __name__ == "__main__":
    logging.getLogger("jobmaster.supervisor").setLevel(logging.INFO)
    logging.getLogger("jobmaster.supervisor").addHandler(NoteStops())
    sys.exit(asyncio.run(main(int(sys.argv[1]), sys.argv[2], json.loads(sys.argv[3]), float(sys.argv[4]))))
