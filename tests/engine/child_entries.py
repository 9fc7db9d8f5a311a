"""What engine processes of the tests run instead of an engine: small programs that do what their arguments say."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import multiprocessing
import os
import signal
import stat
import sys
import threading
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import msgspec

from jobmaster.errors import ConfigurationError, StoreUnavailable
from jobmaster.model.ids import JobKey
from jobmaster.ports.link import EngineLink, Report

RAN, LATER = JobKey(b"r" * 16), JobKey(b"s" * 16)


class Orders(msgspec.Struct):
    """`act`: what happens once the engine is ready. `told`: file that gets a line for each event."""

    act: str = ""
    told: str = ""
    worker: int = 1


class FakeEngine:
    """Stops when it is told to, after what it pretends to finish."""

    def __init__(self, orders: Orders, link: EngineLink) -> None:
        self._orders, self._link = orders, link
        self._stopped = asyncio.Event()
        self._hurried = asyncio.Event()
        self.tell(f"parent {os.getppid()} self {os.getpid()}")

    def tell(self, line: str) -> None:
        if self._orders.told:
            with Path(self._orders.told).open("a", encoding="utf-8") as file:
                file.write(line + "\n")

    def stop(self, grace: float) -> None:
        self.tell(f"stop {grace:g}")
        self._stopped.set()

    def abort(self) -> None:
        self.tell("abort")
        self._hurried.set()
        self._stopped.set()

    async def run(self) -> None:
        self._link.on_grant(lambda grant: self.tell(f"grant {grant.number} {self._link.trust_until_ns() > 0}"))
        beating = asyncio.create_task(self._beat())
        self._link.running(RAN)
        self._link.running(LATER)
        self._link.ended(self._link.running(JobKey(b"e" * 16)))
        self._link.report(Report(self._orders.worker, cut_us=42, soon=True))
        await asyncio.sleep(0.05)
        self.tell(f"acts {self._orders.act}")
        ACTS.get(self._orders.act, lambda _engine: None)(self)
        await self._stopped.wait()
        if self._orders.act == "finish slowly":
            await self._hurried.wait()
        if self._orders.act == "fail while stopping":
            raise RuntimeError("the last write failed")
        beating.cancel()

    async def _beat(self) -> None:
        while True:
            self._link.beat()
            await asyncio.sleep(0.05)


def _block(_engine: FakeEngine) -> None:
    while True:
        time.sleep(0.01)


def _accuse_and_block(engine: FakeEngine) -> None:
    engine._link.accuse(RAN, "task shop.spin")
    _block(engine)


def _hold_the_interpreter(_engine: FakeEngine) -> None:
    ctypes.PyDLL(None).sleep(1000)


def _close_sockets() -> None:
    for descriptor in range(3, 64):
        with contextlib.suppress(OSError):
            if stat.S_ISSOCK(os.fstat(descriptor).st_mode):
                os.close(descriptor)


def _condemn(engine: FakeEngine) -> None:
    engine._link.condemn("run x does not end")


def _many_reports(engine: FakeEngine) -> None:
    for number in range(5000):
        engine._link.report(Report(engine._orders.worker, cut_us=number, stats=b"x" * 10_000))


def _end_a_copy(engine: FakeEngine) -> None:
    copy = multiprocessing.get_context("fork").Process(target=time.sleep, args=(1000,))
    copy.start()
    copy.terminate()
    copy.join(10)
    engine.tell(f"copy {copy.exitcode}")


def _leave_processes(engine: FakeEngine) -> None:
    pool = ProcessPoolExecutor(1, multiprocessing.get_context("fork"))
    workers = [pool.submit(os.getpid).result() for _ in range(2)]
    left = multiprocessing.get_context("fork").Process(target=time.sleep, args=(1000,))
    left.start()
    engine._kept = pool  # as a global variable of a module would
    engine.tell(f"left {workers[0]} {left.pid}")
    engine.stop(0)


ACTS: dict[str, Callable[[FakeEngine], Any]] = {
    "block": _block,
    "accuse and block": _accuse_and_block,
    "hold the interpreter": _hold_the_interpreter,
    "segfault": lambda _: ctypes.string_at(0),
    "exit": lambda _: os._exit(7),
    "close its sockets": lambda _: _close_sockets(),
    "end": lambda engine: engine.stop(0),
    "raise": lambda _: 1 / 0,
    "condemn": _condemn,
    "many reports": _many_reports,
    "leave a thread": lambda engine: (threading.Thread(target=time.sleep, args=(1000,)).start(), engine.stop(0)),
    "end a copy": _end_a_copy,
    "leave processes": _leave_processes,
    "be stopped twice": lambda _: os.kill(os.getpid(), signal.SIGTERM),
}


def entry(arguments: bytes) -> Callable[[EngineLink, Callable[[Any], None]], Awaitable[None]]:
    """The usual one."""
    orders = msgspec.json.decode(arguments, type=Orders)

    async def prepared(link: EngineLink, ready: Callable[[Any], None]) -> None:
        engine = FakeEngine(orders, link)
        ready(engine)
        await engine.run()

    return prepared


def broken_import(_arguments: bytes) -> Any:
    import shop_that_does_not_exist  # noqa: F401

    raise AssertionError


def broken_settings(_arguments: bytes) -> Any:
    raise ConfigurationError("lease is 0 s. Give at least 1 s.")


def exits_when_imported(_arguments: bytes) -> Any:
    sys.exit("this module is a script")


def no_database(_arguments: bytes) -> Any:
    async def prepared(_link: EngineLink, _ready: Callable[[Any], None]) -> None:
        raise StoreUnavailable("the database at shop.db does not answer")

    return prepared


def broken_schema(_arguments: bytes) -> Any:
    async def prepared(_link: EngineLink, _ready: Callable[[Any], None]) -> None:
        raise ConfigurationError("another cluster lives there")

    return prepared


def name_is_taken(_arguments: bytes) -> Any:
    async def prepared(link: EngineLink, ready: Callable[[Any], None]) -> None:
        ready(FakeEngine(Orders(), link))
        raise ConfigurationError("a newer worker named 'w1' is running")

    return prepared


def slow_import(arguments: bytes) -> Any:
    FakeEngine.tell(_Told(msgspec.json.decode(arguments, type=Orders)), "importing")
    time.sleep(1000)


class _Told:
    def __init__(self, orders: Orders) -> None:
        self._orders = orders
