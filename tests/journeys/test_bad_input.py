"""The table of bad input: what is done, which error it is, what it says, how the command ends. Nothing is lost by any.

Each row is done twice: by a program in a process of its own, and by a command as it is typed. Before each, a job is
stored; afterwards it is still there, nothing else is, and a worker runs it.
"""

from __future__ import annotations

import contextlib
import json
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.cli.terminal import PATIENCE, PROGRAM, Terminal

pytestmark = pytest.mark.backend("sqlite")

APP = """
import asyncio, os, sys
from jobmaster import JobMaster

jm = JobMaster("shop")
if "HIDE_DRIVER" in os.environ:
    sys.modules["asyncpg"] = None

@jm.task
def hello(name: object) -> str:
    return "Hello"

@jm.task(max_retries=0)
def waits_inside() -> str:
    return hello.delay(name="inner").get(timeout=30)
"""

# What a program meets: the exception's type, its bases and its text, or the status and error of the job that it was in.
PRELUDE = """
import asyncio, json, sys
try:
    from shop import hello, jm, waits_inside
    from jobmaster import JobMaster
    {program}
except Exception as error:
    print(json.dumps([[kind.__name__ for kind in type(error).__mro__], str(error)]))
else:
    print(json.dumps([[], "no error"]))
"""

WITHOUT_RIGHTS = """
import ctypes, os, sys
libc = ctypes.CDLL(None)
for capability in (1, 2):  # CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH: root obeys the rights of files, as others do
    libc.prctl(24, capability, 0, 0, 0)
os.execv(sys.argv[1], sys.argv[1:])
"""

NO_SPACE = """
import os, resource, sys
size = int(sys.argv[1])
resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
os.execv(sys.argv[2], sys.argv[2:])
"""

Arrange = Callable[[Terminal], contextlib.AbstractContextManager[list[str]]]


@contextlib.contextmanager
def as_it_is(_terminal: Terminal) -> Iterator[list[str]]:
    yield []


def schema(version: str) -> Arrange:
    """The database of an older or newer program."""

    @contextlib.contextmanager
    def arrange(terminal: Terminal) -> Iterator[list[str]]:
        was = _set_version(terminal, version)
        try:
            yield []
        finally:
            _set_version(terminal, was)

    return arrange


def _set_version(terminal: Terminal, version: str) -> str:
    with contextlib.closing(sqlite3.connect(terminal.folder / "jobmaster.db")) as database, database:
        (found,) = database.execute("SELECT version_num FROM jm_schema").fetchone()
        database.execute("UPDATE jm_schema SET version_num = ?1, oldest_code = ?1", (version,))
    return str(found)


@contextlib.contextmanager
def without_rights(terminal: Terminal) -> Iterator[list[str]]:
    """The user may read the database's folder and file, and change neither."""
    database = terminal.folder / "jobmaster.db"
    database.chmod(0o444)
    terminal.folder.chmod(0o555)
    try:
        yield [sys.executable, "-c", WITHOUT_RIGHTS]
    finally:
        terminal.folder.chmod(0o755)
        database.chmod(0o600)


@contextlib.contextmanager
def full_disk(terminal: Terminal) -> Iterator[list[str]]:
    """No file may grow beyond one page: what a full disk does to the files of a database."""
    yield [sys.executable, "-c", NO_SPACE, "4096"]


@dataclass(frozen=True, slots=True)
class Bad:
    """One row: what a program does and what is typed, the error's type, parts of its text, the exit code."""

    program: str
    typed: list[str]
    error: str
    parts: tuple[str, ...]
    code: int
    environment: dict[str, str] = field(default_factory=dict)
    arrange: Arrange = as_it_is


HELLO = ["-A", "shop", "run", "shop.hello", '{"name": "J"}']

TABLE = {
    "unknown task": Bad(
        "jm.send('shop.helo', name='J')", ["-A", "shop", "run", "shop.helo", "{}"],
        "NotRegistered", ("'shop.helo'", "Did you mean 'shop.hello'"), 1,
    ),
    "oversized payload": Bad(
        "hello.delay(name='x' * 5000)", ["-A", "shop", "run", "shop.hello", json.dumps({"name": "x" * 5000})],
        "MessageTooLarge", ("shop.hello", "max_message_bytes is 4,096", "Nothing was stored", "pass its key"), 1,
        {"JOBMASTER_MAX_MESSAGE_BYTES": "4096"},
    ),
    "unserialisable argument": Bad(
        "hello.delay(name={'a': [open('shop.py')]})", ["-A", "shop", "run", "shop.hello", '{"name": ["\\ud800"]}'],
        "SerializationError", ("name",), 2,
    ),
    "bad DSN": Bad(
        "hello.delay(name='J')", HELLO,
        "ConfigurationError", ("oracle", "sqlite", "JOBMASTER_MASTER"), 2, {"JOBMASTER_MASTER": "oracle://h/d"},
    ),
    "missing driver extra": Bad(
        "hello.delay(name='J')", HELLO,
        "ConfigurationError", ("asyncpg", "pip install"), 2,
        {"JOBMASTER_MASTER": "postgresql://user@127.0.0.1/shop", "HIDE_DRIVER": "1"},
    ),
    "database without rights": Bad(
        "hello.delay(name='J')", HELLO,
        "ConfigurationError", ("jobmaster.db", "Nothing was stored", "right"), 2, {}, without_rights,
    ),
    "older schema": Bad(
        "hello.delay(name='J')", HELLO,
        "SchemaError", ("has schema 0000", "auto_provision is off", "jobmaster db upgrade"), 1,
        {"JOBMASTER_AUTO_PROVISION": "false"}, schema("0000"),
    ),
    "newer schema": Bad(
        "hello.delay(name='J')", HELLO,
        "SchemaError", ("has schema 9999", "newer JobMaster", "install the newer JobMaster"), 1, {}, schema("9999"),
    ),
    "full disk": Bad(
        "hello.delay(name='x' * 100_000)", ["-A", "shop", "run", "shop.hello", json.dumps({"name": "x" * 100_000})],
        "StoreUnavailable", ("jobmaster.db", "disk"), 3, {}, full_disk,
    ),
    "get in a running loop": Bad(
        "exec('async def main(): jm.result(\"x\").get(timeout=1)'); asyncio.run(locals()['main']())", [],
        "ConfigurationError", ("running event loop", "await result.aget()"), 0,
    ),
}  # fmt: skip


@pytest.fixture
def project(tmp_path: Path) -> tuple[Terminal, str]:
    """A project with one accepted job in its database."""
    terminal = Terminal(tmp_path)
    terminal.write("shop.py", APP)
    return terminal, terminal.enqueue("shop.hello", name="first")


def started(terminal: Terminal, command: list[str], environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, cwd=terminal.folder, env=terminal.environment | environment, capture_output=True, text=True,
        check=False, timeout=PATIENCE,
    )  # fmt: skip


def nothing_is_lost(terminal: Terminal, job: str, *, others: int = 0) -> None:
    """The job that was accepted before is the only one, and runs."""
    listed = terminal.json("jobs", "list")["jobs"]
    assert [found["id"] for found in listed if found["id"] == job] == [job]
    assert len(listed) == 1 + others
    assert terminal.run("-A", "shop", "worker", "--once").returncode == 0
    assert terminal.json("jobs", "show", job)["status"] == "Succeeded"


@pytest.mark.parametrize("name", TABLE)
def test_bad_input_has_a_clear_error_and_loses_nothing(project: tuple[Terminal, str], name: str) -> None:
    terminal, first = project
    bad = TABLE[name]

    with bad.arrange(terminal) as before:
        done = started(terminal, [*before, sys.executable, "-c", PRELUDE.format(program=bad.program)], bad.environment)
        typed = started(terminal, [*before, PROGRAM, *bad.typed], bad.environment) if bad.typed else None

    kinds, message = json.loads(done.stdout)
    assert bad.error in kinds, (kinds, message, done.stderr)
    assert "JobMasterError" in kinds
    assert [part for part in bad.parts if part not in message] == [], message
    if typed is not None:
        told = " ".join(typed.stderr.split())
        assert typed.returncode == bad.code, typed.stdout + typed.stderr
        assert [part for part in bad.parts if part not in told] == [], told
        assert "Traceback" not in typed.stderr
    nothing_is_lost(terminal, first)


def test_get_in_a_task_that_holds_a_slot_fails_that_job_with_the_advice(project: tuple[Terminal, str]) -> None:
    terminal, first = project
    asking = terminal.enqueue("shop.waits_inside")

    nothing_is_lost(terminal, first, others=1)

    told = terminal.run("-A", "shop", "jobs", "tail", asking)
    job = terminal.json("jobs", "show", asking)
    assert told.returncode == 1
    assert (job["status"], job["error"]["type"]) == ("Failed", "jobmaster.errors.ConfigurationError")
    assert "inside a job waits in a slot" in job["error"]["message"]
    assert "enqueue the next step from it" in job["error"]["message"]
