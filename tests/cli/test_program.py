"""The program itself: what it lists, how it reads its options, what an error becomes; in this process."""

from __future__ import annotations

import errno
import importlib
import json
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner, Result

from jobmaster.cli import main
from jobmaster.cli.failures import Failure, code_of, tell
from jobmaster.cli.invocation import Invocation
from jobmaster.cli.output import age, plain, printable, show_table, span
from jobmaster.cli.program import COMMANDS, LazyGroup, program
from jobmaster.errors import (
    ClusterArchived,
    ConfigurationError,
    JobFailed,
    NotRegistered,
    OutcomeUnknown,
    ResultTimeout,
    SchemaError,
    StoreUnavailable,
)
from jobmaster.model.states import BucketStatus, CancelOutcome, JobStatus, Priority, WorkerMode

PAGES = [
    [], ["worker"], ["run"], ["jobs"], ["jobs", "list"], ["jobs", "show"], ["jobs", "retry"], ["jobs", "cancel"],
    ["jobs", "tail"], ["workers"], ["workers", "list"], ["workers", "ping"], ["workers", "pause"],
    ["workers", "resume"], ["workers", "stop"], ["workers", "concurrency"], ["buckets"], ["config"], ["config", "show"],
    ["doctor"], ["health"], ["db"], ["db", "status"], ["db", "upgrade"], ["db", "sql"],
]  # fmt: skip


EVERY_WORKER_OPTION = """-A shop worker -Q a,b -Q c -P processes -c 3 --engines 2 --mode execution --agent pg-1 -n alpha
--grace 5 -l DEBUG --log-format json --max-tasks-per-child 9 --max-memory-per-child 300 --health-port 0 --once"""


def invoke(*arguments: str, **given: Any) -> Result:
    return CliRunner().invoke(program, list(arguments), **given)


@pytest.mark.parametrize("page", PAGES, ids=" ".join)
def test_every_command_has_a_help_page_and_takes_app_and_json(page: list[str]) -> None:
    done = invoke(*page, "--help")

    assert done.exit_code == 0
    assert "-A, --app" in done.output
    assert "--json" in done.output


@pytest.mark.parametrize("name", [name for name in COMMANDS if name != "demo"])
def test_the_list_of_commands_says_what_each_command_says_of_itself(name: str) -> None:
    module, _, attribute = COMMANDS[name][0].partition(":")
    command: click.Command = getattr(importlib.import_module(module), attribute)

    assert command.name == name
    assert command.help


NEEDED = ("program", "failures", "output", "invocation", "standard_streams")


def test_no_command_is_imported_to_list_them() -> None:
    code = """
import sys
from jobmaster.cli.program import program
try:
    program.main(["--help"])
finally:
    print([name for name in sys.modules if name.startswith("jobmaster.cli.")])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=30)

    loaded = set(done.stdout.rpartition("[")[2].strip("]\n").replace("'", "").split(", "))
    assert loaded == {f"jobmaster.cli.{name}" for name in NEEDED}


@pytest.mark.parametrize(
    ("typed", "place", "as_json"),
    [
        (["probe"], None, False),
        (["-A", "a", "probe"], "a", False),
        (["probe", "-A", "a"], "a", False),
        (["-A", "a", "probe", "-A", "b"], "b", False),
        (["--json", "probe"], None, True),
        (["probe", "--json", "--app=a:jm"], "a:jm", True),
    ],
)
def test_common_options_may_stand_anywhere(
    typed: list[str], place: str | None, as_json: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    from jobmaster.cli.invocation import common_options, pass_invocation

    seen: list[Invocation] = []

    @click.command()
    @common_options
    @pass_invocation
    def probe(invocation: Invocation) -> None:
        seen.append(invocation)

    original: Callable[..., click.Command | None] = LazyGroup.get_command
    monkeypatch.setattr(
        LazyGroup, "get_command", lambda self, ctx, name: probe if name == "probe" else original(self, ctx, name)
    )
    done = invoke(*typed)

    assert done.exit_code == 0, done.output
    assert (seen[0].place, seen[0].as_json) == (place, as_json)


def test_worker_options_become_an_order(monkeypatch: pytest.MonkeyPatch) -> None:
    from jobmaster import early_start
    from jobmaster.cli import worker_life
    from jobmaster.worker_order import WorkerOrder

    seen: list[tuple[WorkerOrder, dict[str, Any]]] = []
    started: list[WorkerOrder] = []

    class Life:
        def __init__(self, order: WorkerOrder, _first: object, **rest: Any) -> None:
            seen.append((order, rest))

        def run(self) -> int:
            return 7

    monkeypatch.setattr(worker_life, "WorkerLife", Life)
    monkeypatch.setattr(early_start, "start_first_engine", started.append)
    done = invoke(*EVERY_WORKER_OPTION.split())

    order, rest = seen[0]
    assert done.exit_code == 7
    assert started == [order]
    assert (order.place, order.folder) == ("shop", str(Path.cwd()))
    assert (order.lanes, order.pool, order.concurrency, order.engines) == (("a", "b", "c"), "processes", 3, 2)
    assert (order.mode, order.agent, order.name, order.settings) == ("execution", "pg-1", "alpha", {"grace": 5.0})
    assert (order.log_level, order.log_format, order.max_tasks_per_child, order.once) == ("debug", "json", 9, True)
    assert order.max_memory_per_child == 300
    service = {"NOTIFY_SOCKET": "", "WATCHDOG_USEC": "", "WATCHDOG_PID": ""}
    assert rest == {"reload": False, "health_port": 0, "as_json": False, "service": service}


# ---------------------------------------------------------------- errors


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (Failure("no"), 1),
        (Failure("no", code=3), 3),
        (click.UsageError("no"), 2),
        (ConfigurationError("no"), 2),
        (StoreUnavailable("no"), 3),
        (OutcomeUnknown("no", job_id="x"), 3),
        (SchemaError("no"), 1),
        (NotRegistered("no"), 1),
        (ClusterArchived("no"), 1),
        (JobFailed("ValueError", "no"), 1),
        (ResultTimeout("no"), 1),
        (ZeroDivisionError("ours"), None),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else str(value),
)
def test_every_error_has_its_exit_code(error: Exception, code: int | None, capsys: pytest.CaptureFixture[str]) -> None:
    assert code_of(error) == code
    if code is None:
        with pytest.raises(type(error)):
            tell(error, as_json=False)
        return
    assert tell(error, as_json=False) == code
    assert tell(error, as_json=True) == code
    words, _, rest = capsys.readouterr().err.rpartition("{")
    assert "no" in words
    assert rest


def test_an_unknown_outcome_names_the_id_to_repeat_with(capsys: pytest.CaptureFixture[str]) -> None:
    tell(OutcomeUnknown("it may be stored", job_id="order-7"), as_json=False)

    assert "order-7" in capsys.readouterr().err


def test_an_error_inside_of_a_task_group_is_told_as_itself() -> None:
    wrapped = ExceptionGroup("unhandled", [ExceptionGroup("unhandled", [StoreUnavailable("away")])])

    assert tell(wrapped, as_json=True) == 3


def test_ctrl_c_is_130() -> None:
    assert tell(KeyboardInterrupt(), as_json=False) == 130


def test_ctrl_c_while_the_command_line_is_imported_is_130(monkeypatch: pytest.MonkeyPatch) -> None:
    class Pressed:
        def find_spec(self, name: str, *_: object) -> None:
            if name == "jobmaster.cli.program":
                raise KeyboardInterrupt

    monkeypatch.delitem(sys.modules, "jobmaster.cli.program")
    monkeypatch.setattr(sys, "meta_path", [Pressed(), *sys.meta_path])

    with pytest.raises(SystemExit) as ended:
        main()

    assert ended.value.code == 130


def test_output_that_finds_no_room_is_an_error_in_words(capsys: pytest.CaptureFixture[str]) -> None:
    assert tell(OSError(errno.ENOSPC, "No space left on device"), as_json=False) == 1
    assert "The output cannot be written: No space left on device" in capsys.readouterr().err


# ---------------------------------------------------------------- output


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (JobStatus.HELD_ON_MASTER, "HeldOnMaster"),
        (BucketStatus.ACTIVE, "Active"),
        (Priority.VERY_LOW, "very_low"),
        (WorkerMode.FULL, "full"),
        (CancelOutcome.TOO_LATE, "too_late"),
        (timedelta(seconds=1.5), 1.5),
        (datetime(2026, 1, 2, tzinfo=UTC), "2026-01-02T00:00:00+00:00"),
        (float("nan"), "nan"),
        (2**80, 2**80),
        (Decimal("1.10"), "1.10"),
        ({1: (2, {3})}, {"1": [2, [3]]}),
    ],
    ids=repr,
)
def test_values_in_json(value: object, expected: object) -> None:
    told = plain(value)

    assert told == expected
    assert json.loads(json.dumps(told)) == expected


def test_a_table_is_aligned_and_cut_and_says_when_it_is_empty(capsys: pytest.CaptureFixture[str]) -> None:
    show_table(["id", "text"], [("1", "x" * 100), ("22", None)], empty="nothing")
    show_table(["id"], [], empty="nothing")

    head, first, second, none = capsys.readouterr().out.splitlines()
    assert head == "ID  TEXT"
    assert first == f"1   {'x' * 59}…"
    assert (second, none) == ("22", "nothing")


@pytest.mark.parametrize(("no_color", "coloured"), [(None, True), ("1", False)])
def test_colours_only_where_they_are_wanted(
    no_color: str | None, coloured: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if no_color:
        monkeypatch.setenv("NO_COLOR", no_color)

    done = invoke("-A", "nosuch_module_at_all", "jobs", "list", color=not no_color)

    assert done.exit_code == 2
    assert ("\x1b[" in done.output) is coloured


def test_control_characters_are_written_out() -> None:
    assert printable("a\x1b[31mb\nc\u202e") == "a\\x1b[31mb\\nc\\u202e"
    assert printable("a\nb\tc\r", keep_lines=True) == "a\nb\tc\\r"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.0104, "10 ms"), (1.4, "1 s"), (119, "119 s"), (121, "2 min"), (7300, "2 h"), (200_000, "2 d")],
)
def test_spans_have_one_unit(seconds: float, text: str) -> None:
    assert span(seconds) == text


def test_ages_look_back_and_ahead() -> None:
    now = datetime.now(UTC)

    assert age(now - timedelta(minutes=5, seconds=1)) == "5 min ago"
    assert age(now + timedelta(minutes=5, seconds=1)) == "in 5 min"
    assert age(None) == ""


def test_python_m_jobmaster_is_the_same_command(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "jobmaster", "--version"], cwd=tmp_path, capture_output=True, text=True, check=True
    )

    assert done.stdout.startswith("jobmaster, version ")
