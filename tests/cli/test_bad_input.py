"""Bad input: what is typed, the exit code, and what the message must say. Never a traceback of ours."""

from __future__ import annotations

import json
import socket
import sqlite3
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest

from tests.cli.terminal import Terminal

pytestmark = pytest.mark.backend("sqlite")


@dataclass(frozen=True, slots=True)
class Bad:
    """One row of the table."""

    typed: str
    code: int
    parts: tuple[str, ...]
    environment: dict[str, str] = field(default_factory=dict)
    files: dict[str, str] = field(default_factory=dict)


EMPTY_APP = "from jobmaster import JobMaster\njm = JobMaster('shop')\n"

TABLE = [
    # the program
    Bad("nonsense", 2, ("No such command", "nonsense")),
    Bad("wroker -A shop", 2, ("No such command 'wroker'", "Did you mean 'worker'?")),
    Bad(
        "jobs list -A shop",
        2,
        ("mysql://shop:***@db/shop", "this version", "SQLite and PostgreSQL only"),
        {"JOBMASTER_MASTER": "mysql://shop:hidden@db/shop"},
    ),
    Bad("-A shop jobs list --status sleeping", 2, ("sleeping", "waiting")),
    Bad("-A shop jobs list --since yesterday", 2, ("yesterday", "15m")),
    Bad("-A shop jobs list --limit 0", 2, ("--limit", "1<=x<=1000")),
    # the app
    Bad("jobs list", 2, ("No app is named", "-A myapp", "JOBMASTER_APP", "[tool.jobmaster]")),
    Bad("-A nosuch jobs list", 2, ("no module 'nosuch'", "Looked in", "Start in the folder")),
    Bad("-A shop.nosuch jobs list", 2, ("no module 'shop.nosuch'",)),
    Bad("-A nosuch.py jobs list", 2, ("nosuch.py", "there is no")),
    Bad("-A shop:nosuch jobs list", 2, ("no attribute 'nosuch'", "Apps in it: jm")),
    Bad("-A shop:note jobs list", 2, ("is a function", "no JobMaster app")),
    Bad("-A empty jobs list", 2, ("No JobMaster app was found in empty", "jm, app"), files={"empty.py": "x = 1\n"}),
    Bad(
        "-A two jobs list",
        2,
        ("2 apps", "two:first", "two:second"),
        files={"two.py": "from jobmaster import JobMaster\nfirst = JobMaster('a')\nsecond = JobMaster('b')\n"},
    ),
    Bad("-A quits jobs list", 2, ("ended the program", "__main__"), files={"quits.py": "raise SystemExit(4)\n"}),
    Bad("-A quits worker", 2, ("ended the program", "__main__"), files={"quits.py": "raise SystemExit(4)\n"}),
    Bad("-A dies worker", 2, ("gave no answer", "exit code 9"), files={"dies.py": "import os\nos._exit(9)\n"}),
    # the worker
    Bad("worker -A none", 2, ("0 tasks found", "looked in none", "include="), files={"none.py": EMPTY_APP}),
    Bad("worker -A shop -P carts", 2, ("carts", "threads")),
    Bad("worker -A shop -P asyncio", 2, ("runs async tasks only", "shop.broken")),
    Bad("worker -A shop -P solo -c 2", 2, ("one job at a time",)),
    Bad("worker -A shop -c 0", 2, ("1<=x",)),
    Bad("worker -A shop -Q no.lane", 2, ("lane 'no.lane'", "letters")),
    Bad("worker -A shop -n -bad", 2, ("worker name '-bad'", "begins with '-'")),
    Bad("worker -A shop --agent pg-9", 2, ("no agent 'pg-9'", "standalone")),
    Bad("worker -A shop --reload --once", 2, ("--reload", "--once", "one of them")),
    Bad("worker -A shop --max-memory-per-child 1", 2, ("16",)),
    Bad("worker -A shop --loglevel loud", 2, ("loud", "warning")),
    # settings
    Bad("worker -A shop", 2, ("oracle", "sqlite"), {"JOBMASTER_MASTER": "oracle://x/y"}),
    Bad("jobs -A shop list", 2, ("NATS", "agents="), {"JOBMASTER_MASTER": "nats://127.0.0.1"}),
    Bad("worker -A shop", 2, ("lease", "JOBMASTER_LEASE", "500ms"), {"JOBMASTER_LEASE": "0.1"}),
    Bad("config show -A shop", 2, ("leese", "lease"), files={"jobmaster.toml": "leese = 3\n"}),
    Bad("config show -A shop", 2, ("jobmaster.toml", "TOML"), files={"jobmaster.toml": "lease = = 3\n"}),
    Bad("worker", 2, ("app is 3", "text"), files={"jobmaster.toml": "app = 3\n"}),
    Bad("jobs -A shop list", 2, ("/nowhere/at/all",), {"JOBMASTER_MASTER": "sqlite:////nowhere/at/all/x.db"}),
    Bad("worker -A shop", 2, ("/nowhere/at/all",), {"JOBMASTER_MASTER": "sqlite:////nowhere/at/all/x.db"}),
    # jobs
    Bad("-A shop run shop.nosuch {}", 1, ("shop.nosuch", "registered")),
    Bad("-A shop run shop.helo {}", 1, ("shop.helo", "shop.hello")),
    Bad("-A shop run shop.hello {", 2, ("no JSON", "shell")),
    Bad("-A shop run shop.hello 5", 2, ("single JSON value", "[5]")),
    Bad('-A shop run shop.hello {"nam":1}', 2, ("shop.hello", "'name'", "(name)")),
    Bad("-A shop run shop.hello {} --at tomorrow", 2, ("tomorrow", "2026-")),
    Bad("-A shop run shop.hello {} --at 2026-01-01T00:00:00", 2, ("time zone",)),
    Bad("-A shop run shop.hello {} --delay 5 --at 2036-01-01T00:00:00Z", 2, ("--delay", "--at", "one of them")),
    Bad(
        '-A shop run shop.hello {"name":"J"} --wait --timeout 0.2',
        1,
        ("not ended within 0.2 s", "goes on", "No worker lives", "jobs show"),
    ),
    Bad('-A shop run shop.hello {"name":"J"}', 1, ("archived",), {"JOBMASTER_CLUSTER_MODE": "archived"}),
    Bad("-A shop jobs show 01a20054-285f-712d-baa0-8128c6f45ca9", 1, ("Nobody knows a job", "cluster 'shop'")),
    Bad("-A shop jobs retry", 2, ("Missing argument",)),
    Bad("-A shop workers ping", 3, ("No worker lives", "jobmaster worker")),
    Bad("-A shop workers ping alpha", 1, ("alpha", "Living workers: none")),
    Bad("health --port 1", 3, ("Nobody answers", "--health-port 1")),
    Bad("-A shop db sql --dialect oracle", 2, ("oracle", "postgresql")),
]


@pytest.mark.parametrize("bad", TABLE, ids=lambda bad: f"{bad.typed} {' '.join(bad.environment)}".replace("/", "_"))
def test_bad_input_is_told_in_words(terminal: Terminal, bad: Bad) -> None:
    for name, text in bad.files.items():
        terminal.write(name, text)

    done = terminal.run(*bad.typed.split(), **bad.environment)

    told = " ".join(done.stderr.split())
    assert done.returncode == bad.code, done.stdout + done.stderr
    assert [part for part in bad.parts if part not in told] == []
    assert "Traceback" not in done.stderr


def test_with_json_errors_are_json_too(terminal: Terminal) -> None:
    done = terminal.run("--json", "-A", "shop", "run", "shop.nosuch")

    told = json.loads(done.stderr)["error"]
    assert (done.returncode, told["exit_code"], told["type"]) == (1, 1, "NotRegistered")
    assert "shop.nosuch" in told["message"]


@pytest.mark.parametrize("command", [["worker"], ["jobs", "list"]])
def test_an_app_that_cannot_be_imported_shows_the_users_own_traceback(terminal: Terminal, command: list[str]) -> None:
    terminal.write("deep.py", "def divide():\n    return 1 / 0\n")
    terminal.write("shop.py", "import deep\ndeep.divide()\n")

    done = terminal.run("-A", "shop", *command)

    assert done.returncode == 2
    assert "ZeroDivisionError: division by zero" in done.stderr
    assert 'deep.py", line 2, in divide' in done.stderr
    assert "jobmaster/locating.py" not in done.stderr
    assert "importlib" not in done.stderr


@pytest.mark.parametrize("command", [["worker"], ["run", "shop.hello", '{"name": "J"}']], ids=["worker", "run"])
def test_a_locked_database_is_unreachable(terminal: Terminal, command: list[str]) -> None:
    assert terminal.run("-A", "shop", "db", "upgrade").returncode == 0
    holder = sqlite3.connect(terminal.folder / "jobmaster.db", isolation_level=None)
    holder.execute("PRAGMA locking_mode = EXCLUSIVE")
    holder.execute("BEGIN EXCLUSIVE")
    try:
        done = terminal.run("-A", "shop", *command, JOBMASTER_ACCEPT_TIMEOUT="0.5")
    finally:
        holder.close()

    assert done.returncode == 3, done.stdout + done.stderr
    assert "Traceback" not in done.stderr


def test_a_file_that_is_no_database_is_told(terminal: Terminal) -> None:
    terminal.write("jobmaster.db", "this is a letter\n" * 1000)

    for command in (["worker"], ["jobs", "list"]):
        done = terminal.run("-A", "shop", *command)
        assert done.returncode in {1, 2}, done.stdout + done.stderr
        assert "jobmaster.db" in done.stderr
        assert "Traceback" not in done.stderr


def _newer(terminal: Terminal) -> dict[str, str]:
    assert terminal.run("-A", "shop", "db", "upgrade").returncode == 0
    with sqlite3.connect(terminal.folder / "jobmaster.db") as database:
        database.execute("UPDATE jm_schema SET version_num = '9999', oldest_code = '9999'")
    database.close()
    return {}


def _missing(_terminal: Terminal) -> dict[str, str]:
    return {"JOBMASTER_AUTO_PROVISION": "false"}


@pytest.mark.parametrize(
    ("arrange", "part"), [(_newer, "install the newer JobMaster"), (_missing, "jobmaster db upgrade")]
)
@pytest.mark.parametrize("command", [["worker"], ["jobs", "list"], ["doctor"]])
def test_another_schema_is_refused_with_the_next_step(
    terminal: Terminal, arrange: Callable[[Terminal], dict[str, str]], part: str, command: list[str]
) -> None:
    environment = arrange(terminal)

    done = terminal.run("-A", "shop", *command, **environment)

    assert done.returncode == 1, done.stdout + done.stderr
    assert part in done.stdout + done.stderr
    assert "Traceback" not in done.stderr


def test_a_master_of_another_cluster_is_refused(terminal: Terminal) -> None:
    terminal.enqueue("shop.hello", name="J")
    assert terminal.run("-A", "shop", "worker", "--once").returncode == 0
    other = (terminal.folder / "shop.py").read_text().replace('JobMaster("shop")', 'JobMaster("stock")')
    terminal.write("stock.py", other)

    for command in (["worker", "--once"], ["run", "stock.hello", '{"name": "J"}'], ["jobs", "list"]):
        done = terminal.run("-A", "stock", *command)
        assert done.returncode in {1, 2}, done.stdout + done.stderr
        assert "belongs to cluster 'shop'" in done.stderr
        assert "Traceback" not in done.stderr
    assert [job["task"] for job in terminal.json("jobs", "list")["jobs"]] == ["shop.hello"]


def test_a_health_port_that_is_taken_is_told_before_anything_starts(terminal: Terminal) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        done = terminal.run("-A", "shop", "worker", "--health-port", port)

    assert done.returncode == 2
    assert f"--health-port {port}" in done.stderr
    assert "Choose a free port" in done.stderr
    assert not (terminal.folder / "jobmaster.db").exists()


def test_a_driver_that_is_not_installed_is_named(terminal: Terminal) -> None:
    # The driver's module is hidden by one that does not import.
    terminal.write("shop.py", "import sys\nsys.modules['asyncpg'] = None\n" + (terminal.folder / "shop.py").read_text())

    done = terminal.run("-A", "shop", "jobs", "list", JOBMASTER_MASTER="postgresql://user@127.0.0.1/shop")

    assert done.returncode == 2, done.stdout + done.stderr
    assert "pip install asyncpg" in done.stderr
