"""Versions of what travels between programs of different releases."""

from __future__ import annotations

from typing import Final

ENVELOPE_VERSION: Final = 1
"""The newest envelope that this code understands.

A field that may be ignored does not change it. A message says the lowest version that has what it needs, and code that
does not know that version leaves the job to one that does.
"""

_PARKED: Final = " (message version "
_LONGEST_NAME: Final = 255


def parked_as(task: str, version: int) -> str:
    """The name of a task nobody has, under which code that does not know the version sees and parks the message."""
    mark = f"{_PARKED}{version})"
    return task[: _LONGEST_NAME - len(mark)] + mark


def names_to_route(tasks: list[str]) -> list[str]:
    """Those of tasks, and those under which older code has parked their messages."""
    return tasks + [parked_as(task, version) for version in range(2, ENVELOPE_VERSION + 1) for task in tasks]


def unparked(name: str) -> str:
    """The task's own name."""
    return name.partition(_PARKED)[0]
