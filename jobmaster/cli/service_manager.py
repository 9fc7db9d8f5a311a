"""Tells the service manager that started the worker (systemd) how it is: ready, reloading, stopping, alive.

The protocol of sd_notify(3): one datagram, lines of NAME=VALUE. Where nobody asked to be told, nothing is sent.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
import time
from collections.abc import Callable, Mapping
from typing import Final

logger = logging.getLogger("jobmaster.supervisor")

LOOK_EVERY: Final = 5.0
"""Seconds between two looks at what there is to tell; more often where the watchdog wants it."""
OWED_EVERY: Final = 0.5
"""Seconds between two tries to say that the worker is ready."""
VARIABLES: Final = ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID")
EXTENSION: Final = 3 * LOOK_EVERY
"""While the worker stops, it asks again and again for so many seconds more."""


class ServiceManager:
    """One end of the line to it.

    Args:
        address: its socket, `/path` or `@abstract`; empty: nobody wants to be told.
        watchdog: seconds within which it must hear that the worker is alive; None: it does not ask.
    """

    def __init__(self, address: str, *, watchdog: float | None = None) -> None:
        self._address = "\0" + address[1:] if address.startswith("@") else address
        self._watchdog = watchdog
        self._status = ""
        self._stopping = False
        self._silent = False
        self._owed = False
        """It has not taken the word that the worker is ready, and would end it for that."""

    @classmethod
    def of(cls, environ: Mapping[str, str]) -> ServiceManager:
        """The one that these variables of the environment name: NOTIFY_SOCKET, WATCHDOG_USEC, WATCHDOG_PID."""
        address, microseconds, pid = (environ.get(name, "") for name in VARIABLES)
        asks = microseconds.isdecimal() and int(microseconds) > 0 and pid in {"", str(os.getpid())}
        known = address if address[:1] in {"/", "@"} else ""
        return cls(known, watchdog=int(microseconds) / 1e6 if asks else None)

    def ready(self) -> None:
        """Jobs run."""
        self._owed = not self._tell("READY=1")

    def reloading(self) -> None:
        """The worker begins anew with changed files; `ready` follows."""
        self._tell("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")

    def stopping(self) -> None:
        """The worker was told to end; what runs may go on for its grace period."""
        self._stopping = True
        self._tell("STOPPING=1", *self._more_time())

    def status(self, text: str) -> None:
        """A line for people, where it is a new one."""
        if text != self._status and self._tell(f"STATUS={text}"):
            self._status = text

    async def attend(self, *, alive: Callable[[], bool], status: Callable[[], str]) -> None:
        """Tell again and again, until cancelled.

        Args:
            alive: whether the worker's loops turn, as `/healthz` says.
            status: what people may read of it now.
        """
        if not self._address:
            return
        while True:
            if self._owed and not self._stopping:
                self.ready()
            self.status(status())
            if self._stopping:
                self._tell(*self._more_time())
            if self._watchdog is not None:
                self._feed_watchdog(alive=alive())
            await asyncio.sleep(self._until_next())

    def _until_next(self) -> float:
        if self._owed:
            return OWED_EVERY
        return LOOK_EVERY if self._watchdog is None else min(self._watchdog / 2, LOOK_EVERY)

    def _feed_watchdog(self, *, alive: bool) -> None:
        if alive:
            self._tell("WATCHDOG=1")
        elif not self._silent:
            logger.error("watchdog_silent: an engine's event loop does not turn, so the service manager hears nothing")
        self._silent = not alive

    def _more_time(self) -> tuple[str, ...]:
        return (f"EXTEND_TIMEOUT_USEC={EXTENSION * 1e6:.0f}",)

    def _tell(self, *lines: str) -> bool:
        """False: it does not take anything now, because it has much to read."""
        if not self._address:
            return True
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as line:
            line.setblocking(False)
            line.sendto("\n".join(lines).encode(), self._address)
            return True
        return False
