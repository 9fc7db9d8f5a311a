"""What every contestant can do, and the command line by which the harness asks for it.

    python NAME.py reset | one N | bulk N | pace RATE SECONDS | worker PROCESSES

Addresses come from BENCH_POSTGRES, BENCH_REDIS and BENCH_NATS. An answer is one line of JSON, the last
one of the output.
"""

from __future__ import annotations

import asyncio
import inspect
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

POSTGRES = os.environ.get("BENCH_POSTGRES", "")
REDIS = os.environ.get("BENCH_REDIS", "")
NATS = os.environ.get("BENCH_NATS", "")
CHUNK = 1000
"""Jobs of one bulk call."""

Item = dict[str, Any]


def item(number: int, due: float = 0.0) -> Item:
    """The arguments of a job: about 60 bytes of JSON."""
    return {"number": number, "who": "someone@example.com", "due": due}


class Driver:
    """A contestant. `one` and `bulk` may be coroutine functions; `bulk` stays None where there is no such call."""

    bulk: Callable[[list[Item]], Any] | None = None

    def open(self) -> Awaitable[None] | None:
        """Connect."""

    def close(self) -> Awaitable[None] | None:
        """Disconnect."""

    def reset(self) -> Awaitable[None] | None:
        """Leave an empty queue."""

    def one(self, job: Item) -> Any:
        """Enqueue one job by the ordinary call."""
        raise NotImplementedError

    def worker(self, processes: int) -> None:
        """Become the worker: does not return before its end."""
        raise NotImplementedError

    def commands(self) -> dict[str, Callable[..., Any]]:
        """What only this contestant can do."""
        return {}


class Desk:
    """Serves the harness's requests. One event loop for all of an async contestant, and none for the others."""

    def __init__(self, driver: Driver, loop: asyncio.Runner) -> None:
        self.driver = driver
        self.loop = loop

    def finished(self, value: Any) -> Any:
        return self.loop.run(value) if inspect.iscoroutine(value) else value

    def one(self, count: str) -> dict[str, Any]:
        """Each call waits for the one before; the first one, which connects, is not timed."""
        self.finished(self.driver.one(item(0)))
        begun = time.monotonic()
        if inspect.iscoroutinefunction(self.driver.one):
            self.loop.run(_each_awaited(self.driver, int(count)))
        else:
            for number in range(1, int(count)):
                self.driver.one(item(number))
        return {"per_s": (int(count) - 1) / (time.monotonic() - begun)}

    def bulk(self, count: str) -> dict[str, Any]:
        """As many calls of `CHUNK` jobs as needed; one by one, and untimed, where there is no such call."""
        if self.driver.bulk is None:
            self.one(count)
            return {"per_s": None}
        begun = time.monotonic()
        for start in range(0, int(count), CHUNK):
            self.finished(self.driver.bulk([item(number) for number in range(start, min(int(count), start + CHUNK))]))
        return {"per_s": int(count) / (time.monotonic() - begun)}

    def pace(self, rate: str, seconds: str) -> dict[str, Any]:
        """`rate` jobs a second for `seconds`, after a second of jobs that are not measured."""
        warm, count = int(rate), int(float(rate) * float(seconds))
        moments = _moments(float(rate), warm + count)
        if inspect.iscoroutinefunction(self.driver.one):
            self.loop.run(_paced(self.driver, moments, warm))
        else:
            for number, moment in enumerate(moments):
                time.sleep(max(0.0, moment - time.monotonic()))
                self.driver.one(item(number, time.monotonic() if number >= warm else 0.0))
        return {"count": count}


async def _each_awaited(driver: Driver, count: int) -> None:
    for number in range(1, count):
        await driver.one(item(number))


async def _paced(driver: Driver, moments: Sequence[float], warm: int) -> None:
    for number, moment in enumerate(moments):
        await asyncio.sleep(max(0.0, moment - time.monotonic()))
        await driver.one(item(number, time.monotonic() if number >= warm else 0.0))


def _moments(rate: float, count: int) -> list[float]:
    begun = time.monotonic()
    return [begun + number / rate for number in range(count)]


def spawn(processes: int, command: Sequence[str]) -> None:
    """Become `command`, or start it several times and pass SIGTERM on."""
    if processes == 1:
        os.execvp(command[0], command)
    children = [subprocess.Popen(command) for _ in range(processes)]
    signal.signal(signal.SIGTERM, lambda *_: [child.terminate() for child in children])
    for child in children:
        child.wait()


def main(driver: Driver) -> None:
    command, *arguments = sys.argv[1:]
    if command == "worker":
        driver.worker(int(arguments[0]))
        return
    with asyncio.Runner() as loop:
        desk = Desk(driver, loop)
        served = {"one": desk.one, "bulk": desk.bulk, "pace": desk.pace, "reset": driver.reset, **driver.commands()}
        desk.finished(driver.open())
        try:
            answer = desk.finished(served[command](*arguments))
        finally:
            desk.finished(driver.close())
    print(json.dumps(answer), flush=True)
