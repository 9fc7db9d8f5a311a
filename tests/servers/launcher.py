"""What every launched server has: a folder, a port on loopback, an unprivileged user, and an end that is certain."""

from __future__ import annotations

import atexit
import contextlib
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import psutil

NOBODY = 65534
"""The user that servers run as when the tests run as root, which most of them refuse."""

# Reads until its starter says a line or is gone (end of file), then ends the server and removes the folder.
GUARD = """
read -r _
if [ -f "$0/server.pid" ]; then
    pid=$(cat "$0/server.pid")
    kill -"$1" "$pid" 2>/dev/null
    for _ in 1 2 3 4 5 6 7 8 9 10; do kill -0 "$pid" 2>/dev/null || break; sleep 0.1; done
    kill -KILL "$pid" 2>/dev/null
fi
rm -rf "$0"
"""


class ServerError(Exception):
    """The server is not installed, or ended before it was ready; the text says which, and what it wrote last."""


class Server:
    """One server process. A kind of server says how it is made (`prepare`), started (`command`) and known to be ready.

    It listens on 127.0.0.1 only, lives in a folder of its own, and ends with this process
    however that ends. As root it runs as `NOBODY`.

    Args:
        settings: the server's own settings by name, beyond (or instead of) those the launcher gives.
        within: where its folder is made; else in the temporary folder.
    """

    name = "server"
    stop_signal = signal.SIGTERM
    abort_signal = signal.SIGKILL
    """How it ends when its starter was killed."""
    unprivileged = True
    """Whether it runs as `NOBODY` where the tests run as root."""

    def __init__(self, *, settings: Mapping[str, str] | None = None, within: Path | None = None) -> None:
        self.settings = dict(settings or {})
        self.environment: dict[str, str] = {}
        """Variables of its process beside our own."""
        self._within = within
        self.port = free_port()
        self.folder = Path()
        self.process: subprocess.Popen[bytes] | None = None
        self._guard: subprocess.Popen[bytes] | None = None

    # -- what a kind of server says

    def prepare(self) -> None:
        """Make what the first start needs, in `self.folder`."""

    def command(self) -> Sequence[str | Path]:
        """The program and its arguments; it must stay in the foreground."""
        raise NotImplementedError

    def is_ready(self) -> bool:
        """Whether it answers."""
        return answers(self.port)

    # -- its life

    def start(self) -> Self:
        """Make the folder, start the server and wait until it is ready.

        Raises:
            ServerError: it is not installed, or did not become ready.
        """
        self.folder = Path(tempfile.mkdtemp(prefix=f"jobmaster-{self.name}-", dir=self._within))
        self._guard = guarded(self.folder, self.abort_signal)
        atexit.register(self.close)
        try:
            self._hand_over(self.folder)
            self.prepare()
            self.boot()
        except BaseException:
            self.close()
            raise
        return self

    def boot(self, *, timeout: float = 30) -> None:
        """Start the process on the folder as it is, as after a crash, and wait until it is ready."""
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [str(part) for part in self.command()],
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**os.environ, **self.environment},
                **self.run_as(),
            )
        (self.folder / "server.pid").write_text(f"{self.process.pid}\n")
        self._await(self.is_ready, timeout)

    def kill(self) -> None:
        """SIGKILL, as a crash of the host: nothing is written any more."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        """End it as its administrator would, keeping its data."""
        self._end(self.stop_signal)

    def pause(self) -> None:
        """Freeze it (SIGSTOP): connections stay open and nobody answers."""
        self._running().send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let a frozen server go on."""
        self._running().send_signal(signal.SIGCONT)

    def restart(self, *, kill: bool = False) -> None:
        """End it, by SIGKILL if `kill`, and start it again on its data and its port."""
        if kill:
            self.kill()
        else:
            self.stop()
        self.boot()

    def close(self) -> None:
        """End it and remove everything; again does nothing."""
        atexit.unregister(self.close)
        if self.process is not None:
            self._end(self.abort_signal)
        if self._guard is not None:
            shutil.rmtree(self.folder, ignore_errors=True)
            with contextlib.suppress(BrokenPipeError):
                self._guard.communicate(b"ended\n", timeout=10)
            self._guard = None

    def __enter__(self) -> Self:
        return self if self._guard is not None else self.start()

    def __exit__(self, *_: object) -> None:
        self.close()

    # -- for the kinds of servers

    @property
    def log(self) -> Path:
        """What the server writes."""
        return self.folder / "server.log"

    def run_as(self) -> dict[str, Any]:
        """Arguments of subprocess that make a process of this server: its user, its folder, no terminal."""
        drops = self.unprivileged and os.geteuid() == 0
        user: dict[str, Any] = {"user": NOBODY, "group": NOBODY, "extra_groups": []} if drops else {}
        return {"cwd": self.folder, "stdin": subprocess.DEVNULL, "start_new_session": True, "umask": 0o077, **user}

    def write(self, name: str, text: str) -> Path:
        """A file of the folder that only the server can read."""
        path = self.folder / name
        path.write_text(text, encoding="utf-8")
        path.chmod(0o600)
        self._hand_over(path)
        return path

    def _hand_over(self, path: Path) -> None:
        if self.unprivileged and os.geteuid() == 0:
            os.chown(path, NOBODY, NOBODY)

    def _running(self) -> subprocess.Popen[bytes]:
        if self.process is None:
            raise ServerError(f"{self.name} does not run; call start() or boot() first")
        return self.process

    def _end(self, number: int) -> None:
        process = self._running()
        # The processes of a killed server notice it after a while, and until then a new one finds its memory in use.
        others = _descendants(process.pid) if number == signal.SIGKILL else []
        process.send_signal(number)
        for other in others:
            with contextlib.suppress(psutil.NoSuchProcess):
                other.kill()
        process.send_signal(signal.SIGCONT)  # one that was paused hears no other signal than SIGKILL
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(20)
        psutil.wait_procs(others, timeout=20)
        self.process = None
        (self.folder / "server.pid").unlink(missing_ok=True)

    def _await(self, condition: Callable[[], bool], timeout: float) -> None:
        until = time.monotonic() + timeout
        process = self._running()
        while not condition():
            if process.poll() is not None or time.monotonic() > until:
                written = self.log.read_text(encoding="utf-8", errors="replace")
                state = "is not ready" if process.poll() is None else f"ended with {process.returncode}"
                raise ServerError(f"{self.name} {state}: {written[-2000:]}")
            time.sleep(0.01)


def _descendants(pid: int) -> list[psutil.Process]:
    with contextlib.suppress(psutil.NoSuchProcess):
        found: list[psutil.Process] = psutil.Process(pid).children(recursive=True)
        return found
    return []


def memory_folder() -> Path | None:
    """A folder that is memory, if there is one with a gigabyte to spare: for servers whose data need not last."""
    shared = Path("/dev/shm")
    if not shared.is_dir() or not os.access(shared, os.W_OK):
        return None
    return shared if shutil.disk_usage(shared).free > 1 << 30 else None


def free_port() -> int:
    """A port of 127.0.0.1 that nobody listened on a moment ago."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port: int = one.getsockname()[1]
        return port


def answers(port: int) -> bool:
    """Whether somebody listens on this port of 127.0.0.1."""
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False


def guarded(folder: Path, abort_signal: int) -> subprocess.Popen[bytes]:
    """A process that waits for the end of this one, then ends what `folder` names as running and removes the folder."""
    return subprocess.Popen(
        ["/bin/sh", "-c", GUARD, str(folder), str(int(abort_signal))],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


def program(name: str, *, package: str) -> str:
    """The path of an installed program.

    Raises:
        ServerError: it is not installed; the text names the package that has it.
    """
    found = shutil.which(name) or shutil.which(name, path="/usr/sbin:/usr/local/sbin:/sbin")
    if found is None:
        raise ServerError(f"{name} is not installed: {package}")
    return found
