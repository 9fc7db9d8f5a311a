"""Tasks that the processes of a pool run in the tests."""

from __future__ import annotations

import ctypes
import os
import resource
import select
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

from jobmaster.errors import ConfigurationError, SoftTimeLimitExceeded
from tests.engine.pool_workload import FunctionWorkload


def twice(n):
    return n * 2


def whoami(_):
    return [os.getpid(), os.getppid(), threading.current_thread() is threading.main_thread()]


def pause(seconds):
    time.sleep(seconds)
    return os.getpid()


def spin(flag):
    Path(flag).touch()
    while True:
        pass


def blocked_read(flag):
    reading, _writing = os.pipe()
    Path(flag).touch()
    os.read(reading, 1)


def deaf(flag):
    Path(flag).touch()
    while True:
        try:
            time.sleep(1000)
        except BaseException:  # noqa: BLE001, S112 - what this task is about
            continue


def hold_the_interpreter(flag):
    Path(flag).touch()
    ctypes.PyDLL(None).sleep(1000)


def patient(flag):
    try:
        Path(flag).touch()
        select.select([], [], [], 1000)
    except SoftTimeLimitExceeded:
        return "cleaned"


def careless(flag):
    Path(flag).touch()
    time.sleep(1000)


def segfault(_):
    ctypes.string_at(0)


def leave(code):
    os._exit(code)


def sys_exit(_):
    sys.exit("no")


def fail(text):
    raise ValueError(text)


_kept = []


def hold_memory(sizes):
    mib, seconds = sizes
    _kept.append(b"x" * (mib * 1024 * 1024))
    time.sleep(seconds)
    return os.getpid()


def find_no_memory(_):
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (used + 20_000_000, before[1]))
    try:
        return len(b"x" * 200_000_000)
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


def start_a_program(flag):
    program = subprocess.Popen(["sleep", "1000"])
    Path(flag).write_text(str(program.pid))
    program.wait()


def signals(_):
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1):
        os.kill(os.getpid(), number)
    return "alive"


TASKS = (
    *(twice, whoami, pause, spin, blocked_read, deaf, hold_the_interpreter, patient, careless, segfault, leave),
    *(sys_exit, fail, start_a_program, signals, hold_memory, find_no_memory),
)


def workload(_arguments: bytes) -> FunctionWorkload:
    return FunctionWorkload(*TASKS)


def broken(_arguments: bytes) -> FunctionWorkload:
    raise ConfigurationError("No module named 'shop'")


def broken_once(arguments: bytes) -> FunctionWorkload:
    """Fails until the file that the arguments name is there; makes it."""
    mark = Path(arguments.decode())
    if not mark.exists():
        mark.touch()
        raise ConfigurationError("half deployed")
    return workload(b"")
