"""Programs as users start them, each in a folder of its own, ended by SIGTERM."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

BIN = Path(sys.executable).parent


@contextmanager
def program(*command: str, folder: Path, log: Path, **environment: str) -> Iterator[subprocess.Popen[bytes]]:
    """A program of this Python environment; whoever leaves the block ends it, and it must end by itself then."""
    env = {
        name: value for name, value in os.environ.items() if not name.startswith(("JOBMASTER_", "CELERY_", "FLASK_"))
    }
    with log.open("wb") as output:
        process = subprocess.Popen(
            [str(BIN / command[0]), *command[1:]],
            cwd=folder,
            env={**env, "PYTHONUNBUFFERED": "1", **environment},
            stdout=output,
            stderr=subprocess.STDOUT,
        )
        try:
            yield process
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(timeout=60)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
                raise


def free_port() -> int:
    """A TCP port of 127.0.0.1 that nobody used a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def wait_for(condition: Callable[[], object], *, log: Path, timeout: float = 60) -> None:
    """Wait until `condition` is true; fails with the program's log otherwise."""
    end = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < end, f"still not so after {timeout:g} s:\n{log.read_text(errors='replace')}"
        time.sleep(0.05)
