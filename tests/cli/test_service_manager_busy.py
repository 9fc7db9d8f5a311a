"""A service manager that does not take what it is told at once: it would end a worker that it never heard of."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from pathlib import Path

from jobmaster.cli.service_manager import ServiceManager


def test_it_hears_that_the_worker_is_ready_once_it_reads_again(tmp_path: Path) -> None:
    asyncio.run(_hears(str(tmp_path / "notify")))


async def _hears(address: str) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(address)
        manager.setblocking(False)
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as other, contextlib.suppress(BlockingIOError):
            other.setblocking(False)
            while True:
                other.sendto(b"STATUS=of another service", address)
        told = ServiceManager(address)
        told.ready()
        attending = asyncio.create_task(told.attend(alive=lambda: True, status=lambda: "Running"))
        heard = set()
        async with asyncio.timeout(20):
            while b"READY=1" not in heard:
                with contextlib.suppress(BlockingIOError):
                    heard.add(manager.recv(1000))
                await asyncio.sleep(0.001)
        attending.cancel()
