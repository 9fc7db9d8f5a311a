"""How `jobmaster schedules` looks: on narrow terminals, by which clocks, in JSON where something was not done."""

from __future__ import annotations

import json
import os
import pty
import re
import subprocess

import pytest

from jobmaster.cli.output import show_table
from tests.cli.terminal import PATIENCE, PROGRAM, Terminal

pytestmark = pytest.mark.backend("sqlite")

NARROW = 60
_COLOURS = re.compile(r"\x1b\[[0-9;]*m")


@pytest.fixture(scope="module")
def terminal(tmp_path_factory: pytest.TempPathFactory) -> Terminal:
    made = Terminal(tmp_path_factory.mktemp("shown"))
    made.environment.pop("COLUMNS", None)
    said(made, "add", "shop.hello", "every day at 9:00", '{"name": "Ann"}', "-n", "daily", "--tz", "Asia/Tokyo")
    said(made, "add", "shop.hello", "0 9 * * 1-5", '{"name": "Bob"}', "-n", "office", "--jitter", "2m")
    return made


def said(terminal: Terminal, *arguments: str, code: int = 0, **environment: str) -> str:
    done = terminal.run("-A", "shop", "schedules", *arguments, **environment)
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout


def test_on_a_narrow_terminal_no_line_is_wider_and_nothing_is_left_out(terminal: Terminal) -> None:
    wide, narrow = said(terminal, "list"), said(terminal, "list", COLUMNS=str(NARROW))

    assert max(map(len, wide.splitlines())) > NARROW
    assert max(map(len, narrow.splitlines())) <= NARROW
    assert narrow.startswith("daily  Active\n  fires: every day at 9:00   zone: Asia/Tokyo")
    for cell in ("office  Active", "fires: 0 9 * * 1-5", "zone: UTC", "task: shop.hello", "kind: dynamic"):
        assert cell in narrow


def test_a_real_terminal_is_asked_for_its_width_and_gets_colours(terminal: Terminal) -> None:
    ours, theirs = pty.openpty()
    command = f"stty cols {NARROW} && {PROGRAM} -A shop schedules list"
    environment = {"TERM": "xterm-256color", **{k: v for k, v in terminal.environment.items() if k != "NO_COLOR"}}
    process = subprocess.Popen(
        ["sh", "-c", command], cwd=terminal.folder, env=environment, stdin=theirs, stdout=theirs, stderr=theirs
    )
    os.close(theirs)
    shown = b""
    try:
        while part := os.read(ours, 65536):
            shown += part
    except OSError:  # how a terminal ends whose program has gone
        pass
    os.close(ours)

    assert process.wait(PATIENCE) == 0, shown
    assert b"\x1b[32mActive" in shown
    lines = _COLOURS.sub("", shown.decode()).splitlines()
    assert lines
    assert max(map(len, lines)) <= NARROW


def test_a_note_that_does_not_fit_stands_below_its_run(terminal: Terminal) -> None:
    asked = (
        "explain",
        "every day at 02:30",
        "--tz",
        "Europe/Berlin",
        "--after",
        "2026-03-28T12:00:00Z",
        "--count",
        "1",
    )

    assert re.search(r"\+0200  \S.*\n {4,}! 02:30 does not exist on 2026-03-29", said(terminal, *asked, COLUMNS="60"))
    assert re.search(r"\+0200  \S.*  ! 02:30 does not exist on 2026-03-29", said(terminal, *asked))


def test_the_history_goes_by_the_same_clocks_as_the_rule(terminal: Terminal) -> None:
    span = ("--from", "2026-03-01T00:00:00Z", "--to", "2026-03-02T00:00:00Z")
    said(terminal, "backfill", "daily", *span)

    assert "Sun 2026-03-01 09:00:00 +0900  HeldOnMaster" in said(terminal, "show", "daily")


def test_what_was_not_done_is_told_to_programs_too(terminal: Terminal) -> None:
    done = terminal.run("-A", "shop", "--json", "schedules", "pause", "office", "nobody")

    assert (done.returncode, json.loads(done.stdout)) == (1, {"office": True, "nobody": False})
    assert "nobody: not done: There is no schedule 'nobody'" in json.loads(done.stderr)["error"]["message"]


@pytest.mark.parametrize("text", ["H H * * *", "h(0-29) 3 * * *"])
def test_cron_that_begins_with_a_hashed_field_is_read_as_cron(terminal: Terminal, text: str) -> None:
    told = said(terminal, "explain", text)

    assert "language  Cron" in told
    assert "H  each schedule gets a value of its own" in told


def test_only_a_hashed_field_is_said_to_depend_on_the_schedule(terminal: Terminal) -> None:
    assert " H  " not in said(terminal, "explain", "0 3 * * THU")


def test_beat_is_not_taken_for_another_command(terminal: Terminal) -> None:
    done = terminal.run("beat")

    assert done.returncode == 2
    assert "every worker plans. See 'jobmaster schedules'" in done.stderr


def test_a_table_that_fits_stays_a_table(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [["a", "Active", "x" * 30], ["b", "Paused", ""]]
    monkeypatch.setenv("COLUMNS", "44")
    show_table(["name", "state", "fires"], rows, empty="")
    assert capsys.readouterr().out.splitlines() == ["NAME  STATE   FIRES", f"a     Active  {'x' * 30}", "b     Paused"]
    show_table(["name", "state", "error", "fires"], [["a", "Active", "", "x" * 30]], empty="")
    assert capsys.readouterr().out.splitlines() == ["NAME  STATE   FIRES", f"a     Active  {'x' * 30}"]
    monkeypatch.setenv("COLUMNS", "43")
    show_table(["name", "state", "fires"], rows, empty="")
    assert capsys.readouterr().out.splitlines() == ["a  Active", f"  fires: {'x' * 30}", "b  Paused"]


MOON = """
from datetime import timedelta
from jobmaster import JobMaster
from jobmaster.schedules import register_provider

class Moon:
    type_id, zone, is_phased = "Moon", None, False
    def __init__(self, text):
        self.text = text
    def in_zone(self, zone):
        return self
    def next_after(self, moment):
        return moment + timedelta(days=28)
    def has_ended(self, moment):
        return False
    def explain(self):
        return "when the moon is " + self.text

register_provider("Moon", Moon)
jm = JobMaster("moon")
"""


def test_a_language_of_the_app_is_explained(terminal: Terminal) -> None:
    terminal.write("moon.py", MOON)
    asked = ("schedules", "explain", "full", "--type", "Moon", "--tz", "UTC")

    with_app, without = terminal.run("-A", "moon", *asked), terminal.run(*asked)

    assert (with_app.returncode, without.returncode) == (0, 2)
    assert "in English  when the moon is full" in with_app.stdout
    assert "no schedule language 'Moon' is known" in without.stderr


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (["shop.hello", "every", "day", "at", "9:00"], "EXPRESSION is 'every', and what comes behind it, 'day', is no"),
        (["every day at 9:00", "shop.hello"], "TASK comes first, then EXPRESSION; 'every day at 9:00' is no task"),
        (["shop.hello", "every day at 9:00", "{name"], "it is no JSON"),
    ],
)
def test_what_newcomers_type_is_answered_with_what_to_type(terminal: Terminal, arguments: list[str], part: str) -> None:
    done = terminal.run("-A", "shop", "schedules", "add", *arguments)

    assert done.returncode == 2
    assert part in done.stderr
