"""`--reload`: which source files there are, and whether one has changed. It polls: that works on every file system."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from jobmaster.findings import Found
    from jobmaster.first_engine import FirstEngine

SUFFIXES: Final = (".py", ".toml")
EVERY: Final = 0.4
"""Seconds between two looks."""
MOST_FILES: Final = 20_000
NOT_SOURCE: Final = {"__pycache__", "node_modules", "site-packages", "build", "dist", "venv", "env"}


class Watcher:
    """Looks at the source files below a folder, and at some more.

    Attributes:
        found: the app as the last change made it, and the engine process that has it, until somebody takes them.
    """

    def __init__(self, folder: str, files: Iterable[str]) -> None:
        self._folder = folder
        self._files = set(files)
        self._seen = self._look()
        self.found: tuple[Found, FirstEngine] | None = None

    def follow(self, files: Iterable[str]) -> None:
        """Look at these files, too."""
        self._files.update(files)

    async def changed(self) -> list[str]:
        """Wait until files have changed, appeared or gone, and have been left alone for one look; their paths."""
        before = self._seen
        while True:
            await asyncio.sleep(EVERY)
            now = await asyncio.to_thread(self._look)
            # An editor writes a file in several steps: half a file is no change to start with.
            settled = now == self._seen
            self._seen = now
            if settled and now != before:
                return sorted(dict(set(now.items()) ^ set(before.items())))

    def _look(self) -> dict[str, tuple[int, int]]:
        return {path: state for path in self._paths() if (state := _state(path)) is not None}

    def _paths(self) -> Iterator[str]:
        count = 0
        yield from self._files
        for folder, folders, files in os.walk(self._folder):
            folders[:] = [name for name in folders if not name.startswith(".") and name not in NOT_SOURCE]
            for name in files:
                if name.endswith(SUFFIXES):
                    count += 1
                    if count > MOST_FILES:
                        return
                    yield f"{folder}{os.sep}{name}"


def _state(path: str) -> tuple[int, int] | None:
    try:
        status = Path(path).stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size
