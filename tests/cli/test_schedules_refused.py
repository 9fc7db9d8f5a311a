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


def test_a_limit_of_missed_runs_that_would_do_nothing_is_told(terminal: Terminal) -> None:
    assert "--misfire-limit counts only with --misfire all" in add(terminal, "kept", "--misfire-limit", "5", code=2)
    assert "There is no schedule 'kept'" in said(terminal, "show", "kept", code=1)
    for name, option in (("kept", ("--misfire", "all")), ("queued", ("--overlap", "queue"))):
        assert "counts only" not in add(terminal, name, "--misfire-limit", "5", *option)
    assert "counts only" not in said(terminal, "edit", "kept", "--misfire-limit", "6", code=0)
    assert "Note: it is kept, but --misfire-limit counts only" in said(
        terminal, "edit", "kept", "--misfire-limit", "7", "--misfire", "once", code=0
    )


def test_next_of_one_that_does_not_run_says_why(terminal: Terminal) -> None:
    add(terminal, "still")
    identity = terminal.json("schedules", "show", "still")["id"]
    said(terminal, "pause", "still", code=0)
    assert said(terminal, "next", "still", code=0).endswith(
        "it is Paused. To let it go on: jobmaster schedules resume still\n"
    )
    said(terminal, "cancel", "still", code=0)
    assert "None: it is Canceled. See jobmaster schedules show" in said(terminal, "next", identity, code=0)


def test_a_language_without_an_expression_or_two_of_them_are_refused(terminal: Terminal) -> None:
    add(terminal, "spoken")
    for language in (("--cron",), ("--type", "Cron")):
        assert "Give --when, too" in said(terminal, "edit", "spoken", *language, "--lane", "slow", code=2)
    two = "0:05:00", "--cron", "--type", "TimeSpanInterval"
    assert "name two languages" in said(terminal, "explain", *two, code=2)
    assert terminal.json("schedules", "show", "spoken")["version"] == 1


def test_moments_that_no_clock_shows_are_refused(terminal: Terminal) -> None:
    for moment in ("0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00"):
        assert "outside of the years" in said(terminal, "explain", "every day", "--after", moment, code=2)


def test_one_that_has_ended_keeps_the_others_from_nothing(terminal: Terminal) -> None:
    add(terminal, "over")
    identity = terminal.json("schedules", "show", "over")["id"]
    said(terminal, "cancel", "over", code=0)
    add(terminal, "goes")

    words = said(terminal, "pause", identity, "goes", code=1)

    assert f"{identity}  not done: Schedule 'over' has ended (Canceled)" in words
    assert "Add a new one." in words
    assert "goes  paused" in words
    assert "has ended (Canceled)" in said(terminal, "resume", identity, code=2)
