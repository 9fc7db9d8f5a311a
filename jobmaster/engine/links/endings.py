"""How a process ended, in a word: "exit 1", "SIGSEGV", "SIGKILL (out of memory)"."""

from __future__ import annotations

import contextlib
import signal
from pathlib import Path

OUT_OF_MEMORY = "SIGKILL (out of memory)"

CGROUPS = Path("/sys/fs/cgroup")
OWN_CGROUP = Path("/proc/self/cgroup")


def exit_word(returncode: int) -> str:
    """The word for a return code as `subprocess` gives it (negative: the signal)."""
    if returncode >= 0:
        return f"exit {returncode}"
    try:
        return signal.Signals(-returncode).name
    except ValueError:
        return f"signal {-returncode}"


def out_of_memory_kills() -> int:
    """How many processes of this process's control group the kernel has killed for want of memory; 0 where unknown."""
    for file in _event_files():
        with contextlib.suppress(OSError, ValueError):
            for line in file.read_text().splitlines():
                name, _, count = line.partition(" ")
                if name == "oom_kill":
                    return int(count)
    return 0


def _event_files() -> list[Path]:
    """Where version 2 and version 1 of control groups count, the own group first, then the container's root."""
    files = []
    with contextlib.suppress(OSError):
        for line in OWN_CGROUP.read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            if controllers == "":
                files.append(CGROUPS / path.lstrip("/") / "memory.events")
            elif "memory" in controllers.split(","):
                files.append(CGROUPS / "memory" / path.lstrip("/") / "memory.oom_control")
    return [*files, CGROUPS / "memory.events", CGROUPS / "memory" / "memory.oom_control"]
