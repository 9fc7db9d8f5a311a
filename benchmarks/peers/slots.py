"""Counts the runs of a job where the harness can look, for about half a microsecond each and without asking a server.

Each thread that runs jobs owns a file of three numbers in `BENCH_SLOTS`: runs, moment of the first start, moment of the
last one. Moments are seconds of CLOCK_MONOTONIC, which all processes of a machine share.
"""

from __future__ import annotations

import mmap
import os
import struct
import threading
import time
from pathlib import Path

FOLDER = os.environ.get("BENCH_SLOTS", "")
FORM = struct.Struct("ddd")


class Slot(threading.local):
    """The cells of this thread, mapped at its first job."""

    def __init__(self) -> None:
        name = f"{os.getpid()}-{threading.get_native_id()}"
        descriptor = os.open(f"{FOLDER}/{name}.slot", os.O_RDWR | os.O_CREAT, 0o600)
        os.ftruncate(descriptor, FORM.size)
        self.cells = memoryview(mmap.mmap(descriptor, FORM.size)).cast("d")
        os.close(descriptor)
        self.waits = os.open(f"{FOLDER}/{name}.waits", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)


_slot: Slot | None = None


def _forget() -> None:
    global _slot
    _slot = None


os.register_at_fork(after_in_child=_forget)


def ran(due: float = 0.0) -> None:
    """Note that a job starts now; with `due`, also how many seconds after that moment."""
    global _slot
    now = time.monotonic()
    if _slot is None:
        _slot = Slot()
    cells = _slot.cells
    if not cells[0]:
        cells[1] = now
    cells[0] += 1.0
    cells[2] = now
    if due:
        os.write(_slot.waits, struct.pack("d", now - due))


def totals(folder: Path) -> tuple[int, float, float]:
    """All runs so far, the first start, the last start."""
    noted = [FORM.unpack(data) for path in folder.glob("*.slot") if len(data := path.read_bytes()) == FORM.size]
    noted = [cells for cells in noted if cells[0]]
    if not noted:
        return 0, 0.0, 0.0
    runs, firsts, lasts = zip(*noted, strict=True)
    return int(sum(runs)), min(firsts), max(lasts)


def waits(folder: Path) -> list[float]:
    """Seconds between due moments and starts, the shortest first."""
    return sorted(value for path in folder.glob("*.waits") for (value,) in struct.iter_unpack("d", path.read_bytes()))


def in_order(folder: Path) -> list[float]:
    """The same of the one thread that ran them all, in the order of the starts."""
    files = [data for path in folder.glob("*.waits") if (data := path.read_bytes())]
    if len(files) != 1:
        raise ValueError(f"{len(files)} threads ran jobs, and only one thread's jobs have an order")
    return [value for (value,) in struct.iter_unpack("d", files[0])]
