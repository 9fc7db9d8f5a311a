"""docs/guide/command-line.md names every command and every option, and no other."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from jobmaster.cli.program import COMMANDS, program

GUIDE = (Path(__file__).parents[2] / "docs" / "guide" / "command-line.md").read_text(encoding="utf-8")
SHARED = {"-A", "--app", "--json", "--help", "-h", "--version"}


def commands() -> Iterator[tuple[str, click.Command]]:
    context = click.Context(program)
    for name in COMMANDS:
        command = program.get_command(context, name)
        assert command is not None
        yield name, command
        if isinstance(command, click.Group):
            yield from ((f"{name} {inner}", below) for inner, below in command.commands.items())


ALL = dict(commands())
OPTIONS = {
    option
    for command in ALL.values()
    for parameter in command.params
    if isinstance(parameter, click.Option)
    for option in [*parameter.opts, *parameter.secondary_opts]
}


@pytest.mark.parametrize("name", ALL)
def test_every_command_is_in_the_guide(name: str) -> None:
    group, _, inner = name.partition(" ")

    assert f"jobmaster {group}" in GUIDE or f"`{group}`" in GUIDE
    # `workers ping`, `pause`, ...: below its group's heading the name may stand alone.
    assert not inner or re.search(rf"`({group} )?{inner}\b", GUIDE)


def test_every_option_of_the_worker_is_in_its_table() -> None:
    worker = {option for parameter in ALL["worker"].params for option in parameter.opts} - SHARED
    table = GUIDE.partition("## `jobmaster worker`")[2].partition("## ")[0]

    assert sorted(option for option in worker if f"`{option}`" not in table) == []


def test_every_other_long_option_is_in_the_guide() -> None:
    missing = {option for option in OPTIONS - SHARED if option.startswith("--") and option not in GUIDE}

    assert missing - {"--no-wait"} == set()


def test_the_guide_names_no_option_that_is_not_there() -> None:
    named = set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", GUIDE))

    assert named - OPTIONS - SHARED == set()
