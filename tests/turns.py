"""Who may run beside whom: tests marked `alone` have the machine to themselves, all others run side by side.

Only where helpers run the tests (`-n 2`; pytest-xdist). They take turns by locks on files, which the kernel takes back
from a helper that dies. The tests that are alone come first and stay together, so that the others wait for them once.
"""

from __future__ import annotations

import fcntl
import os
import tempfile
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest

FOLDER = "turns"


def is_alone(item: pytest.Item) -> bool:
    return item.get_closest_marker("alone") is not None


class Host:
    """In the process that hands out the tests: gives its helpers a folder for their locks."""

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="jobmaster-turns-")

    @pytest.hookimpl(optionalhook=True)
    def pytest_configure_node(self, node: Any) -> None:
        node.workerinput[FOLDER] = self._folder.name

    def pytest_unconfigure(self) -> None:
        self._folder.cleanup()


class Turns:
    """In a helper: waits for its turn before each test, outside of the test's own timeout.

    Args:
        folder: the same for all helpers of a run.
    """

    def __init__(self, folder: str) -> None:
        self._gate = os.open(Path(folder) / "gate", os.O_RDWR | os.O_CREAT, 0o600)
        self._room = os.open(Path(folder) / "room", os.O_RDWR | os.O_CREAT, 0o600)
        self._stays = False

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        items.sort(key=lambda item: not is_alone(item))

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_protocol(
        self, item: pytest.Item, nextitem: pytest.Item | None
    ) -> Generator[None, object, object]:
        alone = is_alone(item)
        if not self._stays:
            self.enter(alone=alone)
        try:
            return (yield)
        finally:
            self._stays = alone and nextitem is not None and is_alone(nextitem)
            if not self._stays:
                self.leave()

    def enter(self, *, alone: bool) -> None:
        """Wait for a turn: beside others, or when nobody else has one."""
        # Whoever waits for an empty room holds the gate, so that nobody else enters meanwhile.
        fcntl.flock(self._gate, fcntl.LOCK_EX)
        fcntl.flock(self._room, fcntl.LOCK_EX if alone else fcntl.LOCK_SH)
        fcntl.flock(self._gate, fcntl.LOCK_UN)

    def leave(self) -> None:
        """End the turn."""
        # Said, not only closed: a process that a test has forked holds the same open file.
        fcntl.flock(self._room, fcntl.LOCK_UN)
