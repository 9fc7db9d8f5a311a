"""What systemd hears of a worker, over a real socket; and what process 1 of a container owes its orphans."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from jobmaster.cli.service_manager import EXTENSION, ServiceManager
from tests.cli.terminal import PROGRAM, Terminal

linux = pytest.mark.skipif(sys.platform != "linux", reason="abstract sockets, child subreapers")


class Manager:
    """The other end: keeps what it is told."""

    def __init__(self, address: str) -> None:
        self.address = address
        self._line = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._line.bind("\0" + address[1:] if address.startswith("@") else address)
        self._line.settimeout(0.02)
        self._told: list[str] = []

    def told(self) -> list[str]:
        """All lines so far."""
        with contextlib.suppress(TimeoutError):
            while True:
                self._told += self._line.recv(65_536).decode().split("\n")
        return self._told

    def until(self, line: str, *, times: int = 1) -> list[str]:
        limit = time.monotonic() + 30
        while self.told().count(line) < times:
            assert time.monotonic() < limit, self._told
        return self._told

    def close(self) -> None:
        self._line.close()


@pytest.fixture(params=["path", pytest.param("abstract", marks=linux)])
def manager(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Manager]:
    # A path of a socket has at most 107 characters, wherever pytest keeps its folders.
    address = f"@jobmaster-test-{os.getpid()}" if request.param == "abstract" else f"/tmp/jm-notify-{os.getpid()}"
    Path(address).unlink(missing_ok=True)
    manager = Manager(address)
    yield manager
    manager.close()
    Path(address).unlink(missing_ok=True)


def attend(service: ServiceManager, *, alive: Callable[[], bool] = lambda: True, enough: Callable[[], bool]) -> None:
    async def story() -> None:
        attending = asyncio.create_task(service.attend(alive=alive, status=lambda: "Running"))
        async with asyncio.timeout(20):
            while not enough():
                await asyncio.sleep(0.005)
        attending.cancel()

    asyncio.run(story())


def test_each_state_is_told_in_the_words_of_the_protocol(manager: Manager) -> None:
    service = ServiceManager.of({"NOTIFY_SOCKET": manager.address})
    before = time.monotonic_ns() // 1000
    service.status("Running: 1 engine")
    service.ready()
    service.status("Running: 1 engine")
    service.reloading()
    service.stopping()

    told = manager.told()
    moment = int(told[3].removeprefix("MONOTONIC_USEC="))
    assert told == [
        "STATUS=Running: 1 engine",
        "READY=1",
        "RELOADING=1",
        f"MONOTONIC_USEC={moment}",
        "STOPPING=1",
        f"EXTEND_TIMEOUT_USEC={EXTENSION * 1e6:.0f}",
    ]
    assert before <= moment <= time.monotonic_ns() // 1000


def test_the_watchdog_hears_twice_in_its_time_while_the_loops_turn(manager: Manager, caplog: Any) -> None:
    environ = {"NOTIFY_SOCKET": manager.address, "WATCHDOG_USEC": "100000", "WATCHDOG_PID": str(os.getpid())}
    begun = time.monotonic()
    attend(ServiceManager.of(environ), enough=lambda: manager.told().count("WATCHDOG=1") >= 6)
    assert time.monotonic() - begun > 0.2, "not more often than it wants"

    looks = 0

    def blocked() -> bool:
        nonlocal looks
        looks += 1
        return False

    heard = manager.told().count("WATCHDOG=1")
    attend(ServiceManager.of(environ), alive=blocked, enough=lambda: looks >= 4)
    assert manager.told().count("WATCHDOG=1") == heard
    assert caplog.text.count("watchdog_silent") == 1


@pytest.mark.parametrize(
    "environ", [{}, {"WATCHDOG_USEC": "100000", "WATCHDOG_PID": "1"}, {"WATCHDOG_USEC": "soon"}, {"WATCHDOG_USEC": "0"}]
)
def test_a_watchdog_that_is_not_for_this_process_hears_nothing(manager: Manager, environ: dict[str, str]) -> None:
    service = ServiceManager.of({"NOTIFY_SOCKET": manager.address, **environ})
    attend(service, enough=lambda: "STATUS=Running" in manager.told())

    assert manager.told() == ["STATUS=Running"]


def test_a_long_stop_asks_for_more_time_again_and_again(manager: Manager) -> None:
    service = ServiceManager.of({"NOTIFY_SOCKET": manager.address, "WATCHDOG_USEC": "100000"})
    service.stopping()
    wanted = f"EXTEND_TIMEOUT_USEC={EXTENSION * 1e6:.0f}"
    attend(service, enough=lambda: manager.told().count(wanted) >= 3)

    assert "WATCHDOG=1" in manager.told(), "a worker that stops is alive"


@pytest.mark.parametrize("address", ["", "vsock:2:1234", "/nobody/listens/here"])
def test_where_nobody_listens_nothing_happens(address: str) -> None:
    service = ServiceManager.of({"NOTIFY_SOCKET": address})
    service.ready()
    service.status("Running")
    service.stopping()


# ---------------------------------------------------------------- real workers

ENVIRONMENT = """
@jm.task
def environment() -> str:
    return ",".join(sorted(name for name in os.environ if name in ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID")))

@jm.task
def leave_a_program_behind() -> None:
    import subprocess, sys
    code = "import subprocess, sys; subprocess.Popen([sys.executable, '-c', 'pass'])"
    subprocess.run([sys.executable, "-c", code], check=True)
    note("left")
"""


@pytest.fixture
def shop(terminal: Terminal) -> Terminal:
    path = terminal.folder / "shop.py"
    path.write_text(path.read_text() + ENVIRONMENT)
    return terminal


def test_a_worker_tells_its_service_manager_when_it_is_ready_alive_and_stopping(shop: Terminal, tmp_path: Path) -> None:
    manager = Manager(f"/tmp/jm-worker-{os.getpid()}")
    try:
        with shop.worker("-A", "shop", NOTIFY_SOCKET=manager.address, WATCHDOG_USEC="400000") as worker:
            manager.until("READY=1")
            worker.ready()
            told = list(manager.told())
            assert told.index("READY=1") > 0, "the status comes first"
            assert "STOPPING=1" not in told
            manager.until("WATCHDOG=1", times=3)
            done = shop.run("-A", "shop", "run", "shop.environment", "--wait")
            manager.told()  # a socket that nobody reads holds ten lines, and what comes then is lost
            worker.signal()
            told = manager.until("STOPPING=1")
            assert worker.end() == 0
    finally:
        manager.close()
        Path(manager.address).unlink()

    assert done.stdout.strip() == '""', "children must not speak for the worker"
    assert any(line.startswith("STATUS=Running: 1 engine, ") for line in told)


@contextlib.contextmanager
def started(shop: Terminal, *before: str) -> Iterator[subprocess.Popen[bytes]]:
    """A worker that is started by another program."""
    log = shop.folder / "worker.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [*before, PROGRAM, "worker", "-A", "shop", "-l", "debug"],
            cwd=shop.folder,
            env=shop.environment,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        shop.until(lambda: "worker_ready" in log.read_text(), "the worker is ready")
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait(30)


def zombies(supervisor: psutil.Process) -> list[psutil.Process]:
    return [child for child in supervisor.children() if child.status() == psutil.STATUS_ZOMBIE]


def leaves_no_zombie(shop: Terminal, supervisor: psutil.Process) -> None:
    log = shop.folder / "worker.log"
    for _ in range(3):
        shop.enqueue("shop.leave_a_program_behind")
    shop.until(lambda: shop.ran().count("left") == 3, "all have left a program behind")
    shop.until(lambda: log.read_text().count("orphan_reaped") >= 3, "their ends were fetched")
    shop.until(lambda: not zombies(supervisor), "nobody is left in the table of processes")
    (engine,) = supervisor.children()
    engine.kill()
    shop.until(lambda: "reason=SIGKILL" in log.read_text(), "its own child's end is its own")


SUBREAPER = "import ctypes, os, sys; ctypes.CDLL(None).prctl(36, 1, 0, 0, 0); os.execv(sys.argv[1], sys.argv[1:])"


@linux
def test_a_worker_that_gets_orphans_reaps_them(shop: Terminal) -> None:
    with started(shop, sys.executable, "-c", SUBREAPER) as process:
        supervisor = psutil.Process(process.pid)
        leaves_no_zombie(shop, supervisor)
        process.terminate()
        assert process.wait(30) == 0


def _can_unshare() -> bool:
    if sys.platform != "linux" or shutil.which("unshare") is None:
        return False
    tried = subprocess.run(["unshare", "--pid", "--fork", "--mount-proc", "true"], capture_output=True, check=False)
    return tried.returncode == 0


@pytest.mark.skipif(not _can_unshare(), reason="this user may not make a namespace of process ids")
def test_a_worker_as_process_1_of_a_container_reaps_and_obeys(shop: Terminal) -> None:
    with started(shop, "unshare", "--pid", "--fork", "--mount-proc") as outside:
        (supervisor,) = psutil.Process(outside.pid).children()
        leaves_no_zombie(shop, supervisor)
        supervisor.send_signal(signal.SIGTERM)
        assert outside.wait(30) == 0
