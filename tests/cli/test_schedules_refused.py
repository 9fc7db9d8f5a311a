"""`jobmaster schedules`: orders that cannot be, and what is said of them. No worker is needed for that."""

from __future__ import annotations

import pytest

from tests.cli.terminal import APP, Terminal

pytestmark = pytest.mark.backend("sqlite")


@pytest.fixture(scope="module")
def terminal(tmp_path_factory: pytest.TempPathFactory) -> Terminal:
    made = Terminal(tmp_path_factory.mktemp("refused"))
    made.write("shop.py", APP)
    return made


def add(terminal: Terminal, name: str, *options: str, code: int = 0) -> str:
    return said(terminal, "add", "shop.hello", "every day at 9:00", '{"name": "Ann"}', "-n", name, *options, code=code)


def said(terminal: Terminal, *arguments: str, code: int) -> str:
    done = terminal.run("-A", "shop", "schedules", *arguments)
    assert done.returncode == code, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return done.stdout + done.stderr


def test_a_cancelled_name_is_said_to_be_cancelled_with_the_id_that_shows_it(terminal: Terminal) -> None:
    add(terminal, "xday")
    identity = terminal.json("schedules", "show", "xday")["id"]
    said(terminal, "cancel", "xday", code=0)

    for order in ("pause", "cancel", "show"):
        words = said(terminal, order, "xday", code=1)
        assert "The schedule 'xday' was cancelled at " in words
        assert f"its name is free again: add a new one. What it was is shown by its id, {identity}." in words
    assert "state  Canceled" in said(terminal, "show", identity, code=0)
    assert "There is no schedule 'day'" in said(terminal, "pause", "day", code=1)


def test_a_conflict_says_what_to_do_in_words_of_the_command_line_too(terminal: Terminal) -> None:
    add(terminal, "raced")
    said(terminal, "edit", "raced", "--jitter", "1m", code=0)

    words = said(terminal, "edit", "raced", "--jitter", "2m", "--version", "1", code=1)

    assert "it has version 2 now, and nothing was changed. Look at it again, and repeat it for this version." in words
    assert "version=" not in words
