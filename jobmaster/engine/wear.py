"""When a process has run enough jobs, or holds enough memory: it asks for a successor, though nothing is wrong with it.

Once a second, never per job. The supervisor starts the successor and lets this process stop gracefully once that works
(`engine/supervisor.py`). Of the pool "processes" each process is looked at by itself.
"""

from __future__ import annotations

import asyncio
import logging
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final, Protocol

logger = logging.getLogger("jobmaster.engine")

LOOK_EVERY: Final = 1.0
TOO_MUCH: Final = 2.0
"""Beyond so many times the limit nobody waits for the end of what runs."""
MIB: Final = 1024 * 1024
_PAGE: Final = os.sysconf("SC_PAGE_SIZE") if hasattr(os, "sysconf") else 4096


class Wearing(Protocol):
    """What is looked at: an engine."""

    ready: asyncio.Event

    def wear_out(self, reason: str) -> None:
        """Ask for a successor."""
        ...

    def condemn(self, reason: str) -> None:
        """Start nothing more, and be replaced within seconds."""
        ...


class ProcessesOfPool(Protocol):
    """The processes that an engine's runs happen in, where those are others."""

    def limit_memory(self, *, most: int, too_much: int) -> None:
        """Replace the processes that hold more than `most` bytes, after their run; at once beyond `too_much`."""
        ...


def resident_bytes(pid: int | str = "self", *, folder: Path = Path("/proc")) -> int | None:
    """The memory that a process holds; None where nobody says (it is gone, or the system is not Linux)."""
    try:
        return int((folder / str(pid) / "statm").read_text().split()[1]) * _PAGE
    except (OSError, IndexError, ValueError):
        return None


class Wear:
    """Looks at one engine, once a second.

    Args:
        engine: which.
        max_tasks: runs in the engine's own process; None: no limit.
        max_memory: resident memory in MiB, of the engine's process and of each process of `pools`; None: no limit.
        runs: how many runs the engine's own process has begun.
        pools: those whose runs happen in other processes.
        resident: see `resident_bytes`.
    """

    def __init__(
        self,
        engine: Wearing,
        *,
        max_tasks: int | None,
        max_memory: int | None,
        runs: Callable[[], int],
        pools: Sequence[ProcessesOfPool] = (),
        resident: Callable[[], int | None] = resident_bytes,
    ) -> None:
        self._engine = engine
        self._max_tasks = max_tasks
        self._most = None if max_memory is None else max_memory * MIB
        self._runs = runs
        self._pools = pools
        self._resident = resident
        self._told = False
        self._condemned = False

    async def run(self) -> None:
        """Look until cancelled."""
        if self._max_tasks is None and self._most is None:
            return
        if self._most is not None and sys.platform != "linux":
            logger.warning("memory_limit_unknown: max_memory_per_child has an effect on Linux only")
        self.begin()
        await self._engine.ready.wait()
        failures = 0
        while True:
            try:
                self.look()
            except Exception:
                failures += 1
                level = logging.ERROR if failures == 1 else logging.DEBUG
                logger.log(
                    level, "wear_not_seen failures=%d: no limit has an effect meanwhile", failures, exc_info=True
                )
            await asyncio.sleep(LOOK_EVERY)

    def begin(self) -> None:
        """Ignore a limit that the process exceeds before any job has begun in it: its successor would be as large.

        A second later it may be the first job that is large, and that is what the limit is for.
        """
        held = None if self._most is None else self._resident()
        if self._most is not None and held is not None and held > self._most:
            logger.error(
                "memory_limit_too_low used_mib=%d limit_mib=%d: a process that has just begun holds more than "
                "max_memory_per_child, so the limit is ignored for it. Raise it",
                held // MIB, self._most // MIB,
            )  # fmt: skip
            self._most = None

    def look(self) -> None:
        """Look once."""
        runs = self._runs()
        if self._max_tasks is not None and runs >= self._max_tasks:
            self._tell(f"{runs} runs, and max_tasks_per_child is {self._max_tasks}")
        if self._most is not None:
            self._look_at_memory(self._most)

    def _look_at_memory(self, most: int) -> None:
        for pool in self._pools:
            pool.limit_memory(most=most, too_much=round(most * TOO_MUCH))
        held = self._resident()
        if held is None:
            return
        if held > most * TOO_MUCH and not self._condemned:
            self._condemned = True
            self._engine.condemn(f"holds {_told(held, most)}, more than {TOO_MUCH:g} times as much")
        elif held > most:
            self._tell(f"holds {_told(held, most)}")

    def _tell(self, reason: str) -> None:
        if not self._told:
            self._told = True
            self._engine.wear_out(reason)


def _told(held: int, most: int) -> str:
    return f"{held // MIB} MiB, and max_memory_per_child is {most // MIB} MiB"
