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


async def finished(value: Any) -> Any:
    return await value if inspect.isawaitable(value) else value


async def one_by_one(driver: Driver, count: int) -> dict[str, Any]:
    """Each call waits for the one before; the first one, which connects, is not timed."""
    await finished(driver.one(item(0)))
    begun = time.monotonic()
    if inspect.iscoroutinefunction(driver.one):
        for number in range(1, count):
            await driver.one(item(number))
    else:
        for number in range(1, count):
            driver.one(item(number))
    return {"per_s": (count - 1) / (time.monotonic() - begun)}


async def in_bulk(driver: Driver, count: int) -> dict[str, Any]:
    """As many calls of `CHUNK` jobs as needed; one by one, and untimed, where there is no such call."""
    if driver.bulk is None:
        await one_by_one(driver, count)
        return {"per_s": None}
    begun = time.monotonic()
    for start in range(0, count, CHUNK):
        await finished(driver.bulk([item(number) for number in range(start, min(count, start + CHUNK))]))
    return {"per_s": count / (time.monotonic() - begun)}


async def at_pace(driver: Driver, rate: float, seconds: float) -> dict[str, Any]:
    """`rate` jobs a second for `seconds`, after a second of jobs that are not measured."""
    warm, count = int(rate), int(rate * seconds)
    begun = time.monotonic()
    for number in range(warm + count):
        await asyncio.sleep(max(0.0, begun + number / rate - time.monotonic()))
        await finished(driver.one(item(number, time.monotonic() if number >= warm else 0.0)))
    return {"count": count}


def spawn(processes: int, command: Sequence[str]) -> None:
    """Become `command`, or start it several times and pass SIGTERM on."""
    if processes == 1:
        os.execvp(command[0], command)
    children = [subprocess.Popen(command) for _ in range(processes)]
    signal.signal(signal.SIGTERM, lambda *_: [child.terminate() for child in children])
    for child in children:
        child.wait()


async def _serve(driver: Driver, command: str, arguments: Sequence[str]) -> Any:
    await finished(driver.open())
    try:
        if command == "reset":
            return await finished(driver.reset())
        if command == "one":
            return await one_by_one(driver, int(arguments[0]))
        if command == "bulk":
            return await in_bulk(driver, int(arguments[0]))
        if command == "pace":
            return await at_pace(driver, float(arguments[0]), float(arguments[1]))
        return await finished(driver.commands()[command](*arguments))
    finally:
        await finished(driver.close())


def main(driver: Driver) -> None:
    command, *arguments = sys.argv[1:]
    if command == "worker":
        driver.worker(int(arguments[0]))
    else:
        print(json.dumps(asyncio.run(_serve(driver, command, arguments))), flush=True)
